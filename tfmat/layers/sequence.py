"""Convolution along masked sequences, and the matrix product that it shares with the recurrent layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.elements import torch_uniform


def product(values: Any, matrix: Any, bias: Any = None) -> Any:
    """(N, M, D) times (D, E), plus the bias (E,); N is never 0. TensorFlow fuses the two where they are of two axes."""
    result = ops.matmul(_rows(values), matrix)
    result = result if bias is None else result + bias
    return ops.reshape(result, (ops.shape(values)[0], -1, matrix.shape[-1]))


@keras.saving.register_keras_serializable("tfmat")
class MaskedConv1D(keras.layers.Layer):
    """Convolution along the slots, kernel 1 or 3, stride 1, zero border, padded slots set to zero in the result.

    Written as one matrix product a tap on the slots that the tap really sees: for sequences of 2 or 3 slots a padded
    convolution would spend a third to a quarter of its work on the zero border.

    Args:
        dim: number of output channels.
        kernel_size: 1 or 3.

    Call arguments:
        features: (B, L, D), zero in padded slots.
        real: (B, L) or None.

    Returns:
        (B, L, dim).
    """

    def __init__(self, dim: int, kernel_size: int = 3, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if kernel_size not in (1, 3):
            raise ValueError(f"`kernel_size` must be 1 or 3. Received: kernel_size={kernel_size}")
        self.dim, self.kernel_size = dim, kernel_size

    def build(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        width = int(features_shape[-1] or 0)
        fan_in = width * self.kernel_size
        self.kernel = self.add_weight(name="kernel", shape=(self.kernel_size, width, self.dim), initializer=torch_uniform(fan_in))
        self.bias = self.add_weight(name="bias", shape=(self.dim,), initializer=torch_uniform(fan_in))

    def call(self, features: Any, real: Any = None) -> Any:
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        if self.kernel_size == 1 or features.shape[1] == 1:
            result = product(features, kernel[self.kernel_size // 2], bias)
        else:
            result = _three_taps(features, kernel, bias)
        return result if real is None else result * ops.cast(real, self.compute_dtype)[:, :, None]

    def compute_output_shape(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return (*features_shape[:-1], self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "kernel_size": self.kernel_size}


@ops.custom_gradient
def _three_taps(features: Any, kernel: Any, bias: Any) -> Any:
    """Convolution of (B, L, D) with a kernel (3, D, E), zero border, plus the bias (E,).

    Its gradient is written out because that of a slice, of which there would be five, takes longer than the matrix products. For the same
    reason zeros are put before and after by concatenation, not by `ops.pad`.
    """
    taps = ops.unstack(kernel, 3)
    left, right = features[:, :-1], features[:, 1:]
    result = product(features, taps[1], bias)
    empty = ops.zeros_like(result[:, :1])
    result = result + _behind(empty, product(left, taps[0])) + _behind(product(right, taps[2]), empty)

    def grad(*args: Any, upstream: Any = None) -> Any:
        upstream = args[0] if upstream is None else upstream
        first, last = upstream[:, :-1], upstream[:, 1:]
        back = [ops.transpose(tap) for tap in taps]
        empty = ops.zeros_like(features[:, :1])
        d_features = product(upstream, back[1]) + _behind(product(last, back[0]), empty) + _behind(empty, product(first, back[2]))
        pairs = ((left, last), (features, upstream), (right, first))
        d_kernel = ops.stack([ops.matmul(ops.transpose(_rows(seen)), _rows(change)) for seen, change in pairs])
        return d_features, d_kernel, ops.sum(_rows(upstream), axis=0)

    return result, grad


def _rows(values: Any) -> Any:
    """(B, L, D) -> (B L, D)."""
    return ops.reshape(values, (-1, values.shape[-1]))


def _behind(first: Any, second: Any) -> Any:
    return ops.concatenate([first, second], axis=1)
