"""Make a checked `Crystal` of numbers: every way of reading a crystal ends here, and here is told what is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.crystal import OVERLAP, Crystal, check_density, check_lattice, lattice_from_parameters
from tfmat.data.read.bounded import LIMITS, Limits
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError

FURTHEST = 1000.0
"""Fractional coordinates beyond this are refused: they are no fractions."""
LARGEST = 1e4
"""Longest lattice vector [Å]."""


def make_crystal(species: Sequence[Any], lattice: Any, frac_coords: Any, limits: Limits = LIMITS) -> Crystal:
    """Make a crystal, once its numbers are checked.

    Args:
        species: (A,) symbols or atomic numbers.
        lattice: (3, 3) vectors as rows [Å], or (6,) lengths a, b, c [Å] and angles alpha, beta, gamma [degrees].
        frac_coords: (A, 3) fractional coordinates.
        limits: ``sites`` is the largest A.

    Raises:
        InputError: no sites or too many, an unknown element, a number that is not finite, a lattice that spans no volume, or two atoms
            (periodic images included) closer than 0.5 Å, or less than 2 Å3 per atom.
    """
    if not len(species):
        raise InputError("the crystal has no atoms", expected="at least one")
    if len(species) > limits.sites:
        raise too_many_sites(len(species), limits)
    numbers = np.asarray([_atomic_number(kind) for kind in species], np.int32)
    vectors = _array(lattice, "the lattice")
    vectors = vectors if vectors.shape == (3, 3) else lattice_vectors(vectors)
    coords = _array(frac_coords, "the coordinates")
    if coords.shape != (len(numbers), 3):
        raise InputError(f"{len(numbers)} species with coordinates of shape {coords.shape}", expected=f"({len(numbers)}, 3)")
    if not np.isfinite(vectors).all():
        raise InputError("the lattice holds a number that is not finite", expected="finite lengths and angles")
    if not np.isfinite(coords).all():
        site = int(np.argmin(np.isfinite(coords).all(axis=1)))
        raise InputError(f"site {site + 1} ({SYMBOLS[numbers[site]]}) has a coordinate that is not finite", expected="finite coordinates")
    if np.abs(coords).max() > FURTHEST:
        raise InputError(f"a fractional coordinate is {np.abs(coords).max():g}", expected="fractions of the lattice vectors")
    _check_distances(numbers, vectors, coords)
    return Crystal(numbers, vectors, coords)


def too_many_sites(found: int, limits: Limits) -> InputError:
    """The error for a crystal with `found` sites."""
    return InputError(f"the crystal has {found:,} sites", expected=f"at most {limits.sites:,}")


def lattice_vectors(cell: np.ndarray) -> np.ndarray:
    """Lattice vectors (3, 3) from a, b, c [Å] and alpha, beta, gamma [degrees]; oriented as pymatgen does: c along z, a in xz."""
    if cell.shape != (6,):
        raise InputError(f"the cell has shape {cell.shape}", expected="[a, b, c, alpha, beta, gamma] or three vectors")
    a, b, c, *angles = (float(x) for x in cell)
    if not all(math.isfinite(x) for x in cell) or min(a, b, c) <= 0 or not all(0 < angle < 180 for angle in angles):
        raise InputError(
            f"the cell is {[float(f'{x:g}') for x in cell]}", expected="positive lengths, and angles between 0 and 180 degrees"
        )
    alpha, beta, gamma = (math.radians(angle) for angle in angles)
    cosine = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (math.sin(alpha) * math.sin(beta))
    if abs(cosine) >= 1:
        raise InputError(f"the angles {[float(f'{x:g}') for x in angles]} span no cell", expected="angles of a cell with a volume")
    return lattice_from_parameters(cell)


def to_json(found: Crystal | str | InputError) -> dict[str, Any] | str:
    """Encode what a worker process sends: the arrays of a crystal as lists, a formula, or why there is neither; see `from_json`."""
    if isinstance(found, str):
        return found
    if isinstance(found, InputError):
        return {"problem": found.problem, "expected": found.expected}
    arrays = {name: getattr(found, name).tolist() for name in ("species", "lattice", "frac_coords")}
    return arrays | ({"note": found.note} if found.note else {})


def from_json(sent: Mapping[str, Any] | str) -> Crystal | str | InputError:
    """Decode what `to_json` encoded; a crystal was checked before that."""
    if isinstance(sent, str):
        return sent
    if "problem" in sent:
        return InputError(sent["problem"], expected=sent["expected"])
    lattice, coords = np.asarray(sent["lattice"], np.float64), np.asarray(sent["frac_coords"], np.float64)
    return Crystal(np.asarray(sent["species"], np.int32), lattice, coords, note=sent.get("note", ""))


def _atomic_number(kind: Any) -> int:
    number = ATOMIC_NUMBERS.get(kind, 0) if isinstance(kind, str) else kind if isinstance(kind, int) and not isinstance(kind, bool) else 0
    if not 1 <= number < len(SYMBOLS):
        raise InputError(f"unknown element {str(kind)[:40]!r}", expected="a symbol from H to Og")
    return number


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} cannot be read as numbers", expected="numbers in rows of equal length") from None


def _check_distances(numbers: np.ndarray, lattice: np.ndarray, coords: np.ndarray) -> None:
    """Refuse flat and far too dense cells, and overlapping atoms.

    Of two sites whose nearest images are closer than half the distance of the lattice planes, each difference of coordinates is wrapped
    into [-1/2, 1/2]; where planes are closer than that, further images are tried.
    """
    if np.abs(lattice).max() > LARGEST:
        raise InputError(f"the lattice is {np.abs(lattice).max():g} Å long", expected=f"at most {LARGEST:,.0f} Å")
    spacing = check_lattice(lattice)
    shifts = _HERE
    if min(spacing) < 2 * OVERLAP:
        images = [math.ceil(OVERLAP / planes) if planes < 2 * OVERLAP else 0 for planes in spacing]
        shifts = np.asarray(list(itertools.product(*(range(-n, n + 1) for n in images))), np.float64)
        nearest = np.linalg.norm(shifts[np.abs(shifts).any(axis=1)] @ lattice, axis=1).min()
        if nearest < OVERLAP:
            raise InputError(f"site 1 ({SYMBOLS[numbers[0]]}) is {nearest:.3f} Å from its own image", expected=f"at least {OVERLAP:g} Å")
    order = np.argsort(coords[:, 0] - np.floor(coords[:, 0]), kind="stable")
    for first, second in _candidates(coords[order], OVERLAP / spacing[0]):
        difference = coords[order[first]] - coords[order[second]]
        difference -= np.round(difference)
        for shift in shifts:
            cartesian = (difference if shifts is _HERE else difference + shift) @ lattice
            squared = np.einsum("ij,ij->i", cartesian, cartesian)
            if len(squared) and squared.min() < OVERLAP**2:
                worst = int(np.argmin(squared))
                i, j = sorted((int(order[first][worst]), int(order[second][worst])))
                pair = f"sites {i + 1} ({SYMBOLS[numbers[i]]}) and {j + 1} ({SYMBOLS[numbers[j]]})"
                raise InputError(f"{pair} are {math.sqrt(squared[worst]):.3f} Å apart", expected=f"at least {OVERLAP:g} Å")
    check_density(lattice, len(coords))


def _candidates(coords: np.ndarray, window: float) -> Any:
    """Pairs of positions whose first coordinates (sorted modulo 1) differ by at most `window`, as arrays of a bounded size."""
    number = len(coords)
    if number <= 48:
        yield _PAIRS[number] if number in _PAIRS else _PAIRS.setdefault(number, np.triu_indices(number, 1))
        return
    wrapped = coords[:, 0] - np.floor(coords[:, 0])
    ends = np.searchsorted(np.concatenate([wrapped, wrapped + 1]), wrapped + window + 1e-9, side="right")
    counts = np.minimum(ends - np.arange(number) - 1, number - 1)
    step = max(1, 2_000_000 // max(int(counts.max()), 1))
    for start in range(0, number, step):
        part = counts[start : start + step]
        first = np.repeat(np.arange(start, start + len(part)), part)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(part) - part, part)
        yield first, (first + 1 + offset) % number


_HERE = np.zeros((1, 3))
_PAIRS: dict[int, tuple[np.ndarray, np.ndarray]] = {}
