"""What a layer may know about the compiler while it is traced."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras

_STATIC: ContextVar[bool] = ContextVar("static", default=False)
_GRIDS: ContextVar[Collection[tuple[int, int]]] = ContextVar("grids", default=())


@contextmanager
def static_shapes_only(only: bool, grids: Collection[tuple[int, int]] = ()) -> Iterator[None]:
    """While a function is traced: whether the size of every array must be known then, as for LiteRT.

    Args:
        only: whether it must.
        grids: (N, M) of lists of M edges whose N nodes have equally many each, one node's after the other's.
    """
    tokens = _STATIC.set(only), _GRIDS.set(grids)
    try:
        yield
    finally:
        _STATIC.reset(tokens[0])
        _GRIDS.reset(tokens[1])


def sizes_may_depend_on_values() -> bool:
    """Tell whether a layer may, for instance, keep only the rows that are no padding."""
    return keras.backend.backend() == "tensorflow" and not _STATIC.get()


def edges_per_node(nodes: int | None, edges: int | None) -> int | None:
    """Tell how many edges each node has where all have equally many, one node's after the other's; None: they may differ."""
    return edges // nodes if nodes and edges and (nodes, edges) in _GRIDS.get() else None
