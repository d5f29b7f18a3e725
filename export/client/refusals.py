"""What a TensorFlow Serving server refuses, as one line in the words of the model."""

from __future__ import annotations

import re

from tfmat.errors import InputError

_ASSERTION = re.compile(r"assertion failed: \[(.*)\] \[([^\]]*)\]")


def no_server(address: str, reason: str) -> InputError:
    """Nothing at an address speaks the protocol."""
    return InputError(f"no TensorFlow Serving server answers at {address}: {reason[:300]}", expected="one that `tfmat serve` starts")


def no_model(address: str, model: str, reason: str) -> InputError:
    """The server does not serve the model or the version."""
    return InputError(f"the server at {address} does not serve {model!r}: {reason[:300]}")


def refused(reason: str, signature: str) -> InputError:
    """The server refuses a call; `reason` is its whole message."""
    found = _ASSERTION.search(reason)
    if found:
        return InputError(f"the server refuses: {found[1]} {found[2]}")
    if signature == "about":
        expected = "a model that `tfmat export --format serving` wrote, or its tfmat.json as `metadata`"
        return InputError(f"the server tells no units: {reason[:300]}", expected=expected)
    return InputError(f"the server refuses: {reason[:300]}")
