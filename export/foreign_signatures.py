"""The signatures of any SavedModel, LiteRT or ONNX file, whoever made it: read, not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmat.errors import InputError
from tfmat.extras import require

Signatures = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""Name -> ``inputs`` and ``outputs`` -> name -> ``dtype``, ``shape``; a length that is not fixed is ``"?"``."""

MAGIC = b"TFL3"
"""Bytes 4 to 8 of a LiteRT file."""


def saved_model_signatures(folder: Path) -> Signatures:
    """Of the SavedModel in a folder.

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

    def told(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            name: {"dtype": tf.dtypes.as_dtype(info.dtype).name, "shape": _shape(info.tensor_shape)}
            for name, info in sorted(tensors.items())
        }

    signatures = content.meta_graphs[0].signature_def
    return {
        name: {"inputs": told(signatures[name].inputs), "outputs": told(signatures[name].outputs)}
        for name in sorted(signatures)
        if not name.startswith("__saved_model")
    }


def _shape(shape: Any) -> list[int | str]:
    return ["?"] if shape.unknown_rank else [axis.size if axis.size >= 0 else "?" for axis in shape.dim]


def litert_signatures(content: bytes, file: Path) -> Signatures:
    """Of a LiteRT file; its first graph as ``serving_default`` if it has none.

    Raises:
        InputError: it cannot be read.
    """
    require("export", "reading a LiteRT file", "ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}

    def told(graph: Any, tensors: Iterable[tuple[str, int]]) -> dict[str, dict[str, Any]]:
        found = {}
        for name, index in tensors:
            tensor = graph.Tensors(index)
            lengths = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
            signature = [tensor.ShapeSignature(axis) for axis in range(tensor.ShapeSignatureLength())] or lengths
            found[name or tensor.Name().decode()] = {
                "dtype": kinds.get(tensor.Type(), "unknown"),
                "shape": [n if n >= 0 else "?" for n in signature],
            }
        return dict(sorted(found.items()))

    try:
        model = schema.Model.GetRootAs(content, 0)
        signatures: Signatures = {}
        for number in range(model.SignatureDefsLength()):
            given = model.SignatureDefs(number)
            graph = model.Subgraphs(given.SubgraphIndex())
            inputs = [given.Inputs(index) for index in range(given.InputsLength())]
            outputs = [given.Outputs(index) for index in range(given.OutputsLength())]
            signatures[given.SignatureKey().decode()] = {
                "inputs": told(graph, [(tensor.Name().decode(), tensor.TensorIndex()) for tensor in inputs]),
                "outputs": told(graph, [(tensor.Name().decode(), tensor.TensorIndex()) for tensor in outputs]),
            }
        if not signatures:
            graph = model.Subgraphs(0)
            signatures["serving_default"] = {
                "inputs": told(graph, [("", graph.Inputs(index)) for index in range(graph.InputsLength())]),
                "outputs": told(graph, [("", graph.Outputs(index)) for index in range(graph.OutputsLength())]),
            }
    except Exception as error:  # flatbuffers reads offsets from the file: a truncated one leads anywhere
        raise InputError(f"no LiteRT file, or a truncated one ({type(error).__name__})", file=str(file)) from None
    return signatures


def onnx_model(file: Path) -> Any:
    """The ``ModelProto`` of an ONNX file, without weights that lie in other files.

    Raises:
        InputError: it cannot be read, or the package `onnx` is not installed.
    """
    require("onnx", "reading an ONNX file", "onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise InputError(f"no ONNX file, or a truncated one ({error})", file=str(file)) from None
    if not model.graph.node:
        raise InputError("no ONNX file: no graph in it", file=str(file))
    return model


def onnx_signatures(model: Any) -> Signatures:
    """Of a ``ModelProto``, as ``serving_default``."""
    import onnx

    def told(nodes: Iterable[Any]) -> dict[str, dict[str, Any]]:
        found = {}
        for node in nodes:
            tensor = node.type.tensor_type
            shape = [axis.dim_value if axis.HasField("dim_value") else "?" for axis in tensor.shape.dim]
            found[node.name] = {"dtype": onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), "shape": shape}
        return dict(sorted(found.items()))

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [node for node in model.graph.input if node.name not in weights]
    return {"serving_default": {"inputs": told(inputs), "outputs": told(model.graph.output)}}
