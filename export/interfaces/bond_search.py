"""Bonds of crystals as TensorFlow operations, by the rules of `tfmat.featurizers.bonds`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmat.export.graph.checks import require_rows
from tfmat.export.graph.lists import bonds_of
from tfmat.export.graph.periodic_search import SLACK, Choice, Found, Sites, search

_COLUMNS = [(tf.int32, (None,)), (tf.int32, (None,)), (tf.float32, (None,))]


def bond_lists(sites: Sites, cutoff: float) -> dict[str, Any]:
    """Keys of bonds: all pairs within the cut-off [Å].

    Raises:
        tf.errors.InvalidArgumentError: a crystal without bonds, or see `tfmat.export.graph.periodic_search.search`.
    """

    def choose(found: Found) -> Choice:
        columns = tf.gather(found.sites, found.centers), found.neighbors, tf.cast(found.distances, tf.float32)
        return Choice(columns, tf.zeros([0], tf.int32), tf.zeros([0], tf.float64))

    radii = tf.fill([sites.number], tf.constant(cutoff + SLACK, tf.float64))
    centers, neighbors, distances = search(sites, radii, _COLUMNS, choose)
    bonds = tf.math.bincount(tf.gather(sites.crystal, centers), minlength=tf.size(sites.counts))
    sentence = f"no two atoms are within {cutoff:g} Å, so the crystal has no bonds; see row"
    with tf.control_dependencies(require_rows({sentence: bonds > 0})):
        return bonds_of(tf.identity(centers), neighbors, distances)
