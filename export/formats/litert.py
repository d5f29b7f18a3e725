"""LiteRT (``.tflite``) files, for phones, browsers and microcontrollers."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.export.formats.fixed_sizes import FixedSizeFormat, Run
from tfmat.export.formats.weight_precision import PRECISIONS, as_float16
from tfmat.export.interfaces.base import SERVING
from tfmat.export.results import ExportError

if TYPE_CHECKING:
    from tfmat.predictor import Predictor


class LiteRT(FixedSizeFormat):
    """LiteRT models of built-in operations only, run with `ai_edge_litert`.

    An array of another size is the error "failed to prepare", an exception in Python and ``kTfLiteError`` in C, after which the interpreter
    must be made anew.

    With ``float16`` the arrays of 1,024 weights and more are stored in half the size and widened when they are loaded. With ``int8`` the
    matrices of that size are stored as 8-bit integers with a scale each (dynamic range quantization). All else stays float32: inputs,
    outputs, and numbers in the graph such as the mean and the spread of a target.

    ``tfmat.json`` and the card are packed into the file as the format's "associated files", a ZIP archive behind the model:
    ``unzip -p model.tflite tfmat.json``.
    """

    name = "litert"
    title = "LiteRT"
    needs = ("export", "a LiteRT export, which checks its result,", "ai_edge_litert")
    precisions = PRECISIONS

    def convert(self, serve: Callable[..., Any], predictor: Predictor, inputs: Mapping[str, tf.TensorSpec], precision: str) -> bytes:
        """See `FixedSizeFormat.convert`.

        The converter reads a SavedModel of static shapes: only then are the weights frozen and the names of inputs and outputs kept.
        """
        module = tf.Module()
        module.weights = [variable.value for variable in predictor.model.variables]
        function = tf.function(lambda **arrays: serve(arrays), autograph=False).get_concrete_function(**inputs)
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures={SERVING: function})
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SERVING])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]  # without a representative data set: weights alone
            try:
                content: bytes = converter.convert()
            except Exception as error:  # the converter has no exception type of its own
                raise ExportError(f"the model cannot be converted to LiteRT: {str(error).splitlines()[0]}") from error
        custom = custom_operations(content)
        if custom:
            raise ExportError(f"the LiteRT model would need the custom operations {', '.join(custom)}; nothing was written")
        return with_float16_weights(content) if precision == "float16" else content

    def packed(self, content: bytes, documents: Mapping[str, str]) -> bytes:
        file = io.BytesIO(content)
        with zipfile.ZipFile(file, "a") as archive:
            for name, text in documents.items():
                archive.writestr(name, text)
        return file.getvalue()

    def opened(self, model: bytes | Path) -> tuple[Collection[str], Collection[str], Run]:
        from ai_edge_litert.interpreter import Interpreter

        given = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        run = Interpreter(**given, num_threads=1).get_signature_runner(SERVING)
        return run.get_input_details(), run.get_output_details(), run


export_litert = LiteRT().export


def with_float16_weights(content: bytes) -> bytes:
    """The model with its large constant arrays stored as float16, each followed by the operation that widens it.

    The converter's own float16 rounds every number of the graph, of a target's mean, too.

    Args:
        content: the file, all float32.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(content))
    halves: dict[int, int] = {}  # buffer -> the one with its values as float16
    widen = len(model.operatorCodes)
    for graph in model.subgraphs:
        for index, tensor in enumerate(list(graph.tensors)):
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None or index in graph.outputs:
                continue
            half = as_float16(np.frombuffer(bytes(data), np.float32))
            if half is None:
                continue
            if tensor.buffer not in halves:
                halves[tensor.buffer] = len(model.buffers)
                model.buffers.append(schema.BufferT(data=np.frombuffer(half.tobytes(), np.uint8)))
            narrow = schema.TensorT(
                shape=tensor.shape, type=schema.TensorType.FLOAT16, buffer=halves[tensor.buffer], name=tensor.name + b"/float16"
            )
            graph.operators.insert(0, schema.OperatorT(opcodeIndex=widen, inputs=[len(graph.tensors)], outputs=[index]))
            graph.tensors.append(narrow)
            tensor.buffer = 0
    for buffer in halves:
        model.buffers[buffer].data = None
    code = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=3))
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom_operations(content: bytes) -> list[str]:
    """Names of the operations in a LiteRT model that are not built in.

    Args:
        content: the file.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    return sorted({code.decode() for code in codes if code})
