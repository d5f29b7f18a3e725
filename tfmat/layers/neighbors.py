"""Layers over crystals given as neighbour lists: the atom graph, its line graph, and noise on the sites."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def gather_slots(values: Any, senders: Any, slots: int | Any) -> Any:
    """Values of the nodes at the other end of every edge.

    One function for the graph of the atoms and for its line graph, one rank higher: there a node is a slot (i, k) of an atom, and its
    neighbours are all slots of the atom that this slot holds, so whole rows of slots are gathered.

    Args:
        values: (B, N, D), a value a node.
        senders: int (B A K,), row of the flattened sites that each slot holds, from `NeighborGraph`.
        slots: K.

    Returns:
        (B, N, K, D).
    """
    dim = values.shape[-1]
    sites_of_slots = ops.shape(senders)[0]
    sites = sites_of_slots // slots
    rows = ops.take(ops.reshape(values, (sites, -1)), senders, axis=0)
    return ops.reshape(rows, (*ops.shape(values)[:2], slots, dim))


def flat_senders(neighbors: Any) -> Any:
    """Row of the flattened sites (B A, ...) that each slot holds, int (B A K,); from the site within its crystal, int (B, A, K)."""
    rows, sites, _ = ops.shape(neighbors)
    return ops.reshape(neighbors + ops.reshape(ops.arange(rows, dtype="int32") * sites, (-1, 1, 1)), (-1,))


@keras.saving.register_keras_serializable("tfmat")
class NeighborGraph(keras.layers.Layer):
    """The atom graph and the line graph of a padded batch of crystals, computed once for all blocks, in float32.

    An edge of the atom graph is a slot (i, k): the bond from the neighbour ``j = neighbors[i, k]`` to the site i. A node of the line graph
    is such a bond, and its edges come from all bonds (j, l) that arrive at j, the way back to i included.

    Call arguments:
        species: int (B, A), 0 = padding.
        neighbors: int (B, A, K), site of each neighbour within its crystal.
        vectors: float (B, A, K, 3) [Å] from a site to its neighbour; zero = empty slot.

    Returns:
        dict of
        ``elements`` int (B, A), rows of a table of elements: Z - 1, and 0 in padding;
        ``senders`` int (B A K,), row of the flattened sites (B A, ...) that each slot holds;
        ``real_atoms`` (B, A, 1), ``real_bonds`` (B, A, K, 1), ``real_pairs`` (B, A K, K, 1), each 1 or 0;
        ``distances`` (B, A K) [Å];
        ``cosines`` (B, A K K) of the angle at j between the bonds to i and to the neighbour in slot (j, l).
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, species: Any, neighbors: Any, vectors: Any) -> dict[str, Any]:
        rows, sites, slots = ops.shape(neighbors)
        senders = flat_senders(neighbors)
        squares = ops.sum(ops.square(vectors), axis=-1)
        real = ops.cast(squares > 0, "float32")
        distances = ops.sqrt(ops.where(squares > 0, squares, 1.0))
        arrows = vectors / ops.expand_dims(distances, -1)

        there = ops.reshape(arrows, (rows, sites * slots, 1, 3))
        onward = gather_slots(ops.reshape(arrows, (rows, sites * slots, 3)), senders, slots)
        cosines = ops.clip(-ops.sum(there * onward, axis=-1), -1.0, 1.0)
        flat = ops.reshape(real, (rows, sites * slots, 1))
        return {
            "elements": ops.maximum(species - 1, 0),
            "senders": senders,
            "real_atoms": ops.expand_dims(ops.cast(species > 0, "float32"), -1),
            "real_bonds": ops.expand_dims(real, -1),
            "real_pairs": ops.expand_dims(flat, -1) * gather_slots(flat, senders, slots),
            "distances": ops.reshape(distances * real, (rows, sites * slots)),
            "cosines": ops.reshape(cosines, (rows, sites * slots * slots)),
        }

    def compute_output_spec(self, species: Any, neighbors: Any, vectors: Any) -> dict[str, Any]:
        rows, sites, slots = neighbors.shape
        bonds = None if sites is None or slots is None else sites * slots
        flat = None if rows is None or bonds is None else rows * bonds
        pairs = None if bonds is None else bonds * slots
        shapes = {
            "real_atoms": (rows, sites, 1),
            "real_bonds": (rows, sites, slots, 1),
            "real_pairs": (rows, bonds, slots, 1),
            "distances": (rows, bonds),
            "cosines": (rows, pairs),
        }
        indices = {"elements": keras.KerasTensor((rows, sites), "int32"), "senders": keras.KerasTensor((flat,), "int32")}
        return indices | {name: keras.KerasTensor(shape, "float32") for name, shape in shapes.items()}


@keras.saving.register_keras_serializable("tfmat")
class SiteNoise(keras.layers.Layer):
    """In training: every site displaced at random, its neighbours' vectors along with it. Periodic images move as their site does.

    Args:
        scale: standard deviation of the displacement in each direction [Å].

    Call arguments:
        neighbors: int (B, A, K).
        vectors: float (B, A, K, 3) [Å]; zero = empty slot, which stays empty.

    Returns:
        (B, A, K, 3), the new vectors.
    """

    def __init__(self, scale: float, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))
        if not scale >= 0:
            raise ValueError(f"`scale` must not be negative. Received: scale={scale}")
        self.scale = scale
        self.random = keras.random.SeedGenerator()

    def call(self, neighbors: Any, vectors: Any, training: bool = False) -> Any:
        if not training or not self.scale:
            return vectors
        rows, sites, slots = ops.shape(neighbors)
        moves = self.scale * keras.random.normal((rows, sites, 3), seed=self.random)
        moved = vectors + gather_slots(moves, flat_senders(neighbors), slots) - ops.expand_dims(moves, 2)
        return ops.where(ops.any(vectors != 0, axis=-1, keepdims=True), moved, 0.0)

    def compute_output_shape(self, neighbors_shape: Any, vectors_shape: Any) -> Any:
        return vectors_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable("tfmat")
class MeanOverSites(keras.layers.Layer):
    """Mean over the sites of a crystal, padding left out.

    Call arguments:
        atoms: (B, A, D).
        real_atoms: (B, A, 1), 1 or 0.

    Returns:
        (B, D) float32; zero for a row without sites.
    """

    def __init__(self, **layer_options: Any) -> None:
        super().__init__(**({"dtype": "float32"} | layer_options))

    def call(self, atoms: Any, real_atoms: Any) -> Any:
        return ops.sum(atoms * real_atoms, axis=1) / ops.maximum(ops.sum(real_atoms, axis=1), 1.0)

    def compute_output_shape(self, atoms_shape: Any, real_atoms_shape: Any = None) -> Any:
        return (atoms_shape[0], atoms_shape[-1])
