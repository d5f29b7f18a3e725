"""Further structure files, by way of ASE where it is installed: each frame is one crystal.

Only formats of plain text whose readers evaluate nothing and start nothing are read, by name and never by guessing: ASE also has formats
that hold pickles or databases, and one (CASTEP's) whose reader runs the program.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal, check_lattice, not_periodic
from tfmat.data.read.bounded import Limits, read_text
from tfmat.data.read.crystal import make_crystal, to_json, too_many_sites
from tfmat.data.read.poscar import XDATCAR, read_xdatcar
from tfmat.errors import InputError

_HEAVY = re.compile(r"(?m)^(\s*(?:atom(?:_frac)?(?:\s+[-+0-9.eE]+){3}\s+)?)[DT](?=\s+[-+0-9.]|\s*$)")
"""Deuterium and tritium at the beginning of a line, or at the end of one of FHI-aims: ASE has no such elements."""


def parse_frames(
    path: str, kind: str, limits: dict[str, Any], disordered: bool = False, several: bool = False
) -> dict[str, Any] | str | list[tuple[str, dict[str, Any] | str]]:
    """Read the one crystal of a file in a worker process: its arrays as lists, or problem and what was expected.

    With `several` it is a list: of each frame its number (empty where it is the only one) and the same as above. With `disordered` it is
    the formula of a frame that is no crystal, such as a molecule. After a frame that ASE cannot read, the rest of the file is not read.
    """
    bounds = Limits(**limits)
    text = read_text(Path(path), bounds, kind)
    if not text.strip():
        raise InputError("is empty", expected=f"{kind} text")
    found = [to_json(frame) for frame in _frames(text, kind, bounds, disordered)]
    if not found:
        raise InputError("holds no frame", expected="at least one crystal")
    if several:
        return [(str(number) if len(found) > 1 else "", frame) for number, frame in enumerate(found, start=1)]
    if len(found) > 1:
        raise InputError(f"holds {len(found):,} frames", expected="one crystal")
    return found[0]


def _frames(text: str, kind: str, limits: Limits, disordered: bool) -> Iterator[Crystal | str | InputError]:
    if kind == XDATCAR:  # ASE's reader loses the good frames beside a bad one
        yield from read_xdatcar(text, limits)
        return
    text = _HEAVY.sub(r"\1H", text)
    from ase.io.formats import get_ioformat

    reader = get_ioformat(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream = io.StringIO(text)
            for atoms in reader.read(stream) if reader.single else reader.read(stream, slice(None)):
                try:
                    yield crystal_of_atoms(atoms, limits)
                except InputError as error:
                    yield str(atoms.get_chemical_formula()) if disordered and len(atoms) else error
        except MemoryError:
            raise
        except KeyError as error:  # by its tables of elements
            yield InputError(f"cannot be read as {kind} (unknown {str(error)[:20]})", expected="one or more crystals")
        except Exception as error:  # whatever a parser trips over is the file's fault, and told in one line
            yield InputError(f"cannot be read as {kind} ({type(error).__name__})", expected="one or more crystals")


def crystal_of_atoms(atoms: Any, limits: Limits) -> Crystal:
    """The checked crystal of an ``Atoms`` of ASE, which must be periodic in all three directions."""
    if len(atoms) > limits.sites:
        raise too_many_sites(len(atoms), limits)
    if not atoms.cell.any():
        raise InputError("has no cell: it is not periodic", expected='lattice vectors, in extended XYZ as Lattice="..."')
    if atoms.cell.rank < 3 or not atoms.pbc.all():
        periods = int(min(atoms.cell.rank, atoms.pbc.sum()))
        raise not_periodic(periods)
    check_lattice(atoms.cell.array)
    return make_crystal(atoms.numbers.tolist(), atoms.cell.array, atoms.get_scaled_positions(wrap=False), limits)
