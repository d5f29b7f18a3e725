"""The crystals of a user's table, and what parses and keeps the crystals of files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.crystal import Crystal, Crystals
from tfmat.data.cache import RecordCache, Spool
from tfmat.data.featurize import RowsDone
from tfmat.data.read.bounded import LIMITS, Limits
from tfmat.data.read.cells import Cells, Columns, ids_of, row_id
from tfmat.data.read.crystal import from_json
from tfmat.data.read.dictionaries import crystal_from_dict, formula_from_dict, is_crystal
from tfmat.data.read.parse import Parsed, kind_of, request
from tfmat.data.read.rows import FORMULA_COLUMNS, STRUCTURE_COLUMNS, Row, TableRows, UnreadableRow
from tfmat.data.rejections import Rejections
from tfmat.data.workers import Request, Workers
from tfmat.errors import InputError

_NOT_CELLS = frozenset({*STRUCTURE_COLUMNS, "cell", "species", "frac", "lattice", "sites", "attributes", "@module", "@class"})
_TOGETHER = 1024

Parsable = Crystal | str | Request | InputError
"""A crystal, the formula where no more is wanted, what a worker is to parse, or why there is neither."""


@dataclass(frozen=True)
class Reading:
    """How crystals are read.

    Attributes:
        limits: the largest files and crystals that are read.
        processes: how many parse CIF and POSCAR text; `None` means one per core.
        cache: keeps what was parsed, so that a file with the same content is not parsed again.
        report: called with the rows done and the rows in all, 0 where that is not known.
        workers: processes of `parsers` that run already, and are not stopped at the end.
        disordered: the formula alone is wanted, so that partially occupied sites, and a dictionary without a good cell, are read, too.
        structure_column: of a table. Default: the first of `STRUCTURE_COLUMNS`.
    """

    limits: Limits = LIMITS
    processes: int | None = None
    cache: RecordCache | None = None
    report: RowsDone | None = None
    workers: Workers | None = None
    disordered: bool = False
    structure_column: str | None = None


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
        crystals: of the rows that are kept; None where there are none, or a row has no more than a formula.
        formulas: of the rows that are kept, where formulas are all that is wanted.
    """

    source: str
    rejections: Rejections
    read: int = 0
    crystals: Crystals | None = None
    formulas: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)

    def keep(self, entry: Entry) -> None:
        """Add a row, without its crystal."""
        self.columns.add(entry.cells, len(self.ids))
        self.ids.append(entry.identifier)
        self.rows.append(entry.row or 0)

    @property
    def cells(self) -> Cells:
        """The cells beside the crystals."""
        return Cells(self.columns.filled(len(self.ids)), np.asarray(self.rows, dtype=np.int64), self.source)


def parsers(limits: Limits = LIMITS, processes: int | None = None) -> Workers:
    """Make the processes that parse CIF and POSCAR text, see `Reading`."""
    return Workers(processes, seconds=limits.seconds, memory_bytes=limits.memory_bytes, warm_up="tfmat.data.read.cif")


def holds_structures(table: TableRows, structure_column: str | None = None) -> bool:
    """Tell whether the first rows of a table describe crystals."""
    return any(_describes_crystal(record, structure_column) for record in table.records())


def _describes_crystal(record: Mapping[str, Any], column: str | None) -> bool:
    if column is not None:
        return column in record
    formula = any(isinstance(record.get(name), str) for name in FORMULA_COLUMNS)
    for name in STRUCTURE_COLUMNS:
        inner = record.get(name)
        if isinstance(inner, dict):
            return True
        if isinstance(inner, str) and ((name == STRUCTURE_COLUMNS[0] and not formula) or _is_structure(inner)):
            return True
    return is_crystal(record)


def _is_structure(cell: str) -> bool:
    """Tell whether a cell holds CIF text, a dictionary, or the name of a structure file."""
    return "_cell_length" in cell or cell.lstrip()[:1] == "{" or kind_of(cell) is not None


def read_structures(table: TableRows, rejections: Rejections, how: Reading, *, id_column: str | None = None) -> Collected:
    """The crystals of a table, read row by row, so that memory holds little beside the arrays.

    Args:
        table: its rows.
        rejections: takes rows that are no usable crystal.
        how: limits, processes and so on, see `Reading`.
        id_column: default: see `tfmat.data.read.cells.ids_of`.
    """
    found = Collected(table.source, rejections)
    collect(_sources(table, Path(table.source).parent, id_column, how), found, how)
    if id_column is None:
        found.ids = ids_of(found.cells)
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
    already = into.read
    with Spool() as spool, _parsers(how) as workers:
        for (entry, digest), answer in workers.map(parsed.known(entries)):
            into.read += 1
            crystal = _answered(answer)
            if isinstance(crystal, InputError):
                into.rejections.add(_about(crystal), file=into.source, row=entry.row, identifier=entry.identifier)
            else:
                into.keep(entry)
                if how.disordered:
                    into.formulas.append(crystal if isinstance(crystal, str) else crystal.formula)
                if not isinstance(crystal, str):
                    batch.append(crystal)
                    digests.append(digest)
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
    if records is not None and len(digests) == len(into.ids):
        into.crystals = Crystals(records)
        parsed.keep(into.crystals, digests)


def read_structure_files(sources: Sequence[Path | str], how: Reading) -> list[list[tuple[str, Crystal | str | InputError]]]:
    """Give the crystals of each structure file or text, in order.

    Args:
        sources: paths whose names `kind_of` knows, or text.
        how: limits, processes and so on, see `Reading`; nothing is cached.

    Returns:
        Of each source its crystals: the name of a CIF's block or the number of a frame (empty where there is one crystal), and the
        crystal, its formula if it is disordered, or why there is neither.
    """
    tasks = ((source, parsing(source, how, several=True)) for source in sources)
    found = list[list[tuple[str, Crystal | str | InputError]]]()
    with _parsers(how) as workers:
        for source, answer in workers.map(tasks):
            several = [(name, _answered(part)) for name, part in answer] if isinstance(answer, list) else [("", _answered(answer))]
            if isinstance(source, Path):
                several = [(name, one.located(file=str(source)) if isinstance(one, InputError) else one) for name, one in several]
            found.append(several)
            if how.report is not None:
                how.report(len(found), len(sources))
    return found


def parsing(source: Path | str, how: Reading, *, several: bool = False) -> Request | InputError:
    """Describe to a worker what it is to parse, see `request`, or say why it cannot."""
    try:
        return request(source, how.limits, disordered=how.disordered, several=several)
    except InputError as error:
        return error


def _parsers(how: Reading) -> contextlib.AbstractContextManager[Workers]:
    return contextlib.nullcontext(how.workers) if how.workers is not None else parsers(how.limits, how.processes)


def _answered(answer: Any) -> Crystal | str | InputError:
    """Decode the answer of a worker, or give what was known before."""
    return from_json(answer) if isinstance(answer, dict) else answer


def _about(error: InputError) -> InputError:
    """An error about a structure file, to be located in the table that names the file."""
    name = f"{Path(error.file).name}: " if error.file else ""
    return InputError(f"{name}{error.problem}", expected=error.expected)


def _sources(rows: Iterable[Row], folder: Path, id_column: str | None, how: Reading) -> Iterator[tuple[Entry, Parsable]]:
    for number, record in rows:
        if isinstance(record, UnreadableRow):
            yield Entry(number, record.identifier, {}), record
            continue
        if id_column is not None and id_column not in record:
            yield Entry(number, "", {}), InputError(f"no {id_column!r}", expected="an id")
            continue
        cells = {
            name: cell for name, cell in record.items() if name not in _NOT_CELLS and (cell is None or isinstance(cell, (str, int, float)))
        }
        entry = Entry(number, row_id(record, number, id_column), cells)
        try:
            yield entry, _source(record, folder, how)
        except InputError as error:
            yield entry, error


def _source(record: Mapping[str, Any], folder: Path, how: Reading) -> Parsable:
    column = how.structure_column or next((name for name in STRUCTURE_COLUMNS if record.get(name) is not None), STRUCTURE_COLUMNS[0])
    inner = record.get(column)
    if isinstance(inner, str) and inner.lstrip()[:1] == "{":
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            raise InputError(f"column {column!r} is not valid JSON", expected="CIF text, JSON or a name such as NaCl.cif") from None
    if not isinstance(inner, str):
        found = inner if isinstance(inner, dict) else record
        try:
            return crystal_from_dict(found, how.limits)
        except InputError:
            if not how.disordered:
                raise
            return formula_from_dict(found, how.limits)
    if not inner.strip():
        raise InputError("no structure", expected="CIF text or the path of a structure file")
    if "\n" in inner.strip():
        return parsing(inner, how)
    if kind_of(inner) is None:
        raise InputError(f"{inner[:60]!r} is neither CIF text nor the name of a structure file", expected="a name such as NaCl.cif")
    return parsing(folder / inner, how)
