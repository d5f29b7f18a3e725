"""The interface of models of crystals that read nearest neighbours: sites, and of each the vectors to the atoms around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import LARGEST, Tensors, atomic_numbers, leads_to_site, of_whole_rows, require_rows
from tfmat.export.graph.lists import bonds_and_pairs_of, expand, fixed_sites_of, site_numbers, sites_of
from tfmat.export.graph.neighbor_search import Found, Sites, search_nearest
from tfmat.export.interfaces.base import BEFORE, Example, Grids, Input, Size
from tfmat.export.interfaces.crystals import NO_SITE, ROUNDING, CrystalInterface
from tfmat.featurizers.nearest import DIRECTION, SHELL, nearest_neighbors
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer
from tfmat.featurizers.quotient import MOST
from tfmat.featurizers.sites import each_crystal


class NeighborInterface(CrystalInterface):
    """`tfmat.featurizers.NeighborFeaturizer` in the graph."""

    featurizer: NeighborFeaturizer
    heaviest = HEAVIEST

    @property
    def inputs(self) -> Mapping[str, Input]:
        axes = ("B", "A", "K")
        neighbors = "of each neighbour the site that it is, or is a periodic image of, a position in `species` counted from 0; 0 in padding"
        vectors = (
            "Cartesian vector from the site to each neighbour (its periodic image), in the order of `neighbors`; three zeros = padding"
        )
        return {
            "species": self.species_input(),
            "neighbors": Input("int32", axes, neighbors),
            "vectors": Input("float32", (*axes, 3), vectors, "Å"),
        }

    def shape_checks(self, arrays: Tensors) -> list[Any]:
        species, neighbors, vectors = (tf.shape(arrays[key]) for key in ("species", "neighbors", "vectors"))
        return [
            tf.debugging.assert_equal(neighbors[:2], species, "`neighbors` must have a row for every crystal, and a list for every site"),
            tf.debugging.assert_equal(vectors[:3], neighbors, "there must be one vector for every neighbour"),
        ]

    def row_checks(self, arrays: Tensors) -> dict[str, Any]:
        """See `CrystalInterface.row_checks`. Empty slots may be anywhere among the K."""
        species, neighbors, vectors = arrays["species"], arrays["neighbors"], arrays["vectors"]
        is_site, filled = species > 0, _filled(vectors)
        squares = tf.reduce_sum(vectors * vectors, axis=-1)  # infinite beyond 1.8e19 Å
        proper = tf.logical_and(squares >= (OVERLAP - ROUNDING) ** 2, squares <= LARGEST)
        count = tf.reduce_sum(tf.cast(filled, tf.int32), axis=-1)
        fewest, most = self.featurizer.k, self.featurizer.slots
        enough = tf.logical_and(count >= fewest, count <= most)
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        checks = atomic_numbers("species", species, HEAVIEST) | {
            f"`vectors` must be finite and at least {OVERLAP:g} Å long, with zeros as padding; see row": tf.logical_or(
                proper, tf.logical_not(filled)
            ),
            "`neighbors` must be positions of sites in `species`, counted from 0, and 0 where the vector is 0; see row": tf.where(
                filled, leads_to_site(neighbors, species), tf.equal(neighbors, 0)
            ),
            "`vectors` must be 0 where `species` is 0; see row": tf.logical_or(is_site, tf.equal(count, 0)),
            f"every site must have {number} neighbours; see row": tf.logical_or(enough, tf.logical_not(is_site)),
        }
        return of_whole_rows(checks) | {NO_SITE: tf.reduce_any(is_site, axis=1)}

    def lists(self, arrays: Tensors) -> dict[str, Any]:
        number, filled = site_numbers(arrays["species"] > 0), tf.where(_filled(arrays["vectors"]))
        receivers = tf.gather_nd(number, filled[:, :2])
        neighbors = tf.cast(tf.gather_nd(arrays["neighbors"], filled), tf.int64)
        senders = tf.gather_nd(number, tf.stack([filled[:, 0], neighbors], axis=1))
        sites = sites_of(arrays["species"])
        return sites | self._bonds_and_pairs(receivers, senders, tf.gather_nd(arrays["vectors"], filled), sites["batch_sites"])

    def _bonds_and_pairs(self, receivers: Any, senders: Any, vectors: Any, batch_sites: Any) -> dict[str, Any]:
        """See `bonds_and_pairs_of`; `batch_sites` are the sites of each crystal, int32 (B,)."""
        crystal, _ = expand(batch_sites)
        pairs = tf.gather(tf.math.bincount(receivers, minlength=tf.size(crystal)), senders)
        pairs = tf.math.unsorted_segment_sum(pairs, tf.gather(crystal, receivers), tf.size(batch_sites))
        with tf.control_dependencies(require_rows({f"a crystal must have at most {MOST:,} pairs of bonds; see row": pairs <= MOST})):
            given, receivers = self.featurizer, tf.identity(receivers)
            return bonds_and_pairs_of(receivers, senders, vectors, tf.size(crystal), given.angle_neighbors, given.tolerance)

    def fixed_lists(self, arrays: Tensors) -> tuple[dict[str, Any], Grids]:
        """See `CrystalInterface.fixed_lists`. Every slot is a bond, and a pair with each slot of its neighbour; empty ones count 0."""
        crystals, sites, slots = (int(n) for n in arrays["neighbors"].shape)
        vectors = tf.reshape(arrays["vectors"], [-1, slots, 3])  # of each site
        filled = _filled(vectors)
        distances = tf.where(filled, tf.norm(tf.where(filled[..., None], vectors, 1.0), axis=-1), 0.0)
        arrows = vectors / tf.where(filled, distances, 1.0)[..., None]
        of_crystal = np.arange(crystals, dtype=np.int32) * sites
        senders = tf.reshape(arrays["neighbors"] + of_crystal[:, None, None], [-1])
        pair_senders = senders[:, None] * slots + np.arange(slots, dtype=np.int32)
        cosines = -tf.reduce_sum(tf.reshape(arrows, [-1, 1, 3]) * tf.gather(arrows, senders), axis=-1)
        paired = filled
        if self.featurizer.angle_neighbors is not None:
            nearness = tf.math.top_k(-tf.where(filled, distances, LARGEST), self.featurizer.angle_neighbors).values
            paired = tf.logical_and(filled, distances <= self.featurizer.tolerance - nearness[:, -1:])
        pairs = tf.logical_and(tf.reshape(paired, [-1, 1]), tf.gather(paired, senders))
        bonds = crystals * sites * slots
        lists = fixed_sites_of(arrays["species"]) | {
            "bond_receivers": tf.constant(np.repeat(np.arange(crystals * sites, dtype=np.int32), slots)),
            "bond_senders": senders,
            "distances": tf.reshape(distances, [-1]),
            "bond_multiplicity": tf.cast(tf.reshape(filled, [-1]), tf.int32),
            "pair_receivers": tf.constant(np.repeat(np.arange(bonds, dtype=np.int32), slots)),
            "pair_senders": tf.reshape(pair_senders, [-1]),
            "cosines": tf.reshape(cosines, [-1]),
            "pair_multiplicity": tf.cast(tf.reshape(pairs, [-1]), tf.int32),
        }
        return lists, {(crystals, crystals * sites), (crystals * sites, bonds), (bonds, bonds * slots)}

    def search(self, sites: Sites, crystals: Tensors) -> dict[str, Any]:
        def component(found: Found) -> Any:
            return tf.linalg.matvec(found.vectors, tf.constant(DIRECTION, tf.float64))

        given = self.featurizer
        found = search_nearest(sites, given.k, given.tolerance, given.slots, component)
        order = tf.argsort(found.centers, stable=True)
        receivers, senders, vectors = (tf.gather(column, order) for column in (found.centers, found.neighbors, found.vectors))
        return self._bonds_and_pairs(receivers, senders, tf.cast(vectors, tf.float32), sites.counts)

    @property
    def sizes(self) -> Mapping[str, Size]:
        most = self.featurizer.slots
        neighbors = Size("K", most, most, "neighbours of one site", lowest=self.featurizer.k)
        return {"max_sites": Size("A", 32, 10_000, "sites"), "max_neighbors": neighbors}

    @property
    def notes(self) -> Mapping[str, Any]:
        given = self.featurizer
        kept = "the first `k` in `order`; `tolerance` and `max_neighbors` have no effect"
        if not given.strict:
            kept = (
                "all whose distance is at most that of the k-th nearest plus `tolerance`; where these are more than `max_neighbors`, the "
                "first so many in `order`"
            )
        definition = (
            "around site i are all other sites and the periodic images of all sites, each image on its own, those of site i itself "
            f"included; the neighbours of site i are {kept}. They may be sent in any order"
        )
        order = (
            f"by distance; neighbours whose distances, from one to the next, differ by at most {SHELL:g} Å by atomic number; and those of "
            f"one element among them by the component of the vector along {DIRECTION.tolist()}; each ascending"
        )
        policy = {key: getattr(given, key) for key in ("k", "tolerance", "max_neighbors", "strict", "angle_neighbors")}
        return {"neighbors": policy | {"featurizer_version": given.version, "unit": "Å", "definition": definition, "order": order}}

    def arrays_of(self, material: Any) -> Example:
        """See `Interface.arrays_of`. There are as many slots as the fullest site needs."""
        (crystal,), given = each_crystal([material], HEAVIEST), self.featurizer
        found = nearest_neighbors([crystal], given.k, given.tolerance)
        kept = found.ranks < given.slots
        place = found.centers[kept], found.ranks[kept]
        neighbors = np.zeros((len(crystal), int(place[1].max()) + 1), np.int32)
        vectors = np.zeros((*neighbors.shape, 3), np.float32)
        neighbors[place], vectors[place] = found.neighbors[kept], found.vectors[kept]
        return {"species": crystal.species.astype(np.int32), "neighbors": neighbors, "vectors": vectors}

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        neighbors = np.where(batch["vectors"].any(axis=-1), batch["neighbors"] + BEFORE, 0).astype(np.int32)
        return super().displaced(dict(batch) | {"neighbors": neighbors})


def _filled(vectors: Any) -> Any:
    """Whether each vector, float32 (..., 3), is none of three zeros, bool (...)."""
    return tf.reduce_any(tf.not_equal(vectors, 0), axis=-1)
