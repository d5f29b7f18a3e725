"""Further structure files, by way of ASE where it is installed: each frame is one crystal.

Only formats of plain text whose readers evaluate nothing and start nothing are read, by name and never by guessing: ASE also has formats
that hold pickles or databases, and one (CASTEP's) whose reader runs the program.
"""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal, check_lattice, not_periodic
from tfmat.data.read.bounded import Limits, read_text
from tfmat.data.read.crystal import from_json, make_crystal, to_json, too_many_sites
from tfmat.data.read.poscar import read_xdatcar
from tfmat.data.read.structures import Reading
from tfmat.data.workers import Request, Workers
from tfmat.errors import InputError
from tfmat.extras import require

FORMATS = {".extxyz": "extxyz", ".xyz": "extxyz", ".xsf": "xsf", ".gen": "gen", ".pwi": "espresso-in"}
"""Ending -> ASE's name of the format: extended XYZ, XCrySDen, DFTB+ and the input of Quantum ESPRESSO."""
_NAMES = {"geometry.in": "aims", "geometry.in.next_step": "aims", "xdatcar": "vasp-xdatcar"}


XDATCAR = "vasp-xdatcar"
"""The one format here that needs no ASE, whose reader loses the good frames beside a bad one."""
_HEAVY = re.compile(r"(?m)^(\s*(?:atom(?:_frac)?(?:\s+[-+0-9.eE]+){3}\s+)?)[DT](?=\s+[-+0-9.]|\s*$)")
"""Deuterium and tritium at the beginning of a line, or at the end of one of FHI-aims: ASE has no such elements."""


def ase_format(name: str) -> str | None:
    """ASE's name of a file's format, `None` for one that is not read through ASE."""
    lower = Path(name.lower().removesuffix(".gz")).name
    return _NAMES.get(lower) or FORMATS.get(Path(lower).suffix)


def read_ase_files(paths: Sequence[Path], how: Reading) -> list[list[Crystal | str | InputError]]:
    """Read the frames of each file, in other processes and within limits; a file that cannot be read has one error, in place of a frame.

    Args:
        paths: names that `ase_format` knows.
        how: limits, processes and so on, see `Reading`; nothing is cached.
    """
    warm_up = "tfmat.data.read.poscar"
    if any(ase_format(path.name) != XDATCAR for path in paths):
        warm_up = "ase.io"
        try:
            require("ase", "reading such files", "ase")
        except InputError as missing:
            return [[missing.located(file=str(path))] for path in paths]
    limits, found = how.limits, list[list[Crystal | str | InputError]]()
    arguments = {"limits": dataclasses.asdict(limits), "disordered": how.disordered}
    tasks = ((path, Request(f"{__name__}:parse_frames", arguments | {"path": str(path), "kind": ase_format(path.name)})) for path in paths)
    with Workers(how.processes, seconds=limits.seconds, memory_bytes=limits.memory_bytes, warm_up=warm_up) as workers:
        for path, answer in workers.map(tasks):
            frames = [answer] if isinstance(answer, InputError) else [from_json(frame) for frame in answer]
            found.append([frame.located(file=str(path)) if isinstance(frame, InputError) else frame for frame in frames])
            if how.report is not None:
                how.report(len(found), len(paths))
    return found


def parse_frames(path: str, kind: str, limits: dict[str, Any], disordered: bool = False) -> list[dict[str, Any] | str]:
    """Read a file in a worker process: of each frame the crystal's arrays as lists, or problem and what was expected.

    With `disordered` it is the formula of a frame that is no crystal, such as a molecule.

    After a frame that ASE cannot read, the rest of the file is not read.
    """
    bounds = Limits(**limits)
    text = read_text(Path(path), bounds, kind)
    if not text.strip():
        raise InputError("is empty", expected=f"{kind} text")
    found = [to_json(frame) for frame in _frames(text, kind, bounds, disordered)]
    if not found:
        raise InputError("holds no frame", expected="at least one crystal")
    return found


def _frames(text: str, kind: str, limits: Limits, disordered: bool) -> Iterator[Crystal | str | InputError]:
    if kind == XDATCAR:
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
