"""Materials as the arrays that a client sends. Nothing here needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.crystal import Crystal
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.formula import parse_formula


def crystal_arrays(crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """The inputs of a model for B crystals.

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
    """The inputs of a model for B compositions.

    Args:
        amounts: of each composition symbol -> amount, in any scale.

    Returns:
        ``species`` int32 and ``fractions`` float32 (B, E); 0 = padding.
    """
    width = max(len(composition) for composition in amounts)
    species, fractions = np.zeros((len(amounts), width), np.int32), np.zeros((len(amounts), width), np.float32)
    for row, composition in enumerate(amounts):
        for slot, (symbol, amount) in enumerate(composition.items()):
            species[row, slot], fractions[row, slot] = ATOMIC_NUMBERS[symbol], amount
    return {"species": species, "fractions": fractions}


def with_empty_slot(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The materials of `arrays`, inputs by name, with an empty slot, 0, before the first site or element of each.

    TensorFlow Serving makes requests of different sizes equally long by repeating the *first element* of each array. An empty slot makes
    that element 0, which is padding; without one it would be an atom.
    """
    padded = dict(arrays)
    for name in padded.keys() & {"species", "frac_coords", "fractions"}:  # whose second axis is that of sites or elements
        padded[name] = np.pad(arrays[name], [(0, 0), (1, 0)] + [(0, 0)] * (arrays[name].ndim - 2))
    return padded


def elements_in(material: Any) -> dict[str, float]:
    """The amounts of the elements in a material, by symbol.

    Args:
        material: a formula, a crystal, or pymatgen's ``Composition`` or ``Structure``.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(material, str):
        return parse_formula(material)
    if isinstance(material, Crystal):
        return {SYMBOLS[int(z)]: float(n) for z, n in zip(*np.unique(material.species, return_counts=True), strict=True)}
    composition = getattr(material, "composition", material)
    found: Mapping[str, float] = getattr(composition, "get_el_amt_dict", dict)()
    if not found or set(found) - set(ATOMIC_NUMBERS):
        raise InputError(f"{type(material).__name__} is no composition of elements", expected="a formula or a crystal")
    return {str(symbol): float(amount) for symbol, amount in found.items()}
