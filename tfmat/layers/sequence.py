"""Layers along a masked sequence: soft attention with residual, and the deep convolution stack."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.composition import torch_uniform


def product(values: Any, matrix: Any, bias: Any = None) -> Any:
    """(N, M, D) times (D, E), plus the bias (E,); N is never 0. TensorFlow fuses the two where they are of two axes."""
    result = ops.matmul(_rows(values), matrix)
    result = result if bias is None else result + bias
    return ops.reshape(result, (ops.shape(values)[0], -1, matrix.shape[-1]))


@keras.saving.register_keras_serializable("tfmat")
class SoftAttentionResidual(keras.layers.Layer):
    """``x (1 + softmax(score(x)))``: one weight a slot; nothing is summed over the slots.

    The scorer is Dense - ReLU - Dense(1). One layer may be called several times, which shares the scorer.

    Call arguments:
        features: (B, L, D).
        real: (B, L), padded slots get no attention; None attends to them.

    Returns:
        (B, L, D).
    """

    def build(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        dim = int(features_shape[-1] or 0)
        self.hidden_kernel = self.add_weight(name="hidden_kernel", shape=(dim, dim), initializer=torch_uniform(dim))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(dim,), initializer=torch_uniform(dim))
        self.score_kernel = self.add_weight(name="score_kernel", shape=(dim, 1), initializer=torch_uniform(dim))
        self.score_bias = self.add_weight(name="score_bias", shape=(1,), initializer=torch_uniform(dim))

    def weights_of(self, features: Any, real: Any = None) -> Any:
        """Attention weights (B, L, 1), which sum to 1 over the real slots."""
        hidden_kernel, hidden_bias, score_kernel, score_bias = (
            ops.cast(weight, self.compute_dtype) for weight in (self.hidden_kernel, self.hidden_bias, self.score_kernel, self.score_bias)
        )
        scores = product(ops.relu(product(features, hidden_kernel, hidden_bias)), score_kernel, score_bias)
        if real is not None:
            scores = ops.where(ops.cast(real, "bool")[:, :, None], scores, -1e9)
        powers = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
        return powers / ops.sum(powers, axis=1, keepdims=True)

    def call(self, features: Any, real: Any = None) -> Any:
        return features * (1.0 + self.weights_of(features, real))

    def compute_output_shape(self, features_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return features_shape


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


@keras.saving.register_keras_serializable("tfmat")
class NeighbourMaxPooling(keras.layers.Layer):
    """Maximum over each feature and its two neighbouring features (window 3 along the **feature** axis, as in L-G-DCNN-v1).

    Call arguments:
        features: (B, L, D).

    Returns:
        (B, L, D).
    """

    def call(self, features: Any) -> Any:
        before = ops.concatenate([features[..., :1], features[..., :-1]], axis=-1)
        after = ops.concatenate([features[..., 1:], features[..., -1:]], axis=-1)
        return ops.maximum(features, ops.maximum(before, after))

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return features_shape
