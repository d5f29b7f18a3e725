"""What a campaign trains: jobs, the files they are read from, and what they are called."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tfmat.datasets import registry
from tfmat.errors import InputError


@dataclass(frozen=True)
class Job:
    """One training. Everything is text, as in the CSV file of the results, whose first columns these are.

    Attributes:
        dataset: name for `tfmat.datasets.load`, without a fold.
        fold: number of the published fold, or empty.
        targets: what the model learns, separated by spaces.
        seed: of the weights and the shuffling.
        architecture: name in the zoo.
        keywords: of its builder, a JSON object with sorted keys.
        recipe: name of the architecture's recipe.
        recipe_options: fields of it that differ, a JSON object with sorted keys.
        epochs: number of them.
        rows: learn from so many training rows, drawn at random (always the same); empty: from all.
        above: only rows whose target is above, in every split; empty: all.
        transform: of the targets, see `tfmat.target.Target`.
        scored: ``test``: the test split is scored once, at the end; ``validation``: it is not looked at.
    """

    dataset: str
    fold: str
    targets: str
    seed: str
    architecture: str
    keywords: str
    recipe: str
    recipe_options: str
    epochs: str
    rows: str
    above: str
    transform: str
    scored: str

    def __str__(self) -> str:
        settings = json.loads(self.keywords) | json.loads(self.recipe_options)
        settings |= {name: value for name in ("rows", "above") if (value := getattr(self, name))}
        settings |= {"transform": self.transform} if self.transform != "none" else {}
        words = [self.data, self.targets, self.architecture, *([self.recipe] if self.recipe != "default" else [])]
        return " ".join([*words, *(f"{key}={value}" for key, value in settings.items()), f"epochs={self.epochs}", f"seed={self.seed}"])

    @property
    def data(self) -> str:
        """The name under which the data set is loaded."""
        return f"{self.dataset}/fold{self.fold}" if self.fold else self.dataset

    @property
    def key(self) -> str:
        """Name for its files: another one wherever anything about the job differs."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_]+', '-', self.data)}-{self.architecture}-{self.seed}-{digest}"

    @property
    def without_seed(self) -> Job:
        """What it has in common with the other members of its ensemble."""
        return replace(self, seed="")


COLUMNS = [field.name for field in fields(Job)]


def from_row(row: Mapping[str, str]) -> Job:
    """The job that a row of results is of."""
    return Job(**{name: row[name] for name in COLUMNS})


def make(
    dataset: str,
    *,
    epochs: int | None = None,
    fold: int | None = None,
    targets: Sequence[str] | None = None,
    seed: int = 0,
    architecture: str = "lgdcnn",
    variant: str | None = None,
    keywords: Mapping[str, Any] | None = None,
    recipe: str = "default",
    recipe_options: Mapping[str, Any] | None = None,
    rows: int | None = None,
    above: float | None = None,
    transform: str = "none",
    test: bool = True,
) -> Job:
    """A job, once its data set, fold and targets exist; builder keywords and the recipe are checked when it is run.

    Args:
        dataset: name, with or without ``/fold0``.
        epochs: default: the recipe's, for which the zoo is imported.
        fold: where the name has none.
        targets: which one model learns together; default: all.
        seed: see `Job`, as for all that follows.
        architecture: name.
        variant: of the architecture; `keywords` change it. For it the zoo is imported.
        keywords: of the builder.
        recipe: name.
        recipe_options: fields of the recipe that differ.
        rows: most training rows.
        above: bound of the target's values.
        transform: of the targets.
        test: whether the test split is scored.
    """
    name = dataset if fold is None else f"{dataset}/fold{fold}"
    found = registry.find(name)
    if found is None:
        raise InputError(f"unknown data set {name!r}", expected="a name that `tfmat datasets` lists, or one of its folds as in NAME/fold0")
    source, number = found
    names = list(source.units) if targets is None else list(targets)
    for target in names:
        if target not in source.units:
            raise InputError(f"{source.name} has no target {target!r}", expected=f"one of {', '.join(source.units)}")
    if above is not None and len(names) != 1:
        raise InputError(f"`above` bounds one target. Received: {', '.join(names)}")
    settings = dict(keywords or {})
    if variant is not None or epochs is None:
        settings, epochs = _from_zoo(architecture, variant, settings, recipe, epochs)
    for label, value in (("epochs", epochs), ("rows", rows)):
        if value is not None and value < 1:
            raise InputError(f"`{label}` must be positive. Received: {label}={value}")
    return Job(
        dataset=source.name,
        fold="" if number is None else str(number),
        targets=" ".join(names),
        seed=str(seed),
        architecture=architecture,
        keywords=json.dumps(settings, sort_keys=True),
        recipe=recipe,
        recipe_options=json.dumps(dict(recipe_options or {}), sort_keys=True),
        epochs=str(epochs),
        rows="" if rows is None else str(rows),
        above="" if above is None else f"{above:g}",
        transform=transform,
        scored="test" if test else "validation",
    )


def _from_zoo(
    architecture: str, variant: str | None, keywords: dict[str, Any], recipe: str, epochs: int | None
) -> tuple[dict[str, Any], int]:
    from tfmat import architecture as zoo
    from tfmat.runs.settings import known

    family = zoo.get(architecture)
    if variant is not None:
        keywords = dict(family.variants[known(f"variant of {architecture}", variant, family.variants)]) | keywords
    return keywords, epochs or family.recipes[known(f"recipe of {architecture}", recipe, family.recipes)].epochs


def cost(row: Mapping[str, str]) -> float:
    """Seconds that the job of a row of results took, without those in which it was stopped or others had its core."""
    cpu, threads = float(row.get("cpu_seconds") or 0), max(int(row.get("threads") or 1), 1)
    return cpu / threads or float(row["seconds"] or 0)


_PLURALS = {"datasets": "dataset", "folds": "fold", "seeds": "seed"}
_WHOLE = ("epochs", "fold", "seed", "rows")


def read(path: Path) -> list[Job]:
    """Jobs of a file: TOML (tables ``[[job]]``), JSON (a list of objects) or CSV, with the arguments of `make`.

    In TOML and JSON ``datasets``, ``folds`` and ``seeds`` are lists, from each combination of which a job is made.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            entries = tomllib.loads(text)["job"]
        else:
            entries = [_from_text(row) for row in csv.DictReader(text.splitlines())] if path.suffix == ".csv" else json.loads(text)
        return [job for entry in entries for job in _expanded(dict(entry))]
    except InputError as error:
        raise error.located(file=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(path)) from None
    except (ValueError, KeyError, TypeError) as error:
        expected = "jobs with the arguments of benchmarks.campaign.jobs.make, as TOML ([[job]]), JSON or CSV"
        raise InputError(f"is no list of jobs ({error})", expected=expected, file=str(path)) from None


def _from_text(row: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: value for name, value in row.items() if value}
    for name, value in entry.items():
        if name in _WHOLE:
            entry[name] = int(value)
        elif name in ("keywords", "recipe_options", "test", "above"):
            entry[name] = json.loads(value)
        elif name == "targets":
            entry[name] = value.split()
    return entry


def _expanded(entry: dict[str, Any]) -> Iterable[Job]:
    lists = {_PLURALS[name]: entry.pop(name) for name in list(entry) if name in _PLURALS}
    for values in itertools.product(*lists.values()):
        yield make(**(entry | dict(zip(lists, values, strict=True))))


def chosen(jobs: Iterable[Job], pattern: str | None) -> list[Job]:
    """Those whose description contains `pattern`, in which ``*`` and ``?`` stand for anything; each once."""
    return [job for job in dict.fromkeys(jobs) if pattern is None or fnmatchcase(str(job), f"*{pattern}*")]
