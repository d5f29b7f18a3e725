"""The affine map of a concatenation that is never made."""

from __future__ import annotations

import itertools
from typing import Any

import keras
from keras import ops


class JointDense(keras.layers.Layer):
    """The affine map of a concatenation ``[x_1; x_2; ...]``, one part at a time.

    So each part is mapped where it lives, atoms before they are gathered to bonds and the state before it is repeated, and the
    concatenation never exists.

    Args:
        dim: width of the result.
        regularizer: regularizer of the kernel.

    Call arguments:
        inputs: x_1, x_2, ..., each (..., D_i); in the rows of ``kernel`` they follow each other.

    Returns:
        (..., dim).
    """

    def __init__(self, dim: int, regularizer: Any = None, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.dim, self.regularizer = dim, regularizer

    def build(self, *shapes: tuple[int | None, ...]) -> None:
        ends = [0]
        for shape in shapes:
            ends.append(ends[-1] + int(shape[-1] or 0))
        self.bounds = tuple(itertools.pairwise(ends))
        self.kernel = self.add_weight(
            name="kernel", shape=(ends[-1], self.dim), initializer=keras.initializers.GlorotUniform(), regularizer=self.regularizer
        )
        self.bias = self.add_weight(name="bias", shape=(self.dim,), initializer="zeros")
        self.built = True

    @property
    def shift(self) -> Any:
        """The bias (dim,) in the layer's computing precision."""
        return ops.cast(self.bias, self.compute_dtype)

    def part(self, inputs: Any, index: int) -> Any:
        """(..., D_index) -> (..., dim): the contribution of one part, without the bias."""
        first, last = self.bounds[index]
        return ops.matmul(inputs, ops.cast(self.kernel, self.compute_dtype)[first:last])

    def call(self, *inputs: Any) -> Any:
        return sum((self.part(value, index) for index, value in enumerate(inputs)), self.shift)
