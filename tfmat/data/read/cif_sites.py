"""The rows of a CIF's loop of atom sites: elements, positions, occupancies. No row is dropped or renamed, or else it is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfmat.crystal import partial_occupancy
from tfmat.data.read.bounded import Limits
from tfmat.data.read.crystal import too_many_sites
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError

COORDS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_NOTHING = ("", ".", "?")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d+\))?")


@dataclass(frozen=True)
class CifSites:
    """The rows that hold atoms.

    Attributes:
        species: int (A,), atomic numbers.
        positions: float64 (A, 3), fractional, as written.
        digits: float64 (A, 3), how far each number may be moved to lie on a special position.
        multiplicities: stated number of equal sites in the cell, (A,); 0 where it is not stated.
        occupancies: float64 (A,); 1 unless partial ones are asked for.
    """

    species: np.ndarray
    positions: np.ndarray
    digits: np.ndarray
    multiplicities: np.ndarray
    occupancies: np.ndarray


def number(text: str) -> float | None:
    """The number in a CIF's value, ``0.25(3)`` for one; `None` for any other text."""
    match = _NUMBER.fullmatch(text.strip())
    return float(match[1]) if match else None


def read_sites(columns: Mapping[str, Sequence[str]], elements: Collection[str], limits: Limits, *, partial: bool = False) -> CifSites:
    """The sites of a CIF.

    Rows with occupancy 0 and dummy atoms hold no atom; an occupancy that is not given is 1.

    Args:
        columns: tags in lower case -> cells.
        elements: symbols in the stated formula, which tell ``HO1`` of hydrogen from holmium; empty where none is stated.
        limits: ``sites`` is the largest number of rows.
        partial: read partially occupied sites, which are refused otherwise.
    """
    for key in COORDS:
        if key not in columns:
            raise InputError(f"the CIF has no {key}", expected="fractional coordinates")
    rows = len(columns[COORDS[0]])
    if rows > limits.sites:
        raise too_many_sites(rows, limits)
    labels, types = columns.get("_atom_site_label", [""] * rows), columns.get("_atom_site_type_symbol", [""] * rows)
    occupancies = columns.get("_atom_site_occupancy", [""] * rows)
    flags = columns.get("_atom_site_calc_flag", [""] * rows)
    stated = columns.get("_atom_site_symmetry_multiplicity") or columns.get("_atom_site_site_symmetry_multiplicity") or [""] * rows
    hydrogens = columns.get("_atom_site_attached_hydrogens", [""] * rows)
    species, positions, digits, multiplicities, shares = [], [], [], [], []
    for row in range(rows):
        occupancy = 1.0 if occupancies[row] in _NOTHING else number(occupancies[row])
        if occupancy is None or not 0 <= occupancy <= 1 + 1e-6:
            raise InputError(f"site {row + 1} has the occupancy {occupancies[row][:20]!r}", expected="a number from 0 to 1")
        if occupancy == 0 or flags[row].lower() == "dum":
            continue
        if occupancy < 1 - 1e-6 and not partial:
            raise partial_occupancy(row, f"{(types[row] if types[row] not in _NOTHING else labels[row])[:20]} {occupancy:g}")
        if (number(hydrogens[row]) or 0) > 0:
            raise InputError("the CIF leaves hydrogens out (implicit hydrogens)", expected="all atoms")
        species.append(element_of(labels[row], types[row], elements, row))
        cells = [columns[key][row] for key in COORDS]
        positions.append([_coordinate(cell, row) for cell in cells])
        digits.append([_may_move(cell) for cell in cells])
        multiplicities.append(int(number(stated[row]) or 0))
        shares.append(occupancy)
    if not species:
        raise InputError("the crystal has no atoms", expected="at least one")
    return CifSites(np.asarray(species), np.asarray(positions), np.asarray(digits), np.asarray(multiplicities), np.asarray(shares))


def _coordinate(cell: str, row: int) -> float:
    value = number(cell)
    if value is None:
        what = f"{cell[:20]!r} (NaN)" if cell.strip().lower() == "nan" else f"{cell[:20]!r}"
        raise InputError(f"site {row + 1} has the coordinate {what}", expected="a number")
    return value


def _may_move(cell: str) -> float:
    """A bit more than half a unit of the last digit, for 0.666; between 1e-4 and 0.005."""
    fraction = cell.partition("(")[0].partition(".")[2]
    places = len(re.match(r"\d*", fraction)[0])  # type: ignore[index]
    return float(min(max(0.7 * 10.0**-places, 1e-4), 0.005))


def element_of(label: str, kind: str, elements: Collection[str], row: int) -> int:
    """Atomic number of a site.

    Args:
        label: cell of the label's column, may be empty.
        kind: cell of the column of the type, which counts if there is one.
        elements: symbols of the stated formula, may be empty.
        row: of the site, from 0.
    """
    known = {"H" if symbol in ("D", "T") else symbol for symbol in elements}
    typed = kind not in _NOTHING
    text = kind if typed else label
    if text in _NOTHING:
        raise InputError(f"site {row + 1} has neither a type nor a label: its element cannot be told", expected="a column of symbols")
    letters = re.match(r"(?:[A-Za-z]+(?:-[A-Za-z]+)*)?", text)[0].replace("-", "")  # type: ignore[index]
    readings = (
        ["O"] if letters.lower().startswith("wat") else [letters[:length].capitalize() for length in (2, 1) if len(letters) >= length]
    )
    readings = [symbol for symbol in readings if symbol in ATOMIC_NUMBERS]
    if not readings:
        raise InputError(f"site {row + 1} holds the unknown element {text[:40]!r}", expected="symbols from H to Og")
    possible = [symbol for symbol in readings if SYMBOLS[ATOMIC_NUMBERS[symbol]] in known] if known else readings
    if typed and letters in ATOMIC_NUMBERS:
        return ATOMIC_NUMBERS[letters]  # the formula is checked afterwards
    if not possible:
        raise InputError(
            f"site {row + 1} is {text[:20]!r}, and the formula names neither {' nor '.join(readings)}",
            expected="the elements of the formula",
        )
    if len(possible) == 1 and (known or _is_plain(letters, typed)):
        return ATOMIC_NUMBERS[possible[0]]
    if len(possible) == 2 and (
        (letters[0].isupper() and letters[1].islower()) or (typed and len(letters) == 2 and letters[1].upper() not in ATOMIC_NUMBERS)
    ):
        return ATOMIC_NUMBERS[possible[0]]
    raise InputError(
        f"the element of site {row + 1} ({text[:20]!r}) cannot be told", expected="a column _atom_site_type_symbol, or the formula"
    )


def _is_plain(letters: str, typed: bool) -> bool:
    """Tell whether a text has no second reading: ``Na``, ``NA`` as a type, ``SiT``, but not ``OH``, ``Wat`` (hydrogens?) or ``T``."""
    if letters in ("D", "T"):
        return typed or letters == "D"
    rest = letters[2:] if letters[:2].capitalize() in ATOMIC_NUMBERS else letters[1:]
    return letters in ATOMIC_NUMBERS or (typed and not rest) or (letters[:1].isupper() and not set(rest.lower()) & set("hwdat"))
