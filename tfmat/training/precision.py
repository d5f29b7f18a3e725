"""Training in mixed precision: the work in bfloat16, weights and what must not round in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import keras

from tfmat.errors import InputError

Precision = Literal["float32", "mixed_bfloat16"]
PRECISIONS = get_args(Precision)


def in_precision(precision: str, model: keras.Model, build: Callable[[], keras.Model]) -> keras.Model:
    """A model that computes in `precision` and has the weights of `model`, and its frozen layers.

    Args:
        precision: one of `PRECISIONS`.
        model: as it is built without a policy; it is returned for ``float32``.
        build: makes such a model under Keras' policy of the moment.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", expected=f"one of {', '.join(PRECISIONS)}")
    if precision == "float32":
        return model
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        mixed = build()
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(model.get_weights())
    for layer, like in zip(mixed.layers, model.layers, strict=True):
        layer.trainable = like.trainable
    return mixed
