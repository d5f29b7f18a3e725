"""A crystal as a few lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_SITES = 60
"""Sites that are listed."""


def crystal_text(crystal: Mapping[str, Any]) -> str:
    """Cell lengths [Å] and angles [degrees], and the sites with their fractional coordinates.

    Args:
        crystal: ``cell`` (3, 3) lattice vectors as rows [Å], ``species`` symbols (A,), ``frac`` (A, 3).
    """
    lattice = np.asarray(crystal["cell"], np.float64)
    lengths = np.linalg.norm(lattice, axis=1)
    angles = [math.degrees(math.acos(_cosine(lattice[i], lattice[j]))) for i, j in ((1, 2), (0, 2), (0, 1))]
    lines = [f"{name} = {length:.4f} Å" for name, length in zip("abc", lengths, strict=True)]
    lines += [f"{name} = {angle:.2f}°" for name, angle in zip("αβγ", angles, strict=True)]
    sites = list(zip(crystal["species"], crystal["frac"], strict=True))
    listed = [f"{symbol:<2} {x:8.4f} {y:8.4f} {z:8.4f}" for symbol, (x, y, z) in sites[:_SITES]]
    rest = [f"and {len(sites) - _SITES} more sites"] if len(sites) > _SITES else []
    return "\n".join(["  ".join(lines[:3]), "  ".join(lines[3:]), *listed, *rest])


def _cosine(u: np.ndarray, v: np.ndarray) -> float:
    return float(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)), -1, 1))
