"""What an exported model gives: its outputs, and how they follow from the network's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.layers.outputs import has_uncertainty

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

UNCERTAINTY = "_uncertainty"
"""Ending of the name of an uncertainty."""
SITES, DOMAIN = "n_sites", "in_domain"
"""Facts that a SavedModel gives about the material itself: the number of its sites, and whether the training data held all its elements."""


def output_names(predictor: Predictor) -> tuple[str, ...]:
    """Names of all outputs of `predictor`: every target, and behind each its uncertainty if there is one.

    Raises:
        InputError: two outputs would have the same name.
    """
    names: list[str] = []
    for target in predictor.targets:
        names += [target.name, target.name + UNCERTAINTY] if has_uncertainty(predictor.model, target) else [target.name]
    doubled = {name for name in [*names, SITES, DOMAIN] if [*names, SITES, DOMAIN].count(name) > 1}
    if doubled:
        expected = f"no target named {SITES}, {DOMAIN} or <another target>{UNCERTAINTY}"
        raise InputError(f"two outputs would be called {min(doubled)!r}", expected=expected)
    return tuple(names)


def physical_outputs(predictor: Predictor, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs, float32 (B, 1) by name: a value in the target's unit or a probability, and its uncertainty in the same unit.

    Args:
        predictor: the network and its scaling.
        inputs: the network's inputs by name, B materials.
    """
    raw = predictor.model(dict(inputs), training=False)
    outputs = {}
    for target in predictor.targets:
        outputs[target.name] = target.unscale(raw[target.name])
        if has_uncertainty(predictor.model, target):
            outputs[target.name + UNCERTAINTY] = target.unscale_uncertainty(raw[target.name])
    return {name: tf.cast(value, tf.float32) for name, value in outputs.items()}


def material_outputs(predictor: Predictor, inputs: Mapping[str, Any], sites: Any | None) -> dict[str, Any]:
    """Facts about the materials themselves.

    Args:
        predictor: the model, whose `Predictor.info` knows the elements of the training data; without them all are known.
        inputs: the network's inputs by name; ``species`` holds all elements, in padded rows or in a list.
        sites: int (B, A), atomic numbers of all sites, 0 = padding; None for materials without sites.

    Returns:
        `DOMAIN` bool (B, 1); `SITES` int32 (B, 1).
    """
    known = tf.gather(tf.constant(known_table(predictor)), inputs["species"])
    if "batch_sites" in inputs:
        known = tf.RaggedTensor.from_row_lengths(known, inputs["batch_sites"], validate=False)
    outputs = {DOMAIN: tf.reduce_all(known, axis=1, keepdims=True)}
    if sites is not None:
        outputs[SITES] = tf.math.count_nonzero(sites, axis=1, keepdims=True, dtype=tf.int32)
    return outputs


def known_table(predictor: Predictor) -> np.ndarray:
    """Tell whether each atomic number occurred in the training of `predictor`, bool (119,); 0, padding, always does."""
    elements = predictor.info.get("elements")
    known = np.full(len(SYMBOLS), elements is None)
    known[[0, *(elements or [])]] = True
    return known
