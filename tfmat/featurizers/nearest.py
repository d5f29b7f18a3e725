"""The nearest neighbours of every site of a crystal, periodic images included: what featurizers with a number of neighbours share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfmat.crystal import OVERLAP, Crystal
from tfmat.errors import InputError
from tfmat.featurizers.reach import ITSELF, check_images, halves, within
from tfmat.featurizers.sites import at_position

SHELL = 1e-3
"""Neighbours whose distances, in ascending order, are at most this far apart are in one shell: rounding must not order them [Å]."""
MARGIN = 1e-6
"""The search reaches this much farther than the largest wanted distance [Å], so that rounding decides nothing."""
DIRECTION = np.array([1.0, 0.7390851332151607, 0.5671432904097838])
"""Orders what has the same distance and element. No two neighbours in one shell have the same component along so crooked a direction."""

GUESS = 1.2
"""First radius, in radii of the sphere that holds the wanted number of neighbours on average. Enough for 99 % of all crystals."""
GROWTH = 1.4
"""Factor between one radius and the next."""
PAIRS = 2**18
"""Number of pairs that are sorted at a time."""


class Neighbors(NamedTuple):
    """The neighbours of all sites of several crystals: P rows, ordered by site, then from the nearest on.

    Attributes:
        centers: int64 (P,), number of the site, counted through all crystals.
        neighbors: int64 (P,), number of the neighbour within its crystal.
        ranks: int64 (P,), 0 for the nearest neighbour of its site, 1 for the next, ...
        vectors: float64 (P, 3), from the site to this image of the neighbour [Å].
        distances: float64 (P,), lengths of the vectors [Å].
    """

    centers: np.ndarray
    neighbors: np.ndarray
    ranks: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray


def nearest_neighbors(crystals: Sequence[Crystal], count: int, tolerance: float) -> Neighbors:
    """All neighbours of each site that are at most `tolerance` farther than its `count`-th nearest one, hence at least `count`.

    A neighbour is any atom or periodic image except the site itself. Neighbours are ordered by distance; those in one shell (see `SHELL`)
    by atomic number, and then along a fixed direction in space (see `DIRECTION`). So neither their set nor their order depends on the order
    of the sites, the origin or the choice of the cell; their set does not depend on the orientation either. The exception is what is within
    rounding of a limit: a distance of the `count`-th one plus `tolerance`, or two that differ by `SHELL`.

    Args:
        crystals: checked ones, as `tfmat.featurizers.sites.each_crystal` yields them.
        count: number of neighbours to find for each site; at least 1.
        tolerance: [Å]; much larger than rounding.

    Raises:
        InputError: two atoms are closer than 0.5 Å, or too many images are in reach; ``index`` is the position of their crystal.
    """
    cells = _Cells.of(crystals)
    last = cells.last_radii(count) + tolerance + 2 * MARGIN
    pending = deque(_Search(index, None, radius) for index, radius in enumerate(np.minimum(cells.first_radii(count), last).tolist()))
    parts = []
    while pending:
        found = _search(cells, pending)
        part, again = _sorted(cells, found, count, tolerance)
        parts.append(part)
        pending.extend(_Search(index, sites, min(radius, float(last[index]))) for index, sites, radius in again)
    if not parts:
        return Neighbors(*(np.zeros(0, np.int64),) * 3, np.zeros((0, 3)), np.zeros(0))
    joined = Neighbors(*map(np.concatenate, zip(*parts, strict=True)))
    if (np.diff(joined.centers) >= 0).all():
        return joined
    order = np.argsort(joined.centers, kind="stable")
    return Neighbors(*(column[order] for column in joined))


def shells(centers: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Number of the shell of each pair, counted through all sites, int64 (P,); see `SHELL`. The pairs are sorted by site and distance."""
    return np.cumsum((np.diff(centers, prepend=-1) != 0) | (np.diff(distances, prepend=0.0) > SHELL))


class _Search(NamedTuple):
    """What is still to do: a crystal, sites in it (None for all), and the radius around them [Å]."""

    crystal: int
    sites: np.ndarray | None
    radius: float


class _Found(NamedTuple):
    """Pairs within a radius that differs from site to site.

    Attributes:
        sites: int64 (S,), sites that were searched around, counted through all crystals.
        radii: float64 (S,), how far [Å].
        centers: int64 (P,), positions in `sites`, ascending.
        neighbors: int64 (P,), sites counted through all crystals.
        images: float64 (P, 3), of the neighbours.
        distances: float64 (P,) [Å].
    """

    sites: np.ndarray
    radii: np.ndarray
    centers: np.ndarray
    neighbors: np.ndarray
    images: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class _Cells:
    """Several crystals: all sites one after the other, moved into the cell.

    Attributes:
        crystals: N of them.
        first: int64 (N + 1,), where each one's sites begin.
        crystal: int64 (S,), which one a site belongs to.
        species: int64 (S,), atomic numbers.
        coords: float64 (S, 3), Cartesian [Å].
        lattices: float64 (N, 3, 3), vectors as rows [Å].
    """

    crystals: Sequence[Crystal]
    first: np.ndarray
    crystal: np.ndarray
    species: np.ndarray
    coords: np.ndarray
    lattices: np.ndarray

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> _Cells:
        counts = [len(crystal.species) for crystal in crystals]
        lattices = np.array([crystal.lattice for crystal in crystals], np.float64).reshape(-1, 3, 3)
        fractional = np.concatenate([*(crystal.frac_coords for crystal in crystals), np.zeros((0, 3))], dtype=np.float64)
        species = np.concatenate([*(crystal.species for crystal in crystals), np.zeros(0, np.int64)], dtype=np.int64)
        crystal = np.repeat(np.arange(len(counts)), counts)
        coords = _cartesian(fractional - np.floor(fractional), lattices, crystal)
        return cls(crystals, np.cumsum([0, *counts]), crystal, species, coords, lattices)

    def first_radii(self, count: int) -> np.ndarray:
        """Radii that are enough for most crystals, float64 (N,) [Å]."""
        volumes = np.abs(np.linalg.det(self.lattices)) / np.diff(self.first)
        return GUESS * (0.75 / np.pi * count * volumes) ** (1 / 3)

    def last_radii(self, count: int) -> np.ndarray:
        """Radii that hold `count` images of the site itself, float64 (N,) [Å]: no larger one is ever needed."""
        return np.linalg.norm(self.lattices, axis=2).min(axis=1) * -(-count // 2)


def _cartesian(fractional: np.ndarray, lattices: np.ndarray, crystal: np.ndarray) -> np.ndarray:
    """Cartesian coordinates (P, 3) [Å]. Not as a matrix product, whose last digit depends on how many rows it has."""
    x, y, z = fractional[:, :1], fractional[:, 1:2], fractional[:, 2:]
    return x * lattices[crystal, 0] + y * lattices[crystal, 1] + z * lattices[crystal, 2]


def _search(cells: _Cells, pending: deque[_Search]) -> _Found:
    """Do the first of the `pending` searches, until there are many pairs."""
    sites, radii, columns = [], [], []
    pairs = searched = 0
    while pending and pairs < PAIRS:
        index, chosen, radius = pending.popleft()
        first, last = cells.first[index : index + 2].tolist()
        coords = cells.coords[first:last]
        with at_position(index):
            check_images(cells.crystals[index], radius)
        if parts := halves(coords, chosen, radius, cells.crystals[index]):
            pending.extendleft(_Search(index, half, radius) for half in parts)
            continue
        found = within(coords, chosen, radius, cells.lattices[index])
        sites.append(np.arange(first, last) if chosen is None else chosen + first)
        radii.append(radius)
        columns.append((found.centers + searched, found.neighbors + first, found.images, found.distances))
        searched += len(sites[-1])
        pairs += len(found.centers)
    return _Found(np.concatenate(sites), np.repeat(radii, [len(part) for part in sites]), *map(np.concatenate, zip(*columns, strict=True)))


def _sorted(cells: _Cells, found: _Found, count: int, tolerance: float) -> tuple[Neighbors, list[_Search]]:
    """The neighbours of the sites for which the radius was large enough, and searches for the others."""
    order = np.flatnonzero((found.distances > ITSELF) | (found.sites[found.centers] != found.neighbors))
    distances, centers = found.distances[order], found.centers[order]
    _refuse_overlaps(cells, found, order, distances)
    by_distance = np.lexsort((distances, centers))
    order, distances, centers = order[by_distance], distances[by_distance], centers[by_distance]
    sizes = np.bincount(centers, minlength=len(found.sites))
    enough = sizes >= count
    farthest = np.full(len(sizes), np.inf)
    farthest[enough] = distances[(np.cumsum(sizes) - sizes)[enough] + count - 1] + tolerance
    complete = farthest + MARGIN <= found.radii
    kept = complete[centers] & (distances <= farthest[centers])
    part = _neighbors(cells, found, order[kept])
    again = _again(cells, found.sites[~complete], np.where(enough, farthest + 2 * MARGIN, GROWTH * found.radii)[~complete])
    return part, again


def _neighbors(cells: _Cells, found: _Found, order: np.ndarray) -> Neighbors:
    """The pairs `order`, which are sorted by site and distance, in their final order."""
    centers, neighbors, distances = found.sites[found.centers[order]], found.neighbors[order], found.distances[order]
    crystal = cells.crystal[centers]
    vectors = _cartesian(found.images[order], cells.lattices, crystal) + cells.coords[neighbors] - cells.coords[centers]
    final = np.lexsort((vectors @ DIRECTION, shells(centers, distances) * 128 + cells.species[neighbors]))
    first = np.flatnonzero(np.diff(centers, prepend=-1) != 0)
    ranks = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    vectors = vectors[final]
    return Neighbors(centers, neighbors[final] - cells.first[crystal], ranks, vectors, np.sqrt((vectors**2).sum(axis=1)))


def _again(cells: _Cells, sites: np.ndarray, radii: np.ndarray) -> list[_Search]:
    """Searches around `sites`, with one radius for all of a crystal."""
    crystal = cells.crystal[sites]
    return [_Search(i, sites[crystal == i] - cells.first[i], float(radii[crystal == i].max())) for i in np.unique(crystal).tolist()]


def _refuse_overlaps(cells: _Cells, found: _Found, order: np.ndarray, distances: np.ndarray) -> None:
    close = np.flatnonzero(distances < OVERLAP)
    if len(close):
        pair = order[close[0]]
        sites = found.sites[found.centers[pair]], found.neighbors[pair]
        index = int(cells.crystal[sites[0]])
        first, second = (int(site - cells.first[index]) + 1 for site in sites)
        raise InputError(
            f"sites {first} and {second} of {cells.crystals[index]} are {found.distances[pair]:.3f} Å apart",
            expected=f"at least {OVERLAP:g} Å",
            index=index,
        )
