"""Less memory for more time: the numbers inside a layer are not kept for the gradient but computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def computed_again(layer: keras.layers.Layer, function: Callable[..., Any], *arrays: Any) -> Any:
    """`function` of float arrays, of which only these are kept for the gradient.

    The weights go in as tensors, because TensorFlow cannot differentiate a recomputed function that reads variables.

    Args:
        layer: whose trainable weights `function` reads; it must not read other variables, random generators among them.
        function: takes `arrays`.
        arrays: what it is differentiated by.
    """
    variables = layer.trainable_weights

    def inner(*values: Any) -> Any:
        given, weights = values[: len(arrays)], values[len(arrays) :]
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return function(*given)

    weights = [ops.copy(variable) for variable in variables]  # tensors: a variable would be counted twice
    return keras.remat(inner)(*arrays, *weights)
