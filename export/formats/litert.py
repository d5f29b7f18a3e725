"""LiteRT (``.tflite``) files, for phones, browsers and microcontrollers."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfmat.export.formats.fixed_sizes import FixedSizeFormat, Run
from tfmat.export.formats.weight_precision import PRECISIONS
from tfmat.export.interfaces.base import SERVING
from tfmat.export.results import ExportError

if TYPE_CHECKING:
    from tfmat.predictor import Predictor


class LiteRT(FixedSizeFormat):
    """LiteRT models of built-in operations only, run with `ai_edge_litert`.

    An array of another size is the error "failed to prepare", an exception in Python and ``kTfLiteError`` in C, after which the interpreter
    must be made anew.

    With ``float16`` the weights are stored in half the size and widened when they are loaded. With ``int8`` the matrices of 1,024 weights
    and more are stored as 8-bit integers with a scale each (dynamic range quantization); inputs and outputs stay float32.

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
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]  # without a representative data set: weights alone
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            try:
                content: bytes = converter.convert()
            except Exception as error:  # the converter has no exception type of its own
                raise ExportError(f"the model cannot be converted to LiteRT: {str(error).splitlines()[0]}") from error
        custom = custom_operations(content)
        if custom:
            raise ExportError(f"the LiteRT model would need the custom operations {', '.join(custom)}; nothing was written")
        return content

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


def custom_operations(content: bytes) -> list[str]:
    """Names of the operations in a LiteRT model that are not built in.

    Args:
        content: the file.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    return sorted({code.decode() for code in codes if code})
