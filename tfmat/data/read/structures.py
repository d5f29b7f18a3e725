"""A user's own crystals: a folder with ``id_prop.csv``, a CSV file with a column ``structure``, or JSON lines."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.crystal import Crystal, Crystals
from tfmat.data.cache import RecordCache, Spool
from tfmat.data.featurize import RowsDone
from tfmat.data.read.bounded import LIMITS, Limits, iterate_lines
from tfmat.data.read.cells import FORMULA_COLUMNS, Cells, check_header, fits, parse_line, table_kind
from tfmat.data.read.crystal import crystal_from_record, from_json
from tfmat.data.read.parse import Parsed, kind_of, request
from tfmat.data.rejections import Rejections
from tfmat.data.workers import Request, Workers
from tfmat.errors import InputError

STRUCTURE = "structure"
"""Column (or key) of a crystal: CIF text or a path; in JSON lines also pymatgen's ``as_dict``."""
_NOT_CELLS = frozenset({STRUCTURE, "cell", "species", "frac", "lattice", "sites", "@module", "@class"})
_LOOKED_AT = 100
_TOGETHER = 1024

Parsable = Crystal | Request | InputError
"""A crystal, what a worker is to parse, or why there is neither."""
Row = tuple[int, dict[str, Any] | InputError]
"""The number of a row, and its cells or the reason why it cannot be read."""


@dataclass(frozen=True)
class Reading:
    """How crystals are read.

    Attributes:
        limits: the largest files and crystals that are read.
        processes: how many parse CIF and POSCAR text; `None` means one per core.
        cache: keeps what was parsed, so that a file with the same content is not parsed again.
        report: called with the rows done and the rows in all, 0 where that is not known.
        workers: processes of `parsers` that run already, and are not stopped at the end.
        disordered: of a crystal with partially occupied sites the formula is read. Otherwise it is refused.
    """

    limits: Limits = LIMITS
    processes: int | None = None
    cache: RecordCache | None = None
    report: RowsDone | None = None
    workers: Workers | None = None
    disordered: bool = False


@dataclass(frozen=True)
class Entry:
    """One row before its crystal is known.

    Attributes:
        row: row or line; `None` for a file without one.
        identifier: its id.
        cells: what else the row holds.
    """

    row: int | None
    identifier: str
    cells: Mapping[str, Any]


@dataclass
class Collected:
    """What is kept of the rows of a file.

    Attributes:
        source: the file.
        rejections: takes the others.
        read: rows looked at.
    """

    source: str
    rejections: Rejections
    read: int = 0
    crystals: Crystals | None = None
    ids: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def keep(self, entry: Entry) -> None:
        """Add a row, without its crystal."""
        for name, cell in entry.cells.items():
            column = self.columns.setdefault(name, [])
            column.extend([None] * (len(self.ids) - len(column)))
            column.append(cell)
        self.ids.append(entry.identifier)
        self.rows.append(entry.row or 0)

    @property
    def cells(self) -> Cells:
        """The cells beside the crystals."""
        for column in self.columns.values():
            column.extend([None] * (len(self.ids) - len(column)))
        return Cells(self.columns, np.asarray(self.rows, dtype=np.int64), self.source)


def parsers(limits: Limits = LIMITS, processes: int | None = None) -> Workers:
    """Make the processes that parse CIF and POSCAR text, see `Reading`."""
    return Workers(processes, seconds=limits.seconds, memory_bytes=limits.memory_bytes, warm_up="tfmat.data.read.cif")


def holds_structures(path: Path, limits: Limits = LIMITS) -> bool:
    """Whether the first rows of a CSV or JSON lines file describe crystals; what cannot be read is left to the reader to tell."""
    csv_file = table_kind(path) == "CSV"
    lines = (line.decode("utf-8-sig", errors="replace") for _, line in iterate_lines(path, limits, blank=csv_file) if line is not None)
    try:
        if not csv_file:
            return any(_describes_crystal(line) for _, line in zip(range(_LOOKED_AT), lines, strict=False))
        rows = (row for row in csv.reader(lines) if any(cell.strip() for cell in row))
        header = [name.strip() for name in next(rows, [])]
        if STRUCTURE not in header:
            return False
        if not any(name in header for name in FORMULA_COLUMNS):
            return True
        place = header.index(STRUCTURE)
        cells = (row[place].strip() for _, row in zip(range(_LOOKED_AT), rows, strict=False) if len(row) > place)
        return any("_cell_length" in cell or kind_of(cell) is not None for cell in cells)
    except csv.Error:
        return False


def column_names(path: Path, limits: Limits = LIMITS) -> list[str]:
    """Names of the columns of a CSV file, or the keys of the first JSON object."""
    rows = _csv_rows(path, limits) if table_kind(path) == "CSV" else _json_rows(path, limits)
    return next((list(record) for _, record in rows if not isinstance(record, InputError)), [])


def names_formulas(path: Path, formula_column: str | None, limits: Limits = LIMITS) -> bool:
    """Whether a file has a column of formulas."""
    return bool(set(column_names(path, limits)) & ({formula_column} if formula_column else set(FORMULA_COLUMNS)))


def _describes_crystal(line: str) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict):
        return False
    inner = record.get(STRUCTURE)
    if isinstance(inner, str) and any(isinstance(record.get(name), str) for name in FORMULA_COLUMNS):
        return "_cell_length" in inner or kind_of(inner) is not None
    return isinstance(inner, (dict, str)) or {"cell", "species"} <= set(record) or {"lattice", "sites"} <= set(record)


def read_structures(path: Path, rejections: Rejections, how: Reading, *, id_column: str | None = None) -> Collected:
    """The crystals of a CSV or JSON lines file, read row by row, so that memory holds little beside the arrays.

    Args:
        path: the file.
        rejections: takes rows that are no usable crystal, and every further row of an id.
        how: limits, processes and so on, see `Reading`.
        id_column: default: ``id`` if there is one; otherwise the rows' numbers are the ids.
    """
    rows = _csv_rows(path, how.limits) if table_kind(path) == "CSV" else _json_rows(path, how.limits)
    found = Collected(str(path), rejections)
    collect(_sources(rows, path.parent, id_column, how.limits), found, how)
    return found


def collect(entries: Iterable[tuple[Entry, Parsable]], into: Collected, how: Reading, total: int = 0) -> None:
    """Parse what is to be parsed, in other processes, and keep or reject every entry, in order.

    Args:
        entries: the rows.
        into: takes what is kept.
        how: limits, processes and so on, see `Reading`.
        total: number of entries if it is known.
    """
    parsed = Parsed(how.cache, Path(into.source), how.limits)
    digests, batch = list[bytes](), list[Crystal]()
    seen: dict[str, int] = {}
    already = into.read
    with Spool() as spool, _parsers(how) as workers:
        for (entry, digest), answer in workers.map(parsed.known(entries)):
            into.read += 1
            crystal = _crystal(answer)
            if entry.identifier in seen and not isinstance(crystal, InputError):
                row = seen[entry.identifier]
                crystal = InputError(f"id {entry.identifier[:60]!r} stands already in row {row}", expected="each id once")
            if isinstance(crystal, InputError):
                into.rejections.add(_about(crystal), file=into.source, row=entry.row, identifier=entry.identifier)
            else:
                seen[entry.identifier] = entry.row or 0
                batch.append(crystal)
                digests.append(digest)
                into.keep(entry)
            if len(batch) >= _TOGETHER:
                spool.append(Crystals.of(batch).records)
                batch.clear()
            if how.report is not None and into.read % 100 == 0:
                how.report(into.read - already, total)
        if batch:
            spool.append(Crystals.of(batch).records)
        records = spool.finish()
    if how.report is not None:
        how.report(into.read - already, total)
    if records is not None:
        into.crystals = Crystals(records)
        parsed.keep(into.crystals, digests)


def read_structure_files(sources: Sequence[Path | str], how: Reading) -> list[Crystal | str | InputError]:
    """Give the crystal of each CIF or POSCAR file or text, its formula if it is disordered, or why there is neither; in order.

    Args:
        sources: paths whose names `kind_of` knows, or text.
        how: limits, processes and so on, see `Reading`; nothing is cached.
    """
    tasks = ((source, request(source, how.limits, disordered=how.disordered)) for source in sources)
    found = list[Crystal | str | InputError]()
    with _parsers(how) as workers:
        for source, answer in workers.map(tasks):
            crystal = answer if isinstance(answer, str) else _crystal(answer)
            if isinstance(crystal, InputError) and isinstance(source, Path):
                crystal = crystal.located(file=str(source))
            found.append(crystal)
            if how.report is not None:
                how.report(len(found), len(sources))
    return found


def _parsers(how: Reading) -> contextlib.AbstractContextManager[Workers]:
    return contextlib.nullcontext(how.workers) if how.workers is not None else parsers(how.limits, how.processes)


def _crystal(answer: Any) -> Crystal | InputError:
    """What a worker answered, or what was known before."""
    return from_json(answer) if isinstance(answer, dict) else answer


def _about(error: InputError) -> InputError:
    """An error about a structure file, to be located in the table that names the file."""
    name = f"{Path(error.file).name}: " if error.file else ""
    return InputError(f"{name}{error.problem}", expected=error.expected)


def _sources(rows: Iterator[Row], folder: Path, id_column: str | None, limits: Limits) -> Iterator[tuple[Entry, Parsable]]:
    for number, record in rows:
        if isinstance(record, InputError):
            yield Entry(number, "", {}), record
            continue
        if id_column is not None and id_column not in record:
            yield Entry(number, "", {}), InputError(f"no {id_column!r}", expected="an id")
            continue
        identifier = record.get(id_column or "id")
        cells = {
            name: cell for name, cell in record.items() if name not in _NOT_CELLS and (cell is None or isinstance(cell, (str, int, float)))
        }
        entry = Entry(number, str(number if identifier is None or identifier == "" else identifier), cells)
        try:
            yield entry, _source(record, folder, limits)
        except InputError as error:
            yield entry, error


def _source(record: Mapping[str, Any], folder: Path, limits: Limits) -> Parsable:
    inner = record.get(STRUCTURE)
    if isinstance(inner, dict):
        return crystal_from_record(inner, limits)
    if not isinstance(inner, str):
        return crystal_from_record(record, limits)
    if not inner.strip():
        raise InputError("no structure", expected="CIF text or the path of a structure file")
    if "\n" in inner.strip():
        return request(inner, limits)
    if kind_of(inner) is None:
        raise InputError(f"{inner[:60]!r} is neither CIF text nor the name of a structure file", expected="a name such as NaCl.cif")
    return request(folder / inner, limits)


def _json_rows(path: Path, limits: Limits) -> Iterator[Row]:
    strict = Rejections(strict=True)
    for number, line in iterate_lines(path, limits):
        if line is None:
            yield number, InputError(f"is longer than {limits.line_bytes / 2**20:g} MiB", expected="one crystal a line")
            continue
        if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError("is not text in UTF-8 (it looks like UTF-16)", expected="JSON lines text in UTF-8", file=str(path), row=number)
        try:
            record = parse_line(line.removeprefix(b"\xef\xbb\xbf"), number, str(path), strict)
        except InputError as error:
            yield number, error
        else:
            yield number, record or {}


def _csv_rows(path: Path, limits: Limits) -> Iterator[Row]:
    before = csv.field_size_limit(max(csv.field_size_limit(), limits.line_bytes))  # one setting for the whole process
    header: list[str] = []
    number, strict = 0, Rejections(strict=True)
    try:
        for number, row in enumerate(csv.reader(_text_lines(path, limits), strict=True), start=1):
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = check_header(row, number, str(path))
                continue
            try:
                fits(row, header, number, str(path), strict)
            except InputError as error:
                yield number, error
            else:
                yield number, {name: cell.strip() if name != STRUCTURE else cell for name, cell in zip(header, row, strict=True)}
    except csv.Error as error:
        raise InputError(f"is not valid CSV ({error})", expected="comma-separated cells", file=str(path), row=number + 1) from None
    finally:
        csv.field_size_limit(before)


def _text_lines(path: Path, limits: Limits) -> Iterator[str]:
    for number, line in iterate_lines(path, limits, blank=True):
        if line is None:
            raise InputError(f"line {number} is longer than {limits.line_bytes / 2**20:g} MiB", expected="CSV text", file=str(path))
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            hint = " (it looks like UTF-16)" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            raise InputError(f"line {number} is not text in UTF-8{hint}", expected="CSV text in UTF-8", file=str(path)) from None
