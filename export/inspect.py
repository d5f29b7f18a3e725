"""What an exported model, or a model folder, says about itself: signatures, units, provenance. It is read, not run.

Of what tfmat has exported ``tfmat.json`` is read, and TensorFlow is not loaded; of other SavedModels, LiteRT and ONNX files the signatures.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfmat.atomic import size_of
from tfmat.errors import InputError
from tfmat.export.results import EXTRA_FOLDER, METADATA_FILE
from tfmat.extras import require

EXPECTED = "a SavedModel folder, a .tflite or .onnx file, a folder written by `tfmat train`, or a preset of `tfmat models`"
MAGIC = b"TFL3"
"""Bytes 4 to 8 of a LiteRT file."""

_LARGEST = 16_000_000  # bytes of tfmat.json, unpacked

Tensors = dict[str, dict[str, Any]]
"""Name -> ``dtype`` and ``shape``; a length that is not fixed is ``"?"``."""
Signatures = dict[str, dict[str, Tensors]]
"""Name -> ``inputs`` and ``outputs``."""


@dataclass(frozen=True)
class Inspected:
    """What was found.

    Attributes:
        path: path of the file or folder.
        kind: ``SavedModel``, ``LiteRT file``, ``ONNX file`` or ``model folder``.
        size_bytes: size of all files together.
        signatures: the signatures, with ``meaning`` and ``unit`` of each tensor where tfmat has exported it; none of a model folder.
        model: the content of ``tfmat.json`` or of a model folder's ``config.json``; None if tfmat has not made it.
    """

    path: str
    kind: str
    size_bytes: int
    signatures: Signatures
    model: dict[str, Any] | None

    def to_config(self) -> dict[str, Any]:
        """A dictionary that can be written as JSON."""
        return asdict(self)


def inspect(name_or_path: str | Path) -> Inspected:
    """Read what a model says about itself; nothing is run.

    Args:
        name_or_path: path of a file or folder, or name of a preset.

    Raises:
        InputError: there is no such thing, it is something else, or it is truncated.
    """
    path = Path(name_or_path)
    try:
        if path.is_file() and path.suffix != ".keras":
            with path.open("rb") as stream:
                start = stream.read(8)
            if start[4:8] == MAGIC:
                return _litert(path)
            if path.suffix.lower() == ".onnx":
                return _onnx(path)
            raise InputError("is no exported model", file=str(path), expected=EXPECTED)
        if (path / "saved_model.pb").is_file():
            return _saved_model(path)
        if path.is_dir() and not (path / "config.json").is_file():
            versions = sorted((int(p.name) for p in path.iterdir() if p.name.isdigit() and (p / "saved_model.pb").is_file()), reverse=True)
            expected = f"one of its versions, such as {path / str(versions[0])}" if versions else EXPECTED
            raise InputError("is a folder without a model", file=str(path), expected=expected)
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", file=str(path)) from None
    return _model_folder(path)


def _saved_model(path: Path) -> Inspected:
    file = path / EXTRA_FOLDER / METADATA_FILE
    model = _metadata(file.read_bytes(), file) if file.is_file() else None
    return Inspected(str(path), "SavedModel", size_of(path), saved_model_signatures(path) if model is None else model["signatures"], model)


def _litert(path: Path) -> Inspected:
    content, model = path.read_bytes(), None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if METADATA_FILE in archive.namelist():
                if archive.getinfo(METADATA_FILE).file_size > _LARGEST:
                    raise InputError(f"the {METADATA_FILE} in it is too large", file=str(path))
                model = _metadata(archive.read(METADATA_FILE), path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        model = None  # nothing behind the model, or another kind of archive
    signatures = _litert_signatures(content, path) if model is None else model["signatures"]
    return Inspected(str(path), "LiteRT file", size_of(path), signatures, model)


def _onnx(path: Path) -> Inspected:
    require("onnx", "reading an ONNX file", "onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        found = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise InputError(f"no ONNX file, or a truncated one ({error})", file=str(path)) from None
    if not found.graph.node:
        raise InputError("no ONNX file: no graph in it", file=str(path))
    texts = [entry.value for entry in found.metadata_props if entry.key == METADATA_FILE]
    model = _metadata(texts[0].encode(), path) if texts else None
    return Inspected(str(path), "ONNX file", size_of(path), _onnx_signatures(found) if model is None else model["signatures"], model)


def _model_folder(path: Path) -> Inspected:
    from tfmat.model_directory.files import check_weights, model_folder, read_config

    folder = model_folder(path)
    if not folder.is_dir():
        raise InputError("no such file, folder or preset", file=str(path), expected=EXPECTED)
    config = read_config(folder)
    check_weights(folder, config)
    return Inspected(str(folder), "model folder", size_of(folder), {}, config)


def _metadata(text: bytes, file: Path) -> dict[str, Any]:
    """The content of ``tfmat.json``."""
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"its {METADATA_FILE} cannot be read ({str(error)[:80]})", file=str(file)) from None
    if not isinstance(content, dict) or not {"architecture", "targets", "info", "signatures"} <= set(content):
        raise InputError(f"its {METADATA_FILE} is not what tfmat writes", file=str(file))
    return content


def _described(dtype: str, lengths: Iterable[int]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [length if length >= 0 else "?" for length in lengths]}


def saved_model_signatures(folder: Path) -> Signatures:
    """The signatures of the SavedModel in a folder.

    Args:
        folder: holds ``saved_model.pb``.

    Raises:
        InputError: ``saved_model.pb`` cannot be read.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise InputError(f"no SavedModel ({error})", file=str(file)) from None
    if not content.meta_graphs:
        raise InputError("no SavedModel: no graph in it", file=str(file))

    def described(tensors: Mapping[str, Any]) -> Tensors:
        found = {}
        for name, info in sorted(tensors.items()):
            shape = info.tensor_shape
            found[name] = _described(tf.dtypes.as_dtype(info.dtype).name, [-1] if shape.unknown_rank else [axis.size for axis in shape.dim])
        return found

    signatures = sorted(content.meta_graphs[0].signature_def.items())
    return {
        name: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
        for name, signature in signatures
        if not name.startswith("__saved_model")
    }


def _litert_signatures(content: bytes, file: Path) -> Signatures:
    """The signatures of a LiteRT file; its first graph as ``serving_default`` if it has none."""
    require("export", "reading a LiteRT file", "ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}

    def all_of(table: Any, field: str) -> list[Any]:
        return [getattr(table, field)(index) for index in range(getattr(table, f"{field}Length")())]

    def described(graph: Any, table: Any, field: str) -> Tensors:
        found = {}
        for entry in all_of(table, field):  # a number of a tensor in a graph, a name and a number in a signature
            name, number = ("", entry) if table is graph else (entry.Name().decode(), entry.TensorIndex())
            tensor = graph.Tensors(number)
            lengths = all_of(tensor, "ShapeSignature") or all_of(tensor, "Shape")
            found[name or tensor.Name().decode()] = _described(kinds.get(tensor.Type(), "unknown"), lengths)
        return dict(sorted(found.items()))

    try:
        model = schema.Model.GetRootAs(content, 0)
        tables = {
            given.SignatureKey().decode(): (model.Subgraphs(given.SubgraphIndex()), given) for given in all_of(model, "SignatureDefs")
        }
        tables = tables or {"serving_default": (model.Subgraphs(0),) * 2}
        fields = {"inputs": "Inputs", "outputs": "Outputs"}
        return {name: {key: described(*table, field) for key, field in fields.items()} for name, table in tables.items()}
    except Exception as error:  # flatbuffers reads offsets from the file: a truncated one leads anywhere
        raise InputError(f"no LiteRT file, or a truncated one ({type(error).__name__})", file=str(file)) from None


def _onnx_signatures(model: Any) -> Signatures:
    """The inputs and outputs of a ``ModelProto``, as ``serving_default``."""
    import onnx

    def described(nodes: Iterable[Any]) -> Tensors:
        found = {}
        for node in nodes:
            tensor = node.type.tensor_type
            lengths = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
            found[node.name] = _described(onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), lengths)
        return dict(sorted(found.items()))

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [node for node in model.graph.input if node.name not in weights]
    return {"serving_default": {"inputs": described(inputs), "outputs": described(model.graph.output)}}
