"""A folder of CIF and POSCAR files, with or without the values of ``id_prop.csv`` (CGCNN's convention)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfmat.data.read.bounded import Limits, refuse_pickle
from tfmat.data.read.cells import is_number
from tfmat.data.read.parse import kind_of, stem_of
from tfmat.data.read.rows import FORMULA_COLUMNS, csv_rows, text_lines
from tfmat.data.read.structures import Collected, Entry, Parsable, Reading, collect, parsing
from tfmat.data.rejections import Rejections
from tfmat.errors import InputError

ID_PROP = "id_prop.csv"
_ID_NAMES = ("id", "ids", "name", "file", "filename", "material_id", "cif", "cif_id", "structure", "mp_id", "mpid")
_NAMES_OF_OTHERS = ("split", *FORMULA_COLUMNS)


def read_folder(
    folder: Path, rejections: Rejections, how: Reading, *, targets: Sequence[str] | None = None
) -> tuple[Collected, tuple[str, ...]]:
    """The crystals of a folder and the names of its targets.

    ``id_prop.csv`` holds an id and one or more targets per row; an empty cell is a missing value. The first row is a header if it begins
    with ``id`` or a similar word, or if a target cell of it is no number and no file has its id. Without a header the targets are called
    target, target2, target3, ..., or as `targets` says if it names as many as there are columns. An id is the name of a structure file
    with or without its ending (``a``: ``a.cif``, ``a.vasp``, ``a.poscar``, ``POSCAR_a``; any of them gzipped). Other columns of a file
    with a header that hold no number are kept as cells (``split``).

    Args:
        folder: not searched recursively; without ``id_prop.csv`` all its structure files are read, and there are no targets.
        rejections: takes a row without file or with a bad crystal, structure files without row, and pickles.
        how: limits, processes and so on, see `Reading`.
        targets: the columns wanted. Default: all that hold numbers.
    """
    limits = how.limits
    files = structure_files(folder, rejections)
    source = folder / ID_PROP
    found = Collected(str(source) if source.exists() else str(folder), rejections, read=len(rejections.found))
    if not source.exists():
        entries: list[tuple[Entry, Parsable]] = [
            (Entry(None, stem if len(names) == 1 else name, {}), parsing(folder / name, how))
            for stem, names in sorted(files.items())
            for name in names
        ]
        if not entries:
            raise InputError("is a folder with no structure file and no id_prop.csv", expected="CIF or POSCAR files", file=str(folder))
        collect(entries, found, how, len(entries))
        return found, ()
    rows = _id_prop(source, limits)
    header, names = _header(rows, files, targets, str(source))
    total = len(rows)
    collect(_entries(rows, header, folder, files, how), found, how, total)
    _tell_unused(files, {row[0] for _, row in rows if row}, folder, found, header)
    return found, names


def structure_files(folder: Path, rejections: Rejections) -> dict[str, list[str]]:
    """Give the names of the files of each id; pickles are rejected."""
    files: dict[str, list[str]] = defaultdict(list)
    with os.scandir(folder) as listing:
        names = sorted(entry.name for entry in listing if not entry.name.startswith(".") and not entry.is_dir())
    for name in names:
        try:
            refuse_pickle(folder / name)
        except InputError as error:
            rejections.add(error, identifier=stem_of(name))
            continue
        if kind_of(name) is not None:
            files[stem_of(name)].append(name)
    return dict(files)


def _id_prop(source: Path, limits: Limits) -> list[tuple[int, list[str]]]:
    """Number and stripped cells of every row that is not blank."""
    records = csv_rows(text_lines(source, limits), str(source), "rows of id,target")
    rows = [(number, [cell.strip() for cell in record]) for number, record in records]
    if not rows:
        raise InputError("the file is empty", expected="rows of id,target", file=str(source))
    if len(rows[0][1]) < 2:
        raise InputError("has one column", expected="rows of id,target, separated by commas", file=str(source), row=rows[0][0])
    return rows


def _header(
    rows: list[tuple[int, list[str]]], files: dict[str, list[str]], targets: Sequence[str] | None, source: str
) -> tuple[list[str], tuple[str, ...]]:
    """Names of all columns and of the targets; the header is taken off `rows`."""
    number, first = rows[0]
    known = _find(first[0], files) is not None
    if first[0].lower() in _ID_NAMES or (not known and any(cell and not is_number(cell) for cell in first[1:])):
        header = ["id", *first[1:]]
        for name in header:
            if header.count(name) > 1 or not name:
                problem = f"column {name!r} stands twice" if name else "a column has no name"
                raise InputError(problem, expected="one name per column", file=source, row=number)
        del rows[0]
        if not rows:
            raise InputError("no row below the header", expected="rows of id,target", file=source, row=number)
        numeric = [
            name
            for place, name in enumerate(header)
            if place and name not in _NAMES_OF_OTHERS and any(len(row) > place and is_number(row[place]) for _, row in rows)
        ]
        if targets is None and not numeric:
            raise InputError("no column of numbers", expected="rows of id,target", file=source, row=number)
        names = tuple(numeric) if targets is None else tuple(targets)
    else:
        default = ["target", *(f"target{place}" for place in range(2, len(first)))]
        renamed = targets is not None and len(targets) == len(default) and not set(targets) & set(default)
        header = ["id", *(targets if targets is not None and renamed else default)]
        names = tuple(header[1:] if targets is None else targets)
    for name in names:
        if name not in header[1:]:
            raise InputError(
                f"no column {name!r}; the targets are {', '.join(header[1:])}", expected="one of them", file=source, row=number
            )
    return header, names


def _find(identifier: str, files: dict[str, list[str]]) -> list[str] | None:
    """The files of an id, which may be written with the ending; `None` where there are none."""
    if identifier in files:
        return files[identifier]
    stem = stem_of(identifier)
    return [identifier] if identifier in files.get(stem, ()) else None


def _entries(
    rows: list[tuple[int, list[str]]], header: list[str], folder: Path, files: dict[str, list[str]], how: Reading
) -> Iterator[tuple[Entry, Parsable]]:
    for number, row in rows:
        entry = Entry(number, row[0], dict(zip(header, row, strict=False)))
        names = _find(row[0], files)
        if len(row) != len(header):
            yield entry, InputError(f"{len(row)} cells under {len(header)} columns", expected="one cell per column")
        elif not row[0]:
            yield entry, InputError("no id", expected="id,target")
        elif names is None:
            yield entry, InputError(f"no structure file for id {row[0][:60]!r}", expected=f"{row[0][:60]}.cif or a POSCAR beside {ID_PROP}")
        elif len(names) > 1:
            yield entry, InputError(f"several files for id {row[0][:60]!r}: {', '.join(names[:4])}", expected="one")
        else:
            yield entry, parsing(folder / names[0], how)


def _tell_unused(files: dict[str, list[str]], used: set[str], folder: Path, found: Collected, header: list[str]) -> None:
    for stem, names in sorted(files.items()):
        if stem in used or any(name in used for name in names):
            continue
        for name in names:
            found.read += 1
            error = InputError(f"no row in {ID_PROP}", expected=f"a row {stem[:60]},{','.join(header[1:])}")
            found.rejections.add(error, file=str(folder / name), identifier=stem)
