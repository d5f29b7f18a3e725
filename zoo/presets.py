"""Trained models by name: published weights, obtained and converted into the user's cache when they are first asked for.

Nothing heavy is imported before that.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tfmat.errors import InputError
from tfmat.zoo.conversion.published import CONVERTER, MATGL_EFORM, MEGNET, Published

if TYPE_CHECKING:
    from tfmat.datasets.fetch import Archive
    from tfmat.zoo.conversion.foreign import ForeignModel

_LOGGER = logging.getLogger("tfmat")


def sdist() -> Archive:
    """The source distribution of megnet, which holds the weights; its wheel does not."""
    from tfmat.datasets.fetch import Archive

    wanted = {name for model in MEGNET for name in (_file(model), f"{_file(model)}.json")}

    return Archive(
        package="megnet",
        version="1.3.2",
        filename="megnet-1.3.2.tar.gz",
        kind="sdist",
        sha256="0c2de597860fa3caeefc3591f01fe48e8cc70adbda812f5b72a47c3eb6361a99",
        size=30_264_908,
        folder="mvl_models",
        members=sorted(wanted),
    )


def _file(model: Published) -> str:
    """Weight file of a model of megnet, below the folder of models in its archive."""
    return f"{model.preset}.hdf5" if model.preset.startswith("mp-") else f"{model.preset}/best_model.hdf5"


def megnet_preset(model: Published) -> Path:
    """Model directory of a model of the package megnet.

    Its weights are read from the folder ``weights`` of ``TFMAT_DATA_DIR``, else from the source distribution megnet 1.3.2 (30 MB), which
    is downloaded once.

    Raises:
        InputError: they cannot be obtained, or are not the published ones.
    """
    from tfmat.zoo.conversion.megnet_hdf5 import read_megnet

    return _converted(model, lambda: read_megnet(_megnet_weights(model)))


def matgl_preset(model: Published) -> Path:
    """Model directory of a model of the package matgl, from the folder ``weights`` of ``TFMAT_DATA_DIR``. The conversion needs PyTorch."""
    from tfmat.zoo.conversion.matgl_state import read_matgl

    return _converted(model, lambda: read_matgl(_matgl_weights(model)))


def _converted(model: Published, read: Callable[[], ForeignModel]) -> Path:
    """The model directory in the cache, made by `read` if it is not there or damaged."""
    from tfmat.datasets.fetch import cache_root
    from tfmat.featurizers.bonds import BondFeaturizer
    from tfmat.zoo.conversion.foreign import write

    directory = cache_root() / "models" / f"{CONVERTER}.{BondFeaturizer.version}" / model.preset
    if _intact(directory):
        return directory
    foreign = read()
    try:
        return write(foreign, directory, overwrite=directory.exists())
    except InputError:
        if _intact(directory):  # another process was quicker
            return directory
        raise


def _intact(directory: Path) -> bool:
    from tfmat.model_directory.files import check_weights, read_config

    if not directory.is_dir():
        return False
    try:
        check_weights(directory, read_config(directory))
    except InputError as error:
        _LOGGER.warning("%s; it will be converted again", error)
        return False
    return True


def _mirrored(model: Published, name: str) -> Path | None:
    """A file of the folder ``weights`` of ``TFMAT_DATA_DIR``, if it is the published one."""
    from tfmat.atomic import sha256_of
    from tfmat.datasets.source import data_dir

    folder = data_dir()
    path = folder / "weights" / name if folder is not None else None
    if path is None or not path.is_file():
        return None
    if sha256_of(path) != model.sha256:
        _LOGGER.warning("%s is not the published file (its SHA-256 is another one) and is not used", path)
        return None
    return path


def _megnet_weights(model: Published) -> Path:
    from tfmat.atomic import sha256_of
    from tfmat.datasets.fetch import fetch

    mirrored = _mirrored(model, f"megnet_{model.preset.replace('/', '_')}.hdf5")
    if mirrored is not None and mirrored.with_name(f"{mirrored.name}.json").is_file():
        return mirrored
    path = fetch(sdist()) / _file(model)
    if not path.is_file() or sha256_of(path) != model.sha256:
        raise InputError(
            "it was removed or changed", expected=f"the file of megnet 1.3.2: remove {path.parent} to fetch it again", file=str(path)
        )
    return path


def _matgl_weights(model: Published) -> Path:
    name = f"{model.preset.replace('/', '_')}_state.pt"
    path = _mirrored(model, name)
    if path is None:
        folder = f"pretrained_models/{model.preset.partition('/')[2]}"
        raise InputError(
            f"the weights of {model.preset} are not on this machine, and tfmat does not fetch them",
            expected=f"TFMAT_DATA_DIR set to a folder with weights/{name} and its model.json, or `tfmat convert matgl state.pt` with the "
            f"files of {folder} of {model.url}",
        )
    return path


PRESETS: Mapping[str, Callable[[], Path]] = {
    **{model.preset: functools.partial(megnet_preset, model) for model in MEGNET},
    MATGL_EFORM.preset: functools.partial(matgl_preset, MATGL_EFORM),
}
"""Name -> function that returns the model directory."""


def list_presets() -> list[dict[str, str]]:
    """The published models, as `tfmat.Predictor.from_preset` takes them.

    Each has ``name``, ``architecture``, ``property``, ``unit``, ``reported_error`` (of its authors), ``fidelity`` (that is predicted, and
    which others a crystal may ask for by its ``state``; "" where there is one only), ``training_set``, ``size`` and ``licence``.
    """
    return [
        {
            "name": model.preset,
            "architecture": "megnet",
            "property": model.target.name,
            "unit": model.target.unit,
            "reported_error": model.error,
            "fidelity": _fidelity(model),
            "training_set": model.training_set,
            "size": f"{model.weights:,} weights",
            "licence": str(model.info["licence"]),
        }
        for model in (*MEGNET, MATGL_EFORM)
    ]


def _fidelity(model: Published) -> str:
    if not model.fidelities:
        return ""
    chosen = model.fidelities[0 if model.state is None else int(model.state[0])]
    return f"{chosen} (of {', '.join(model.fidelities)})"
