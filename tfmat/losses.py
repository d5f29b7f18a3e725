"""Losses over network outputs (B, 1 or 2): value or logit, and log-scale. Missing targets are NaN and cost nothing."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


def _present(y_true: Any, dtype: str) -> tuple[Any, Any]:
    """Targets with NaN replaced by 0, and 1 where a target is present; both (B,)."""
    y_true = ops.cast(ops.reshape(y_true, (-1,)), dtype)
    finite = ops.isfinite(y_true)
    return ops.where(finite, y_true, ops.zeros_like(y_true)), ops.cast(finite, dtype)


@keras.saving.register_keras_serializable("tfmat")
class RobustL1(keras.losses.Loss):
    """Negative log-likelihood of a Laplace distribution, up to a constant: ``sqrt(2) |value - y| exp(-s) + s``.

    ``exp(s)`` is its standard deviation in scaled units. The loss of CrabNet and L-G-DCNN.

    Call arguments:
        y_true: (B, 1) scaled targets, NaN = missing.
        y_pred: (B, 2) value and log-scale s.
    """

    def __init__(self, name: str = "robust_l1", reduction: str = "sum_over_batch_size", dtype: Any = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, present = _present(y_true, y_pred.dtype)
        value, log_scale = y_pred[:, 0], y_pred[:, 1]
        return present * (math.sqrt(2.0) * ops.abs(value - y_true) * ops.exp(-log_scale) + log_scale)


@keras.saving.register_keras_serializable("tfmat")
class BinaryCrossentropyWithLogits(keras.losses.Loss):
    """Binary cross-entropy of the logit in column 0; a log-scale in column 1 is not used.

    Call arguments:
        y_true: (B, 1) classes 0 or 1, NaN = missing.
        y_pred: (B, 1 or 2), column 0 is the logit.
    """

    def __init__(self, name: str = "binary_crossentropy", reduction: str = "sum_over_batch_size", dtype: Any = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, present = _present(y_true, y_pred.dtype)
        logit = y_pred[:, 0]
        return present * (ops.relu(logit) - logit * y_true + ops.log1p(ops.exp(-ops.abs(logit))))
