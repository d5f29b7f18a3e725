"""The search for neighbours in a periodic crystal as TensorFlow operations: what lies within a radius of each site.

For a site i and a site j the images of j in reach are enumerated axis by axis (U. Fincke, M. Pohst, Math. Comput. 1985, 44, 463). With the
lattice as a lower triangular matrix T times a rotation, an image with the fractional distance f lies at ``f T``, whose last component
depends on f_3 alone, the one before on f_3 and f_2, and so on. So each axis has an interval of whole cells, nearly everything that is
enumerated is a neighbour, and a skewed cell costs no more than a reduced one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import require
from tfmat.export.graph.flat_arrays import expand
from tfmat.featurizers.nearest import ITSELF

SLACK = 5e-7
"""So much farther than a cut-off a neighbour may be, so that one right at the cut-off is kept where coordinates are float32 [Å]."""
WORK = 2**18
"""Estimated number of images that are looked at together, which bounds the memory."""
MOST = 2**22
"""A site that needs more than so many by itself is refused."""
_LOOK = 1e-6  # so much farther is enumerated than asked for, so that rounding decides nothing [Å]


@dataclass(frozen=True)
class Sites:
    """The sites of a batch of B crystals without padding, one after the other (S in all), as tensors.

    Attributes:
        crystal: int32 (S,), number of each site's crystal, ascending.
        slot: int32 (S,), its position in the padded row.
        species: int32 (S,), atomic numbers.
        coords: float64 (S, 3), fractional.
        counts: int32 (B,), sites of each crystal.
        first: int32 (B,), where they begin.
        lattices: float64 (B, 3, 3), vectors as rows [Å].
        triangular: float64 (B, 3, 3), the same crystals turned so that what is above the diagonal is 0 and the diagonal positive [Å].
        width: int32, length of a padded row.
    """

    crystal: Any
    slot: Any
    species: Any
    coords: Any
    counts: Any
    first: Any
    lattices: Any
    triangular: Any
    width: Any

    @classmethod
    def of(cls, lattice: Any, frac_coords: Any, species: Any) -> Sites:
        """From checked arrays (B, 3, 3) [Å], (B, A, 3) and (B, A), where 0 is padding."""
        places = tf.where(species > 0)
        lattices = tf.cast(lattice, tf.float64)
        counts = tf.math.count_nonzero(species, axis=1, dtype=tf.int32)
        return cls(
            crystal=tf.cast(places[:, 0], tf.int32),
            slot=tf.cast(places[:, 1], tf.int32),
            species=tf.gather_nd(species, places),
            coords=tf.cast(tf.gather_nd(frac_coords, places), tf.float64),
            counts=counts,
            first=tf.cumsum(counts, exclusive=True),
            lattices=lattices,
            triangular=triangular(lattices),
            width=tf.shape(species)[1],
        )

    @property
    def number(self) -> Any:
        """S."""
        return tf.size(self.crystal)

    def widths(self) -> Any:
        """Diagonals of `triangular`, float64 (B, 3) [Å]."""
        return tf.linalg.diag_part(self.triangular)


class Found(NamedTuple):
    """Pairs within the radii of some of the `Sites`, as tensors.

    Attributes:
        sites: int32 (M,), the sites that were searched around.
        radii: float64 (M,), how far [Å].
        centers: int32 (P,), positions in `sites`, ascending.
        neighbors: int32 (P,), numbers among all `Sites`.
        vectors: float64 (P, 3), from the site to this image of the neighbour [Å].
        distances: float64 (P,), their lengths [Å].
    """

    sites: Any
    radii: Any
    centers: Any
    neighbors: Any
    vectors: Any
    distances: Any


class Choice(NamedTuple):
    """What is kept of `Found`.

    Attributes:
        columns: tensors of any, but equal length.
        again: int32 (R,), sites to be searched again.
        radii: float64 (R,), how far [Å].
    """

    columns: Sequence[Any]
    again: Any
    radii: Any


Column = tuple[tf.DType, tuple[int | None, ...]]
"""Type and shape of a column of a `Choice`."""


def triangular(lattices: Any) -> Any:
    """Lattices (B, 3, 3) in Cartesian axes of their own: x along the first vector, z normal to the first two."""
    first, second, third = (lattices[:, i] for i in range(3))
    normal = tf.linalg.cross(first, second)
    x, z = _unit(first), _unit(normal)
    y = tf.linalg.cross(z, x)
    z *= tf.sign(tf.reduce_sum(z * third, axis=1, keepdims=True))
    return tf.linalg.band_part(tf.matmul(lattices, tf.stack([x, y, z], axis=2)), -1, 0)


def _unit(vectors: Any) -> Any:
    return vectors / tf.norm(vectors, axis=1, keepdims=True)


def search(sites: Sites, radii: Any, columns: Sequence[Column], choose: Callable[[Found], Choice]) -> list[Any]:
    """Search around all sites, as many at a time as `WORK` allows.

    Args:
        sites: S of them.
        radii: float64 (S,), around each [Å].
        columns: types and shapes of what `choose` keeps.
        choose: what to keep of the pairs that were found, and where to search again.

    Returns:
        The columns of all choices, joined; sites that were searched again come last.

    Raises:
        tf.errors.InvalidArgumentError: two atoms are closer than 0.1 Å, or a site has too many images in reach, with the number of the row.
    """

    def body(turn: Any, pending: Any, radii: Any, *parts: Any) -> list[Any]:
        number = _so_many(sites, pending, radii)
        choice = choose(_around(sites, pending[:number], radii[:number]))
        left = tf.concat([pending[number:], choice.again], 0), tf.concat([radii[number:], choice.radii], 0)
        return [turn + 1, *left, *(part.write(turn, column) for part, column in zip(parts, choice.columns, strict=True))]

    parts = [tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False, element_shape=shape) for dtype, shape in columns]
    start = [tf.constant(0), tf.range(sites.number), radii, *parts]
    shapes = [tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None]), *(tf.TensorShape(None) for _ in parts)]
    _, _, _, *parts = tf.while_loop(lambda turn, pending, *_: tf.size(pending) > 0, body, start, shapes, parallel_iterations=1)
    return [part.concat() for part in parts]


def _so_many(sites: Sites, pending: Any, radii: Any) -> Any:
    """How many of the pending sites are searched together, int32, at least 1."""
    crystal = tf.gather(sites.crystal, pending)
    cells = tf.reduce_prod(2 * radii[:, None] / tf.gather(sites.widths(), crystal) + 1, axis=1)
    images = cells * tf.cast(tf.gather(sites.counts, crystal), tf.float64)
    sentence = f"a site has more than {MOST:,} sites and images to look at; a reduced cell may have fewer; see row"
    with tf.control_dependencies([require(images <= MOST, sentence, crystal)]):
        return tf.maximum(tf.math.count_nonzero(tf.cumsum(images) <= WORK, dtype=tf.int32), 1)


def _around(sites: Sites, centers: Any, radii: Any) -> Found:
    """All pairs within the radii (M,) of the sites `centers` (M,)."""
    crystal = tf.gather(sites.crystal, centers)
    center, place = expand(tf.gather(sites.counts, crystal))
    crystal = tf.gather(crystal, center)
    neighbor = tf.gather(sites.first, crystal) + place
    between = tf.gather(sites.coords, neighbor) - tf.gather(sites.coords, tf.gather(centers, center))
    pair, coords = _images(between, tf.gather(sites.triangular, crystal), tf.gather(radii, center) + _LOOK)

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
