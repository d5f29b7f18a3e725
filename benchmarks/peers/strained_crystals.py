"""The crystals of the MEGNet benchmark: strained variants of common prototypes, about eleven atoms on average."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Lattice, Structure

# Space group, lattice, symbols and positions; the largest cells come last, so that an incomplete last cycle leaves them out.
PROTOTYPES: tuple[tuple[str, Lattice, list[str], list[tuple[float, float, float]]], ...] = (
    ("Im-3m", Lattice.cubic(2.87), ["Fe"], [(0, 0, 0)]),
    ("Fm-3m", Lattice.cubic(3.61), ["Cu"], [(0, 0, 0)]),
    ("P6_3/mmc", Lattice.hexagonal(2.46, 6.71), ["C", "C"], [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)]),
    ("Pm-3m", Lattice.cubic(3.91), ["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]),
    ("P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)]),
    ("P6_3/mmc", Lattice.hexagonal(3.16, 12.3), ["Mo", "S"], [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)]),
    ("P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.382)]),
    ("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)]),
    ("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [(0, 0, 0), (0.5, 0.5, 0.5)]),
    ("F-43m", Lattice.cubic(5.43), ["Si", "Si"], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    ("F-43m", Lattice.cubic(5.65), ["Ga", "As"], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    ("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    ("Fm-3m", Lattice.cubic(5.40), ["Pu", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    ("Fm-3m", Lattice.cubic(4.62), ["O", "Li"], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    ("R-3m", Lattice.hexagonal(2.82, 14.05), ["Co", "Li", "O"], [(0, 0, 0), (0, 0, 0.5), (0, 0, 0.26)]),
    ("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [(0, 0, 0.352), (0.306, 0, 0.25)]),
    ("Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [(0, 0, 0), (0.625, 0.625, 0.625), (0.388, 0.388, 0.388)]),
)
STRAIN, MEAN_STRAIN, DISPLACEMENT = 0.02, 0.03, 0.03
"""Standard deviation and mean of the strain components (slightly expanded cells have the neighbour shells apart), and of the shifts [Å]."""


def strained_crystals(count: int, seed: int = 0) -> list[Structure]:
    """`count` ordered structures: the prototypes in turn, each with its own random strain and displacements."""
    generator = np.random.default_rng(seed)
    prototypes = [Structure.from_spacegroup(*prototype) for prototype in PROTOTYPES]
    structures = []
    for index in range(count):
        prototype = prototypes[index % len(prototypes)]
        strain = generator.normal(0.0, STRAIN, (3, 3))
        strain = (strain + strain.T) / 2 + MEAN_STRAIN * np.eye(3)
        lattice = Lattice(prototype.lattice.matrix @ (np.eye(3) + strain))
        cartesian = lattice.get_cartesian_coords(prototype.frac_coords) + generator.normal(0.0, DISPLACEMENT, (len(prototype), 3))
        structures.append(Structure(lattice, prototype.species, cartesian, coords_are_cartesian=True))
    return structures
