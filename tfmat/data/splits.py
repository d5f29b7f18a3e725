"""Training, validation and test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmat.errors import InputError

SPLITS = ("train", "validation", "test")


def split_by_hash(
    materials: Sequence[Any], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), salt: str = ""
) -> dict[str, np.ndarray]:
    """Assign every material by the SHA-256 of its formula.

    The same formula text (without white space) always lands in the same split, whatever else the dataset holds, so repeated formulas
    never straddle splits and a dataset may grow without moving rows. ``NaCl`` and ``ClNa`` are different texts. For pymatgen objects the
    text is their ``formula``. The split sizes only approximate `fractions`.

    Args:
        materials: formulas or pymatgen objects.
        fractions: of training, validation and test; positive, sum 1.
        salt: another text gives another split.

    Returns:
        ``train``, ``validation`` and ``test`` -> sorted int64 positions.
    """
    _check(fractions)
    draws = np.asarray([_draw(material, salt) for material in materials], dtype=np.float64)
    bounds = (fractions[0], fractions[0] + fractions[1])
    assigned = np.searchsorted(bounds, draws, side="right")
    splits = {name: np.flatnonzero(assigned == i) for i, name in enumerate(SPLITS)}
    for name, rows in splits.items():
        if not rows.size:
            raise InputError(
                f"too few materials to split by formula: {len(materials)} give no {name} row", expected="more different formulas"
            )
    return splits


def split_random(n: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0) -> dict[str, np.ndarray]:
    """Assign `n` rows at random; validation and test get the rounded number of rows, but at least one, and training the rest.

    Args:
        n: number of rows.
        fractions: of training, validation and test; positive, sum 1.
        seed: the same seed gives the same split.

    Returns:
        ``train``, ``validation`` and ``test`` -> sorted int64 positions.
    """
    _check(fractions)
    validation, test = (max(1, round(n * fraction)) for fraction in fractions[1:])
    train = n - validation - test
    if train < 1:
        raise InputError(f"too few rows to split: {n} cannot give training, validation and test one row each", expected="at least 3 rows")
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, [train, train + validation])
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}


def _check(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or not all(fraction > 0 for fraction in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"`fractions` must be three positive numbers with sum 1. Received: fractions={fractions}")


def _draw(material: Any, salt: str) -> float:
    """A number in [0, 1) that depends on the formula's text alone."""
    text = "".join(str(material if isinstance(material, str) else getattr(material, "formula", material)).split())
    return (int.from_bytes(hashlib.sha256(f"{salt}{text}".encode()).digest()[:8], "big") >> 11) / 2.0**53
