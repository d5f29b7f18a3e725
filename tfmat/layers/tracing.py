"""What a layer may know about the compiler while it is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras

_STATIC: ContextVar[bool] = ContextVar("static", default=False)


@contextmanager
def static_shapes_only(only: bool) -> Iterator[None]:
    """While a function is traced: whether the size of every array must be known then, as for XLA and LiteRT."""
    token = _STATIC.set(only)
    try:
        yield
    finally:
        _STATIC.reset(token)


def sizes_may_depend_on_values() -> bool:
    """Whether a layer may, for instance, keep only the rows that are no padding."""
    return keras.backend.backend() == "tensorflow" and not _STATIC.get()
