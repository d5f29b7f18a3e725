"""An output as the sum of several: with a lower bound for what cannot be negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmat.errors import InputError
from tfmat.target import Target

NOWHERE = -1e9
"""A floor that nothing reaches."""


@keras.saving.register_keras_serializable("tfmat")
class SummedDense(keras.layers.Layer):
    """An affine map to `terms` numbers a column, which are added: ``y = sum_k (x W + b)_k``; with a floor, ``max(y, floor)``.

    The floor is the published ReLU in scaled units, where the physical zero is not 0. It acts on the first column, the value. It is a
    weight that is not trained; `set_floors` puts it where it belongs. Gradients pass it as if it were not there: what lies below can only
    be drawn upwards, because no training value lies there, and a network that gives nothing but the floor would else never learn again.

    Args:
        columns: of the output.
        terms: numbers that are added for each.
        floor: whether there is one.

    Call arguments:
        x: (B, features).

    Returns:
        (B, columns).
    """

    def __init__(self, columns: int = 1, terms: int = 16, floor: bool = False, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))
        self.columns, self.terms, self.with_floor = columns, terms, floor

    def build(self, shape: tuple[int | None, ...]) -> None:
        features, width = int(shape[-1] or 0), self.columns * self.terms
        limit = features**-0.5

        def add(name: str, shape: tuple[int, ...]) -> Any:
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.RandomUniform(-limit, limit))

        self.kernel, self.bias = add("kernel", (features, width)), add("bias", (width,))
        self.floor = None
        if self.with_floor:
            self.floor = self.add_weight(name="floor", shape=(), initializer=keras.initializers.Constant(NOWHERE), trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        terms = ops.matmul(x, self.kernel) + self.bias
        y = ops.sum(ops.reshape(terms, (-1, self.columns, self.terms)), axis=-1)
        if self.floor is None:
            return y
        value, floored = y[:, :1], ops.maximum(y[:, :1], self.floor)
        value = value + ops.stop_gradient(floored - value) if training else floored
        return value if self.columns == 1 else ops.concatenate([value, y[:, 1:]], axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], self.columns)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"columns": self.columns, "terms": self.terms, "floor": self.with_floor}


def set_floors(model: keras.Model, targets: Sequence[Target], values: Mapping[str, np.ndarray]) -> None:
    """Put the floors of a model's outputs, where it has any, at the physical zero of their targets.

    A binary target and one behind ``log10`` get none: they know no negative values anyway.

    Args:
        model: changed in place.
        targets: with their scales.
        values: target -> its training values [unit]; NaN = missing.

    Raises:
        InputError: some are negative.
    """
    for target in targets:
        layer = next((layer for layer in model.layers if layer.name == target.name), None)
        if not isinstance(layer, SummedDense) or layer.floor is None:
            continue
        negative = int(np.sum(values[target.name] < 0))
        if target.task == "binary" or target.transform == "log10":
            layer.floor.assign(NOWHERE)
        elif negative:
            problem = f"{model.name} with output='relu' gives no negative values, but {negative} of the training values of"
            raise InputError(f"{problem} {target.name!r} are negative", expected="output='linear'")
        else:
            layer.floor.assign(float(target.scale(np.zeros(1))[0]))
