"""The outputs of a model: what a builder returns, the losses that a log-scale rules out, and what outputs learn from the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfmat.layers.precision import weights_dtype
from tfmat.layers.protocols import FitsTarget
from tfmat.target import Target


def model_of(inputs: Mapping[str, Any], outputs: Mapping[str, Any], name: str) -> keras.Model:
    """The functional model from `inputs` to `outputs`, target -> (B, 1), or (B, 2) with a log-scale beside the value."""
    with_log_scale = any(output.shape[-1] == 2 for output in outputs.values())
    return (LogScaleModel if with_log_scale else keras.Model)(inputs, outputs, name=name)


def dense_outputs(features: Any, targets: Sequence[str], uncertainty: bool) -> dict[str, Any]:
    """One affine map per target: target -> (B, 1), or (B, 2) with `uncertainty`, from features (B, D)."""
    columns = 2 if uncertainty else 1
    return {target: keras.layers.Dense(columns, name=target, dtype=weights_dtype())(features) for target in targets}


@keras.saving.register_keras_serializable("tfmat")
class LogScaleModel(keras.Model):
    """A functional model whose outputs (B, 2) are a value and a log-scale.

    A loss of Keras would take both for the value and train the log-scale to be the target, so `compile` refuses it.
    """

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *arguments: Any, **options: Any) -> None:
        """Compile like any `keras.Model`, with losses from `tfmat.training.losses` or your own.

        Raises:
            ValueError: the loss of an output is one of Keras'.
        """
        for found in keras.tree.flatten(loss):
            found = keras.losses.get(found) if isinstance(found, str) else found
            function = getattr(found, "fn", found)  # Keras' loss objects hold a function
            if (getattr(function, "__module__", None) or type(function).__module__).startswith("keras."):
                kind = getattr(function, "__name__", type(function).__name__)
                problem = f"{self.name} gives a value and a log-scale, and {kind} would train both to be the target"
                raise ValueError(
                    f"{problem}. Build it with uncertainty=False, or take a loss from tfmat.training.losses such as RobustL1()"
                )
        super().compile(optimizer, loss, *arguments, **options)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a model that was saved; `keras.Model` does not where a subclass has its own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


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
