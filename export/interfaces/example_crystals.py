"""Crystals on which exports are checked if the caller gives none."""

from __future__ import annotations

import numpy as np

from tfmat.crystal import Crystal
from tfmat.elements import ATOMIC_NUMBERS

_FACE_CENTERED = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
_BODY_CENTERED = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])
_CORNERS = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
_CUBE = np.eye(3)


def _crystal(symbols: str, lattice: np.ndarray, *sites: tuple[float, float, float]) -> Crystal:
    species = np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols.split()], np.int32)
    return Crystal(species, np.asarray(lattice, np.float64), np.asarray(sites, np.float64))


def _rutile(metal: str, a: float, c: float, u: float) -> Crystal:
    oxygen = ((u, u, 0), (1 - u, 1 - u, 0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5))
    return _crystal(f"{metal} {metal} O O O O", np.diag([a, a, c]), (0, 0, 0), (0.5, 0.5, 0.5), *oxygen)


EXAMPLES: tuple[Crystal, ...] = (
    _crystal("Na Cl", 5.64 * _FACE_CENTERED, (0, 0, 0), (0.5, 0.5, 0.5)),
    _crystal("Na Na Na Na Cl Cl Cl Cl", 5.64 * _CUBE, *_CORNERS, *((x + 0.5, y, z) for x, y, z in _CORNERS)),
    _crystal("Fe", 2.866 * _BODY_CENTERED, (0, 0, 0)),
    _crystal("C C", 3.567 * _FACE_CENTERED, (0, 0, 0), (0.25, 0.25, 0.25)),
    _crystal("Cs Cl", 4.12 * _CUBE, (0, 0, 0), (0.5, 0.5, 0.5)),
    _rutile("Ti", 4.594, 2.959, 0.305),
    _crystal("Sr Ti O O O", 3.905 * _CUBE, (0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    _crystal("Pu O O", 5.396 * _FACE_CENTERED, (0, 0, 0), (0.25, 0.25, 0.25), (0.75, 0.75, 0.75)),
)
"""Rocksalt (primitive and conventional cell), bcc iron, diamond, CsCl, rutile, a perovskite, and an oxide of the heaviest element that
MEGNet knows: ordinary crystals, because trained networks magnify rounding where they have seen nothing (an atom without bonds)."""
