"""Read a user's file of formulas and property values: CSV or JSON lines, plain or gzipped."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.data.read.bounded import LIMITS, Limits, decode, read_bytes
from tfmat.data.read.rows import (
    FORMULA_COLUMNS,
    ID_COLUMNS,
    STRUCTURE_COLUMNS,
    check_header,
    count,
    csv_records,
    fits,
    parse_line,
    quote,
    table_kind,
    whole_rows,
)
from tfmat.data.rejections import Rejections
from tfmat.data.table import Table
from tfmat.data.table import locate as locate
from tfmat.errors import InputError

_NOT_TARGETS = ("split", *ID_COLUMNS, *FORMULA_COLUMNS, *STRUCTURE_COLUMNS)
_MISSING = frozenset(("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"))
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Cells:
    """The content of a file before anything is made of it.

    Attributes:
        columns: name -> cells: stripped text for CSV, JSON values for JSON lines (`None` where a line lacks the key).
        rows: int64, the spreadsheet row of each record (CSV: the header is row 1, a quoted line break starts no row) or, in JSON
            lines, the number of the line.
        source: the file.
    """

    columns: dict[str, list[Any]]
    rows: np.ndarray
    source: str


def read_table(
    path: str | os.PathLike[str] | Cells,
    *,
    targets: Sequence[str] | None = None,
    formula_column: str | None = None,
    id_column: str | None = None,
    require_targets: bool = True,
) -> Table:
    """Formulas, target values and ids of a CSV or JSON lines file.

    An empty cell, ``NaN``, ``NA`` or ``null`` is a missing value, NaN. Every other cell of a target column must be a finite number;
    ``true`` and ``false`` count as 1 and 0. Formulas are not interpreted here: ``NaN`` is sodium nitride, and an unreadable
    formula is found by the featurizer (`locate` then tells where it stands).

    Args:
        path: ends in ``.csv``, ``.csv.gz``, ``.jsonl`` or ``.jsonl.gz``; UTF-8. Or the cells of such a file.
        targets: columns to read as targets. Default: ``target`` if there is such a column, else the only numeric one.
        formula_column: default: ``formula``, else ``composition``.
        id_column: default: ``id`` if there is such a column; otherwise the rows' numbers are the ids.
        require_targets: `False` for files to predict: without `targets` no target is read.

    Raises:
        InputError: with file and, where there is one, row.
    """
    cells = path if isinstance(path, Cells) else read_cells(path)
    materials, ids, names = formula_rows(cells, targets, formula_column, id_column, require_targets)
    values = read_targets(cells, names, Rejections(strict=True))[0]
    if require_targets:
        check_any_value(values, cells.source)
    return Table(materials, values, ids, cells.rows, cells.source)


def formula_rows(
    cells: Cells, targets: Sequence[str] | None, formula_column: str | None, id_column: str | None, require_targets: bool
) -> tuple[list[Any], list[str], tuple[str, ...]]:
    """The formulas, ids and names of the target columns; the arguments are those of `read_table`."""
    formula_column = formula_column or next((name for name in FORMULA_COLUMNS if name in cells.columns), FORMULA_COLUMNS[0])
    materials = _column(cells, formula_column)
    id_column = id_column_of(cells, id_column)
    ids = [str(value) for value in (_column(cells, id_column) if id_column else cells.rows)]
    return materials, ids, choose_targets(cells, targets, {formula_column, id_column or ""}, require_targets=require_targets)


def id_column_of(cells: Cells, id_column: str | None) -> str | None:
    """The column of ids: the one asked for, else ``id``, or another of `ID_COLUMNS` in which every row has its own."""
    if id_column is not None:
        return id_column
    for name in ID_COLUMNS:
        column = cells.columns.get(name)
        if column is not None and (name == "id" or (len({str(cell) for cell in column}) == len(column) and "" not in column)):
            return name
    return None


def choose_targets(cells: Cells, targets: Sequence[str] | None, taken: Iterable[str], *, require_targets: bool = True) -> tuple[str, ...]:
    """Names of the target columns, as `read_table` chooses them."""
    if targets is None:
        return _guess_target(cells, taken) if require_targets else ()
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    for name in names:
        _column(cells, name)
    return names


def read_targets(cells: Cells, names: Sequence[str], rejections: Rejections) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Values of the target columns, and which rows hold nothing but numbers and empty cells, bool (N,); the others are rejected."""
    good = np.ones(len(cells.rows), bool)
    values = {name: _numbers(cells, name, good, rejections) for name in names}
    return values, good


def check_any_value(values: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse a target column without a single value."""
    for name, column in values.items():
        if np.isnan(column).all():
            raise InputError(f"target column {name!r} has no value", expected="numbers", file=source)


def read_cells(path: str | os.PathLike[str], *, rejections: Rejections | None = None, limits: Limits = LIMITS) -> Cells:
    """All columns of a CSV or JSON lines file, uninterpreted; at least one record.

    Args:
        path: the file.
        rejections: takes rows that cannot be read (another number of cells than columns, a line that is no JSON object). Default: the
            first one is an error.
        limits: ``table_bytes`` is the largest file that is read.
    """
    path = Path(path)
    rejections = rejections if rejections is not None else Rejections(strict=True)
    kind = table_kind(path)
    if kind in ("JSON", "Parquet"):
        records = whole_rows(path, limits)
        names = dict.fromkeys(name for _, record in records for name in record)
        columns = {name: [record.get(name) for _, record in records] for name in names}
        return Cells(columns, np.asarray([number for number, _ in records], dtype=np.int64), str(path))
    text = decode(read_bytes(path, limits.table_bytes, limits), path, kind)
    if not text.strip():
        raise InputError("the file is empty", expected=f"{kind} text with a column 'formula'", file=str(path))
    return _read_csv(text, str(path), rejections) if kind == "CSV" else _read_jsonl(text, str(path), rejections)


def _read_csv(text: str, source: str, rejections: Rejections) -> Cells:
    if "\0" in text:
        raise InputError("holds a NUL character", expected="CSV text", file=source, row=text[: text.index("\0")].count("\n") + 1)
    found = csv_records(text, source, "comma-separated cells")
    rows, records = [number for number, _ in found], [record for _, record in found]
    header, first = check_header(records[0], rows[0], source), rows[0]
    if len(records) == 1:
        columns = ", ".join(quote(name) for name in header[:12])
        raise InputError(f"no row below the header ({columns})", expected="at least one material", file=source, row=first)
    kept = [position for position in range(1, len(records)) if fits(records[position], header, rows[position], source, rejections)]
    if not kept:
        raise InputError(f"no row has {count(len(header), 'cell')}", expected="one comma-separated cell a column", file=source, row=first)
    columns_list = [[cell.strip() for cell in column] for column in zip(*(records[position] for position in kept), strict=True)]
    return Cells(dict(zip(header, columns_list, strict=True)), np.asarray([rows[position] for position in kept], dtype=np.int64), source)


def _read_jsonl(text: str, source: str, rejections: Rejections) -> Cells:
    records: list[dict[str, Any]] = []
    rows: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        record = parse_line(line, number, source, rejections) if line.strip() else None
        if record is not None:
            records.append(record)
            rows.append(number)
    if not records:
        raise InputError("no line holds a JSON object", expected="one JSON object a line", file=source)
    names = dict.fromkeys(name for record in records for name in record)
    return Cells({name: [record.get(name) for record in records] for name in names}, np.asarray(rows, dtype=np.int64), source)


def _column(cells: Cells, name: str) -> list[Any]:
    if name in cells.columns:
        return cells.columns[name]
    found = list(cells.columns)
    close = difflib.get_close_matches(name.lower(), [column.lower() for column in found], n=1)
    hint = next((f" (did you mean {column!r}?)" for column in found if close and column.lower() == close[0]), "")
    listed = ", ".join(quote(column) for column in found[:12]) + (", ..." if len(found) > 12 else "")
    raise InputError(f"no column {name!r}{hint}; the columns are {listed}", expected=f"a column {name!r}", file=cells.source, row=1)


def _guess_target(cells: Cells, taken: Iterable[str]) -> tuple[str, ...]:
    """The column ``target``, or the only one of numbers, or the only one at all."""
    if "target" in cells.columns:
        return ("target",)
    others = [name for name in cells.columns if name not in {*taken, *_NOT_TARGETS}]
    numeric = [name for name in others if _is_numeric(cells.columns[name])]
    if len(numeric or others) == 1:
        return tuple(numeric or others)
    if numeric:
        raise InputError(
            f"several columns may be the target: {', '.join(quote(name) for name in numeric[:12])}",
            expected="the target to be named",
            file=cells.source,
            row=1,
        )
    listed = ", ".join(quote(name) for name in list(cells.columns)[:12])
    raise InputError(f"no column of numbers; the columns are {listed}", expected="a target column", file=cells.source, row=1)


def _is_numeric(column: list[Any]) -> bool:
    values = [value for value in column if not _is_missing(value)]
    return bool(values) and all(_number(value) is not None for value in values)


def _is_missing(cell: Any) -> bool:
    """Whether a cell says that there is no value: empty, ``NaN``, ``NA``, ``null`` and the like."""
    if isinstance(cell, str):
        return cell.strip().lower() in _MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_number(cell: Any) -> bool:
    """Whether a cell holds a finite number."""
    return _number(cell) is not None


def _number(cell: Any) -> float | None:
    """A finite number, also from its text, 1 and 0 for true and false, or `None`."""
    if isinstance(cell, str):
        try:
            value = float(cell) if "_" not in cell else math.nan
        except ValueError:
            return _TRUTH.get(cell.strip().lower())
        return value if math.isfinite(value) else None
    if not isinstance(cell, (bool, int, float)):
        return None
    try:
        return float(cell) if math.isfinite(cell) else None
    except OverflowError:
        return None


def _numbers(cells: Cells, name: str, good: np.ndarray, rejections: Rejections) -> np.ndarray:
    column = _column(cells, name)
    numbers = np.full(len(column), np.nan)
    for i, cell in enumerate(column):
        if _is_missing(cell):
            continue
        number = _number(cell)
        if number is not None:
            numbers[i] = number
        elif good[i]:
            good[i] = False
            error = InputError(f"column {name!r} holds {quote(cell)}", expected="a finite number or an empty cell")
            identifier = str(cells.columns["id"][i]) if "id" in cells.columns else ""
            rejections.add(error, file=cells.source, row=int(cells.rows[i]), identifier=identifier)
    return numbers
