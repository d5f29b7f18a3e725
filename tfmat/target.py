"""What is predicted: name, unit, task and the scaling between the physical quantity and the network's output."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Task = Literal["regression", "binary"]
Transform = Literal["none", "log10", "log10_1p"]


@dataclass(frozen=True)
class Target:
    """One predicted quantity.

    The network sees ``(transform(value) - mean) / std``; `unscale` inverts this with `keras.ops`, so an exported model carries it.

    Attributes:
        name: also the name of the served output, e.g. ``band_gap``.
        unit: e.g. ``eV``; ``""`` for a dimensionless quantity.
        task: ``binary`` predicts the probability of the class 1 and is not scaled.
        transform: applied to the physical value before scaling; ``log10`` needs positive values, ``log10_1p`` values > -1.
        mean: of the transformed training values.
        std: of the transformed training values (unbiased).
        uncertainty_scale: factor on the predicted uncertainty, fitted on validation data, see `tfmat.training.scores.calibration`.
    """

    name: str
    unit: str = ""
    task: Task = "regression"
    transform: Transform = "none"
    mean: float = 0.0
    std: float = 1.0
    uncertainty_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"`name` must be a valid identifier (letters, digits, _). Received: name={self.name!r}")
        if self.task not in ("regression", "binary"):
            raise ValueError(f"`task` must be 'regression' or 'binary'. Received: task={self.task!r}")
        if self.transform not in ("none", "log10", "log10_1p"):
            raise ValueError(f"`transform` must be 'none', 'log10' or 'log10_1p'. Received: transform={self.transform!r}")
        if self.task == "binary" and (self.transform != "none" or self.mean != 0.0 or self.std != 1.0):
            raise ValueError("a binary target is neither transformed nor scaled")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"`mean` must be finite and `std` positive. Received: mean={self.mean}, std={self.std}")
        if not (math.isfinite(self.uncertainty_scale) and self.uncertainty_scale > 0):
            raise ValueError(f"`uncertainty_scale` must be positive. Received: uncertainty_scale={self.uncertainty_scale}")

    def fit(self, values: np.ndarray) -> Target:
        """The same target with mean and unbiased standard deviation of the finite `values` [unit].

        A constant training set gives std 1, so that it can be fitted at all.
        """
        if self.task == "binary":
            return self
        transformed = self._transform(np.asarray(values, dtype=np.float64))
        transformed = transformed[np.isfinite(transformed)]
        if transformed.size == 0:
            raise ValueError(f"target {self.name!r} has no finite value to fit its scale on")
        std = float(np.std(transformed, ddof=1)) if transformed.size > 1 else 1.0
        return dataclasses.replace(self, mean=float(np.mean(transformed)), std=std if std > 1e-12 else 1.0)

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Physical values [unit] -> what the network learns, float32, same shape; NaN (missing) stays NaN."""
        values = np.asarray(values, dtype=np.float64)
        if self.task == "binary":
            return values.astype(np.float32)
        return ((self._transform(values) - self.mean) / self.std).astype(np.float32)

    @property
    def lowest(self) -> float:
        """Values must lie above this for the transform [unit]."""
        return {"none": -math.inf, "log10": 0.0, "log10_1p": -1.0}[self.transform]

    def _transform(self, values: np.ndarray) -> np.ndarray:
        if self.transform == "none":
            return values
        lowest = self.lowest
        if np.any(values[np.isfinite(values)] <= lowest):
            raise ValueError(
                f"target {self.name!r} with transform {self.transform!r} needs values > {lowest:g}. Received: {np.nanmin(values)}"
            )
        return np.log10(values - lowest)

    def unscale(self, output: Any) -> Any:
        """Network output (B, 1 or 2) -> physical value (B, 1) [unit], or the probability of class 1. Uses `keras.ops`."""
        from keras import ops

        value = output[:, 0:1]
        if self.task == "binary":
            return ops.sigmoid(value)
        value = value * self.std + self.mean
        if self.transform == "none":
            return value
        power = ops.exp(value * math.log(10.0))
        return power if self.transform == "log10" else power - 1.0

    def unscale_uncertainty(self, output: Any) -> Any:
        """Network output (B, 2) -> standard deviation of the predicted Laplace distribution (B, 1) [unit].

        ``uncertainty_scale * exp(s) * std``; behind a logarithm it is propagated to first order, times ``ln(10) * 10**value``.
        """
        from keras import ops

        spread = ops.exp(output[:, 1:2]) * (self.std * self.uncertainty_scale)
        if self.transform == "none":
            return spread
        return spread * math.log(10.0) * ops.exp((output[:, 0:1] * self.std + self.mean) * math.log(10.0))

    def to_config(self) -> dict[str, Any]:
        """JSON-able dictionary; `Target(**config)` is the inverse."""
        return dataclasses.asdict(self)
