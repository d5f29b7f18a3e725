"""The columns of a user's table: formulas, ids and property values."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.data.read.rows import FORMULA_COLUMNS, ID_COLUMNS, STRUCTURE_COLUMNS, TableRows, UnreadableRow
from tfmat.data.rejections import Rejections
from tfmat.data.table import Table
from tfmat.data.table import locate as locate
from tfmat.errors import InputError
from tfmat.featurizers.formula import short

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
    """Formulas, target values and ids of a table.

    An empty cell, ``NaN``, ``NA`` or ``null`` is a missing value, NaN. Every other cell of a target column must be a finite number;
    ``true`` and ``false`` count as 1 and 0. Formulas are not interpreted here: ``NaN`` is sodium nitride, and an unreadable
    formula is found by the featurizer (`locate` then tells where it stands).

    Args:
        path: CSV, JSON lines, JSON or Parquet, see `tfmat.data.read.rows.SUFFIXES`; text in UTF-8. Or the cells of such a file.
        targets: columns to read as targets. Default: ``target`` if there is such a column, else the only numeric one.
        formula_column: default: ``formula``, else ``composition``.
        id_column: default: see `ids_of`.
        require_targets: `False` for files to predict: without `targets` no target is read.

    Raises:
        InputError: with file and, where there is one, row.
    """
    cells = path if isinstance(path, Cells) else read_cells(TableRows(Path(path)))
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
    ids = ids_of(cells, id_column)
    return materials, ids, choose_targets(cells, targets, {formula_column, id_column or ""}, require_targets=require_targets)


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


def read_cells(table: TableRows, *, rejections: Rejections | None = None) -> Cells:
    """All columns of a table, uninterpreted; at least one record.

    Args:
        table: its rows.
        rejections: takes rows that cannot be read (another number of cells than columns, a line that is no JSON object). Default: the
            first one is an error.
    """
    rejections = rejections if rejections is not None else Rejections(strict=True)
    columns, rows = Columns(), list[int]()
    for number, record in table:
        if isinstance(record, UnreadableRow):
            rejections.add(record, file=table.source, row=number, identifier=record.identifier)
        else:
            columns.add(record, len(rows))
            rows.append(number)
    return Cells(columns.filled(len(rows)), np.asarray(rows, dtype=np.int64), table.source)


class Columns:
    """Columns that grow row by row; a row that lacks one has `None` there."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Any]] = {}

    def add(self, record: Mapping[str, Any], length: int) -> None:
        """Append the cells of a row, of which `length` stand above."""
        for name, cell in record.items():
            column = self._cells.setdefault(name, [])
            if len(column) < length:
                column.extend([None] * (length - len(column)))
            column.append(cell)

    def filled(self, length: int) -> dict[str, list[Any]]:
        """All columns, each of `length` cells."""
        for column in self._cells.values():
            column.extend([None] * (length - len(column)))
        return self._cells


def ids_of(cells: Cells, id_column: str | None = None) -> list[str]:
    """The ids of the rows: `row_id` of each, unless nothing says that it is one and two rows share it; then their numbers."""
    names = [id_column] if id_column else [name for name in ID_COLUMNS if name in cells.columns]
    records = zip(*(_column(cells, name) for name in names), strict=True) if names else [()] * len(cells.rows)
    ids = [
        row_id(dict(zip(names, record, strict=True)), number, id_column)
        for number, record in zip(cells.rows.tolist(), records, strict=True)
    ]
    return ids if id_column or "id" in names or len(set(ids)) == len(ids) else [str(number) for number in cells.rows.tolist()]


def row_id(record: Mapping[str, Any], number: int, id_column: str | None = None) -> str:
    """The id of a row: its cell in `id_column`, by default in the first of `ID_COLUMNS` that it fills; where there is none, its number."""
    names = (id_column,) if id_column else ID_COLUMNS
    return str(next((record[name] for name in names if record.get(name) not in (None, "")), number))


def _column(cells: Cells, name: str) -> list[Any]:
    if name in cells.columns:
        return cells.columns[name]
    found = list(cells.columns)
    close = difflib.get_close_matches(name.lower(), [column.lower() for column in found], n=1)
    hint = next((f" (did you mean {column!r}?)" for column in found if close and column.lower() == close[0]), "")
    listed = ", ".join(short(column) for column in found[:12]) + (", ..." if len(found) > 12 else "")
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
            f"several columns may be the target: {', '.join(short(name) for name in numeric[:12])}",
            expected="the target to be named",
            file=cells.source,
            row=1,
        )
    listed = ", ".join(short(name) for name in list(cells.columns)[:12])
    raise InputError(f"no column of numbers; the columns are {listed}", expected="a target column", file=cells.source, row=1)


def _is_numeric(column: list[Any]) -> bool:
    values = [value for value in column if not _is_missing(value)]
    return bool(values) and all(_number(value) is not None for value in values)


def _is_missing(cell: Any) -> bool:
    """Tell whether a cell says that there is no value: empty, ``NaN``, ``NA``, ``null`` and the like."""
    if isinstance(cell, str):
        return cell.strip().lower() in _MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_number(cell: Any) -> bool:
    """Tell whether a cell holds a finite number."""
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
            error = InputError(f"column {name!r} holds {short(cell)}", expected="a finite number or an empty cell")
            identifier = str(cells.columns["id"][i]) if "id" in cells.columns else ""
            rejections.add(error, file=cells.source, row=int(cells.rows[i]), identifier=identifier)
    return numbers
