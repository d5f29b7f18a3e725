"""Parse structure files in worker processes (`tfmat.data.workers`), as that is slow and may hang, and remember what was parsed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tfmat.crystal import Crystal, Crystals, Disordered
from tfmat.data.cache import RecordCache
from tfmat.data.read.bounded import LIMITS, Limits, read_bytes, read_text
from tfmat.data.read.cif import read_cif, read_cif_formula, split_cif
from tfmat.data.read.crystal import to_json
from tfmat.data.read.poscar import XDATCAR, read_poscar
from tfmat.data.workers import Request
from tfmat.errors import InputError
from tfmat.extras import require
from tfmat.records import Records

_ENDINGS = {".cif": "cif", ".mcif": "cif", ".vasp": "poscar", ".poscar": "poscar", ".contcar": "poscar"}
_ENDINGS |= {".extxyz": "extxyz", ".xyz": "extxyz", ".xsf": "xsf", ".gen": "gen", ".pwi": "espresso-in"}
_NAMES = {"POSCAR": "poscar", "CONTCAR": "poscar", "XDATCAR": XDATCAR, "geometry.in": "aims"}
_KINDS = {name.lower(): kind for name, kind in _NAMES.items()} | {"geometry.in.next_step": "aims"}
STRUCTURE_FILES = f"a structure file ({', '.join([*_ENDINGS, *_NAMES])})"
_LOGGER = logging.getLogger("tfmat")
VERSION = 3
"""Raised whenever the same text gives another crystal."""
WORTH = 200
"""Number of crystals that must have been parsed anew for the cache to be written."""
_TOGETHER = 4096
_Context = TypeVar("_Context")


def kind_of(name: str) -> str | None:
    """The format of a structure file by its name, `None` for any other.

    Returns:
        ``cif``, ``poscar``, or what ASE calls it: extended XYZ, XCrySDen, DFTB+, the inputs of Quantum ESPRESSO and FHI-aims, and VASP's
        XDATCAR.
    """
    lower = Path(name.lower().removesuffix(".gz").removesuffix(".txt")).name  # NaCl.cif.txt, as browsers and Windows save
    kind = _KINDS.get(lower) or _ENDINGS.get(Path(lower).suffix)
    return "poscar" if kind != "cif" and re.match(r"(?:poscar|contcar)(?:[._-]|\d+$)", lower) else kind


def stem_of(name: str) -> str:
    """The id that a structure file stands for: ``a.cif.gz`` -> ``a``, ``POSCAR_b`` -> ``b``."""
    stem = re.sub(r"(?i)(\.txt)?(\.gz)?$", "", name, count=1)
    stem = stem.removesuffix(Path(stem).suffix) if Path(stem).suffix.lower() in _ENDINGS else stem
    return re.sub(r"(?i)^(poscar|contcar)[._-]", "", stem)


def request(source: Path | str, limits: Limits, *, disordered: bool = False, several: bool = False) -> Request:
    """Describe to a worker what it is to parse: a file whose name `kind_of` knows, or text.

    Raises:
        InputError: the file needs ASE, which is not installed.
    """
    in_file = isinstance(source, Path)
    kind = str(kind_of(source.name)) if isinstance(source, Path) else "cif" if "_cell" in source else "poscar"
    how: dict[str, Any] = {"path": str(source) if in_file else None, "kind": kind, "limits": dataclasses.asdict(limits)}
    how |= {"disordered": disordered, "several": several}
    if kind in ("cif", "poscar"):
        return Request(f"{__name__}:parse_in_worker", how | {"text": None if in_file else source})
    if kind != XDATCAR:
        require("ase", "reading such files", "ase")
    return Request("tfmat.data.read.ase_files:parse_frames", how)


def parse_in_worker(
    path: str | None, text: str | None, kind: str, limits: dict[str, Any], disordered: bool = False, several: bool = False
) -> dict[str, Any] | str | list[tuple[str, dict[str, Any] | str]]:
    """Parse, and return the crystal's arrays as lists; where `disordered` ones are read, the formula of such a one.

    Of a CIF with `several` crystals it is a list: of each the name of its block, and its arrays, its formula, or problem and what was
    expected.
    """
    bounds = Limits(**limits)
    if path is not None:
        text = read_text(Path(path), bounds, "CIF or POSCAR", encoding="latin-1")  # author names in CIF files
    if not (text or "").strip():
        raise InputError("is empty", expected=f"{kind.upper()} text")
    content = text or ""
    if several and kind == "cif" and content.lower().count("fract_x") > 1:
        blocks = split_cif(content)
        if len(blocks) > 1:
            return [(name, _parsed_block(block, bounds, disordered)) for name, block in blocks.items()]
    return _parsed(content, kind, bounds, disordered)


def _parsed_block(text: str, limits: Limits, disordered: bool) -> dict[str, Any] | str:
    try:
        return _parsed(text, "cif", limits, disordered)
    except InputError as error:
        return to_json(error)


def _parsed(text: str, kind: str, limits: Limits, disordered: bool) -> dict[str, Any] | str:
    try:
        return to_json(parse_structure(text, kind, limits))
    except Disordered:
        if not disordered:
            raise
        return read_cif_formula(text, limits)


def parse_structure(text: str, kind: str, limits: Limits = LIMITS) -> Crystal:
    """A crystal from CIF or POSCAR text.

    See `tfmat.data.read.cif.read_cif` and `tfmat.data.read.poscar.read_poscar` for how. Partial occupancy is refused.
    """
    try:
        return read_cif(text, limits) if kind == "cif" else read_poscar(text, limits)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"needs too much memory as {kind.upper()}", expected="an ordinary crystal") from None
    except Exception as error:  # whatever a parser trips over is the file's fault, and told in one line
        raise InputError(f"cannot be read as {kind.upper()} ({type(error).__name__})", expected="one crystal") from None


class Parsed:
    """What was parsed of one folder or file, kept as one entry of a `RecordCache`.

    Args:
        cache: where it is kept; `None` keeps nothing.
        source: the folder or file.
        limits: a crystal that was parsed under other limits is not known.
    """

    def __init__(self, cache: RecordCache | None, source: Path, limits: Limits) -> None:
        self.cache, self.source, self.limits = cache, source, limits
        self.key = hashlib.sha256(f"parsed crystals {source.resolve()}".encode()).hexdigest()
        self._salt = f"{VERSION} {' '.join(map(importlib.metadata.version, ('pymatgen', 'gemmi', 'spglib')))} {limits.sites} ".encode()
        self._crystals: Crystals | None = None
        self._places: dict[bytes, int] = {}
        self.parsed = 0
        records = cache.load(self.key) if cache else None
        if records is not None and set(records.values) == {"species", "lattice", "frac_coords", "digest"}:
            self._places = {row.tobytes(): place for place, row in enumerate(records.values["digest"])}
            self._crystals = Crystals(_only_crystals(records))

    def known(self, tasks: Iterable[tuple[_Context, object]]) -> Iterator[tuple[tuple[_Context, bytes], object]]:
        """The tasks with the digest of what is to be parsed (else empty); a `Request` whose answer is known is replaced by it."""
        for context, task in tasks:
            if self.cache is None or not isinstance(task, Request) or "text" not in task.arguments:  # ASE's files are few
                yield (context, b""), task
                continue
            try:
                digest = self._digest(task)
            except InputError as error:
                yield (context, b""), error
                continue
            place = self._places.get(digest)
            self.parsed += place is None
            yield (context, digest), task if place is None or self._crystals is None else self._crystals[place]

    def _digest(self, task: Request) -> bytes:
        path, text = task.arguments["path"], task.arguments["text"]
        content = text.encode(errors="surrogatepass") if path is None else read_bytes(Path(path), self.limits.file_bytes, self.limits)
        return hashlib.sha256(self._salt + task.arguments["kind"].encode() + b"\0" + content).digest()

    def keep(self, crystals: Crystals, digests: list[bytes]) -> None:
        """Store the `crystals` that have a digest, if enough of them were parsed anew."""
        if self.cache is None or self.parsed < WORTH:
            return
        places = np.flatnonzero([len(digest) > 0 for digest in digests])
        self.cache.clear([self.key])
        try:
            with self.cache.building(self.key, {"source": str(self.source), "featurizer": {"name": "parsed crystals"}}) as writer:
                for start in range(0, len(places), _TOGETHER):
                    part = places[start : start + _TOGETHER]
                    writer.append(_with_digests(crystals.subset(part).records, [digests[place] for place in part]))
        except OSError as error:
            _LOGGER.warning("parsed crystals could not be kept in %s (%s)", self.cache.directory, error)


def _with_digests(records: Records, digests: list[bytes]) -> Records:
    rows = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 32)
    return Records({**records.values, "digest": rows}, {**records.offsets, "digest": np.arange(len(digests) + 1)})


def _only_crystals(records: Records) -> Records:
    keys = [key for key in Crystal.__dataclass_fields__ if key in records.values]
    return Records({key: records.values[key] for key in keys}, {key: records.offsets[key] for key in keys})
