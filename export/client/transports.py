"""How a client speaks to TensorFlow Serving: over REST with Python's own library alone, or over gRPC, which needs TensorFlow."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.errors import InputError
from tfmat.extras import require

Inputs = Mapping[str, np.ndarray]

_ASSERTION = re.compile(r"assertion failed: \[(.*)\] \[([^\]]*)\]")


class Transport(ABC):
    """A way to call one model of a server.

    Args:
        host: name or address of the server.
        port: the server's port for the protocol.
        model: name of the model on the server.
        version: version of the model; the newest if None.
        timeout: longest time that one call may take [s].
    """

    def __init__(self, host: str, port: int, model: str, version: int | None, timeout: float) -> None:
        self._address, self._model, self._version, self._timeout = f"{host}:{port}", model, version, timeout

    @abstractmethod
    def call(self, signature: str, inputs: Inputs, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Call a signature.

        Args:
            signature: its name.
            inputs: its inputs by name.
            outputs: names of its outputs.

        Raises:
            InputError: no server, no such model, or the server's reason to refuse.
        """

    def _no_server(self, reason: str) -> InputError:
        """Nothing at the address speaks the protocol."""
        return InputError(
            f"no TensorFlow Serving server answers at {self._address}: {reason[:300]}", expected="one that `tfmat serve` starts"
        )

    def _no_model(self, reason: str) -> InputError:
        return InputError(f"the server at {self._address} does not serve {self._model!r}: {reason[:300]}")

    @staticmethod
    def _refused(reason: str, signature: str) -> InputError:
        """The server refuses a call with this message: the model's own sentence where there is one."""
        found = _ASSERTION.search(reason)
        if found:
            return InputError(f"the server refuses: {found[1]} {found[2]}")
        if signature == "about":
            expected = "a model that `tfmat export --format serving` wrote, or its tfmat.json as `metadata`"
            return InputError(f"the server tells no units: {reason[:300]}", expected=expected)
        return InputError(f"the server refuses: {reason[:300]}")


class Rest(Transport):
    """The REST interface of TensorFlow Serving."""

    def call(self, signature: str, inputs: Inputs, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        version = "" if self._version is None else f"/versions/{self._version}"
        url = f"http://{self._address}/v1/models/{urllib.parse.quote(self._model, safe='')}{version}:predict"
        body = {"signature_name": signature, "inputs": {name: array.tolist() for name, array in inputs.items()}}
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error.code, error.read(), signature) from error
        except (OSError, ValueError) as error:  # URLError is an OSError
            raise self._no_server(str(getattr(error, "reason", error))) from error
        return self._outputs(text, outputs)

    def _refusal(self, code: int, text: bytes, signature: str) -> InputError:
        try:
            reason = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            return self._no_server(f"HTTP status {code} without TensorFlow Serving's reason")
        return self._no_model(reason) if code == 404 else self._refused(reason, signature)

    def _outputs(self, text: bytes, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs in an answer, in which a single one stands without its name."""
        try:
            values: Any = json.loads(text)["outputs"]
            values = {names[0]: values} if len(names) == 1 else values
            return {name: np.array(values[name]) for name in names}
        except (ValueError, KeyError, TypeError) as error:
            raise self._no_server(f"an answer without the outputs {', '.join(names)}") from error


class Grpc(Transport):
    """The gRPC interface of TensorFlow Serving, with the stubs of tensorflow-serving-api."""

    def __init__(self, host: str, port: int, model: str, version: int | None, timeout: float) -> None:
        super().__init__(host, port, model, version, timeout)
        require("export", "gRPC, unlike protocol='rest',", "grpc", "tensorflow", "tensorflow_serving")
        import grpc
        import tensorflow as tf

        self._array = tf.make_ndarray
        self._stub = serving_stubs().prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(self._address))

    def call(self, signature: str, inputs: Inputs, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        import grpc

        request = predict_request(self._model, signature, inputs, self._version)
        try:
            found = self._stub.Predict(request, timeout=self._timeout).outputs
        except grpc.RpcError as error:
            raise self._refusal(error.code().name, error.details() or "", signature) from error
        missing = [name for name in outputs if name not in found]
        if missing:
            raise self._no_server(f"an answer without the outputs {', '.join(missing)}")
        arrays = {name: self._array(found[name]) for name in outputs}
        decoded = np.vectorize(bytes.decode, otypes=[object])
        return {name: decoded(array) if array.dtype == object else array for name, array in arrays.items()}

    def _refusal(self, code: str, reason: str, signature: str) -> InputError:
        if code == "NOT_FOUND":
            return self._no_model(reason)
        return (
            self._no_server(reason) if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED") else self._refused(reason, signature)
        )


def serving_stubs() -> Any:
    """``tensorflow_serving.apis`` with its modules for predictions.

    Raises:
        InputError: the package is not installed.
    """
    require("export", "what speaks to TensorFlow Serving", "tensorflow_serving", "grpc")
    import tensorflow_serving.apis as apis
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc  # noqa: F401

    return apis


def predict_request(name: str, signature: str, arrays: Inputs, version: int | None = None) -> Any:
    """A ``PredictRequest``.

    Args:
        name: name of the model on the server.
        signature: name of the signature.
        arrays: its inputs by name.
        version: version of the model; the newest if None.
    """
    import tensorflow as tf

    request = serving_stubs().predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, array in arrays.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    return request
