"""All atoms within a radius of sites of a periodic crystal, in bounded memory: what every search for neighbours begins with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmat.crystal import Crystal, plane_spacings
from tfmat.errors import InputError

ITSELF = 1e-8
"""An atom at this distance or less from itself is not its own neighbour [Å]."""
MOST = 2**20
"""A crystal with more sites and images that may be in reach of one site is refused: they are all looked at."""
AT_ONCE = 2**21
"""Most pairs of sites and images that one call of pymatgen may find, where it is for more than one site: 56 bytes each."""
CUBES = 20_000
"""pymatgen divides the space that it searches into so many cubes at most, of 216 bytes each, except for single sites."""
_PERIODIC = np.ones(3, np.int64)


class Pairs(NamedTuple):
    """P pairs of a site and an atom in reach, images included, and the site itself, too.

    Attributes:
        centers: int64 (P,), positions among the sites that were searched around, ascending.
        neighbors: int64 (P,), sites of the crystal.
        images: float64 (P, 3), of the neighbours, in cells.
        distances: float64 (P,) [Å].
    """

    centers: np.ndarray
    neighbors: np.ndarray
    images: np.ndarray
    distances: np.ndarray


def within(coords: np.ndarray, sites: np.ndarray | None, radius: float, lattice: np.ndarray) -> Pairs:
    """All pairs within a radius, from one call of pymatgen.

    Args:
        coords: float64 (A, 3), Cartesian coordinates of all sites [Å].
        sites: int64 (M,), sites to search around; None for all.
        radius: how far [Å].
        lattice: float64 (3, 3), vectors as rows [Å].
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    centers = coords if sites is None else coords[sites]
    return Pairs(*find_points_in_spheres(coords, centers, r=radius, pbc=_PERIODIC, lattice=lattice, tol=ITSELF))


def _images(crystal: Crystal, radius: float) -> float:
    """About how many sites and images may be within a `radius` [Å] of a site: all that are in a box around it."""
    images = float(len(crystal))
    for spacing in plane_spacings(crystal.lattice):
        images *= 2 * radius / spacing + 1
    return images


def check_images(crystal: Crystal, radius: float) -> None:
    """Refuse a crystal with more than `MOST` sites and images to look at within a `radius` [Å] of a site."""
    images = _images(crystal, radius)
    if images > MOST:
        problem = f"around each site of {crystal.formula[:60]} are {images:,.0f} sites and images to look at"
        raise InputError(problem, expected=f"at most {MOST:,}; a reduced cell may have fewer")


def halves(coords: np.ndarray, sites: np.ndarray | None, radius: float, crystal: Crystal) -> tuple[np.ndarray, ...]:
    """The `sites` in two halves, where `within` could need much memory for all of them; else empty.

    Args:
        coords: float64 (A, 3), Cartesian coordinates of all sites, within the cell [Å].
        sites: int64 (M,), sites to search around; None for all.
        radius: how far [Å].
        crystal: what the sites are in.
    """
    centers = coords if sites is None else coords[sites]
    if len(centers) == 1 or (len(centers) * _images(crystal, radius) <= AT_ONCE and not _too_large(centers, crystal.lattice, radius)):
        return ()
    order = np.argsort(centers[:, np.argmax(np.ptp(centers, 0))], kind="stable")  # along the axis on which they reach farthest
    order = order if sites is None else sites[order]
    return order[: len(order) // 2], order[len(order) // 2 :]


def _too_large(centers: np.ndarray, lattice: np.ndarray, radius: float) -> bool:
    """Whether one call of pymatgen would divide space into too many cubes."""

    def cubes(edges: np.ndarray) -> float:
        x, y, z = (edges / max(radius, 1.0) + 3).tolist()
        return x * y * z

    return cubes(np.abs(lattice).sum(axis=0)) > CUBES and cubes(np.ptp(centers, axis=0)) > CUBES
