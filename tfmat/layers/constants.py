"""A constant input."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmat")
class ConstantState(keras.layers.Layer):
    """The state of crystals that have none: zeros (B, dim), for any input (B, ...)."""

    def __init__(self, dim: int = 2, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.dim = dim

    def call(self, inputs: Any) -> Any:
        return ops.zeros((ops.shape(inputs)[0], self.dim), self.compute_dtype)

    def compute_output_shape(self, inputs_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (inputs_shape[0], self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim}
