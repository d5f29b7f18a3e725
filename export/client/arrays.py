"""Materials as the arrays that a client sends. Nothing here needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfmat.crystal import Crystal
from tfmat.elements import ATOMIC_NUMBERS


def crystal_arrays(crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """The inputs for these crystals.

    Returns:
        ``lattice`` float32 (B, 3, 3) [Å], ``frac_coords`` float32 (B, A, 3) inside the cell, ``species`` int32 (B, A); 0 = padding.
    """
    width = max(len(crystal) for crystal in crystals)
    arrays = {
        "lattice": np.stack([crystal.lattice for crystal in crystals]).astype(np.float32),
        "frac_coords": np.zeros((len(crystals), width, 3), np.float32),
        "species": np.zeros((len(crystals), width), np.int32),
    }
    for row, crystal in enumerate(crystals):
        arrays["frac_coords"][row, : len(crystal)] = crystal.frac_coords - np.floor(crystal.frac_coords)  # float32 is finest there
        arrays["species"][row, : len(crystal)] = crystal.species
    return arrays


def composition_arrays(amounts: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """The inputs for these compositions.

    Args:
        amounts: of each symbol -> amount, in any scale.

    Returns:
        ``species`` int32 and ``fractions`` float32 (B, E); 0 = padding.
    """
    width = max(len(composition) for composition in amounts)
    species, fractions = np.zeros((len(amounts), width), np.int32), np.zeros((len(amounts), width), np.float32)
    for row, composition in enumerate(amounts):
        for slot, (symbol, amount) in enumerate(composition.items()):
            species[row, slot], fractions[row, slot] = ATOMIC_NUMBERS[symbol], amount
    return {"species": species, "fractions": fractions}


SLOTTED = ("species", "frac_coords", "fractions")
"""The arrays that have an axis of sites or elements, their second."""


def with_empty_slot(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same materials with an empty slot, 0, before the first site or element of each.

    TensorFlow Serving makes requests of different sizes equally long by repeating the *first element* of each array. An empty slot makes
    that element 0, which is padding; without one it would be an atom.
    """
    sides = {name: [(0, 0), (1, 0)] + [(0, 0)] * (array.ndim - 2) for name, array in arrays.items() if name in SLOTTED}
    return {name: np.pad(array, sides[name]) if name in sides else array for name, array in arrays.items()}
