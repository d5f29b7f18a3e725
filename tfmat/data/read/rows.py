"""The rows of a table, whatever file holds it: CSV as people write it, JSON lines, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from tfmat.data.read.bounded import Limits, check_file, decode, iterate_lines, read_bytes
from tfmat.data.rejections import Rejections
from tfmat.errors import InputError
from tfmat.extras import require

FORMULA_COLUMNS = ("formula", "composition", "pretty_formula", "formula_pretty", "reduced_formula", "chemical_formula_reduced")
STRUCTURE_COLUMNS = ("structure", "atoms", "cif")
ID_COLUMNS = ("id", "material_id", "jid", "Unnamed: 0")
"""Columns that are taken unless others are named, the first that there is."""
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
STRUCTURE_FILES = "a structure file (.cif, .mcif, .vasp, POSCAR, CONTCAR, XDATCAR, .extxyz, .xyz, .xsf, .gen, .pwi, geometry.in)"
_DELIMITERS = ",;\t|"
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?\s*")

Row = tuple[int, dict[str, Any] | InputError]
"""The number of a row, and its cells or the reason why it cannot be read."""


def table_kind(path: Path) -> str:
    """``CSV``, ``JSON lines``, ``JSON`` or ``Parquet`` by the name of an ordinary file."""
    if path.is_dir():
        raise InputError("is a folder", expected="a CSV or JSON lines file", file=str(path))
    check_file(path)
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise InputError("unknown kind of file", expected=f"{STRUCTURE_FILES}, or a name ending in {', '.join(SUFFIXES)}", file=str(path))
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


def csv_records(text: str, source: str, expected: str) -> list[tuple[int, list[str]]]:
    """All of `csv_rows` of a text."""
    return list(csv_rows(io.StringIO(text, newline=""), source, expected))


def check_header(record: Sequence[str], row: int, source: str) -> list[str]:
    """The names of the columns, of which none may stand twice; those without one are called ``Unnamed: 0``, ..., as by pandas."""
    header = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(record)]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"column {quote(name)} stands twice", expected="one name a column", file=source, row=row)
    return header


def fits(record: Sequence[str], header: Sequence[str], row: int, source: str, rejections: Rejections) -> bool:
    """Tell whether a row has one cell per column; if not, it is rejected."""
    if len(record) == len(header):
        return True
    problem = f"{count(len(record), 'cell')} under {count(len(header), 'column')}"
    identifier = record[header.index("id")].strip() if "id" in header and header.index("id") < len(record) else ""
    rejections.add(InputError(problem, expected="one comma-separated cell a column"), file=source, row=row, identifier=identifier)
    return False


def rows_of(path: Path, limits: Limits) -> Iterator[Row]:
    """The rows of any table, one by one; CSV and JSON lines are streamed."""
    kind = table_kind(path)
    if kind == "CSV":
        return _csv_rows(path, limits)
    return _line_rows(path, limits) if kind == "JSON lines" else iter(whole_rows(path, limits))


def whole_rows(path: Path, limits: Limits) -> Sequence[tuple[int, dict[str, Any]]]:
    """The rows of a JSON or Parquet file, numbered from 1."""
    status = check_file(path)
    return _whole_rows(path, limits, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _whole_rows(path: Path, limits: Limits, *_: int) -> Sequence[tuple[int, dict[str, Any]]]:
    if table_kind(path) == "Parquet":
        records = _parquet_records(path, limits)
    else:
        text = decode(read_bytes(path, limits.table_bytes, limits), path, "JSON")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            detail = " ".join(str(error).split())[:120]
            raise InputError(f"is not valid JSON ({detail})", expected="a list of objects", file=str(path)) from None
        records = _json_records(content)
    if not records or not all(isinstance(record, dict) for record in records):
        raise InputError("holds no list of JSON objects", expected="one object with a formula or structure a material", file=str(path))
    return list(enumerate(records, start=1))


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
    """Whether a value is a crystal itself, not a column."""
    return any({"sites", "lattice", "lattice_mat"} & set(value) for value in content.values())


def _parquet_records(path: Path, limits: Limits) -> list[Any]:
    require("parquet", "reading Parquet files", "pyarrow")
    import pyarrow.parquet

    content = read_bytes(path, limits.table_bytes, limits)
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read as Parquet ({detail})", expected="a table", file=str(path)) from None
    names = ["Unnamed: 0" if name == "__index_level_0__" else name for name in table.column_names]
    return list(table.rename_columns(names).to_pylist())


def parse_line(line: str | bytes, number: int, source: str, rejections: Rejections) -> dict[str, Any] | None:
    """The JSON object of a line, or `None` where there is none, which is rejected."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        rejections.add(InputError(f"is not valid JSON ({error})", expected="one JSON object a line"), file=source, row=number)
        return None
    if not isinstance(record, dict):
        rejections.add(InputError(f"holds {quote(record)}", expected="one JSON object a line"), file=source, row=number)
        return None
    return record


def _line_rows(path: Path, limits: Limits) -> Iterator[Row]:
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
    strict = Rejections(strict=True)
    try:
        for number, row in csv_rows(_text_lines(path, limits), str(path)):
            if not header:
                header = check_header(row, number, str(path))
                continue
            try:
                fits(row, header, number, str(path), strict)
            except InputError as error:
                yield number, error
            else:
                yield number, {name: cell.strip() if "\n" not in cell else cell for name, cell in zip(header, row, strict=True)}
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


def quote(value: object) -> str:
    """A value as text, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def count(number: int, noun: str) -> str:
    """A number and what it counts, in the plural if it must be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
