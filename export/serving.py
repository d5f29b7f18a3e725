"""A model repository for TensorFlow Serving: a folder of models, each with numbered versions, and the server's configuration.

    repo/models.config            which models there are, rewritten by every export
    repo/batching.config          how requests are joined, if the server is started with --enable_batching
    repo/docker-compose.yaml      starts the server
    repo/<name>/<version>/        SavedModels, warm-up requests in assets.extra

A version appears at once by renaming, and the server's configuration after it, so that a server which polls never sees half of either.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.atomic import staged
from tfmat.errors import InputError
from tfmat.export.formats.saved_model import EXTRA, export_saved_model
from tfmat.export.interfaces.base import interface_of
from tfmat.export.interfaces.signatures import SERVING
from tfmat.export.metadata import FILE
from tfmat.export.repository_files import (
    BATCHING,
    BATCHING_TEXT,
    COMPOSE,
    COMPOSE_TEXT,
    IN_CONTAINER,
    MODELS,
    models_config,
    served_models,
    versions,
)
from tfmat.export.results import ExportReport, size_of
from tfmat.export.warm_up import FILE as WARM_UP
from tfmat.export.warm_up import serving_stubs, write_warm_up

if TYPE_CHECKING:
    from tfmat.predictor import Predictor


def model_name(name: str) -> str:
    """A name that may stand in URLs and folders: other characters than letters, digits, ``_``, ``-`` and ``.`` become ``_``.

    Raises:
        InputError: nothing is left.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".")
    if not clean.strip("_"):
        raise InputError(f"{name[:60]!r} gives no name for a model", expected="letters or digits")
    if clean in (MODELS, BATCHING, COMPOSE):
        raise InputError(f"a model cannot be called {clean!r}, which is a file of the repository", expected="another name")
    return clean


def check_repository(repository: Path) -> None:
    """Refuse a path that is neither free, nor an empty folder, nor a model repository."""
    if repository.is_dir():
        if any(repository.iterdir()) and not (repository / MODELS).is_file():
            raise InputError("it is no model repository", file=str(repository), expected=f"a new folder, or one that holds {MODELS}")
    elif repository.exists() or repository.is_symlink():
        raise InputError("it is no folder", file=str(repository), expected="a new or existing model repository")


def export_to_repository(
    predictor: Predictor, repository: str | Path, name: str, examples: Sequence[Any] | None = None
) -> tuple[ExportReport, int]:
    """Add the next version of a model to a repository, which is made if it is missing.

    Args:
        predictor: the model.
        repository: the folder.
        name: of the model on the server, see `model_name`.
        examples: formulas or crystals on which the result is compared with the Keras model, and which the server replays when it loads
            the model; built-in ones if None.

    Returns:
        The report of the export, whose path is that of the version, and the number of warm-up requests.

    Raises:
        InputError: the path is no repository, the name is taken by a model with other targets or inputs, or cannot be written.
        ExportError: see `tfmat.export.formats.saved_model.export_saved_model`.
    """
    root = Path(repository)
    check_repository(root)
    serving_stubs()
    if model_name(name) != name:
        raise InputError(f"{name[:60]!r} is no name for a model", expected=f"such as {model_name(name)!r}")
    present = versions(root, name)
    if present:
        _check_same(predictor, root / name / str(present[-1]), name)
    interface = interface_of(predictor)
    materials, _ = interface.featurize(examples, {})
    version = 1 + max(present, default=0)
    with staged(root / name / str(version)) as temporary:
        report = export_saved_model(predictor, temporary, materials, for_server=True)
        warm_up = write_warm_up(temporary / EXTRA / WARM_UP, name, interface, materials)
        size = size_of(temporary)
    write_configuration(root)
    return dataclasses.replace(report, path=root / name / str(version), format="serving", size_bytes=size), warm_up


def write_configuration(repository: Path) -> None:
    """Write what the server reads at its start: ``models.config`` anew, the others unless they exist, because users edit them."""
    text = models_config({name: f"{IN_CONTAINER}/{name}" for name in served_models(repository)})
    for file, content, keep in ((MODELS, text, False), (BATCHING, BATCHING_TEXT, True), (COMPOSE, COMPOSE_TEXT, True)):
        if not (keep and (repository / file).exists()):
            with staged(repository / file, overwrite=True) as temporary:
                temporary.write_text(content, encoding="utf-8")


def _check_same(predictor: Predictor, version: Path, name: str) -> None:
    """Refuse to put a model behind another one's name: its clients would break, or believe another quantity."""

    def named(targets: Sequence[Any]) -> str:
        return ", ".join(f"{target['name']} [{target['unit'] or '1'}]" for target in targets)

    try:
        old = json.loads((version / EXTRA / FILE).read_text(encoding="utf-8"))
        served, inputs = named(old["targets"]), sorted(old["signatures"][SERVING]["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"it was not written by `tfmat export`, so {name!r} is taken"
        raise InputError(problem, file=str(version), expected="another name") from error
    given = named([target.to_config() for target in predictor.targets])
    if served != given:
        raise InputError(f"{name!r} serves {served} already, not {given}", file=str(version.parent), expected="another name")
    mine = sorted(interface_of(predictor).signatures()[SERVING].inputs)
    if inputs != mine:
        problem = f"{name!r} takes {', '.join(inputs)} already, not {', '.join(mine)}"
        raise InputError(problem, file=str(version.parent), expected="another name")
