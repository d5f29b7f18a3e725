"""POSCAR and XDATCAR text of VASP 5 to crystals, read as VASP reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tfmat.crystal import Crystal, check_lattice
from tfmat.data.read.bounded import Limits
from tfmat.data.read.crystal import make_crystal
from tfmat.errors import InputError

XDATCAR = "vasp-xdatcar"
"""What ASE calls trajectories of VASP."""


def read_poscar(text: str, limits: Limits) -> Crystal:
    """The crystal of a POSCAR.

    The scale is one factor, three (one per Cartesian axis), or a negative number: minus the volume of the cell [Å3]. It scales Cartesian
    positions as it does the lattice. Behind ``!`` and ``#`` stand comments; a line ``Selective dynamics`` and what follows the positions
    do not matter. Elements must be named.

    Args:
        text: of the file.
        limits: ``sites`` is the largest number of atoms.
    """
    lines = [re.split(r"[!#]", line)[0].split() for line in text.splitlines()]
    scales = _numbers(lines, 1, None, "the scale")
    lattice = np.asarray([_numbers(lines, row, 3, "a lattice vector") for row in (2, 3, 4)])
    factors = _factors(scales, lattice)
    symbols, counts, row = _elements(lines, limits)
    species = [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]
    mode = _word(lines, row)
    if mode.startswith("s"):
        row += 1
        mode = _word(lines, row)
    if not mode.startswith(("d", "c", "k")):
        shown = " ".join(lines[row])[:30] if row < len(lines) else ""
        raise InputError(f"line {row + 1} of the POSCAR is {shown!r}", expected="Direct or Cartesian")
    there = sum(1 for line in lines[row + 1 : row + 1 + len(species)] if line)
    if there < len(species):
        raise InputError(f"cannot be read as POSCAR ({there} positions for {len(species)} atoms)", expected="three numbers per line")
    positions = np.asarray([_numbers(lines, row + 1 + atom, 3, "a position") for atom in range(len(species))])
    vectors = lattice * factors
    check_lattice(vectors)
    coords = positions if mode.startswith("d") else np.linalg.solve(vectors.T, (positions * factors).T).T
    return make_crystal(species, vectors, coords, limits)


def read_xdatcar(text: str, limits: Limits) -> Iterator[Crystal | InputError]:
    """The frames of an XDATCAR, each of which is a crystal or the reason why it is none.

    Args:
        text: of the file: the head of a POSCAR, then for each frame a line ``Direct configuration=`` and the positions. The head may be
            repeated before a frame, with another cell.
        limits: ``sites`` is the largest number of atoms.
    """
    head: list[str] = []
    frames: list[tuple[list[str], list[str]]] = []
    waiting: list[str] = []
    for line in [*text.splitlines(), "Direct configuration="]:
        if not line.strip().lower().startswith("direct"):
            waiting.append(line)
            continue
        atoms = _atoms_of(head)
        if frames and atoms is not None:
            frames[-1][1].extend(waiting[:atoms])
            waiting = waiting[atoms:]
        if len([row for row in waiting if row.strip()]) >= 7:
            head = waiting[-7:]
        frames.append((head, []))
        waiting = []
    for head, positions in frames[:-1]:
        try:
            yield read_poscar("\n".join([*head, "Direct", *positions]), limits)
        except InputError as error:
            yield InputError(error.problem.replace("POSCAR", "XDATCAR"), expected=error.expected)


def _atoms_of(head: list[str]) -> int | None:
    """Number of atoms that the head of a POSCAR tells; `None` without a head."""
    counts = head[6].split() if len(head) == 7 else []
    return sum(map(int, counts)) if counts and all(count.isdecimal() and len(count) < 10 for count in counts) else None


def _factors(scales: list[float], lattice: np.ndarray) -> np.ndarray:
    """Factors of the three Cartesian axes, (3,)."""
    volume = abs(float(np.linalg.det(lattice)))
    if not np.isfinite(lattice).all() or not np.isfinite(scales).all():
        raise InputError("the lattice holds a number that is not finite", expected="finite vectors and scale")
    if len(scales) == 3 and min(scales) > 0:
        return np.asarray(scales)
    if len(scales) == 1 and scales[0] < 0 and volume < 1e-12:
        raise InputError("the lattice of the POSCAR spans no volume", expected="three vectors that span one")
    if len(scales) == 1 and scales[0] != 0:
        return np.full(3, scales[0] if scales[0] > 0 else (-scales[0] / volume) ** (1 / 3))
    shown = " ".join(f"{scale:g}" for scale in scales)
    raise InputError(f"the scale of the POSCAR is {shown[:30]}", expected="one factor, minus a volume, or three positive factors")


def _elements(lines: list[list[str]], limits: Limits) -> tuple[list[str], list[int], int]:
    """Symbols, their counts, and the index of the line that follows."""
    symbols = lines[5] if len(lines) > 5 else []
    if symbols and all(cell.isdecimal() for cell in symbols):
        raise InputError("the POSCAR does not name its elements", expected="a line of element symbols (VASP 5)")
    symbols = [re.split(r"[_/]", symbol)[0] for symbol in symbols]  # Fe_pv, Na/8a2c, as VASP writes from POTCAR
    cells: list[int] = []
    row = 6
    while row < len(lines) and lines[row] and all(re.fullmatch(r"[0-9]{1,12}", cell) for cell in lines[row]) and len(cells) < len(symbols):
        cells += [int(cell) for cell in lines[row]]
        row += 1
    if not symbols or len(cells) != len(symbols) or min(cells) < 1:
        raise InputError(f"cannot be read as POSCAR ({len(symbols)} elements and {len(cells)} counts)", expected="one count per element")
    if sum(cells) > limits.sites:
        raise InputError(f"the POSCAR has more than {limits.sites:,} sites", expected=f"at most {limits.sites:,}")
    return symbols, cells, row


def _word(lines: list[list[str]], row: int) -> str:
    return lines[row][0].lower() if row < len(lines) and lines[row] else ""


def _numbers(lines: list[list[str]], row: int, count: int | None, what: str) -> list[float]:
    """The first `count` numbers of a line, all of them where it is `None`."""
    cells = lines[row] if row < len(lines) else []
    try:
        values = [float(re.sub(r"[dD]", "e", cell)) for cell in (cells if count is None else cells[:count])]
    except ValueError:
        values = []
    if not values or len(values) != (count or len(values)):
        problem = f"cannot be read as POSCAR (line {row + 1} is {' '.join(cells)[:30]!r})"
        raise InputError(problem, expected=f"{what}: {count or 'one to three'} numbers")
    return values
