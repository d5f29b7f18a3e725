"""TensorFlow Serving's REST interface, with Python's own library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.errors import InputError
from tfmat.export.client.refusals import no_model, no_server, refused


class Rest:
    """See `tfmat.export.client.Transport`.

    Args:
        host: name or address.
        port: the server's ``--rest_api_port``.
        model: name.
        version: of the model; the newest if None.
        timeout: of one call [s].
    """

    def __init__(self, host: str, port: int, model: str, version: int | None, timeout: float) -> None:
        self._address, self._model, self._timeout = f"{host}:{port}", model, timeout
        place = "" if version is None else f"/versions/{version}"
        self._url = f"http://{self._address}/v1/models/{urllib.parse.quote(model, safe='')}{place}:predict"

    def call(self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """See `tfmat.export.client.Transport.call`."""
        body = {"signature_name": signature, "inputs": {name: array.tolist() for name, array in inputs.items()}}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error.code, error.read(), signature) from error
        except (OSError, ValueError) as error:  # URLError is an OSError
            raise no_server(self._address, str(getattr(error, "reason", error))) from error
        return self._outputs(text, outputs)

    def _refusal(self, code: int, text: bytes, signature: str) -> InputError:
        try:
            reason = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            return no_server(self._address, f"HTTP status {code} without TensorFlow Serving's reason")
        return no_model(self._address, self._model, reason) if code == 404 else refused(reason, signature)

    def _outputs(self, text: bytes, names: Sequence[str]) -> dict[str, np.ndarray]:
        """A single output is told without its name."""
        try:
            told: Any = json.loads(text)["outputs"]
            told = {names[0]: told} if len(names) == 1 else told
            return {name: np.array(told[name]) for name in names}
        except (ValueError, KeyError, TypeError) as error:
            raise no_server(self._address, f"an answer without the outputs {', '.join(names)}") from error
