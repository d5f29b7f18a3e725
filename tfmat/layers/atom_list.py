"""Layers over crystals given as lists of atoms: which rows are lists, and what an entry of a list is."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.tracing import sizes_may_depend_on_values


@keras.saving.register_keras_serializable("tfmat")
class FlatLists(keras.layers.Layer):
    """The lists of all crystals of a batch as one batch of lists, without the padding where sizes may depend on values.

    Call arguments:
        species: int (B, U), element of the site of each list; 0 = padding.
        elements: int (B, U, N), of its neighbours.
        distances: float (B, U, N) [Å], of its neighbours.
        lists: int (B, A), number of each site's list, counted from 1; 0 = padding.

    Returns:
        dict of ``species`` (M,), ``elements`` (M, N) and ``distances`` (M, N) of the M lists; ``rows`` int (B, A), which of them is each
        site's, any one in padding; ``real_sites`` float32 (B, A, 1), 1 or 0.
    """

    def call(self, species: Any, elements: Any, distances: Any, lists: Any) -> dict[str, Any]:
        crystals, width = ops.shape(species)
        entries = elements.shape[-1]
        flat = {"species": ops.reshape(species, (-1,))}
        flat |= {key: ops.reshape(value, (-1, entries)) for key, value in (("elements", elements), ("distances", distances))}
        rows = ops.maximum(lists - 1, 0) + ops.expand_dims(ops.arange(crystals, dtype="int32") * width, -1)
        if sizes_may_depend_on_values():
            first = ops.arange(crystals * width, dtype="int32") == 0  # so that there is one at least
            kept = ops.logical_or(flat["species"] > 0, first)
            rows = ops.take(ops.cumsum(ops.cast(kept, "int32")) - 1, rows, axis=0)
            places = ops.nonzero(kept)[0]
            flat = {key: ops.take(value, places, axis=0) for key, value in flat.items()}
        return flat | {"rows": rows, "real_sites": ops.expand_dims(ops.cast(lists > 0, "float32"), -1)}

    def compute_output_spec(self, species: Any, elements: Any, distances: Any, lists: Any) -> dict[str, Any]:
        entries = elements.shape[-1]
        return {
            "species": keras.KerasTensor((None,), "int32"),
            "elements": keras.KerasTensor((None, entries), "int32"),
            "distances": keras.KerasTensor((None, entries), distances.dtype),
            "rows": keras.KerasTensor(lists.shape, "int32"),
            "real_sites": keras.KerasTensor((*lists.shape, 1), "float32"),
        }


@keras.saving.register_keras_serializable("tfmat")
class ListEmbedding(keras.layers.Layer):
    """Entries of lists: the vector of the element, divided by its distance from the site; that of the site itself times a weight.

    Args:
        heaviest: largest atomic number.
        dim: D.
        centre_weight: of the site itself, in 1/Å like the others.

    Call arguments:
        species: int (M,), element of each list's site.
        elements: int (M, N), of its neighbours; 0 = none.
        distances: float (M, N) [Å], of its neighbours; 0 = none.

    Returns:
        (M, N + 1, D), the site itself first.
    """

    def __init__(self, heaviest: int, dim: int, centre_weight: float = 1.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.heaviest, self.dim, self.centre_weight = heaviest, dim, centre_weight

    def build(self, *shapes: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.heaviest, self.dim), initializer=keras.initializers.GlorotUniform()
        )

    def call(self, species: Any, elements: Any, distances: Any) -> Any:
        species, distances = ops.expand_dims(species, -1), ops.cast(distances, self.compute_dtype)
        present = distances > 0
        inverse = ops.where(present, 1.0 / ops.where(present, distances, 1.0), 0.0)
        weights = ops.concatenate([self.centre_weight * ops.cast(species > 0, self.compute_dtype), inverse], axis=-1)
        rows = ops.maximum(ops.concatenate([species, elements], axis=-1) - 1, 0)
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), rows, axis=0) * ops.expand_dims(weights, -1)

    def compute_output_shape(self, species_shape: Any, elements_shape: Any = None, distances_shape: Any = None) -> Any:
        return (*elements_shape[:-1], elements_shape[-1] + 1, self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"heaviest": self.heaviest, "dim": self.dim, "centre_weight": self.centre_weight}
