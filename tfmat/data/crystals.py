"""CIF and POSCAR text to crystals. Runs in worker processes (`tfmat.data.workers`): parsing is slow and may hang."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal
from tfmat.data.bounded import LIMITS, Limits, decode, read_bytes
from tfmat.data.checks import Disordered
from tfmat.data.cif import read_cif, read_cif_formula
from tfmat.data.poscar import read_poscar
from tfmat.errors import InputError

CIF_SUFFIXES = (".cif", ".mcif")
POSCAR_SUFFIXES = (".vasp", ".poscar", ".contcar")
_POSCAR_NAMES = ("poscar", "contcar")


def kind_of(name: str) -> str | None:
    """``cif`` or ``poscar`` by the name of a file, `None` for any other."""
    lower = name.lower().removesuffix(".gz")
    if lower.endswith(CIF_SUFFIXES):
        return "cif"
    stem = Path(lower).name
    if (
        lower.endswith(POSCAR_SUFFIXES)
        or stem in _POSCAR_NAMES
        or stem.startswith(tuple(f"{name}{s}" for name in _POSCAR_NAMES for s in "._-"))
    ):
        return "poscar"
    return None


def stem_of(name: str) -> str:
    """The id that a structure file stands for: ``a.cif.gz`` -> ``a``, ``POSCAR_b`` -> ``b``."""
    stem = re.sub(r"(?i)\.gz$", "", name)
    stem = re.sub(r"(?i)(\.cif|\.mcif|\.vasp|\.poscar|\.contcar)$", "", stem)
    return re.sub(r"(?i)^(poscar|contcar)[._-]", "", stem)


def parse_arguments(
    *, path: str | None = None, text: str | None = None, kind: str, limits: Limits, disordered: bool = False
) -> dict[str, Any]:
    """Arguments of `parse_in_worker`, JSON-able: a file's `path`, or the `text`."""
    return {"path": path, "text": text, "kind": kind, "limits": dataclasses.asdict(limits), "disordered": disordered}


def parse_in_worker(
    path: str | None, text: str | None, kind: str, limits: dict[str, Any], disordered: bool = False
) -> dict[str, Any] | str:
    """Parse, and return the crystal's arrays as lists; where `disordered` ones are read, the formula of such a one."""
    bounds = Limits(**limits)
    if path is not None:
        content = read_bytes(Path(path), bounds.file_bytes, bounds)
        if b"\0" in content[:4096]:
            raise InputError("is not a text file", expected="CIF or POSCAR text")
        try:
            text = decode(content, Path(path), kind.upper())
        except InputError:
            text = content.decode("latin-1")  # author names in CIF files
    if not (text or "").strip():
        raise InputError("is empty", expected=f"{kind.upper()} text")
    try:
        crystal = parse_structure(text or "", kind, bounds)
    except Disordered:
        if not disordered:
            raise
        return read_cif_formula(text or "", bounds)
    return {"species": crystal.species.tolist(), "lattice": crystal.lattice.tolist(), "frac_coords": crystal.frac_coords.tolist()}


def parse_structure(text: str, kind: str, limits: Limits = LIMITS) -> Crystal:
    """A crystal from CIF or POSCAR text.

    A CIF is read as `tfmat.data.cif.read_cif` tells, a POSCAR as `tfmat.data.poscar.read_poscar` does. Partial occupancy is refused.
    """
    try:
        return read_cif(text, limits) if kind == "cif" else read_poscar(text, limits)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"needs too much memory as {kind.upper()}", expected="an ordinary crystal") from None
    except Exception as error:  # whatever a parser trips over is the file's fault, and told in one line
        raise InputError(f"cannot be read as {kind.upper()} ({type(error).__name__})", expected="one crystal") from None
