"""The sites of a crystal, however it is given: what every featurizer of crystals begins with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfmat.crystal import Crystal, check_density, check_lattice, not_periodic, partial_occupancy
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.records import Records

BLOCK = 256
"""Most crystals that are searched for neighbours together."""
SITES = 2**14
"""About so many sites are searched around together, or all of one crystal."""


def each_crystal(materials: Sequence[Any], heaviest: int) -> Iterator[Crystal]:
    """The materials as checked crystals, in order.

    Args:
        materials: `Crystal` objects, `Crystals`, or pymatgen's ``Structure``.
        heaviest: largest atomic number that the model knows.

    Raises:
        InputError: no sites, a partially occupied site, an element beyond `heaviest`, a coordinate that is no number, a lattice that spans
            no volume or is not periodic in all three directions, less than 2 Å3 a site; ``index`` is the position of the bad one.
    """
    for index, material in enumerate(materials):
        with at_position(index):
            crystal = material if isinstance(material, Crystal) else _from_pymatgen(material)
            _check(crystal, heaviest)
        yield crystal


@contextmanager
def at_position(index: int) -> Iterator[None]:
    """Give an `InputError` the position of the crystal that it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(error.problem, expected=error.expected, index=index) from None


def block_by_block(materials: Sequence[Any], heaviest: int, records_of: Callable[[Sequence[Crystal]], Records]) -> Records:
    """Featurize a block of crystals at a time.

    Args:
        materials: see `each_crystal`.
        heaviest: see there.
        records_of: of `BLOCK` checked crystals, or fewer; the ``index`` of its errors is a position among them.
    """
    crystals, first = each_crystal(materials, heaviest), 0
    parts: list[Records] = []
    while (block := list(_block(crystals))) or not parts:
        try:
            parts.append(records_of(block))
        except InputError as error:
            index = None if error.index is None else error.index + first
            raise InputError(error.problem, expected=error.expected, index=index) from None
        first += len(block)
    return Records.join(parts)


def _block(crystals: Iterator[Crystal]) -> Iterator[Crystal]:
    """The next `BLOCK` of the crystals, or fewer with about `SITES` sites."""
    sites = 0
    for crystal in itertools.islice(crystals, BLOCK):
        yield crystal
        sites += len(crystal)
        if sites >= SITES:
            return


def _check(crystal: Crystal, heaviest: int) -> None:
    if not len(crystal.species):
        raise InputError("the crystal has no sites", expected="at least one")
    largest = int(crystal.species.max())
    if largest > heaviest or int(crystal.species.min()) < 1:
        site = int(np.argmax((crystal.species > heaviest) | (crystal.species < 1)))
        kind = int(crystal.species[site])
        name = SYMBOLS[kind] if 0 < kind < len(SYMBOLS) else str(kind)
        raise InputError(
            f"site {site + 1} is {name} (Z = {kind}), which the model does not know", expected=f"elements H to {SYMBOLS[heaviest]}"
        )
    check_lattice(crystal.lattice)
    check_density(crystal.lattice, len(crystal))
    if not np.isfinite(crystal.frac_coords).all():
        site = int(np.argmin(np.isfinite(crystal.frac_coords).all(axis=1)))
        raise InputError(f"the coordinates of site {site + 1} are {crystal.frac_coords[site].tolist()}", expected="finite numbers")


def _from_pymatgen(material: Any) -> Crystal:
    """A `Crystal` from pymatgen's ``Structure``; oxidation states are dropped."""
    expected = "a crystal: a CIF or POSCAR file, or a pymatgen Structure"
    if isinstance(material, str):
        raise InputError(f"{material[:60]!r} is a formula", expected=expected)
    if not hasattr(material, "lattice") or not hasattr(material, "frac_coords"):
        raise InputError(f"{type(material).__name__} is no crystal", expected=expected)
    if not all(material.lattice.pbc):
        raise not_periodic(sum(material.lattice.pbc))
    numbers = []
    for index, site in enumerate(material):
        kinds = site.species
        if len(kinds) != 1 or abs(kinds.num_atoms - 1.0) > 1e-6:
            raise partial_occupancy(index, site.species_string)
        numbers.append(getattr(next(iter(kinds)), "Z", 0))
    if not all(0 < number < len(SYMBOLS) for number in numbers):  # pymatgen gives a dummy species a hash as its number
        raise InputError("a site holds a dummy species", expected="chemical elements only")
    state = getattr(material, "state", None)
    if state is None:
        state = getattr(material, "properties", {}).get("state")
    features = None if state is None else np.atleast_1d(np.asarray(state, np.float64)).ravel()
    lattice, coords = np.ascontiguousarray(material.lattice.matrix), np.ascontiguousarray(material.frac_coords)
    return Crystal(np.array(numbers, np.int32), lattice, coords, features)
