"""The error of an export whose result cannot be trusted."""

from __future__ import annotations


class ExportError(RuntimeError):
    """The exported model does not reproduce the Keras model, or could not be made at all; nothing was written."""
