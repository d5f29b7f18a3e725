"""Losses over network outputs (B, 1 or 2): value or logit, and log-scale. Missing targets are NaN and cost nothing.

`loss_for` gives the loss that a recipe names. Those in physical units unscale label and prediction by the target first.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfmat.target import Target

LEAST_MAGNITUDE = 1.17e-6
"""Labels closer to 0 than this count as so large in `PhysicalMAPE` [unit of the target]; the bound of torchmetrics."""

DECADES = 15.0
"""A logarithmic prediction further than so many decades from the mean of the training labels counts as so far in the losses in physical
units: in float32 neither ``10**x`` nor its square overflows then for targets of ordinary size, at any weights."""


def loss_for(kind: str, target: Target) -> keras.losses.Loss:
    """The loss of `target` in a recipe with ``loss=kind``; cross-entropy for a binary target, whatever `kind` is."""
    if target.task == "binary":
        return BinaryCrossentropyWithLogits()
    if kind == "mape":
        return PhysicalMAPE(target)
    if kind == "mse_physical":
        return PhysicalMSE(target)
    return {"laplace": RobustL1, "mae": ScaledMAE, "mse": ScaledMSE}[kind]()


def _present(y_true: Any, dtype: str) -> tuple[Any, Any]:
    """Targets with NaN replaced by 0, and 1 where a target is present; both (B,)."""
    y_true = ops.cast(ops.reshape(y_true, (-1,)), dtype)
    finite = ops.isfinite(y_true)
    return ops.where(finite, y_true, ops.zeros_like(y_true)), ops.cast(finite, dtype)


class _MaskedLoss(keras.losses.Loss):
    """A loss that leaves missing targets out.

    Call arguments:
        y_true: (B, 1) scaled targets (classes 0 or 1 of a binary one), NaN = missing.
        y_pred: (B, 1 or 2): value or logit; a log-scale, which most losses do not use.
    """

    NAME = ""

    def __init__(self, name: str = "", reduction: str = "sum_over_batch_size", dtype: Any = None) -> None:
        super().__init__(name=name or self.NAME, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, present = _present(y_true, y_pred.dtype)
        return present * self.costs(y_true, y_pred)

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        """The cost of each row, (B,), for targets (B,) without NaN and `y_pred` as in `call`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("tfmat")
class RobustL1(_MaskedLoss):
    """Negative log-likelihood of a Laplace distribution, up to a constant: ``sqrt(2) |value - y| exp(-s) + s``.

    ``exp(s)`` is its standard deviation in scaled units, and s the second column of `y_pred`. The loss of CrabNet and L-G-DCNN.
    """

    NAME = "robust_l1"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        value, log_scale = y_pred[:, 0], y_pred[:, 1]
        return math.sqrt(2.0) * ops.abs(value - y_true) * ops.exp(-log_scale) + log_scale


@keras.saving.register_keras_serializable("tfmat")
class BinaryCrossentropyWithLogits(_MaskedLoss):
    """Binary cross-entropy of the logit in the first column."""

    NAME = "binary_crossentropy"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        logit = y_pred[:, 0]
        return ops.relu(logit) - logit * y_true + ops.log1p(ops.exp(-ops.abs(logit)))


@keras.saving.register_keras_serializable("tfmat")
class ScaledMAE(_MaskedLoss):
    """``|value - y|`` in scaled units."""

    NAME = "mae"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        return ops.abs(y_pred[:, 0] - y_true)


@keras.saving.register_keras_serializable("tfmat")
class ScaledMSE(_MaskedLoss):
    """``(value - y)**2`` in scaled units."""

    NAME = "mse"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        return ops.square(y_pred[:, 0] - y_true)


class _PhysicalLoss(_MaskedLoss):
    """Label and prediction in the unit of `target`; logarithmic predictions are limited by `DECADES`.

    Args:
        target: with its scale.
        name: default: that of the class.
        reduction: see `keras.losses.Loss`.
        dtype: see there.
    """

    def __init__(self, target: Target, name: str = "", reduction: str = "sum_over_batch_size", dtype: Any = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.target = target

    def physical(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Labels and predictions in the target's unit, each (B,)."""
        value = y_pred[:, 0:1]
        if self.target.transform != "none":
            limit = DECADES / self.target.std
            value = ops.clip(value, -limit, limit)
        return self.target.unscale(y_true[:, None])[:, 0], self.target.unscale(value)[:, 0]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"target": self.target.to_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> _PhysicalLoss:
        return cls(**(config | {"target": Target(**config["target"])}))


@keras.saving.register_keras_serializable("tfmat")
class PhysicalMAPE(_PhysicalLoss):
    """``|prediction - label| / max(|label|, LEAST_MAGNITUDE)`` in the target's unit: a fraction, not a percentage."""

    NAME = "mape"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        label, prediction = self.physical(y_true, y_pred)
        return ops.abs(prediction - label) / ops.maximum(ops.abs(label), LEAST_MAGNITUDE)


@keras.saving.register_keras_serializable("tfmat")
class PhysicalMSE(_PhysicalLoss):
    """``(prediction - label)**2`` in the square of the target's unit."""

    NAME = "mse_physical"

    def costs(self, y_true: Any, y_pred: Any) -> Any:
        label, prediction = self.physical(y_true, y_pred)
        return ops.square(prediction - label)
