"""Less memory for more time: the numbers inside a layer are not kept for the gradient but computed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


def one_by_one(layer: keras.layers.Layer, function: Callable[..., tuple[Any, ...]], arrays: Sequence[Any]) -> tuple[Any, ...]:
    """`function` of one crystal after the other, each computed again for the gradient: only one crystal's numbers exist at a time.

    The weights go in as tensors, because TensorFlow cannot differentiate a recomputed function that reads variables within a loop.

    Args:
        layer: whose trainable weights `function` reads; it must not read other variables, random generators among them.
        function: of arrays (1, ...), returns arrays (1, ...).
        arrays: each (B, ...).

    Returns:
        What `function` would return for the whole batch.
    """
    variables = layer.trainable_weights

    def single(*values: Any) -> tuple[Any, ...]:
        crystal, weights = values[: len(arrays)], values[len(arrays) :]
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return tuple(x[0] for x in function(*(ops.expand_dims(x, 0) for x in crystal)))

    again = keras.remat(single)
    weights = [ops.copy(variable) for variable in variables]  # tensors: a variable would be counted twice
    result: tuple[Any, ...] = ops.map(lambda crystal: again(*crystal, *weights), tuple(arrays))
    return result
