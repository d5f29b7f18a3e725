"""Crystals as nearest neighbours in the TensorFlow graph: what makes a row a crystal, with assertions and without, and its lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import Arrays, by_rows, checked_rows, harmless_rows
from tfmat.export.graph.lists import bonds_and_pairs_of, fixed_sites_of, site_numbers, sites_of
from tfmat.export.interfaces.base import Fixed
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer

SLACK = 1e-4
"""How far below the smallest distance the length of a vector may lie that a client computed in float32 [Å]."""


def row_checks(arrays: Arrays, featurizer: NeighborFeaturizer) -> dict[str, Any]:
    """What every row must satisfy -> whether it does, bool (B,). A NaN satisfies nothing.

    Args:
        arrays: ``species`` int32 (B, A), ``neighbors`` int32 (B, A, K), ``vectors`` float32 (B, A, K, 3) [Å]; a vector of three zeros
            marks an empty slot, anywhere among the K.
        featurizer: gives the number of neighbours that a site has.
    """
    species, neighbors, vectors = arrays["species"], arrays["neighbors"], arrays["vectors"]
    is_site = species > 0
    filled = tf.reduce_any(tf.not_equal(vectors, 0), axis=-1)
    squares = tf.reduce_sum(vectors * vectors, axis=-1)  # infinite beyond 1.8e19 Å
    proper = tf.logical_and(squares >= (OVERLAP - SLACK) ** 2, squares <= float(np.finfo(np.float32).max))
    count = tf.reduce_sum(tf.cast(filled, tf.int32), axis=-1)
    fewest, most = featurizer.k, featurizer.slots
    enough = tf.logical_and(count >= fewest, count <= most)
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    sites = tf.shape(species)[1]
    occupied = tf.pad(species, [[0, 0], [0, 1]])  # what lies outside is looked up in this slot, which is none
    inside = tf.logical_and(neighbors >= 0, neighbors < sites)
    leads_to_site = tf.gather(occupied, tf.where(inside, neighbors, sites), batch_dims=1) > 0
    checks = {
        f"`species` must be atomic numbers from 1 to {HEAVIEST}, with 0 as padding; see row": tf.logical_and(
            species >= 0, species <= HEAVIEST
        ),
        f"`vectors` must be finite and at least {OVERLAP:g} Å long, with zeros as padding; see row": tf.logical_or(
            proper, tf.logical_not(filled)
        ),
        "`neighbors` must be positions of sites in `species`, counted from 0, and 0 where the vector is 0; see row": tf.where(
            filled, leads_to_site, tf.equal(neighbors, 0)
        ),
        "`vectors` must be 0 where `species` is 0; see row": tf.logical_or(is_site, tf.equal(count, 0)),
        f"every site must have {number} neighbours; see row": tf.logical_or(enough, tf.logical_not(is_site)),
    }
    return by_rows(checks) | {"a crystal needs at least one site; see row": tf.reduce_any(is_site, axis=1)}


def checked(arrays: Arrays, featurizer: NeighborFeaturizer) -> dict[str, Any]:
    """The lists of the network, once every row is a crystal.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    species, neighbors, vectors = (tf.shape(arrays[key]) for key in ("species", "neighbors", "vectors"))
    shapes = [
        tf.debugging.assert_equal(neighbors[:2], species, "`neighbors` must have a row for every crystal, and a list for every site"),
        tf.debugging.assert_equal(vectors[:3], neighbors, "there must be one vector for every neighbour"),
    ]
    return _lists(checked_rows(arrays, shapes, lambda given: row_checks(given, featurizer)))


def _lists(arrays: Arrays) -> dict[str, Any]:
    number = site_numbers(arrays["species"] > 0)
    filled = tf.where(tf.reduce_any(tf.not_equal(arrays["vectors"], 0), axis=-1))
    receivers = tf.gather_nd(number, filled[:, :2])
    neighbors = tf.cast(tf.gather_nd(arrays["neighbors"], filled), tf.int64)
    senders = tf.gather_nd(number, tf.stack([filled[:, 0], neighbors], axis=1))
    sites = sites_of(arrays["species"])
    return sites | bonds_and_pairs_of(receivers, senders, tf.gather_nd(arrays["vectors"], filled), tf.size(sites["species"]))


def harmless(arrays: Arrays, featurizer: NeighborFeaturizer) -> Fixed:
    """The lists of the network, with zeros in the rows that are no crystal; without assertions.

    Every slot is a bond, and a pair with each slot of its neighbour; empty ones have multiplicity 0.
    """
    arrays, sound = harmless_rows(arrays, lambda given: row_checks(given, featurizer))
    crystals, sites, slots = (int(n) for n in arrays["neighbors"].shape)
    vectors = tf.reshape(arrays["vectors"], [-1, slots, 3])  # of each site
    filled = tf.reduce_any(tf.not_equal(vectors, 0), axis=-1)
    distances = tf.where(filled, tf.norm(tf.where(filled[..., None], vectors, 1.0), axis=-1), 0.0)
    arrows = vectors / tf.where(filled, distances, 1.0)[..., None]
    of_crystal = np.arange(crystals, dtype=np.int32) * sites
    senders = tf.reshape(arrays["neighbors"] + of_crystal[:, None, None], [-1])
    pair_senders = senders[:, None] * slots + np.arange(slots, dtype=np.int32)
    cosines = -tf.reduce_sum(tf.reshape(arrows, [-1, 1, 3]) * tf.gather(arrows, senders), axis=-1)
    pairs = tf.logical_and(tf.reshape(filled, [-1, 1]), tf.gather(filled, senders))
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
    return Fixed(lists, sound, {(crystals, crystals * sites), (crystals * sites, bonds), (bonds, bonds * slots)})
