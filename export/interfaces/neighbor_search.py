"""Neighbours in crystals as TensorFlow operations, by the rules of `tfmat.featurizers.neighbors`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmat.export.graph.lists import bonds_and_pairs_of
from tfmat.export.graph.nearest_search import along_direction, nearest_neighbors
from tfmat.export.graph.periodic_search import Sites
from tfmat.featurizers.neighbors import NeighborFeaturizer


def neighbor_lists(sites: Sites, featurizer: NeighborFeaturizer) -> dict[str, Any]:
    """Keys of bonds and of pairs of bonds: all neighbours that the featurizer finds.

    Raises:
        tf.errors.InvalidArgumentError: see `tfmat.export.graph.periodic_search.search`.
    """
    found = nearest_neighbors(sites, featurizer.k, featurizer.tolerance, featurizer.slots, along_direction)
    order = tf.argsort(found.centers, stable=True)
    receivers, senders, vectors = (tf.gather(column, order) for column in (found.centers, found.neighbors, found.vectors))
    return bonds_and_pairs_of(receivers, senders, tf.cast(vectors, tf.float32), sites.number)
