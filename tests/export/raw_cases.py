"""Crystals as clients send them, for the search in the graph: prototypes, other cells of them, molecules, random ones, and bad rows."""

import dataclasses
import functools

import numpy as np
from crystal_descriptions import CELLS, PROTOTYPES, other_cell, prototype, random_crystal, reordered
from pymatgen.core import Lattice, Structure

from tfmat.featurizers.sites import each_crystal

SKEWED = [[1, 0, 0], [-2, 1, 0], [1, 2, 1]]


def float32(crystal):
    """What a server sees of it."""
    coords = crystal.frac_coords - np.floor(crystal.frac_coords)
    rounded = {"lattice": crystal.lattice, "frac_coords": coords}
    return dataclasses.replace(crystal, **{key: value.astype(np.float32).astype(float) for key, value in rounded.items()})


def skewed(crystal, rng):
    """In another cell, whose planes are not too close for the featurizers, with sites in cells around it."""
    matrix = np.eye(3, dtype=int)
    for _ in range(rng.integers(0, 5)):
        row, other = rng.permutation(3)[:2]
        sheared = matrix.copy()
        sheared[row] += rng.integers(-2, 3) * matrix[other]
        if 1 / np.linalg.norm(np.linalg.inv(sheared @ crystal.lattice), axis=0).max() > 0.3:
            matrix = sheared
    return reordered(other_cell(crystal, matrix)[0], rng)[0]


@functools.cache
def handmade():
    """32 crystals of 1 to 40 sites; all have a bond within 4 Å and elements that every model knows."""
    rng = np.random.default_rng(3)
    made = [prototype(name) for name in PROTOTYPES]
    made += [other_cell(prototype(name), CELLS["sheared"])[0] for name in ("fcc", "hcp", "perovskite", "diamond")]
    made += [other_cell(prototype(name), SKEWED)[0] for name in ("sc", "bcc", "rock salt", "perovskite")]
    made += [other_cell(prototype("perovskite"), 2 * np.eye(3, dtype=int))[0], other_cell(prototype("rock salt"), np.diag([2, 2, 1]))[0]]
    made += [reordered(cell, rng)[0] for cell in made[:3]]
    made += [skewed(random_crystal(rng, sites), rng) for sites in (2, 3, 5, 9)]
    water = [[0, 0, 0.12], [0, 0.76, -0.47], [0, -0.76, -0.47]]
    quartz = Lattice.hexagonal(4.913, 5.405)
    structures = [
        Structure(Lattice.cubic(8), ["O", "H", "H"], water, coords_are_cartesian=True),  # a molecule in a box
        Structure(Lattice.tetragonal(2.46, 15), ["C", "C"], [[0, 0, 0.5], [0.5, 0.5, 0.5]]),  # a layer
        Structure(Lattice.from_parameters(5.1, 6.2, 7.3, 71, 83, 104), ["Na", "S"] * 3, rng.uniform(-0.03, 0.03, (6, 3)) + SPREAD),
        Structure.from_spacegroup("P3_221", quartz, ["Si", "O"], [[0.4697, 0, 0], [0.4133, 0.2672, 0.1188]]),
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4 * np.sqrt(2)), ["Ca"], [[0, 0, 0]]),  # bonds right at the cut-off
        Structure.from_spacegroup("I4/mmm", Lattice.tetragonal(3.78, 13.2), ["La", "Cu", "O", "O"], LCO),
    ]
    return made + list(each_crystal(structures, 94))


SPREAD = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1.5, -0.5, 0.5], [0.5, 0.0, 0.0]])
LCO = [[0, 0, 0.361], [0, 0, 0], [0, 0.5, 0], [0, 0, 0.182]]


def bad_rows(heaviest):
    """What a row of a crystal with two sites in three slots is turned into: a key, a place, its new values, part of the sentence."""
    species = f"`species` must be atomic numbers from 1 to {heaviest}, with 0 as padding"
    bad = [("species", 0, z, species) for z in (-1, heaviest + 1, 119, 2**31 - 1, -(2**31))]
    for value in (np.nan, np.inf, -np.inf, 1e30):
        bad.append(("lattice", (1, 2), value, "`lattice` must be numbers [Å]"))
        bad.append(("frac_coords", (1, 2), value, "`frac_coords` must be numbers"))
    volume = "`lattice` must span a volume"
    return [
        *bad,
        ("species", slice(None), 0, "`frac_coords` must be 0 where `species` is 0"),
        ("all", 0, 0, volume),
        ("empty", 0, 0, "a crystal needs at least one site"),
        ("lattice", slice(None), 0, volume),
        ("lattice", 2, 0, volume),
        ("lattice", 2, [0.0, 2.82, 2.82], volume),  # the first vector again
        ("lattice", slice(None), np.diag([3, 3, 0.1]), volume),
        ("lattice", slice(None), np.diag([1.5, 1.5, 1.5]), "`lattice` must have a volume of at least 2 Å3 for each site"),
        ("frac_coords", 2, 0.25, "`frac_coords` must be 0 where `species` is 0"),
        ("frac_coords", 1, 0, "two atoms are closer than 0.5 Å"),
        ("frac_coords", 1, [2, -1, 1.01], "two atoms are closer than 0.5 Å"),
    ]
