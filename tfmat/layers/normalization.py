"""Layer normalisation: with a gradient of its own, and over all sites of a crystal together."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.lists import at_receivers, mean_of
from tfmat.layers.precision import exact


@keras.saving.register_keras_serializable("tfmat")
class LayerNorm(keras.layers.Layer):
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta`` over the last axis, computed in float32.

    The numbers of `keras.layers.LayerNormalization`, with a gradient that takes half as many passes over memory as that of its
    single operations: where rows are short and many, as angles are, they cost as much as the matrix products between them.

    Args:
        epsilon: added to the variance.

    Call arguments:
        x: (..., D).

    Returns:
        (..., D).
    """

    def __init__(self, epsilon: float = 1e-6, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape[-1:], initializer="zeros")

    def call(self, x: Any) -> Any:
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        normalised = _normalised(ops.cast(x, "float32"), gamma, beta, ops.convert_to_tensor(self.epsilon, "float32"))
        return ops.cast(normalised, self.compute_dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


@keras.saving.register_keras_serializable("tfmat")
class SitesNorm(keras.layers.Layer):
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, mean and variance over all features of all sites of a crystal, in float32.

    Args:
        epsilon: added to the variance.

    Call arguments:
        x: (S, D).
        multiplicity: (S, 1), sites that each row stands for; 0 for an empty one.
        crystals: int (S,), which crystal each belongs to, ascending; the last one is B - 1.
        batch_sites: any array with B rows.

    Returns:
        (S, D).
    """

    def __init__(self, epsilon: float = 1e-5, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.epsilon = epsilon

    def build(self, x_shape: tuple[int | None, ...], *other_shapes: Any) -> None:
        self.gamma = self.add_weight(name="gamma", shape=x_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=x_shape[-1:], initializer="zeros")

    def call(self, x: Any, multiplicity: Any, crystals: Any, batch_sites: Any) -> Any:
        x = exact(x)

        def mean(values: Any) -> Any:
            return at_receivers(mean_of(ops.mean(values, axis=-1, keepdims=True), multiplicity, crystals, batch_sites), crystals)

        centered = x - mean(x)
        normalised = centered * ops.rsqrt(mean(ops.square(centered)) + self.epsilon)
        return ops.cast(normalised * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype), self.compute_dtype)

    def compute_output_shape(self, x_shape: tuple[int | None, ...], *other_shapes: Any) -> tuple[int | None, ...]:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


@ops.custom_gradient
def _normalised(x: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    scale = ops.rsqrt(ops.mean(ops.square(centered), axis=-1, keepdims=True) + epsilon)
    unit = centered * scale

    def grad(*args: Any, upstream: Any = None) -> Any:
        dy = args[0] if upstream is None else upstream
        dim = x.shape[-1]
        product = dy * unit
        column = ops.reshape(gamma / dim, (dim, 1))
        inner = dy * gamma - ops.matmul(dy, column) - unit * ops.matmul(product, column)
        axes = tuple(range(len(x.shape) - 1))
        return inner * scale, ops.sum(product, axis=axes), ops.sum(dy, axis=axes), ops.zeros_like(epsilon)

    return unit * gamma + beta, grad
