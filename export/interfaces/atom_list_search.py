"""Lists of atoms of crystals as TensorFlow operations, by the rules of `tfmat.featurizers.atom_list`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmat.export.graph.flat_arrays import by_rows, order_within
from tfmat.export.graph.nearest_search import Nearest, by_distance, nearest_neighbors
from tfmat.export.graph.periodic_search import SLACK, Sites
from tfmat.featurizers.atom_list import DIGITS, STEP, TOLERANCE, AtomListFeaturizer

_KINDS = 128  # more than there are elements


def atom_lists(sites: Sites, featurizer: AtomListFeaturizer) -> dict[str, Any]:
    """What the featurizer makes of each crystal, one after the other; ``lists`` int32 (B, A) with 0 as padding.

    Raises:
        tf.errors.InvalidArgumentError: see `tfmat.export.graph.periodic_search.search`.
    """
    elements, distances = _lists(sites, nearest_neighbors(sites, featurizer.slots, TOLERANCE, featurizer.slots, by_distance), featurizer)
    order = _canonical_order(sites, elements, distances, max(featurizer.same, STEP))
    new = _differ_from_before(sites, elements, distances, order, featurizer.same)
    number = tf.cumsum(tf.cast(new, tf.int32)) - 1  # of the list of each site in this order, counted through all crystals
    first = tf.gather(order, tf.where(new)[:, 0])
    mean = tf.math.segment_mean(tf.gather(distances, order), number)
    crystal = tf.gather(sites.crystal, first)
    rows = tf.size(sites.counts)
    lists = tf.math.bincount(crystal, minlength=rows)
    within = number - tf.gather(tf.cumsum(lists, exclusive=True), tf.gather(sites.crystal, order)) + 1
    counted = tf.scatter_nd(order[:, None], within, tf.shape(order))
    if featurizer.order == "published":
        order = _published_order(sites)
    return {
        "species": tf.gather(sites.species, first),
        "site_multiplicity": tf.math.bincount(number),
        "elements": tf.gather(elements, first),
        "distances": tf.cast(mean, tf.float32),
        "batch_sites": lists,
        "lists": by_rows(tf.gather(counted, order), sites.crystal, rows),
    }


def _lists(sites: Sites, found: Nearest, featurizer: AtomListFeaturizer) -> tuple[Any, Any]:
    """Elements int32 (S, N) and distances float64 (S, N) [Å] of each site's neighbours."""
    kinds = tf.gather(sites.species, found.neighbors)
    place = tf.stack([found.centers, found.ranks], axis=1)
    distances = found.distances
    if featurizer.cutoff is not None:
        near = tf.where(distances <= featurizer.cutoff + SLACK)[:, 0]
        place, kinds, distances = (tf.gather(column, near) for column in (place, kinds, distances))
    shape = tf.stack([sites.number, featurizer.slots])
    elements, lengths = tf.scatter_nd(place, kinds, shape), tf.scatter_nd(place, distances, shape)
    return tf.ensure_shape(elements, [None, featurizer.slots]), tf.ensure_shape(lengths, [None, featurizer.slots])


def _canonical_order(sites: Sites, elements: Any, distances: Any, step: float) -> Any:
    """See `AtomListFeaturizer`: by crystal, species, and the entries of the list; int32 (S,)."""

    def refined(entry: Any, order: Any) -> tuple[Any, Any]:
        """The order, by an entry in the first place."""
        column = distances[:, entry]
        ascending = order_within(sites.crystal, column)
        values = tf.gather(column, ascending)
        steps = tf.cast(values - tf.pad(values, [[1, 0]])[:-1] > step, tf.int32)
        level = tf.scatter_nd(ascending[:, None], tf.cumsum(steps), tf.shape(steps))
        return entry - 1, _then(level * _KINDS + elements[:, entry], order)

    last = tf.constant(distances.shape[1] - 1)
    start = tf.argsort(tf.reduce_sum(distances, axis=1), stable=True)
    shapes = [last.shape, tf.TensorShape([None])]
    _, order = tf.while_loop(lambda entry, _: entry >= 0, refined, [last, start], shapes, parallel_iterations=1)
    return _then(sites.crystal * _KINDS + sites.species, order)


def _then(keys: Any, order: Any) -> Any:
    """Sorted by a key; what has the same key stays in its order."""
    return tf.gather(order, tf.argsort(tf.gather(keys, order), stable=True))


def _differ_from_before(sites: Sites, elements: Any, distances: Any, order: Any, same: float) -> Any:
    """Whether each site, in this order, has another list than the one before it, bool (S,); where `same` is 0, each."""
    if not same:
        return tf.ones_like(order, tf.bool)
    kinds = tf.gather(tf.concat([sites.crystal[:, None], sites.species[:, None], elements], axis=1), order)
    lengths = tf.gather(distances, order)
    other = tf.reduce_any(tf.not_equal(kinds[1:], kinds[:-1]), axis=1)
    other = tf.logical_or(other, tf.reduce_any(tf.abs(lengths[1:] - lengths[:-1]) > same, axis=1))
    return tf.concat([tf.ones_like(order[:1], tf.bool), other], 0)


def _published_order(sites: Sites) -> Any:
    """By crystal, then fractional x, y, z, rounded and within [0, 1); int32 (S,)."""
    scale = 10**DIGITS
    coords = tf.math.floormod(tf.cast(tf.round(sites.coords * scale), tf.int64), tf.constant(scale, tf.int64))
    order = tf.range(sites.number)
    for axis in (2, 1, 0):
        order = _then(coords[:, axis], order)
    return _then(sites.crystal, order)
