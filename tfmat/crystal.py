"""A crystal as arrays: what datasets store and featurizers read, so that no CIF is parsed twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np

from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.records import Records

Material = Literal["composition", "crystal"]
"""What a model or a dataset is about: formulas alone, or crystals."""
OVERLAP = 0.5
"""Atoms closer than this are refused [Å]: no bond is shorter than that of H2, 0.74 Å."""
THINNEST = 0.2
"""Lattice planes (100), (010), (001) closer than this are refused [Å]."""
DENSEST, THINNEST_GAS = 2.0, 200.0
"""A crystal with less volume per atom [Å3] is refused, for one with more a prediction has a warning."""


@dataclass(frozen=True)
class Crystal:
    """One ordered crystal.

    Attributes:
        species: int32 (A,) atomic numbers.
        lattice: float64 (3, 3), lattice vectors as rows [Å].
        frac_coords: float64 (A, 3), fractional coordinates.
        state: float64 (S,), global state features of models that have them (temperature, fidelity of the calculation, ...), or None.
        note: what the user must be told of how it was read, a warning of a prediction; usually empty.
    """

    species: np.ndarray
    lattice: np.ndarray
    frac_coords: np.ndarray
    state: np.ndarray | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.species)

    def __str__(self) -> str:
        return self.formula

    @property
    def formula(self) -> str:
        """Formula of the cell, elements in order of first appearance, e.g. ``Na4Cl4``."""
        numbers, first, counts = np.unique(self.species, return_index=True, return_counts=True)
        return "".join(f"{SYMBOLS[numbers[i]]}{counts[i]}" for i in np.argsort(first))

    @property
    def volume(self) -> float:
        """Volume of the cell [Å3]."""
        return abs(float(np.linalg.det(self.lattice)))


class Crystals(Sequence[Crystal]):
    """Many crystals in a few flat arrays: 24 bytes a coordinate triple, 4 a species, 72 a lattice, and no Python object each.

    Args:
        records: keys ``species`` (ragged), ``frac_coords`` (ragged, 3) ``lattice`` (3 rows of 3 each), and
            ``state`` if the crystals have one; may be mapped from a file.
        index: int64 (N,), which of `records` are meant, in which order. Default: all.
    """

    def __init__(self, records: Records, index: np.ndarray | None = None) -> None:
        self._records, self._index = records, index

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> Crystals:
        """Join single crystals (at least one)."""
        if isinstance(crystals, Crystals):
            return crystals
        columns = [{"species": c.species, "lattice": c.lattice, "frac_coords": c.frac_coords} for c in crystals]
        if any(c.state is not None for c in crystals):
            columns = [column | {"state": _state_of(c, i)} for i, (column, c) in enumerate(zip(columns, crystals, strict=True))]
        return cls(Records.stack(columns))

    def __len__(self) -> int:
        return len(self._records) if self._index is None else len(self._index)

    @overload
    def __getitem__(self, index: int) -> Crystal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Crystal]: ...
    def __getitem__(self, index: int | slice) -> Crystal | list[Crystal]:
        """Give one crystal (a view), or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._index is not None:
            index = int(self._index[index])
        arrays: dict[str, Any] = self._records[index]
        return Crystal(**arrays)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Crystals:
        """The crystals at these positions, in that order; nothing is copied until `records` is asked for."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Crystals(self._records, chosen if self._index is None else self._index[chosen])

    @property
    def records(self) -> Records:
        """The arrays of these crystals alone; copied where this is a subset. Ask for parts of a large one: ``subset(...).records``."""
        return self._records if self._index is None else self._records.take(self._index)

    @property
    def sites(self) -> np.ndarray:
        """Number of sites of each crystal, int64 (N,)."""
        lengths = self._records.lengths("species")
        return lengths if self._index is None else lengths[self._index]


def plane_spacings(lattice: np.ndarray) -> list[float]:
    """Distances of the lattice planes (100), (010), (001) [Å]; 0 or NaN where the lattice spans no volume."""
    a, b, c = lattice.tolist()
    normals = (_cross(b, c), _cross(c, a), _cross(a, b))
    volume = abs(sum(x * y for x, y in zip(a, normals[0], strict=True)))
    return [volume / (math.hypot(*normal) or math.inf) for normal in normals]


def check_lattice(lattice: np.ndarray) -> list[float]:
    """Distances of the lattice planes (100), (010), (001) [Å].

    Raises:
        InputError: two of them nearly touch, so the lattice spans no volume.
    """
    spacings = plane_spacings(lattice)
    if not min(spacings) >= THINNEST:
        raise InputError(f"lattice planes are {min(spacings):.3g} Å apart", expected=f"at least {THINNEST:g} Å (a reduced cell)")
    return spacings


class Disordered(InputError):
    """A crystal with a partially occupied site."""


def partial_occupancy(index: int, kinds: str) -> Disordered:
    """The error for a site (counted from 0) that several `kinds` of atom share, or that is partly empty."""
    return Disordered(f"site {index + 1} is partially occupied ({kinds[:60]})", expected="an ordered crystal")


def check_density(lattice: np.ndarray, sites: int) -> None:
    """Refuse a cell with less than `DENSEST` for each of its sites: no crystal, and each atom would have thousands of neighbours."""
    volume = abs(float(np.linalg.det(lattice))) / sites
    if volume < DENSEST:
        raise InputError(f"the cell has {volume:.3g} Å3 per atom", expected=f"at least {DENSEST:g}: lengths in Å, and each atom once")


def not_periodic(periods: int) -> InputError:
    """The error for what is periodic along fewer than three directions."""
    return InputError(f"is periodic along {periods} of 3 directions", expected="a crystal with three lattice vectors")


def _cross(u: Sequence[float], v: Sequence[float]) -> tuple[float, float, float]:
    return (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])


def _state_of(crystal: Crystal, index: int) -> np.ndarray:
    if crystal.state is None:
        raise InputError(f"crystal {crystal} has no state", expected="a state for all crystals or for none", index=index)
    return np.asarray(crystal.state, np.float64)


def lattice_from_parameters(cell: Sequence[float] | np.ndarray) -> np.ndarray:
    """Lattice vectors as rows, float64 (3, 3) [Å], in pymatgen's standard orientation (``Lattice.from_parameters``): c along z, a in xz.

    Args:
        cell: a, b, c [Å], alpha, beta, gamma [degrees].
    """
    a, b, c, *angles = (float(value) for value in cell)
    radians = np.radians(angles)
    (cos_alpha, cos_beta, cos_gamma), (sin_alpha, sin_beta, _) = np.cos(radians), np.sin(radians)
    gamma_star = np.arccos(np.clip((cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta), -1, 1))
    along_b = [-b * sin_alpha * np.cos(gamma_star), b * sin_alpha * np.sin(gamma_star), b * cos_alpha]
    return np.array([[a * sin_beta, 0.0, a * cos_beta], along_b, [0.0, 0.0, c]])
