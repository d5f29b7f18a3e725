"""The nearest neighbours of every site as TensorFlow operations, by the rules of `tfmat.featurizers.nearest`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfmat.export.graph.flat_arrays import order_within
from tfmat.export.graph.periodic_search import Choice, Found, Sites, search
from tfmat.featurizers.nearest import DIRECTION, GROWTH, GUESS, MARGIN, SHELL

_KINDS = 128  # more than there are elements
_COLUMNS = [(tf.int32, (None,)), (tf.int32, (None,)), (tf.int32, (None,)), (tf.float64, (None, 3)), (tf.float64, (None,))]


class Nearest(NamedTuple):
    """The neighbours of all `Sites`, P rows, as tensors.

    Attributes:
        centers: int32 (P,), number of the site among all sites.
        neighbors: int32 (P,), number of the neighbour among all sites.
        ranks: int32 (P,), 0 for the nearest neighbour of its site, 1 for the next, ...
        vectors: float64 (P, 3), from the site to this image of the neighbour [Å].
        distances: float64 (P,), lengths of the vectors [Å].
    """

    centers: Any
    neighbors: Any
    ranks: Any
    vectors: Any
    distances: Any


Within = Callable[[Found], Any]
"""Neighbours -> float64 (P,), what orders those of one shell and one element."""


def along_direction(found: Found) -> Any:
    """Component along a fixed direction in space, see `tfmat.featurizers.nearest.DIRECTION`."""
    return tf.linalg.matvec(found.vectors, tf.constant(DIRECTION, tf.float64))


def by_distance(found: Found) -> Any:
    """The distance."""
    return found.distances


def nearest_neighbors(sites: Sites, count: int, tolerance: float, slots: int, within: Within) -> Nearest:
    """The neighbours of each site that are at most `tolerance` farther than its `count`-th nearest one, up to `slots` of them.

    Ordered by shell (see `tfmat.featurizers.nearest.SHELL`), then by atomic number, then by `within`. As in the featurizer the radius of a
    site grows until it holds enough.

    Args:
        sites: where to search.
        count: number of neighbours to find for each site; at least 1.
        tolerance: [Å].
        slots: most that are kept of a site, the first ones.
        within: order in a shell.

    Raises:
        tf.errors.InvalidArgumentError: see `tfmat.export.graph.periodic_search.search`.
    """
    widths = sites.widths()
    volumes = tf.reduce_prod(widths, axis=1) / tf.cast(sites.counts, tf.float64)
    shortest = tf.reduce_min(tf.norm(sites.lattices, axis=2), axis=1)
    # So far there are enough images of the site itself: no larger radius is ever needed.
    last = tf.gather(shortest * math.ceil(count / 2) + tolerance + 2 * MARGIN, sites.crystal)
    first = tf.gather(GUESS * (0.75 / math.pi * count * volumes) ** (1 / 3), sites.crystal)

    def choose(found: Found) -> Choice:
        order = order_within(found.centers, found.distances)
        found = _taken(found, order)
        number = tf.size(found.sites)
        sizes = tf.math.bincount(found.centers, minlength=number)
        enough = sizes >= count
        place = tf.where(enough, tf.cumsum(sizes, exclusive=True) + count - 1, 0)
        farthest = tf.where(enough, tf.gather(tf.pad(found.distances, [[0, 1]]), place) + tolerance, math.inf)
        complete = farthest + MARGIN <= found.radii
        limits = tf.where(complete, farthest, -1.0)
        kept = _arranged(sites, _taken(found, tf.where(found.distances <= tf.gather(limits, found.centers))[:, 0]), slots, within)
        again = tf.where(tf.logical_not(complete))[:, 0]
        radii = tf.where(enough, farthest + 2 * MARGIN, GROWTH * found.radii)
        chosen = tf.gather(found.sites, again)
        return Choice(kept, chosen, tf.minimum(tf.gather(radii, again), tf.gather(last, chosen)))

    return Nearest(*search(sites, tf.minimum(first, last), _COLUMNS, choose))


def _taken(found: Found, places: Any) -> Found:
    columns = (tf.gather(column, places) for column in (found.centers, found.neighbors, found.vectors, found.distances))
    return Found(found.sites, found.radii, *columns)


def _arranged(sites: Sites, found: Found, slots: int, within: Within) -> Nearest:
    """Pairs that are sorted by site and distance, in their final order."""
    before = tf.pad(found.centers, [[1, 0]], constant_values=-1)[:-1]
    starts = tf.not_equal(found.centers, before)
    steps = found.distances - tf.pad(found.distances, [[1, 0]])[:-1]
    shells = tf.cumsum(tf.cast(tf.logical_or(starts, steps > SHELL), tf.int32))
    final = order_within(shells * _KINDS + tf.gather(sites.species, found.neighbors), within(found))
    number = tf.size(found.sites)
    sizes = tf.math.bincount(found.centers, minlength=number)
    ranks = tf.range(tf.size(found.centers)) - tf.gather(tf.cumsum(sizes, exclusive=True), found.centers)
    kept = tf.where(ranks < slots)[:, 0]
    ranks, final = tf.gather(ranks, kept), tf.gather(final, kept)
    found = _taken(found, final)
    return Nearest(tf.gather(found.sites, found.centers), found.neighbors, ranks, found.vectors, found.distances)
