"""The embedding of the elements, from a fixed table."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.elements import element_table


def torch_uniform(fan_in: int) -> keras.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the initialisation of the published L-G-DCNN for kernels and biases.

    Take a new one for every weight: a Keras initializer gives the same numbers each time it is called.
    """
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


@keras.saving.register_keras_serializable("tfmat")
class ElementEmbedding(keras.layers.Layer):
    """Fixed element table, projected: ``(table[species] W + b) 2**s`` with a trainable scalar s, initially 1.

    The table is a non-trainable weight, so a saved model needs no other source for it. A padded slot (species 0) gives ``b 2**s``.

    Args:
        dim: width D of the result.
        table: name of the element table, see `tfmat.elements.element_table`.

    Call arguments:
        species: int (B, E) atomic numbers, 0 = padding.

    Returns:
        (B, E, D).
    """

    def __init__(self, dim: int, table: str = "mat2vec", **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.dim, self.table_name = dim, table

    def build(self, species_shape: tuple[int | None, ...]) -> None:
        values = element_table(self.table_name)
        self.table = self.add_weight(
            name="table", shape=values.shape, initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype), trainable=False
        )
        self.kernel = self.add_weight(name="kernel", shape=(values.shape[1], self.dim), initializer=torch_uniform(values.shape[1]))
        self.bias = self.add_weight(name="bias", shape=(self.dim,), initializer=torch_uniform(values.shape[1]))
        self.log2_scale = self.add_weight(name="log2_scale", shape=(), initializer="ones")

    def call(self, species: Any) -> Any:
        return (ops.matmul(ops.take(self.table, species, axis=0), self.kernel) + self.bias) * ops.power(2.0, self.log2_scale)

    def compute_output_shape(self, species_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*species_shape, self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "table": self.table_name}
