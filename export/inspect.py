"""What an exported model, or a model folder, says about itself: signatures, units, provenance.

Of what tfmat has exported ``tfmat.json`` is read, and TensorFlow is not loaded.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfmat.errors import InputError
from tfmat.export.contents import EXTRA, FILE
from tfmat.export.foreign_signatures import MAGIC, Signatures, litert_signatures, onnx_model, onnx_signatures, saved_model_signatures
from tfmat.export.results import size_of

EXPECTED = "a SavedModel folder, a .tflite or .onnx file, a folder written by `tfmat train`, or a preset of `tfmat models`"

_LARGEST = 16_000_000  # bytes of tfmat.json, unpacked


@dataclass(frozen=True)
class Inspected:
    """What was found.

    Attributes:
        path: of the file or folder.
        kind: ``SavedModel``, ``LiteRT file``, ``ONNX file`` or ``model folder``.
        size_bytes: of all files together.
        signatures: see `tfmat.export.foreign_signatures.Signatures`, with ``meaning`` and ``unit`` where tfmat has exported it; none of a
            model folder.
        model: the content of ``tfmat.json`` or of a model folder's ``config.json``; None if tfmat has not made it.
    """

    path: str
    kind: str
    size_bytes: int
    signatures: Signatures
    model: dict[str, Any] | None

    def to_config(self) -> dict[str, Any]:
        """JSON-able dictionary."""
        return asdict(self)


def inspect(name_or_path: str | Path) -> Inspected:
    """Read what a file or folder, or a preset, says about itself; nothing is run.

    Raises:
        InputError: there is no such thing, it is something else, or it is truncated.
    """
    path = Path(name_or_path)
    try:
        if path.is_file() and path.suffix != ".keras":
            return _file(path)
        if (path / "saved_model.pb").is_file():
            return _saved_model(path)
        if path.is_dir() and not (path / "config.json").is_file():
            versions = sorted((int(p.name) for p in path.iterdir() if p.name.isdigit() and (p / "saved_model.pb").is_file()), reverse=True)
            expected = f"one of its versions, such as {path / str(versions[0])}" if versions else EXPECTED
            raise InputError("is a folder without a model", file=str(path), expected=expected)
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", file=str(path)) from None
    return _model_folder(path)


def _file(path: Path) -> Inspected:
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[4:8] == MAGIC:
        return _litert(path)
    if path.suffix.lower() == ".onnx":
        return _onnx(path)
    raise InputError("is no exported model", file=str(path), expected=EXPECTED)


def _saved_model(path: Path) -> Inspected:
    told = path / EXTRA / FILE
    model = _metadata(told.read_bytes(), told) if told.is_file() else None
    return _inspected(path, "SavedModel", model, saved_model_signatures(path) if model is None else None)


def _litert(path: Path) -> Inspected:
    content, model = path.read_bytes(), None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if FILE in archive.namelist():
                if archive.getinfo(FILE).file_size > _LARGEST:
                    raise InputError(f"the {FILE} in it is too large", file=str(path))
                model = _metadata(archive.read(FILE), path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        model = None  # nothing behind the model, or another kind of archive
    return _inspected(path, "LiteRT file", model, litert_signatures(content, path) if model is None else None)


def _onnx(path: Path) -> Inspected:
    found = onnx_model(path)
    texts = [entry.value for entry in found.metadata_props if entry.key == FILE]
    model = _metadata(texts[0].encode(), path) if texts else None
    return _inspected(path, "ONNX file", model, onnx_signatures(found) if model is None else None)


def _model_folder(path: Path) -> Inspected:
    from tfmat.model_directory.files import check_weights, model_folder, read_config

    folder = model_folder(path)
    if not folder.is_dir():
        raise InputError("no such file, folder or preset", file=str(path), expected=EXPECTED)
    config = read_config(folder)
    check_weights(folder, config)
    return _inspected(folder, "model folder", config, {})


def _inspected(path: Path, kind: str, model: dict[str, Any] | None, signatures: Signatures | None) -> Inspected:
    if signatures is None and model is not None:
        signatures = model["signatures"]
    return Inspected(str(path), kind, size_of(path), signatures or {}, model)


def _metadata(text: bytes, file: Path) -> dict[str, Any]:
    """The content of ``tfmat.json``."""
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"its {FILE} cannot be read ({str(error)[:80]})", file=str(file)) from None
    if not isinstance(content, dict) or not {"architecture", "targets", "info", "signatures"} <= set(content):
        raise InputError(f"its {FILE} is not what tfmat writes", file=str(file))
    return content
