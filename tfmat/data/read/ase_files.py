"""Further structure files, by way of ASE where it is installed: each frame is one crystal.

Only formats of plain text whose readers evaluate nothing and start nothing are read, by name and never by guessing: ASE also has formats
that hold pickles or databases, and one (CASTEP's) whose reader runs the program.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal, check_lattice
from tfmat.data.read.bounded import Limits, read_text
from tfmat.data.read.crystal import from_json, make_crystal, to_json, too_many_sites
from tfmat.data.read.structures import Reading
from tfmat.data.workers import Request, Workers
from tfmat.errors import InputError
from tfmat.extras import require

FORMATS = {".extxyz": "extxyz", ".xyz": "extxyz", ".xsf": "xsf", ".gen": "gen", ".pwi": "espresso-in"}
"""Ending -> ASE's name of the format: extended XYZ, XCrySDen, DFTB+ and the input of Quantum ESPRESSO."""
_NAMES = {"geometry.in": "aims", "geometry.in.next_step": "aims", "xdatcar": "vasp-xdatcar"}


def ase_format(name: str) -> str | None:
    """ASE's name of a file's format, `None` for one that is not read through ASE."""
    lower = Path(name.lower().removesuffix(".gz")).name
    return _NAMES.get(lower) or FORMATS.get(Path(lower).suffix)


def read_ase_files(paths: Sequence[Path], how: Reading) -> list[list[Crystal | InputError]]:
    """Read the frames of each file, in other processes and within limits; a file that cannot be read has one error, in place of a frame.

    Args:
        paths: names that `ase_format` knows.
        how: limits, processes and so on, see `Reading`; nothing is cached.
    """
    try:
        require("ase", "reading such files", "ase")
    except InputError as missing:
        return [[missing.located(file=str(path))] for path in paths]
    limits, found = how.limits, list[list[Crystal | InputError]]()
    arguments = {"limits": dataclasses.asdict(limits)}
    tasks = ((path, Request(f"{__name__}:parse_frames", arguments | {"path": str(path), "kind": ase_format(path.name)})) for path in paths)
    with Workers(how.processes, seconds=limits.seconds, memory_bytes=limits.memory_bytes, warm_up="ase.io") as workers:
        for path, answer in workers.map(tasks):
            frames = [answer] if isinstance(answer, InputError) else [_frame(frame) for frame in answer]
            found.append([frame.located(file=str(path)) if isinstance(frame, InputError) else frame for frame in frames])
            if how.report is not None:
                how.report(len(found), len(paths))
    return found


def _frame(frame: dict[str, Any]) -> Crystal | InputError:
    return InputError(**frame) if "problem" in frame else from_json(frame)


def parse_frames(path: str, kind: str, limits: dict[str, Any]) -> list[dict[str, Any]]:
    """Read a file in a worker process: of each frame the crystal's arrays as lists, or problem and what was expected.

    After a frame that ASE cannot read, the rest of the file is not read.
    """
    bounds = Limits(**limits)
    text = read_text(Path(path), bounds, kind)
    if not text.strip():
        raise InputError("is empty", expected=f"{kind} text")
    found = []
    for frame in _frames(text, kind, bounds):
        found.append({"problem": frame.problem, "expected": frame.expected} if isinstance(frame, InputError) else to_json(frame))
    if not found:
        raise InputError("holds no frame", expected="at least one crystal")
    return found


def _frames(text: str, kind: str, limits: Limits) -> Iterator[Crystal | InputError]:
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
                    yield error
        except MemoryError:
            raise
        except Exception as error:  # whatever a parser trips over is the file's fault, and told in one line
            detail = " ".join(f"{type(error).__name__}: {error}".split())
            yield InputError(f"cannot be read as {kind} ({detail[:160]})", expected="one or more crystals")


def crystal_of_atoms(atoms: Any, limits: Limits) -> Crystal:
    """The checked crystal of an ``Atoms`` of ASE, which must be periodic in all three directions."""
    if len(atoms) > limits.sites:
        raise too_many_sites(len(atoms), limits)
    if not atoms.cell.any():
        raise InputError("has no cell: it is not periodic", expected='lattice vectors, in extended XYZ as Lattice="..."')
    if atoms.cell.rank < 3 or not atoms.pbc.all():
        periods = int(min(atoms.cell.rank, atoms.pbc.sum()))
        raise InputError(f"is periodic along {periods} of 3 directions", expected="a crystal with three lattice vectors")
    check_lattice(atoms.cell.array)
    return make_crystal(atoms.numbers.tolist(), atoms.cell.array, atoms.get_scaled_positions(wrap=False), limits)
