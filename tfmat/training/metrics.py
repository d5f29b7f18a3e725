"""The Keras metric that training shows: the error in physical units."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.target import Target


@keras.saving.register_keras_serializable("tfmat")
class PhysicalMAE(keras.metrics.Mean):
    """Mean absolute error in the target's unit; for a binary target the share of wrong classes. Missing targets do not count.

    Update arguments:
        y_true: (B, 1) scaled targets, NaN = missing.
        y_pred: (B, 1 or 2) network output.
    """

    def __init__(self, target: Target, name: str = "mae", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.target = target

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add one batch. `sample_weight` belongs to the loss and is not used: every present target counts once."""
        y_true = ops.cast(ops.reshape(y_true, (-1, 1)), y_pred.dtype)
        present = ops.isfinite(y_true)
        y_true = ops.where(present, y_true, ops.zeros_like(y_true))
        if self.target.task == "binary":
            error = ops.cast(ops.not_equal(y_pred[:, :1] > 0, y_true > 0.5), y_pred.dtype)
        else:
            error = ops.abs(self.target.unscale(y_pred) - self.target.unscale(y_true))
        return super().update_state(error, sample_weight=ops.cast(present, y_pred.dtype))

    def get_config(self) -> dict[str, Any]:
        """Keywords that rebuild the metric."""
        return super().get_config() | {"target": self.target.to_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PhysicalMAE:
        """See `get_config`."""
        return cls(**(config | {"target": Target(**config["target"])}))
