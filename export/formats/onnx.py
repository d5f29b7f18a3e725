"""ONNX files, for ONNX Runtime and what else reads this format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.export.formats.fixed_sizes import FixedSizeFormat, Run
from tfmat.export.formats.weight_precision import as_float16
from tfmat.export.results import ExportError

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

OPSET = 18
"""Version of ONNX's operations."""


class Onnx(FixedSizeFormat):
    """ONNX models, made by tf2onnx and run with ONNX Runtime, which refuses arrays of other sizes by itself.

    ONNX Runtime has its own kernels and sums in another order, hence the larger `limit`. ``tfmat.json`` and the card are properties of the
    model (``metadata_props``). With ``float16`` the arrays of 1,024 weights and more are stored in half the size and widened when the model
    is loaded; all else stays float32.
    """

    name = "onnx"
    title = "ONNX"
    needs = ("onnx", "an ONNX export", "onnx", "tf2onnx", "onnxruntime")
    precisions = ("float32", "float16")
    limit = 1e-4

    def convert(self, serve: Callable[..., Any], predictor: Predictor, inputs: Mapping[str, tf.TensorSpec], precision: str) -> bytes:
        import onnx
        import tf2onnx

        quiet = logging.getLogger("tf2onnx")
        before = quiet.level
        quiet.setLevel(logging.CRITICAL)
        try:
            model, _ = tf2onnx.convert.from_function(tf.function(serve, autograph=False), input_signature=[dict(inputs)], opset=OPSET)
            if precision == "float16":
                store_float16_weights(model.graph)
            onnx.checker.check_model(model)  # tf2onnx leaves operations that it does not know as they are
        except Exception as error:  # tf2onnx has no exception type of its own
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ExportError(f"the model cannot be converted to ONNX: {reason}; nothing was written") from error
        finally:
            quiet.setLevel(before)
        return model.SerializeToString()

    def packed(self, content: bytes, documents: Mapping[str, str]) -> bytes:
        import onnx

        model = onnx.load_model_from_string(content)
        for key, value in documents.items():
            model.metadata_props.add(key=key, value=value)
        return model.SerializeToString()

    def opened(self, model: bytes | Path) -> tuple[Collection[str], Collection[str], Run]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        given = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        outputs = [node.name for node in session.get_outputs()]

        def run(**arrays: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(outputs, session.run(None, arrays), strict=True))

        return [node.name for node in session.get_inputs()], outputs, run


export_onnx = Onnx().export


def store_float16_weights(graph: Any) -> None:
    """Store the large arrays of an ONNX graph as float16, each with a node that widens it."""
    import onnx

    casts = []
    for index, initializer in enumerate(graph.initializer):
        if initializer.data_type != onnx.TensorProto.FLOAT:
            continue
        half = as_float16(onnx.numpy_helper.to_array(initializer))
        if half is not None:
            name = initializer.name
            graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(half, f"{name}/float16"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}/float16"], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
