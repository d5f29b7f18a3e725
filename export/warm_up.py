"""Requests that TensorFlow Serving replays before it serves a version, so that no client waits for the first, slow calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.export.client.arrays import with_empty_slot
from tfmat.export.interfaces.base import Interface
from tfmat.export.interfaces.signatures import SERVING, Entry
from tfmat.extras import require

FILE = "tf_serving_warmup_requests"
"""Name of the file in the folder ``assets.extra``, which the server gives."""

LIMIT = 1000
"""The server refuses a model with more."""


def serving_stubs() -> Any:
    """``tensorflow_serving.apis`` with its modules for predictions.

    Raises:
        InputError: the package is not installed.
    """
    require("export", "what speaks to TensorFlow Serving", "tensorflow_serving", "grpc")
    import tensorflow_serving.apis as apis
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc  # noqa: F401

    return apis


def predict_request(name: str, signature: str, arrays: Mapping[str, np.ndarray], version: int | None = None) -> Any:
    """A ``PredictRequest``."""
    request = serving_stubs().predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, array in arrays.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    return request


def write_warm_up(file: Path, name: str, interface: Interface, materials: Sequence[Any]) -> int:
    """Write a TFRecord file of ``PredictionLog``: each material by itself, and all together, to every signature that takes materials.

    Args:
        file: to write.
        name: of the model on the server.
        interface: of the model; it was exported for a server.
        materials: formulas or crystals.

    Returns:
        The number of requests.
    """
    logs = serving_stubs().prediction_log_pb2
    entries: dict[str, Entry] = {key: entry for key, entry in interface.signatures().items() if key in (SERVING, *interface.entries())}
    groups = [*([material] for material in materials[: LIMIT // len(entries) - 1]), list(materials)]
    count = 0
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, entry in entries.items():
            for group in groups:
                request = predict_request(name, signature, with_empty_slot(entry.encode(group)))
                log = logs.PredictionLog(predict_log=logs.PredictLog(request=request))
                writer.write(log.SerializeToString())
                count += 1
    return count
