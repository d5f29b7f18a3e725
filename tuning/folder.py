"""The results folder of a search: which search it is, and what it has found so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmat import __version__
from tfmat.atomic import new_directory, staged
from tfmat.errors import InputError
from tfmat.tuning.configuration import Configuration, Reader
from tfmat.tuning.objective import Objective
from tfmat.tuning.results import TrialResult, best_of, write_trials
from tfmat.tuning.search import Search

SEARCH, BEST, TRIALS, LOGS = "search.json", "best.json", "trials.csv", "logs"
FORMAT = 1
"""Raised when an older tfmat could not continue what a newer one began."""

_LABELS = {
    "format": "another format", "tfmat": "another version of tfmat", "architecture": "another architecture", "tuner": "another tuner",
    "epochs": "another number of epochs", "seed": "another seed", "targets": "other targets", "training": "other training rows",
    "validation": "other validation rows", "space": "another search space", "keywords": "other builder keywords",
    "recipe": "another recipe", "init": "other initial weights", "freeze": "other frozen layers",
}  # fmt: skip


def identity(search: Search) -> dict[str, Any]:
    """Collect what makes a search this search, JSON-able: with anything else its trials could not be compared, or not be continued."""
    space = [{"class": type(parameter).__name__} | parameter.get_config() for parameter in search.hp.space]
    found = {
        "format": FORMAT,
        "tfmat": __version__,
        "architecture": search.reader.architecture.name,
        "tuner": search.tuner,
        "epochs": search.epochs,
        "seed": search.seed,
        "targets": [target.to_config() for target in search.objective.targets],
        "training": search.training.content_hash(),
        "validation": search.validation.content_hash(),
        "space": sorted(space, key=lambda parameter: str(parameter["name"])),
        "keywords": dict(search.reader.keywords),
        "recipe": search.reader.base.to_config(),
        "init": search.init_sha256 or None,  # None also where an older search does not say it
        "freeze": list(search.freeze) or None,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


class SearchFolder:
    """The folder of a search.

    Args:
        path: it need not exist.
        reader: makes a configuration of a trial's values.
        objective: what was measured.
        about: JSON-able content for ``best.json``: seed, data.
    """

    def __init__(self, path: Path, reader: Reader, objective: Objective, about: Mapping[str, Any]) -> None:
        self.path, self._reader, self._objective, self._about = path, reader, objective, about

    @property
    def logs(self) -> Path:
        """Folder of TensorBoard's logs."""
        return self.path / LOGS

    def enter(self, search: Mapping[str, Any], *, create: bool) -> None:
        """Begin a search in a new folder, or go on with the one that is there.

        Args:
            search: see `identity`.
            create: False where another process must have created it.

        Raises:
            InputError: something else is there, the search there is another one, or the folder cannot be made.
        """
        path = self.path / SEARCH
        if not self.path.exists() and create:
            with new_directory(self.path) as folder:
                (folder / SEARCH).write_text(json.dumps(search, indent=2) + "\n", encoding="utf-8")
            return
        if not path.is_file():
            expected = "a new path, or the folder of a search" if create else "the folder of the chief, which all workers must see"
            raise InputError(f"it holds no search: {SEARCH} is missing", file=str(self.path), expected=expected)
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            different = [key for key in search if known.get(key) != search[key]]
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"it cannot be read ({error})", file=str(path), expected="a file written by tfmat tune") from None
        if different:
            key = different[0]
            there, here = known.get(key), search[key]
            values = f" ({there}, not {here})" if isinstance(there, (str, int)) and len(str(there)) < 40 else ""
            raise InputError(f"it holds a search with {_LABELS[key]}{values}", file=str(self.path), expected="another --out")

    def write(self, results: Sequence[TrialResult], configuration: Configuration | None) -> None:
        """Replace ``trials.csv`` and, once a trial is completed, ``best.json``.

        Args:
            results: of all trials.
            configuration: of the best one.
        """
        objective = self._objective
        errors = {
            t.name: f"validation {'log loss' if t.task == 'binary' else 'MAE'} of {_titled(t.name, t.unit)}" for t in objective.targets
        }
        write_trials(self.path / TRIALS, results, _titled(objective.name, objective.unit), errors if len(errors) > 1 else {})
        best = best_of(results)
        if best is not None and configuration is not None:
            text = json.dumps(self.best(best, configuration), indent=2)
            with staged(self.path / BEST, overwrite=True) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")

    def best(self, result: TrialResult, configuration: Configuration) -> dict[str, Any]:
        """Collect what ``tfmat train --config`` reads, and where it comes from."""
        trial = {
            "trial": result.name,
            "objective": self._objective.name,
            "value": result.objective,
            "unit": self._objective.unit,
            "epochs": result.epochs,
            "values": result.values,
            "tfmat": __version__,
        }
        return {
            "architecture": self._reader.architecture.name,
            "keywords": configuration.keywords,
            "recipe": configuration.recipe.to_config(),
            **self._about,
            "search": trial,
        }


def _titled(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
