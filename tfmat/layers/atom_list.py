"""Layers over crystals given as lists of atoms: whose they are, and what an entry of one is."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.lists import crystals_of


@keras.saving.register_keras_serializable("tfmat")
class ListGraph(keras.layers.Layer):
    """Which crystal each list of atoms belongs to, and in which order the sites of a crystal have them.

    Call arguments:
        site_multiplicity: int (S,), sites that each list belongs to.
        batch_sites: int (B,), lists of each crystal.
        lists: int (B, A), number of each site's list within its crystal, counted from 1; 0 = padding. Or None.

    Returns:
        dict of ``crystals`` int (S,) and ``sites`` (S, 1), as of `tfmat.layers.neighbors.CrystalGraph`; with `lists` also ``rows`` int
        (B, A), which of the S lists is each site's, any one in padding, and ``real_sites`` (B, A), 1 or 0.
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, site_multiplicity: Any, batch_sites: Any, lists: Any = None) -> dict[str, Any]:
        graph = {
            "crystals": crystals_of(batch_sites, site_multiplicity),
            "sites": ops.expand_dims(ops.cast(site_multiplicity, self.compute_dtype), -1),
        }
        if lists is None:
            return graph
        first = ops.expand_dims(ops.cumsum(batch_sites) - batch_sites, -1)
        return graph | {"rows": ops.where(lists > 0, lists - 1 + first, 0), "real_sites": ops.cast(lists > 0, self.compute_dtype)}

    def compute_output_spec(self, site_multiplicity: Any, batch_sites: Any, lists: Any = None) -> dict[str, Any]:
        shape = site_multiplicity.shape
        graph = {"crystals": keras.KerasTensor(shape, "int32"), "sites": keras.KerasTensor((*shape, 1), self.compute_dtype)}
        if lists is None:
            return graph
        return graph | {
            "rows": keras.KerasTensor(lists.shape, "int32"),
            "real_sites": keras.KerasTensor(lists.shape, self.compute_dtype),
        }


@keras.saving.register_keras_serializable("tfmat")
class ListEmbedding(keras.layers.Layer):
    """Entries of lists: the vector of the element, divided by its distance from the site; that of the site itself times a weight.

    Args:
        heaviest: largest atomic number.
        dim: D.
        centre_weight: of the site itself, in 1/Å like the others.

    Call arguments:
        species: int (S,), element of each list's site.
        elements: int (S, N), of its neighbours; 0 = none.
        distances: float (S, N) [Å], of its neighbours; 0 = none.

    Returns:
        (S, N + 1, D), the site itself first.
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
