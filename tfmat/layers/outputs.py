"""The output layers of a model, and what they learn from its targets before it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfmat.layers.precision import weights_dtype
from tfmat.layers.protocols import FitsTarget
from tfmat.target import Target


def dense_outputs(features: Any, targets: Sequence[str], uncertainty: bool) -> dict[str, Any]:
    """Apply one affine map per target: target -> (B, 1), or (B, 2) with `uncertainty`, from features (B, D)."""
    columns = 2 if uncertainty else 1
    return {target: keras.layers.Dense(columns, name=target, dtype=weights_dtype())(features) for target in targets}


def fit_outputs(model: keras.Model, targets: Sequence[Target], values: Mapping[str, np.ndarray]) -> None:
    """Let each output layer that must know its target before training take it over, in place; see `FitsTarget`.

    Args:
        model: whose output layers are called by their targets.
        targets: the targets, with their scales.
        values: target -> its training values [unit]; NaN = missing.
    """
    layers = {layer.name: layer for layer in model.layers}
    for target in targets:
        layer = layers.get(target.name)
        if isinstance(layer, FitsTarget):
            layer.fit_target(target, values[target.name])


def has_uncertainty(model: keras.Model, target: Target) -> bool:
    """Tell whether the network `model` predicts the log-scale of this `target` beside its value."""
    return target.task == "regression" and model.output[target.name].shape[-1] == 2
