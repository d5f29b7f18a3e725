"""Reading published crystals: lattices, JSON in several shapes, and tables of crystals."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.crystal import Crystals
from tfmat.crystal import lattice_from_parameters as lattice_from_parameters
from tfmat.data.splits import split_by_hash
from tfmat.data.table import Table
from tfmat.datasets.source import StoredRow
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.records import Records

_CHUNK = 1 << 20  # characters
_DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeDecodeError)


def crystal(symbols: Sequence[str], lattice: Any, frac_coords: Any) -> StoredRow:
    """The arrays of one crystal; a `ValueError` or `KeyError` where they do not make one."""
    example: StoredRow = {
        "species": np.asarray([ATOMIC_NUMBERS[symbol] for symbol in symbols], dtype=np.int32),
        "lattice": np.asarray(lattice, dtype=np.float64).reshape(3, 3),
        "frac_coords": np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3),
    }
    if not len(symbols) == len(example["frac_coords"]) > 0:
        raise ValueError(f"{len(symbols)} species and {len(example['frac_coords'])} positions")
    if not (np.isfinite(example["frac_coords"]).all() and np.isfinite(example["lattice"]).all()):
        raise ValueError("coordinates that are not finite")
    return example


def example(record: Mapping[str, Any], targets: Mapping[str, str]) -> StoredRow:
    """Read one line of the mirror's JSON lines (``id``, ``cell``, ``species``, ``frac``) with the `targets`: name -> key; null is NaN."""
    values = {name: math.nan if record.get(key) is None else float(record[key]) for name, key in targets.items()}
    return {"id": str(record["id"]), **crystal(record["species"], lattice_from_parameters(record["cell"]), record["frac"]), **values}


def jarvis_crystal(atoms: Mapping[str, Any]) -> StoredRow:
    """The arrays of a crystal that is given as the dictionary of an ``Atoms`` of jarvis-tools."""
    lattice = np.asarray(atoms["lattice_mat"], dtype=np.float64)
    coords = np.asarray(atoms["coords"], dtype=np.float64)
    if atoms.get("cartesian"):
        coords = coords @ np.linalg.inv(lattice)
    return crystal([symbol.strip() for symbol in atoms["elements"]], lattice, coords)


def pymatgen_crystal(structure: Mapping[str, Any]) -> StoredRow:
    """The arrays of a crystal that is given as the dictionary of an ordered ``Structure`` of pymatgen."""
    symbols = []
    for site in structure["sites"]:
        (species,) = site["species"]  # an ordered site has one
        symbols.append(species["element"])
    return crystal(symbols, structure["lattice"]["matrix"], [site["abc"] for site in structure["sites"]])


def read_lines(path: Path, targets: Mapping[str, str]) -> Iterator[tuple[StoredRow, dict[str, Any]]]:
    """Crystals of a gzipped JSON lines file, with the line they came from; one is held at a time."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                number += 1
                record = json.loads(line)
                yield example(record, targets), record
    except _DAMAGED as error:
        raise InputError(f"cannot be read ({_reason(error)})", expected="JSON lines compressed with gzip", file=str(path)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not a crystal ({_reason(error)})", file=str(path), row=number) from None


def read_array(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that holds one JSON array, plain, gzipped or alone in a zip archive; about one megabyte is held at a time."""
    decoder, number, place = json.JSONDecoder(), 0, 1
    try:
        with _open_text(path) as stream:
            text = stream.read(_CHUNK)
            if not text.startswith("["):
                raise ValueError("it does not begin with [")
            while True:
                place = _next(text, place)
                if text.startswith("]", place):
                    return
                try:
                    record, place = decoder.raw_decode(text, place)
                except ValueError:
                    more = stream.read(max(_CHUNK, len(text) - place))
                    if not more:
                        raise ValueError(f"it ends after {number:,} entries") from None
                    text, place = text[place:] + more, 0
                    continue
                number += 1
                yield record
    except _DAMAGED as error:
        raise InputError(f"cannot be read ({_reason(error)})", expected="a JSON array", file=str(path)) from None
    except ValueError as error:
        raise InputError(f"is not a JSON array or is cut ({error})", file=str(path)) from None


def _next(text: str, place: int) -> int:
    """Position of the next character that is neither white space nor a comma."""
    while place < len(text) and text[place] in ", \r\n\t":
        place += 1
    return place


def _open_text(path: Path) -> io.TextIOWrapper:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    if magic == b"PK\x03\x04":
        archive = zipfile.ZipFile(path)
        members = [name for name in archive.namelist() if name.endswith(".json")]
        if len(members) != 1:
            raise ValueError(f"the archive holds {len(members)} .json files")
        return io.TextIOWrapper(archive.open(members[0]), encoding="utf-8")
    return path.open(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read one JSON document, plain, gzipped or alone in a zip archive."""
    try:
        with _open_text(path) as stream:
            return json.load(stream)
    except (*_DAMAGED, ValueError) as error:
        raise InputError(f"cannot be read ({_reason(error)})", expected="a JSON document", file=str(path)) from None


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, KeyError) or not str(error) else str(error)


def reduced_formula(species: np.ndarray) -> str:
    """Formula with the smallest whole numbers and the symbols in alphabetical order, the same for every cell and polymorph."""
    numbers, counts = np.unique(species, return_counts=True)
    divisor = int(np.gcd.reduce(counts))
    return "".join(sorted(f"{SYMBOLS[z]}{count // divisor}" for z, count in zip(numbers, counts, strict=True)))


def table_of(examples: Iterable[StoredRow], targets: Iterable[str], source: str) -> Table:
    """A table with the crystals in flat arrays; at least one row, numbered from 1."""
    rows = list(examples)
    if not rows:
        raise InputError("it holds no row", file=source)
    crystals = Crystals(Records.stack([{name: row[name] for name in ("species", "lattice", "frac_coords")} for row in rows]))
    values = {name: np.asarray([row[name] for row in rows], dtype=np.float64) for name in targets}
    return Table(crystals, values, [row["id"] for row in rows], np.arange(1, len(rows) + 1, dtype=np.int64), source)


def join(tables: Sequence[Table]) -> Table:
    """Tables of crystals with the same targets, one after the other, with their rows numbered anew."""
    joined = Table.join(tables)
    return dataclasses.replace(joined, rows=np.arange(1, len(joined) + 1, dtype=np.int64))


def hash_part(examples: Sequence[StoredRow], split: str) -> Iterator[StoredRow]:
    """The rows of one split, about 80/10/10 by the hash of the reduced formula: no formula is in two splits, whatever its polymorphs."""
    chosen = split_by_hash([reduced_formula(row["species"]) for row in examples])[split]
    return (examples[i] for i in chosen)
