"""Space groups of crystals in files: operations from a name, a Hall symbol or a list, for all 530 settings, and the orbits of sites.

A symbol may have several meanings: ``F d -3 m`` does not say its origin, ``P 21/n`` not its unique axis. All of them are given; whoever
calls must tell them apart by the cell and by what else is known, or refuse. The tables are gemmi's and spglib's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tfmat.errors import InputError

FINE, COARSE = 5e-4, 0.03
"""How far symmetry may change the metric of a cell, relative to the lengths: as precise as cells are written, and at all."""
_DENOMINATOR = 24
_SUFFIXES = {"z": "2", "s": "1", "h": "H", "r": "R"}
"""How ICSD ends a symbol: origin 2 and 1, hexagonal and rhombohedral axes."""


@dataclass(frozen=True, eq=False)
class Operations:
    """Symmetry operations of one setting of a space group.

    Attributes:
        name: what errors call it.
        rotations: int64 (G, 3, 3), acting on fractional coordinates.
        translations: int64 (G, 3), in 24ths of the lattice vectors, 0 to 23.
    """

    name: str
    rotations: np.ndarray
    translations: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def codes(self) -> frozenset[bytes]:
        """The operations as a set that can be compared."""
        return frozenset(row.tobytes() for row in np.concatenate([self.rotations.reshape(-1, 9), self.translations], axis=1))

    def fits(self, lattice: np.ndarray, tolerance: float) -> bool:
        """Tell whether the operations keep the lengths and angles of a cell.

        Args:
            lattice: float64 (3, 3), vectors as rows [Å].
            tolerance: largest change of a scalar product, relative to the lengths of its vectors.
        """
        metric = lattice @ lattice.T
        lengths = np.sqrt(np.diag(metric))
        changed = np.einsum("gki,kl,glj->gij", self.rotations, metric, self.rotations)
        return bool((np.abs(changed - metric) <= tolerance * np.outer(lengths, lengths)).all())


@lru_cache(maxsize=1024)
def from_hall(symbol: str) -> Operations:
    """The operations of a Hall symbol, such as ``-P 2ybc``."""
    import gemmi

    try:
        found = list(gemmi.symops_from_hall(symbol))
    except (RuntimeError, ValueError):
        raise InputError(f"{symbol[:40]!r} is no Hall symbol", expected="symmetry operations") from None
    return _operations(f"Hall symbol {symbol}", [(operation.rot, operation.tran) for operation in found])


@lru_cache(maxsize=1024)
def from_triplets(triplets: tuple[str, ...], centerings: tuple[str, ...] = ()) -> Operations:
    """The operations listed as ``x, y, z`` triplets, together with further lattice translations.

    Args:
        triplets: the operations. A fourth part, the time reversal of a magnetic group, moves no atom.
        centerings: triplets whose products with the operations belong to the group, too.

    Raises:
        InputError: a triplet cannot be read, or the product of two operations is not in the list.
    """
    import gemmi

    def parse(text: str) -> gemmi.Op:
        parts = text.replace(" ", "").split(",")
        try:
            return gemmi.Op(",".join(parts[:3] if len(parts) == 4 and parts[3] in ("1", "+1", "-1") else parts))
        except (RuntimeError, ValueError):
            raise InputError(f"the symmetry operation {text[:40]!r} cannot be read", expected="a triplet such as -x, y+1/2, -z") from None

    operations, further = [parse(text) for text in triplets], [parse(text) for text in centerings]
    operations.append(gemmi.Op("x,y,z"))
    operations += [centering * operation for centering in further for operation in operations]
    found = _operations("symmetry operations", [(operation.rot, operation.tran) for operation in operations])
    if len(found) > 192 or not _closed(found):
        raise InputError(f"the {len(found)} symmetry operations form no group", expected="all operations, or none and a Hall symbol")
    return found


def _operations(name: str, pairs: Sequence[tuple[list[list[int]], list[int]]]) -> Operations:
    rotations = np.asarray([rotation for rotation, _ in pairs], np.int64) // _DENOMINATOR
    translations = np.asarray([translation for _, translation in pairs], np.int64) % _DENOMINATOR
    _, first = np.unique(np.concatenate([rotations.reshape(-1, 9), translations], axis=1), axis=0, return_index=True)
    kept = np.sort(first)
    return Operations(name, rotations[kept], translations[kept])


def _closed(operations: Operations) -> bool:
    rotations = np.einsum("aij,bjk->abik", operations.rotations, operations.rotations)
    translations = np.einsum("aij,bj->abi", operations.rotations, operations.translations) + operations.translations[:, None]
    products = np.concatenate([rotations.reshape(-1, 9), translations.reshape(-1, 3) % _DENOMINATOR], axis=1)
    return {row.tobytes() for row in np.unique(products, axis=0)} <= operations.codes


@dataclass(frozen=True)
class _Setting:
    number: int
    hall: str
    choice: str
    standard: bool


def from_name(name: str, number: int | None = None) -> list[Operations]:
    """All meanings of a Hermann-Mauguin symbol, of the number of a group, or of both together.

    Args:
        name: full or short symbol, in which spaces, underscores and parentheses do not matter, with or without ``:1``, ``:2``, ``:H``,
            ``:R`` or the suffixes S, Z, H and R of ICSD; may be empty if there is a `number`.
        number: of the group in the International Tables, 1 to 230, if it is stated.

    Returns:
        Operations of every setting with this name and number; none where there is no such setting.
    """
    base, _, choice = name.partition(":")
    key, choice = _key(base), choice.strip().upper()
    table = _table()
    found = table.get(key, []) if key else [setting for settings in table.values() for setting in settings if setting.standard]
    if not found and key[-1:] in _SUFFIXES and not choice:
        choice = _SUFFIXES[key[-1]]
        found = table.get(key[:-1], [])
    halls = dict.fromkeys(
        setting.hall for setting in found if (not choice or setting.choice == choice) and number in (None, setting.number)
    )
    different: dict[frozenset[bytes], Operations] = {}
    for hall in halls:
        operations = from_hall(hall)
        different.setdefault(operations.codes, operations)
    return list(different.values())


def _key(name: str) -> str:
    return re.sub(r"[\s_()'\"]", "", name).lower()


@lru_cache(maxsize=1)
def _table() -> dict[str, list[_Setting]]:
    """Settings by the keys of their names."""
    import gemmi
    import spglib

    rows = [(group.number, group.hall, group.ext, {group.hm}, False) for group in gemmi.spacegroup_table()]
    for group in filter(None, map(spglib.get_spacegroup_type, range(1, 531))):
        short = set() if "=" in group.international else {group.international}
        choice = group.choice[:1] if group.choice[:1] in ("1", "2", "H", "R") else ""
        rows.append((group.number, group.hall_symbol, choice, {group.international_full} | short, True))
    table: dict[str, list[_Setting]] = {}
    for number, hall, choice, names, standard in rows:
        keys = {_key(name) for name in names}
        if 3 <= number <= 15:  # the short symbol leaves out the axes without symmetry
            keys |= {_key(" ".join(part for part in name.split() if part != "1")) for name in names}
        if number >= 195:  # F d 3 m for F d -3 m, as before 1983
            keys |= {key.replace("-3", "3") for key in keys}
        for key in keys:
            table.setdefault(key, []).append(_Setting(number, hall, choice, standard))
    return table


def is_tabulated(operations: Operations) -> bool:
    """Tell whether the operations are those of a setting in the tables."""
    return operations.codes in _tabulated()


@lru_cache(maxsize=1)
def _tabulated() -> frozenset[frozenset[bytes]]:
    return frozenset(from_hall(setting.hall).codes for settings in _table().values() for setting in settings)


def same_class(one: Operations, other: Operations) -> bool:
    """Tell whether two groups have the same rotations, each equally often: they may differ in origin or in what is a glide or a screw."""
    return sorted(map(bytes, one.rotations)) == sorted(map(bytes, other.rotations))


def orbits(positions: np.ndarray, digits: np.ndarray, operations: Operations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All images of sites, special positions made exact.

    A site that lies on a special position within the digits in which it is written (0.333, 0.667) is moved there first.

    Args:
        positions: float64 (A, 3), fractional.
        digits: float64 (A, 3), how far each number may be moved.
        operations: of the setting.

    Returns:
        float64 (N, 3), fractional in [0, 1); int64 (N,), the sites that these are images of; and float64 (A, 3), how far each was moved.
    """
    shifts = operations.translations / _DENOMINATOR
    if len(operations) == 1:
        return _wrapped(positions + shifts), np.arange(len(positions)), np.zeros_like(positions)
    sizes = np.abs(operations.rotations)
    coords, owners, moves = [], [], np.zeros_like(positions)
    for site, (position, digit) in enumerate(zip(positions, digits, strict=True)):
        images = operations.rotations @ position + shifts
        moved = images - position
        moved -= np.round(moved)
        near = (np.abs(moved) <= sizes @ digit + digit).all(axis=1)
        if near.sum() > 1:
            shift = moved[near].mean(axis=0)
            if (np.abs(shift) <= digit).all():
                moves[site] = shift
                images = operations.rotations @ (position + shift) + shifts
        images = _wrapped(images)
        # the offset keeps decimal fractions away from the edges of the bins
        _, first = np.unique(np.floor(images * 1e6 + 0.3183098861).astype(np.int64), axis=0, return_index=True)
        coords.append(images[np.sort(first)])
        owners.append(np.full(len(first), site))
    return np.concatenate(coords), np.concatenate(owners), moves


def _wrapped(coords: np.ndarray) -> np.ndarray:
    coords = coords - np.floor(coords)
    coords[coords > 1 - 1e-9] = 0.0
    return coords
