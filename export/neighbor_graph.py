"""Crystals as lists of nearest neighbours in the TensorFlow graph: what makes a row a crystal, with assertions and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.assertions import Arrays, by_rows, checked_rows, harmless_rows
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
    """The same arrays, once every row is a crystal.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    species, neighbors, vectors = (tf.shape(arrays[key]) for key in ("species", "neighbors", "vectors"))
    shapes = [
        tf.debugging.assert_equal(neighbors[:2], species, "`neighbors` must have a row for every crystal, and a list for every site"),
        tf.debugging.assert_equal(vectors[:3], neighbors, "there must be one vector for every neighbour"),
    ]
    return checked_rows(arrays, shapes, lambda given: row_checks(given, featurizer))


def harmless(arrays: Arrays, featurizer: NeighborFeaturizer) -> tuple[dict[str, Any], Any]:
    """The same arrays with zeros in the rows that are no crystal, and whether a row is one, bool (B,); without assertions."""
    return harmless_rows(arrays, lambda given: row_checks(given, featurizer))
