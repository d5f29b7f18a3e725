"""The rows of a table, whatever file holds it: CSV as people write it, JSON lines, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tfmat.data.read.bounded import LIMITS, Limits, check_file, check_unpacked, decode, iterate_lines, opened, read_bytes
from tfmat.data.read.parse import STRUCTURE_FILES
from tfmat.errors import InputError
from tfmat.extras import require
from tfmat.featurizers.formula import short

FORMULA_COLUMNS = ("formula", "composition", "pretty_formula", "formula_pretty", "reduced_formula", "chemical_formula_reduced")
STRUCTURE_COLUMNS = ("structure", "atoms", "cif")
ID_COLUMNS = ("id", "material_id", "jid", "Unnamed: 0")
"""Columns that are taken unless others are named, the first that there is."""
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_DELIMITERS = ",;\t|"
_LOOKED_AT = 100
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?\s*")


class UnreadableRow(InputError):
    """Why a row cannot be read.

    Attributes:
        identifier: its id if it has one all the same.
    """

    identifier = ""


Row = tuple[int, dict[str, Any] | UnreadableRow]
"""The number of a row, and its cells or the reason why it cannot be read."""


class TableRows:
    """The rows of a table, read once from the first to the last; CSV, JSON lines and Parquet are streamed.

    Args:
        path: an ordinary file with one of the `SUFFIXES`.
        limits: the largest file and the longest line that are read.

    Attributes:
        source: the file.
        head: its first rows, which tell what it holds.
    """

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        read = {"CSV": _csv_rows, "JSON lines": _line_rows, "JSON": _json_rows, "Parquet": _parquet_rows}[table_kind(path)]
        self.source = str(path)
        self._rest = read(path, limits)
        self._error: InputError | None = None  # told after the rows in front of it
        self.head: list[Row] = []
        try:
            self.head.extend(islice(self._rest, _LOOKED_AT))
        except InputError as error:
            self._error = error

    def __iter__(self) -> Iterator[Row]:
        yield from self.head
        if self._error is not None:
            raise self._error
        yield from self._rest

    def records(self) -> list[dict[str, Any]]:
        """The readable ones among the first rows."""
        return [record for _, record in self.head if not isinstance(record, UnreadableRow)]

    def names_formulas(self, formula_column: str | None = None) -> bool:
        """Tell whether the first rows have a column of formulas, or the one that is named."""
        return bool({*chain(*self.records())} & ({formula_column} if formula_column else set(FORMULA_COLUMNS)))


def table_kind(path: Path) -> str:
    """``CSV``, ``JSON lines``, ``JSON`` or ``Parquet`` by the name of an ordinary file."""
    if path.is_dir():
        raise InputError("is a folder", expected="a CSV or JSON lines file", file=str(path))
    check_file(path)
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        tables = ", ".join(ending for ending in SUFFIXES if not ending.endswith(".gz"))
        raise InputError("unknown kind of file", expected=f"{STRUCTURE_FILES}, or a table ({tables})", file=str(path))
    ending = Path(name.removesuffix(".gz")).suffix
    return {".jsonl": "JSON lines", ".json": "JSON", ".parquet": "Parquet"}.get(ending, "CSV")


def csv_rows(lines: Iterable[str], source: str, expected: str = "comma-separated cells") -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and cells of every row of CSV text that is not blank.

    Cells are separated by what separates those of the first row: a comma, semicolon, tab or bar, or what a line ``sep=;`` in front says.
    Where it is a semicolon, numbers may have a decimal comma. Lines that begin with ``#`` are comments if they stand in front of the first
    row or have another number of cells. Empty cells at the end of the first row, and below them, are left out.

    Args:
        lines: with their ends, so that cells may hold line breaks.
        source: the file, for errors.
        expected: for errors.
    """
    iterator = iter(lines)
    number, delimiter = 0, ""
    for line in iterator:
        number += 1
        text = line.strip()
        if text[:4].lower() == "sep=" and len(text) == 5:
            delimiter = text[4]
        elif text[:4].lower() == "sep=" and line.rstrip("\r\n")[4:] == "\t":
            delimiter = "\t"
        elif text.strip(_DELIMITERS + ' "') and not text.startswith("#"):
            break
    else:
        return
    plain = re.sub(r'"[^"]*"?', "", line)
    delimiter = delimiter or max(_DELIMITERS, key=plain.count)
    width, place = 0, -1
    try:
        for place, row in enumerate(csv.reader(chain([line], iterator), delimiter=delimiter, strict=True)):
            if not any(cell.strip() for cell in row):
                continue
            if width == 0 or len(row) > width:
                while len(row) > width and not row[-1].strip():
                    row.pop()
            width = width or len(row)
            if len(row) != width and row[0].startswith("#"):
                continue
            if delimiter == ";":
                row = [cell.replace(",", ".") if "," in cell and _DECIMAL_COMMA.fullmatch(cell) else cell for cell in row]
            yield number + place, row
    except csv.Error as error:
        raise InputError(f"is not valid CSV ({error})", expected=expected, file=source, row=number + place + 1) from None


def _check_header(record: Sequence[str], row: int, source: str) -> list[str]:
    """The names of the columns, of which none may stand twice; those without one are called ``Unnamed: 0``, ..., as by pandas."""
    header = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(record)]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"column {short(name)} stands twice", expected="one name per column", file=source, row=row)
    return header


def _csv_rows(path: Path, limits: Limits) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), limits.line_bytes))  # one setting for the whole process
    header: list[str] = []
    first = read = good = 0
    for number, row in csv_rows(text_lines(path, limits), str(path)):
        if not header:
            header, first = _check_header(row, number, str(path)), number
            continue
        read += 1
        if len(row) != len(header):
            yield number, _misfit(row, header)
            continue
        good += 1
        # text of several lines is a crystal's, and a POSCAR may begin with an empty line
        yield number, {name: cell if "\n" in cell.strip() else cell.strip() for name, cell in zip(header, row, strict=True)}
    if not header:
        raise InputError("the file is empty", expected="CSV text with a column 'formula'", file=str(path))
    if not read:
        columns = ", ".join(short(name) for name in header[:12])
        raise InputError(f"no row below the header ({columns})", expected="at least one material", file=str(path), row=first)
    if not good:
        problem = f"no row has {_count(len(header), 'cell')}"
        raise InputError(problem, expected="one comma-separated cell per column", file=str(path), row=first)


def _misfit(row: list[str], header: list[str]) -> UnreadableRow:
    error = UnreadableRow(
        f"{_count(len(row), 'cell')} under {_count(len(header), 'column')}", expected="one comma-separated cell per column"
    )
    error.identifier = dict(zip(header, row, strict=False)).get("id", "").strip()
    return error


def text_lines(path: Path, limits: Limits = LIMITS) -> Iterator[str]:
    """The lines of CSV text with their ends, as `csv_rows` takes them."""
    for number, line in iterate_lines(path, limits, blank=True):
        if line is None:
            raise InputError(f"is longer than {limits.line_bytes / 2**20:g} MiB", expected="CSV text", file=str(path), row=number)
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _not_utf8(path, line, number, "CSV") from None
        if "\0" in text:
            raise InputError("holds a NUL character", expected="CSV text", file=str(path), row=number)
        yield from io.StringIO(text, newline="") if "\r" in text else (text,)  # old Macs end lines so


def _not_utf8(path: Path, line: bytes, number: int, kind: str) -> InputError:
    hint = " (it looks like UTF-16)" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    return InputError(f"is not text in UTF-8{hint}", expected=f"{kind} text in UTF-8", file=str(path), row=number)


def _line_rows(path: Path, limits: Limits) -> Iterator[Row]:
    read = good = 0
    for number, line in iterate_lines(path, limits):
        read += 1
        row = _line_row(path, line, number, limits)
        good += not isinstance(row, InputError)
        yield number, row
    if not good:
        problem = "no line holds a JSON object" if read else "the file is empty"
        raise InputError(problem, expected="one JSON object per line", file=str(path))


def _line_row(path: Path, line: bytes | None, number: int, limits: Limits) -> dict[str, Any] | UnreadableRow:
    if line is None:
        return UnreadableRow(f"is longer than {limits.line_bytes / 2**20:g} MiB", expected="one crystal per line")
    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _not_utf8(path, line, number, "JSON lines")
    try:
        record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        return UnreadableRow(f"is not valid JSON ({error})", expected="one JSON object per line")
    return record if isinstance(record, dict) else UnreadableRow(f"holds {short(record)}", expected="one JSON object per line")


def _json_rows(path: Path, limits: Limits) -> Iterator[Row]:
    text = decode(read_bytes(path, limits.table_bytes, limits), path, "JSON")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())[:120]
        raise InputError(f"is not valid JSON ({detail})", expected="a list of objects", file=str(path)) from None
    del text
    records = _json_records(content)
    if not records or not all(isinstance(record, dict) for record in records):
        raise InputError("holds no list of JSON objects", expected="one object per material", file=str(path))
    yield from enumerate(records, start=1)


def _json_records(content: Any) -> list[Any]:
    """The records of a list, of an answer of OPTIMADE or the Materials Project, or of pandas' ``to_json`` in any orientation."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        return []
    columns, data = content.get("columns"), content.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # orient="split", as Matbench
        index = content.get("index")
        records = [dict(zip(columns, row, strict=False)) for row in data if isinstance(row, list)]
        if isinstance(index, list) and len(index) == len(records) and "id" not in columns:
            records = [{"id": name} | record for name, record in zip(index, records, strict=True)]
        return records
    if isinstance(data, list):
        return data
    if isinstance(data, dict):
        return [data]
    known = {*FORMULA_COLUMNS, *STRUCTURE_COLUMNS}
    if known & set(content) and all(isinstance(column, dict) for column in content.values()) and not _is_nested(content):
        return [{name: column.get(key) for name, column in content.items()} for key in next(iter(content.values()))]
    if known & set(content) and all(isinstance(column, list) for column in content.values()):
        return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=False)]
    if content and all(isinstance(record, dict) for record in content.values()) and not known & set(content):
        return [{"id": name} | record for name, record in content.items()]
    return [content]


def _is_nested(content: Mapping[str, Any]) -> bool:
    """Tell whether a value is a crystal itself, not a column."""
    return any({"sites", "lattice", "lattice_mat"} & set(value) for value in content.values())


def _parquet_rows(path: Path, limits: Limits) -> Iterator[Row]:
    """The rows in small batches, since a few bytes of Parquet may stand for a very large table."""
    require("parquet", "reading Parquet files", "pyarrow")
    import pyarrow.parquet

    number = unpacked = 0
    with opened(path) as (stream, _):
        try:
            for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=256):
                unpacked += batch.nbytes
                check_unpacked(path, unpacked, limits.total_bytes)
                for record in batch.to_pylist():
                    number += 1
                    yield number, {"Unnamed: 0" if name == "__index_level_0__" else name: cell for name, cell in record.items()}
        except (pyarrow.ArrowException, OSError) as error:
            detail = " ".join(str(error).split())[:120]
            raise InputError(f"cannot be read as Parquet ({detail})", expected="a table", file=str(path)) from None
    if not number:
        raise InputError("has no row", expected="one row per material", file=str(path))


def _count(number: int, noun: str) -> str:
    """A number and what it counts, in the plural if it must be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
