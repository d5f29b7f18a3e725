"""The saved model: a folder of JSON and HDF5 files. Nothing in it is ever unpickled.

``config.json`` (what the model is and where it comes from), ``model.weights.h5``, ``history.csv``, ``README.md`` (the card) and
plots. The config carries its own checksum and that of the weights, so an edited or truncated file is refused.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.architecture import Architecture, architectures, get
from tfmat.atomic import sha256_of
from tfmat.elements import SYMBOLS, table_in_weights
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer
from tfmat.target import Target

if TYPE_CHECKING:
    import keras

CONFIG, WEIGHTS, HISTORY, CARD = "config.json", "model.weights.h5", "history.csv", "README.md"
FORMAT = 1
"""Raised when an older tfmat could not read what a newer one writes."""


@dataclass(frozen=True)
class StoredModel:
    """A model as it was written.

    Attributes:
        config: see `write_model`.
        architecture: its family.
        targets: what it predicts, with their scales.
        model: with its weights.
    """

    config: dict[str, Any]
    architecture: Architecture
    targets: tuple[Target, ...]
    model: keras.Model

    def featurizer(self, directory: Path) -> Featurizer:
        """Its featurizer, with which the model of `directory` was trained.

        Raises:
            InputError: the installed one has another version.
        """
        stored, installed = self.config["featurizer"], self.architecture.featurizer
        if (stored["name"], stored["version"]) != (installed.__name__, installed.version):
            raise InputError(
                f"trained with {stored['name']} version {stored['version']}; {installed.__name__} version {installed.version} is installed",
                file=str(directory),
                expected="the tfmat that trained it (see its card), or train it again",
            )
        return installed(**stored["config"])


def model_folder(model: str | os.PathLike[str]) -> Path:
    """The model directory that is meant: a folder, the content of a ``.keras`` file, or the preset of that name."""
    from tfmat.model_directory.keras_file import SUFFIX, unpacked

    path = Path(model)
    if path.suffix == SUFFIX and path.is_file():
        return unpacked(path)
    if not path.is_dir():
        for architecture in architectures().values():
            if preset := architecture.presets.get(os.fspath(model)):
                return preset()
    return path


def read_model(directory: Path) -> StoredModel:
    """Build the model of a directory and give it its weights. What the installed featurizer does is not looked at.

    Raises:
        InputError: a file is missing, truncated or changed, or the installed tfmat has no such model.
    """
    config = read_config(directory)
    weights = check_weights(directory, config)
    architecture = get(config["architecture"])
    keywords = {name: value for name, value in config["keywords"].items() if name not in architecture.retired}
    config = config | {"keywords": keywords}
    architecture.check_keywords(keywords)
    targets = tuple(Target(**target) for target in config["targets"])
    try:
        with table_in_weights(element_table_width(weights)):
            model = architecture.builder(tuple(t.name for t in targets), **keywords)
        model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the weights do not fit the config ({str(error).splitlines()[0]})", file=str(weights)) from None
    return StoredModel(config, architecture, targets, model)


def write_model(directory: Path, model: keras.Model, config: dict[str, Any]) -> None:
    """Write weights and config into the existing, empty `directory`."""
    import keras

    # A compiled model would write its optimizer's state along, three times the size of the weights.
    keras.Model(model.input, model.output).save_weights(directory / WEIGHTS)
    (directory / CONFIG).write_text(config_text(config, directory / WEIGHTS), encoding="utf-8")


def config_text(config: dict[str, Any], weights: Path) -> str:
    """Content of ``config.json``: `config` with the checksums of itself and of the file of weights."""
    config = {"format": FORMAT} | config | {"weights_sha256": sha256_of(weights)}
    return json.dumps(config | {"config_sha256": _config_sha256(config)}, indent=2) + "\n"


def model_files(model: keras.Model, config: dict[str, Any]) -> dict[str, bytes]:
    """Prepare what `write_model` writes, as name -> content."""
    with tempfile.TemporaryDirectory(prefix="tfmat-", ignore_cleanup_errors=True) as folder:
        write_model(Path(folder), model, config)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextlib.contextmanager
def as_directory(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A model directory of the content of `model_files`, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="tfmat-", ignore_cleanup_errors=True) as folder:
        for name in (CONFIG, WEIGHTS):
            (Path(folder) / name).write_bytes(files[name])
        yield Path(folder)


def write_history(directory: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch."""
    with (directory / HISTORY).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([list(history[0]), *(row.values() for row in history)] if history else [])


def read_history(directory: Path) -> list[dict[str, float]]:
    """Read what `write_history` wrote; empty where the file is missing."""
    path = directory / HISTORY
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]


def read_config(directory: Path) -> dict[str, Any]:
    """The config of a saved model, checked."""
    path = directory / CONFIG
    if not directory.is_dir():
        expected = "a folder written by `tfmat train`, or a preset of `tfmat models`, or a .keras file of `Predictor.save`"
        raise InputError("no such model", file=str(directory), expected=expected)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"not a model: it has no {CONFIG}", file=str(directory), expected="a folder written by `tfmat train`") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"not valid JSON ({error})", file=str(path)) from None
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise InputError("not the config of a tfmat model", file=str(path))
    if config["format"] > FORMAT:
        raise InputError(f"written by a newer tfmat (format {config['format']})", file=str(path), expected=f"format {FORMAT}: update tfmat")
    if config.get("config_sha256") != _config_sha256(config):
        raise InputError("it was changed after it was written (its checksum does not match)", file=str(path), expected="the original file")
    return config


def check_weights(directory: Path, config: dict[str, Any]) -> Path:
    """Path of the weights, once their checksum agrees with the config."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise InputError(f"it has no {WEIGHTS}", file=str(directory))
    if sha256_of(path) != config.get("weights_sha256"):
        raise InputError(
            "truncated or changed: its checksum does not match the one in config.json", file=str(path), expected="the original file"
        )
    return path


def element_table_width(weights: Path) -> int | None:
    """Columns of the element table among the weights, the only array with one row per element and one for padding; None without one."""
    import h5py

    widths: list[int] = []

    def find(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2 and item.shape[0] == len(SYMBOLS):
            widths.append(int(item.shape[1]))

    with h5py.File(weights, "r") as file:
        file.visititems(find)
    return widths[0] if len(widths) == 1 else None


def _config_sha256(config: dict[str, Any]) -> str:
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
