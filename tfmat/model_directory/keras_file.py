"""A model directory as one ``.keras`` file: what Keras itself saves, with the config of the directory beside it as ``tfmat.json``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.atomic import new_directory, sha256_of, staged
from tfmat.datasets.fetch import cache_root
from tfmat.errors import InputError
from tfmat.model_directory.files import CONFIG, WEIGHTS, config_text

if TYPE_CHECKING:
    import keras
    import numpy as np

SUFFIX = ".keras"
_CARD = "tfmat.json"
_EXPECTED = "a file written by Predictor.save('model.keras'); of a model trained with Keras: Predictor.from_model(model, data).save(...)"


def write_keras_file(
    path: Path, model: keras.Model, weights: Sequence[np.ndarray], config: Mapping[str, Any], *, overwrite: bool = False
) -> Path:
    """Write one file that both tfmat and ``keras.saving.load_model`` open.

    Args:
        path: of the file.
        model: as its builder returns it, not compiled, so that no state of an optimizer is written; it takes the weights.
        weights: what `model` has learnt.
        config: of the model directory.
        overwrite: replace an existing file.
    """
    model.set_weights(weights)
    with staged(path, overwrite=overwrite) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            content = temporary.with_name(WEIGHTS)
            content.write_bytes(archive.read(WEIGHTS))
            archive.writestr(_CARD, config_text(dict(config), content))
    return path


def unpacked(path: Path) -> Path:
    """The model directory, in the user's cache, of a file of `write_keras_file`. Nothing else in the file is looked at.

    Raises:
        InputError: it is no such file.
    """
    directory = cache_root() / "models" / "keras" / sha256_of(path)[:32]
    if directory.is_dir():
        return directory
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(name) for name in (_CARD, WEIGHTS)}
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
                raise InputError("a compressed archive, which Keras does not write", file=str(path), expected=_EXPECTED)
            content = {CONFIG: archive.read(_CARD), WEIGHTS: archive.read(WEIGHTS)}
    except KeyError as error:
        what = "it does not say what it predicts in which units (no tfmat.json)" if _CARD in str(error) else "it has no weights"
        raise InputError(what, file=str(path), expected=_EXPECTED) from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"not a .keras file ({error})", file=str(path), expected=_EXPECTED) from None
    try:
        with new_directory(directory) as folder:
            for name, data in content.items():
                (folder / name).write_bytes(data)
    except InputError:
        if not directory.is_dir():  # else another process was quicker
            raise
    return directory
