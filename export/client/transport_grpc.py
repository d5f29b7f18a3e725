"""TensorFlow Serving's gRPC interface, with the stubs of tensorflow-serving-api."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from tfmat.errors import InputError
from tfmat.export.client.refusals import no_model, no_server, refused
from tfmat.export.warm_up import predict_request, serving_stubs


class Grpc:
    """See `tfmat.export.client.Transport`.

    Args:
        host: name or address.
        port: the server's ``--port``.
        model: name.
        version: of the model; the newest if None.
        timeout: of one call [s].
    """

    def __init__(self, host: str, port: int, model: str, version: int | None, timeout: float) -> None:
        self._address, self._model, self._version, self._timeout = f"{host}:{port}", model, version, timeout
        self._stub = serving_stubs().prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self._address))

    def call(self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """See `tfmat.export.client.Transport.call`."""
        request = predict_request(self._model, signature, inputs, self._version)
        try:
            response = self._stub.Predict(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._refusal(error.code(), error.details() or "", signature) from error
        missing = [name for name in outputs if name not in response.outputs]
        if missing:
            raise no_server(self._address, f"an answer without the outputs {', '.join(missing)}")
        return {name: _array(response.outputs[name]) for name in outputs}

    def _refusal(self, code: grpc.StatusCode, reason: str, signature: str) -> InputError:
        if code == grpc.StatusCode.NOT_FOUND:
            return no_model(self._address, self._model, reason)
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED):
            return no_server(self._address, reason)
        return refused(reason, signature)


def _array(tensor: Any) -> np.ndarray:
    array = tf.make_ndarray(tensor)
    if array.dtype != object:
        return array
    return np.array([text.decode() for text in array.reshape(-1)], object).reshape(array.shape)
