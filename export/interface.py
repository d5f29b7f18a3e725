"""What an exported model takes and gives: the featurizer that its graph repeats, and how its outputs follow from the network's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfmat.errors import InputError
from tfmat.featurizers import CompositionFeaturizer

if TYPE_CHECKING:
    from tfmat.predictor import Predictor
    from tfmat.target import Target

UNCERTAINTY = "_uncertainty"
"""Ending of the name of an uncertainty."""


def composition_featurizer(predictor: Predictor) -> CompositionFeaturizer:
    """The featurizer that the graph has to repeat.

    Raises:
        InputError: the model takes something else than compositions, or Keras does not run on TensorFlow.
    """
    if not isinstance(predictor.featurizer, CompositionFeaturizer):
        raise InputError(f"{predictor.architecture.name} takes a {predictor.architecture.material}: its export is not yet supported")
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Keras runs on {keras.backend.backend()}: an export needs TensorFlow", expected="KERAS_BACKEND=tensorflow")
    return predictor.featurizer


def has_uncertainty(model: keras.Model, target: Target) -> bool:
    """Whether the network predicts the log-scale of this target beside its value."""
    return target.task == "regression" and model.output[target.name].shape[-1] == 2


def output_names(predictor: Predictor) -> tuple[str, ...]:
    """Names of all outputs: every target, and behind each its uncertainty if there is one.

    Raises:
        InputError: two outputs would have the same name.
    """
    names: list[str] = []
    for target in predictor.targets:
        names += [target.name, target.name + UNCERTAINTY] if has_uncertainty(predictor.model, target) else [target.name]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise InputError(f"two outputs would be called {min(doubled)!r}", expected=f"no target named <another target>{UNCERTAINTY}")
    return tuple(names)


def physical_outputs(predictor: Predictor, inputs: dict[str, Any]) -> dict[str, Any]:
    """The network and its scaling: batch -> name -> float32 (B, 1), in the target's unit or as a probability."""
    raw = predictor.model(inputs, training=False)
    outputs = {}
    for target in predictor.targets:
        outputs[target.name] = target.unscale(raw[target.name])
        if has_uncertainty(predictor.model, target):
            outputs[target.name + UNCERTAINTY] = target.unscale_uncertainty(raw[target.name])
    return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}
