"""Numbers on a grid of Gaussians."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmat")
class GaussianExpansion(keras.layers.Layer):
    """Numbers such as distances on a grid of Gaussians: ``exp(-(d - c_k)**2 / width**2)``, K centres c_k from `lowest` to `highest`.

    Args:
        highest: last centre, in the unit of the numbers.
        number: K.
        width: in that unit too.
        lowest: first centre.

    Call arguments:
        distances: (..., E).

    Returns:
        (..., E, K).
    """

    def __init__(self, highest: float, number: int = 100, width: float = 0.5, lowest: float = 0.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if number < 2 or not highest > lowest or not width > 0:
            problem = "`highest` must be above `lowest`, `width` positive, `number` at least 2"
            raise ValueError(f"{problem}. Received: {highest}, {lowest}, {width}, {number}")
        self.highest, self.number, self.width, self.lowest = highest, number, width, lowest

    def call(self, distances: Any) -> Any:
        centers = ops.linspace(self.lowest, self.highest, self.number, dtype=self.compute_dtype)
        scaled = (ops.expand_dims(distances, -1) - centers) / self.width
        return ops.exp(-scaled * scaled)

    def compute_output_shape(self, distances_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*distances_shape, self.number)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"highest": self.highest, "number": self.number, "width": self.width, "lowest": self.lowest}
