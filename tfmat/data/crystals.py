"""CIF text through gemmi, POSCAR text through pymatgen. Runs in worker processes (`tfmat.data.workers`): parsing is slow and may hang."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal
from tfmat.data.bounded import LIMITS, Limits, decode, read_bytes
from tfmat.data.checks import make_crystal, partial_occupancy, too_many_sites
from tfmat.data.cif import read_cif
from tfmat.elements import SYMBOLS
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


def parse_arguments(*, path: str | None = None, text: str | None = None, kind: str, limits: Limits) -> dict[str, Any]:
    """Arguments of `parse_in_worker`, JSON-able: a file's `path`, or the `text`."""
    return {"path": path, "text": text, "kind": kind, "limits": dataclasses.asdict(limits)}


def parse_in_worker(path: str | None, text: str | None, kind: str, limits: dict[str, Any]) -> dict[str, Any]:
    """Parse, and return the crystal's arrays as lists."""
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
    crystal = parse_structure(text or "", kind, bounds)
    return {"species": crystal.species.tolist(), "lattice": crystal.lattice.tolist(), "frac_coords": crystal.frac_coords.tolist()}


def parse_structure(text: str, kind: str, limits: Limits = LIMITS) -> Crystal:
    """A crystal from CIF or POSCAR text.

    A CIF is read as `tfmat.data.cif.read_cif` tells, a POSCAR by pymatgen; it must name its elements (VASP 5). Partial occupancy
    is refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kind == "cif":
                return read_cif(text, limits)
            return _to_crystal(_from_poscar(text, limits), limits)
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"needs too much memory as {kind.upper()}", expected="an ordinary crystal") from None
        except Exception as error:  # whatever a parser trips over is the file's fault, and told in one line
            detail = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"cannot be read as {kind.upper()} ({detail[:160]})", expected="one crystal") from None


def _from_poscar(text: str, limits: Limits) -> Any:
    from pymatgen.io.vasp import Poscar

    lines = text.splitlines()
    counts = [int(cell) for line in lines[5:17] for cell in line.split() if cell.isdigit()]
    if len(lines) > 20 * limits.sites + 1000 or (counts and max(counts) > limits.sites):
        raise InputError(f"the POSCAR has more than {limits.sites:,} sites", expected=f"at most {limits.sites:,}")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        poscar = Poscar.from_str(text)
    if not poscar.true_names or any("false names" in str(warning.message) for warning in told):
        raise InputError("the POSCAR does not name its elements", expected="a line of element symbols (VASP 5)")
    return poscar.structure


def _to_crystal(structure: Any, limits: Limits) -> Crystal:
    if len(structure) > limits.sites:
        raise too_many_sites(len(structure), limits)
    numbers = []
    for index, site in enumerate(structure):
        kinds = list(site.species.items())
        if len(kinds) != 1 or abs(float(kinds[0][1]) - 1) > 1e-6:
            raise partial_occupancy(index, " + ".join(f"{kind} {amount:g}" for kind, amount in kinds))
        number = getattr(kinds[0][0], "Z", 0)
        if not isinstance(number, int) or not 1 <= number < len(SYMBOLS) or type(kinds[0][0]).__name__ == "DummySpecies":
            raise InputError(f"site {index + 1} holds the unknown element {str(kinds[0][0])[:40]!r}", expected="symbols from H to Og")
        numbers.append(number)
    return make_crystal(numbers, structure.lattice.matrix, structure.frac_coords, limits)
