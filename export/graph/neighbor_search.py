"""The search for neighbours in periodic crystals, in the graph: what lies within a radius of each site, and which are the nearest.

For a site i and a site j the images of j in reach are enumerated axis by axis (U. Fincke, M. Pohst, Math. Comput. 1985, 44, 463). With the
lattice as a lower triangular matrix T times a rotation, an image with the fractional distance f lies at ``f T``, whose last component
depends on f_3 alone, the one before on f_3 and f_2, and so on. So each axis has an interval of whole cells, nearly everything that is
enumerated is a neighbour, and a skewed cell costs no more than a reduced one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import require, require_rows
from tfmat.export.graph.lists import expand, order_within
from tfmat.featurizers.nearest import GROWTH, GUESS, MARGIN, SHELL
from tfmat.featurizers.reach import ITSELF, MOST

CUTOFF_SLACK = 5e-7
"""A neighbour may be this much farther than the cut-off [Å], so that float32 coordinates do not lose one that is right at it."""
WORK = 2**18
"""Estimated number of images that are looked at together. It bounds the memory."""
WHOLE = 2**23
"""A crystal that needs more than so many in all is refused: one second. That is some 2,000 sites of ordinary density."""
_KINDS = 128  # more than there are elements
_BEYOND = 1e-6  # so much farther is enumerated than asked for, so that rounding decides nothing [Å]


@dataclass(frozen=True)
class Sites:
    """The sites of a batch of B crystals without padding, one after the other (S in all), as tensors.

    Attributes:
        crystal: int32 (S,), number of each site's crystal, ascending.
        species: int32 (S,), atomic numbers.
        coords: float64 (S, 3), fractional.
        counts: int32 (B,), sites of each crystal.
        first: int32 (B,), where they begin.
        lattices: float64 (B, 3, 3), vectors as rows [Å].
        triangular: float64 (B, 3, 3), the same crystals turned so that what is above the diagonal is 0 and the diagonal positive [Å].
    """

    crystal: Any
    species: Any
    coords: Any
    counts: Any
    first: Any
    lattices: Any
    triangular: Any

    @classmethod
    def of(cls, lattice: Any, frac_coords: Any, species: Any) -> Sites:
        """The sites of checked arrays: `lattice` (B, 3, 3) [Å], `frac_coords` (B, A, 3), and `species` (B, A), where 0 is padding."""
        places = tf.where(species > 0)
        lattices = tf.cast(lattice, tf.float64)
        counts = tf.math.count_nonzero(species, axis=1, dtype=tf.int32)
        return cls(
            crystal=tf.cast(places[:, 0], tf.int32),
            species=tf.gather_nd(species, places),
            coords=tf.cast(tf.gather_nd(frac_coords, places), tf.float64),
            counts=counts,
            first=tf.cumsum(counts, exclusive=True),
            lattices=lattices,
            triangular=triangular(lattices),
        )

    def widths(self) -> Any:
        """Diagonals of `triangular`, float64 (B, 3) [Å]."""
        return tf.linalg.diag_part(self.triangular)


class Found(NamedTuple):
    """Pairs within the radii of some of the `Sites`, as tensors.

    Attributes:
        sites: int32 (M,), numbers of the sites that were searched around.
        radii: float64 (M,), how far around each [Å].
        centers: int32 (P,), positions in `sites`, ascending.
        neighbors: int32 (P,), numbers among all `Sites`.
        vectors: float64 (P, 3), from the site to this image of the neighbour [Å].
        distances: float64 (P,), lengths of the vectors [Å].
    """

    sites: Any
    radii: Any
    centers: Any
    neighbors: Any
    vectors: Any
    distances: Any


Choice = tuple[Sequence[Any], Any, Any]
"""Columns of equal length to keep; sites to search around again, int32 (R,), and how far around each, float64 (R,) [Å]."""


def triangular(lattices: Any) -> Any:
    """The `lattices` (B, 3, 3) [Å] in Cartesian axes of their own: x along the first vector, z normal to the first two."""
    first, second, third = (lattices[:, i] for i in range(3))
    normal = tf.linalg.cross(first, second)
    x, z = _unit(first), _unit(normal)
    y = tf.linalg.cross(z, x)
    z *= tf.sign(tf.reduce_sum(z * third, axis=1, keepdims=True))
    return tf.linalg.band_part(tf.matmul(lattices, tf.stack([x, y, z], axis=2)), -1, 0)


def _unit(vectors: Any) -> Any:
    return vectors / tf.norm(vectors, axis=1, keepdims=True)


def search(sites: Sites, radii: Any, columns: Sequence[tf.TensorSpec], choose: Callable[[Found], Choice]) -> list[Any]:
    """Search around all sites, as many at a time as `WORK` allows.

    Args:
        sites: where to search.
        radii: float64 (S,), how far around each site [Å].
        columns: types and shapes of the columns that are kept.
        choose: what to keep of the pairs that were found, and where to search again.

    Returns:
        The columns of all choices, joined; sites that were searched again come last.

    Raises:
        tf.errors.InvalidArgumentError: two atoms are closer than 0.5 Å, or too many images are in reach of a site or of all sites of a
            crystal, with the number of the row.
    """

    def body(turn: Any, pending: Any, radii: Any, *parts: Any) -> list[Any]:
        number = _so_many(sites, pending, radii)
        kept, again, farther = choose(_around(sites, pending[:number], radii[:number]))
        left = tf.concat([pending[number:], again], 0), tf.concat([radii[number:], farther], 0)
        return [turn + 1, *left, *(part.write(turn, column) for part, column in zip(parts, kept, strict=True))]

    parts = [tf.TensorArray(c.dtype, 0, dynamic_size=True, infer_shape=False, element_shape=c.shape) for c in columns]
    everything = tf.range(tf.size(sites.crystal))
    work = tf.math.unsorted_segment_sum(_images_of(sites, everything, radii), sites.crystal, tf.size(sites.counts))
    sentence = f"the sites of a crystal have in all more than {WHOLE:,} sites and images to look at; see row"
    with tf.control_dependencies(require_rows({sentence: work <= WHOLE})):
        start = [tf.constant(0), tf.identity(everything), radii, *parts]
    shapes = [tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None]), *(tf.TensorShape(None) for _ in parts)]
    _, _, _, *parts = tf.while_loop(lambda turn, pending, *_: tf.size(pending) > 0, body, start, shapes, parallel_iterations=1)
    return [part.concat() for part in parts]


def _images_of(sites: Sites, some: Any, radii: Any) -> Any:
    """About how many sites and images there are to look at around `some` of the sites, int32 (M,), within the radii; float64 (M,)."""
    crystal = tf.gather(sites.crystal, some)
    cells = tf.reduce_prod(2 * radii[:, None] / tf.gather(sites.widths(), crystal) + 1, axis=1)
    return cells * tf.cast(tf.gather(sites.counts, crystal), tf.float64)


def _so_many(sites: Sites, pending: Any, radii: Any) -> Any:
    """Choose how many of the pending sites are searched together, int32, at least 1."""
    images = _images_of(sites, pending, radii)
    sentence = f"a site has more than {MOST:,} sites and images to look at; a reduced cell may have fewer; see row"
    with tf.control_dependencies([require(images <= MOST, sentence, tf.gather(sites.crystal, pending))]):
        return tf.maximum(tf.math.count_nonzero(tf.cumsum(images) <= WORK, dtype=tf.int32), 1)


def _around(sites: Sites, centers: Any, radii: Any) -> Found:
    """All pairs within the radii (M,) of the sites `centers` (M,)."""
    crystal = tf.gather(sites.crystal, centers)
    center, place = expand(tf.gather(sites.counts, crystal))
    crystal = tf.gather(crystal, center)
    neighbor = tf.gather(sites.first, crystal) + place
    between = tf.gather(sites.coords, neighbor) - tf.gather(sites.coords, tf.gather(centers, center))
    pair, coords = _images(between, tf.gather(sites.triangular, crystal), tf.gather(radii, center) + _BEYOND)

    center, neighbor = tf.gather(center, pair), tf.gather(neighbor, pair)
    lattice = tf.gather(sites.lattices, tf.gather(crystal, pair))
    vectors = tf.reduce_sum(coords[:, :, None] * lattice, axis=1)
    distances = tf.norm(vectors, axis=1)
    other = tf.logical_or(distances > ITSELF, tf.not_equal(tf.gather(centers, center), neighbor))
    kept = tf.where(tf.logical_and(distances <= tf.gather(radii, center), other))[:, 0]
    columns = [tf.gather(column, kept) for column in (center, neighbor, vectors, distances)]
    rows = tf.gather(sites.crystal, columns[1])
    with tf.control_dependencies([require(columns[3] >= OVERLAP, f"two atoms are closer than {OVERLAP:g} Å; see row", rows)]):
        return Found(centers, radii, *(tf.identity(column) for column in columns))


def _images(between: Any, lower: Any, radii: Any) -> tuple[Any, Any]:
    """The images within a radius.

    Args:
        between: float64 (P, 3), fractional distance of each pair.
        lower: float64 (P, 3, 3), triangular lattice of each [Å].
        radii: float64 (P,) [Å].

    Returns:
        int32 (N,), the pair of each image, ascending; float64 (N, 3), its fractional distance.
    """
    pair = tf.range(tf.shape(between)[0])
    left = radii**2  # of the square of the distance, for the axes that are still to be fixed
    fixed: list[Any] = []  # fractional distances along the axes that are, the last axis first
    for axis in (2, 1, 0):
        column = tf.gather(lower[:, :, axis], pair)
        shift = sum((f * column[:, 2 - i] for i, f in enumerate(fixed)), tf.zeros_like(left))
        start, width, reach = tf.gather(between[:, axis], pair), column[:, axis], tf.sqrt(tf.maximum(left, 0.0))
        lowest = tf.math.ceil((-reach - shift) / width - start)
        highest = tf.floor((reach - shift) / width - start)
        owner, place = expand(tf.cast(tf.maximum(highest - lowest + 1, 0.0), tf.int32))
        along = tf.gather(start + lowest, owner) + tf.cast(place, tf.float64)
        left = tf.gather(left, owner) - (along * tf.gather(width, owner) + tf.gather(shift, owner)) ** 2
        pair, fixed = tf.gather(pair, owner), [*(tf.gather(f, owner) for f in fixed), along]
    return pair, tf.stack(fixed[::-1], axis=1)


_NUMBERS, _VECTORS, _LENGTHS = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 3], tf.float64), tf.TensorSpec([None], tf.float64)


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
"""Gives what neighbours of one shell and one element are ordered by, float64 (P,)."""


def search_nearest(sites: Sites, count: int, tolerance: float, slots: int, within: Within) -> Nearest:
    """The neighbours of each site that are at most `tolerance` farther than its `count`-th nearest one, up to `slots` of them.

    They are ordered by shell (see `tfmat.featurizers.nearest.SHELL`), then by atomic number, then by `within`. As in the featurizer the
    radius around a site grows until it holds enough.

    Args:
        sites: where to search.
        count: number of neighbours to find for each site; at least 1.
        tolerance: how much farther than the `count`-th one [Å].
        slots: largest number that is kept of a site, the first ones.
        within: the order within a shell and an element.

    Raises:
        tf.errors.InvalidArgumentError: see `search`.
    """
    volumes = tf.reduce_prod(sites.widths(), axis=1) / tf.cast(sites.counts, tf.float64)
    shortest = tf.reduce_min(tf.norm(sites.lattices, axis=2), axis=1)
    # So far there are enough images of the site itself: no larger radius is ever needed.
    last = tf.gather(shortest * math.ceil(count / 2) + tolerance + 2 * MARGIN, sites.crystal)
    first = tf.gather(GUESS * (0.75 / math.pi * count * volumes) ** (1 / 3), sites.crystal)

    def choose(found: Found) -> Choice:
        found = _taken(found, order_within(found.centers, found.distances))
        sizes = tf.math.bincount(found.centers, minlength=tf.size(found.sites))
        enough = sizes >= count
        place = tf.where(enough, tf.cumsum(sizes, exclusive=True) + count - 1, 0)
        farthest = tf.where(enough, tf.gather(tf.pad(found.distances, [[0, 1]]), place) + tolerance, math.inf)
        complete = farthest + MARGIN <= found.radii
        limits = tf.where(complete, farthest, -1.0)
        kept = _arranged(sites, _taken(found, tf.where(found.distances <= tf.gather(limits, found.centers))[:, 0]), slots, within)
        again = tf.where(tf.logical_not(complete))[:, 0]
        radii = tf.where(enough, farthest + 2 * MARGIN, GROWTH * found.radii)
        chosen = tf.gather(found.sites, again)
        return kept, chosen, tf.minimum(tf.gather(radii, again), tf.gather(last, chosen))

    return Nearest(*search(sites, tf.minimum(first, last), [_NUMBERS, _NUMBERS, _NUMBERS, _VECTORS, _LENGTHS], choose))


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
    sizes = tf.math.bincount(found.centers, minlength=tf.size(found.sites))
    ranks = tf.range(tf.size(found.centers)) - tf.gather(tf.cumsum(sizes, exclusive=True), found.centers)
    kept = tf.where(ranks < slots)[:, 0]
    ranks, final = tf.gather(ranks, kept), tf.gather(final, kept)
    found = _taken(found, final)
    return Nearest(tf.gather(found.sites, found.centers), found.neighbors, ranks, found.vectors, found.distances)
