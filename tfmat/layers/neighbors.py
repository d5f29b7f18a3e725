"""Layers over crystals given as lists: the atom graph, its line graph, and the mean over sites."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.lists import crystals_of, edge_list, mean_of


@keras.saving.register_keras_serializable("tfmat")
class CrystalGraph(keras.layers.Layer):
    """The graphs of a batch of crystals, computed once for all blocks.

    An edge of the atom graph is a bond, from the neighbour j to the site i. A node of the line graph is such a bond, and its edges come
    from all bonds that arrive at j, the way back from i included.

    Call arguments:
        inputs: dict of the model's inputs, see `tfmat.batching.arrays`: ``species``, ``site_multiplicity``, ``batch_sites``,
            ``bond_receivers``, ``bond_senders``, ``bond_multiplicity``, and for the line graph ``pair_receivers``, ``pair_senders``,
            ``pair_multiplicity``.

    Returns:
        dict of ``crystals`` int (S,), which crystal of the batch each site belongs to; ``sites`` (S, 1), multiplicity of each site;
        ``bonds``, the edges of the atom graph as of `tfmat.layers.lists.edge_list`; and, of the line graph, ``pairs``, its edges, and
        ``bond_crystals`` int (E,).
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        crystals = crystals_of(inputs["batch_sites"], inputs["species"])
        graph = {"crystals": crystals, "sites": ops.expand_dims(ops.cast(inputs["site_multiplicity"], self.compute_dtype), -1)}
        graph["bonds"] = _edges(inputs, "bond")
        if "pair_receivers" in inputs:
            graph["bond_crystals"] = ops.take(crystals, inputs["bond_receivers"], axis=0)
            graph["pairs"] = _edges(inputs, "pair")
        return graph

    def compute_output_spec(self, inputs: dict[str, Any]) -> dict[str, Any]:
        sites, bonds = inputs["species"].shape[0], inputs["bond_receivers"].shape[0]
        graph = {"crystals": keras.KerasTensor((sites,), "int32"), "sites": keras.KerasTensor((sites, 1), self.compute_dtype)}
        graph["bonds"] = _edge_spec(bonds)
        if "pair_receivers" in inputs:
            graph["bond_crystals"] = keras.KerasTensor((bonds,), "int32")
            graph["pairs"] = _edge_spec(inputs["pair_receivers"].shape[0])
        return graph


def _edges(inputs: dict[str, Any], kind: str) -> dict[str, Any]:
    return edge_list(*(inputs[f"{kind}_{name}"] for name in ("receivers", "senders", "multiplicity")))


def _edge_spec(edges: int | None) -> dict[str, Any]:
    indices = {name: keras.KerasTensor((edges,), "int32") for name in ("receivers", "senders", "by_sender")}
    return indices | {"multiplicity": keras.KerasTensor((edges, 1), "float32")}


@keras.saving.register_keras_serializable("tfmat")
class MeanOverSites(keras.layers.Layer):
    """Mean over the sites of each crystal, in float32.

    Call arguments:
        atoms: (S, D).
        multiplicity: (S, 1), sites that each row stands for.
        crystals: int (S,), which crystal each belongs to.
        batch_sites: int (B,).

    Returns:
        (B, D); zero for a row without sites.
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, atoms: Any, multiplicity: Any, crystals: Any, batch_sites: Any) -> Any:
        return mean_of(atoms, multiplicity, crystals, batch_sites)

    def compute_output_shape(self, atoms_shape: Any, multiplicity_shape: Any, crystals_shape: Any, batch_sites_shape: Any) -> Any:
        return (batch_sites_shape[0], atoms_shape[-1])
