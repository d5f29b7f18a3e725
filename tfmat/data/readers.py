"""Read a user's file of formulas and property values: CSV or JSON lines, plain or gzipped."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.data.table import Table
from tfmat.errors import InputError

FORMULA_COLUMNS = ("formula", "composition")
SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
_NOT_TARGETS = ("id", "split", *FORMULA_COLUMNS)


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
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] | None = None,
    formula_column: str | None = None,
    id_column: str | None = None,
    require_targets: bool = True,
) -> Table:
    """Formulas, target values and ids of a CSV or JSON lines file.

    An empty cell (in JSON lines ``null`` or no such key) is a missing value, NaN. Every other cell of a target column must be a finite
    number; JSON's ``true`` and ``false`` count as 1 and 0. Formulas are not interpreted here: ``NaN`` is sodium nitride, and an unreadable
    formula is found by the featurizer (`locate` then tells where it stands).

    Args:
        path: ends in ``.csv``, ``.csv.gz``, ``.jsonl`` or ``.jsonl.gz``; UTF-8.
        targets: columns to read as targets. Default: ``target`` if there is such a column, else the only numeric one.
        formula_column: default: ``formula``, else ``composition``.
        id_column: default: ``id`` if there is such a column; otherwise the rows' numbers are the ids.
        require_targets: `False` for files to predict: without `targets` no target is read.

    Raises:
        InputError: with file and, where there is one, row.
    """
    return build_table(
        read_cells(path), targets=targets, formula_column=formula_column, id_column=id_column, require_targets=require_targets
    )


def build_table(
    cells: Cells,
    *,
    targets: Sequence[str] | None = None,
    formula_column: str | None = None,
    id_column: str | None = None,
    require_targets: bool = True,
) -> Table:
    """A `Table` from the cells of a file; the keywords are those of `read_table`."""
    formula_column = formula_column or next((name for name in FORMULA_COLUMNS if name in cells.columns), FORMULA_COLUMNS[0])
    materials = _column(cells, formula_column)
    if id_column is None and "id" in cells.columns:
        id_column = "id"
    ids = [str(value) for value in (_column(cells, id_column) if id_column else cells.rows)]
    if targets is None:
        targets = _guess_target(cells, {formula_column, id_column or ""}) if require_targets else ()
    elif isinstance(targets, str):
        targets = (targets,)
    values = {name: _numbers(cells, name) for name in targets}
    for name, column in values.items():
        if require_targets and np.isnan(column).all():
            raise InputError(f"target column {name!r} has no value", expected="numbers", file=cells.source)
    return Table(materials, values, ids, cells.rows, cells.source)


def locate(error: InputError, table: Table) -> InputError:
    """An error that carries the position of a material in `table` as one that tells file and row."""
    row = int(table.rows[error.index]) if error.index is not None else None
    return error.located(file=table.source, row=row)


def read_cells(path: str | os.PathLike[str]) -> Cells:
    """All columns of a CSV or JSON lines file, uninterpreted; at least one record."""
    path = Path(path)
    name = path.name.lower()
    if path.is_dir():
        raise InputError("is a folder", expected="a CSV or JSON lines file", file=str(path))
    if not path.exists():
        raise InputError("no such file", expected="a CSV or JSON lines file", file=str(path))
    if not name.endswith(SUFFIXES):
        raise InputError("unknown kind of file", expected=f"a name ending in {', '.join(SUFFIXES)}", file=str(path))
    kind = "CSV" if name.removesuffix(".gz").endswith(".csv") else "JSON lines"
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError("is not a gzip file, or is damaged", expected=f"{kind} text compressed with gzip", file=str(path)) from None
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise InputError("is not text in UTF-8", expected=f"{kind} text in UTF-8", file=str(path), row=row) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(path)) from None
    if not text.strip():
        raise InputError("the file is empty", expected=f"{kind} text with a column 'formula'", file=str(path))
    return _read_csv(text, str(path)) if kind == "CSV" else _read_jsonl(text, str(path))


def _read_csv(text: str, source: str) -> Cells:
    if "\0" in text:
        raise InputError("holds a NUL character", expected="CSV text", file=source, row=text[: text.index("\0")].count("\n") + 1)
    records: list[list[str]] = []
    rows: list[int] = []
    number = 0
    try:
        for number, record in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1):
            if any(cell.strip() for cell in record):
                records.append(record)
                rows.append(number)
    except csv.Error as error:
        raise InputError(f"is not valid CSV ({error})", expected="comma-separated cells", file=source, row=number + 1) from None
    header, first = [name.strip() for name in records[0]], rows[0]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"column {_quote(name)} stands twice", expected="one name a column", file=source, row=first)
    for record, row in zip(records[1:], rows[1:], strict=True):
        if len(record) != len(header):
            problem = f"{_count(len(record), 'cell')} under {_count(len(header), 'column')}"
            raise InputError(problem, expected="one comma-separated cell a column", file=source, row=row)
    if len(records) == 1:
        columns = ", ".join(_quote(name) for name in header[:12])
        raise InputError(f"no row below the header ({columns})", expected="at least one material", file=source, row=first)
    columns_list = [[cell.strip() for cell in column] for column in zip(*records[1:], strict=True)]
    return Cells(dict(zip(header, columns_list, strict=True)), np.asarray(rows[1:], dtype=np.int64), source)


def _read_jsonl(text: str, source: str) -> Cells:
    records: list[dict[str, Any]] = []
    rows: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"is not valid JSON ({error})", expected="one JSON object a line", file=source, row=number) from None
        if not isinstance(record, dict):
            raise InputError(f"holds {_quote(record)}", expected="one JSON object a line", file=source, row=number)
        records.append(record)
        rows.append(number)
    names = dict.fromkeys(name for record in records for name in record)
    return Cells({name: [record.get(name) for record in records] for name in names}, np.asarray(rows, dtype=np.int64), source)


def _column(cells: Cells, name: str) -> list[Any]:
    if name in cells.columns:
        return cells.columns[name]
    found = list(cells.columns)
    close = difflib.get_close_matches(name.lower(), [column.lower() for column in found], n=1)
    hint = next((f" (did you mean {column!r}?)" for column in found if close and column.lower() == close[0]), "")
    listed = ", ".join(_quote(column) for column in found[:12]) + (", ..." if len(found) > 12 else "")
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
            f"several columns may be the target: {', '.join(_quote(name) for name in numeric[:12])}",
            expected="the target to be named",
            file=cells.source,
            row=1,
        )
    listed = ", ".join(_quote(name) for name in list(cells.columns)[:12])
    raise InputError(f"no column of numbers; the columns are {listed}", expected="a target column", file=cells.source, row=1)


def _is_numeric(column: list[Any]) -> bool:
    values = [value for value in column if value is not None and value != ""]
    return bool(values) and all(_number(value) is not None for value in values)


def _number(cell: Any) -> float | None:
    """A finite number, also from its text, or `None`."""
    if isinstance(cell, str):
        try:
            value = float(cell) if "_" not in cell else math.nan
        except ValueError:
            return None
        return value if math.isfinite(value) else None
    if not isinstance(cell, (bool, int, float)):
        return None
    try:
        return float(cell) if math.isfinite(cell) else None
    except OverflowError:
        return None


def _numbers(cells: Cells, name: str) -> np.ndarray:
    column = _column(cells, name)
    numbers = np.full(len(column), np.nan)
    for i, cell in enumerate(column):
        if cell is None or cell == "":
            continue
        number = _number(cell)
        if number is None:
            expected = "a finite number or an empty cell"
            raise InputError(f"column {name!r} holds {_quote(cell)}", expected=expected, file=cells.source, row=int(cells.rows[i]))
        numbers[i] = number
    return numbers


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
