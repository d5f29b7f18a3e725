"""Materials to predict, from the arguments of ``tfmat predict``: formulas, tables, structure files and folders of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.cli.progress import rows_done
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.architecture import Material as Kind
    from tfmat.crystal import Crystal
    from tfmat.data.rejections import Rejection


@dataclass(frozen=True)
class Material:
    """One material to predict.

    Attributes:
        value: formula or crystal; the name of the file where it could not be read.
        identifier: the id in its file; None for a formula of the command line.
        place: file and row, for messages; empty for a formula of the command line.
        error: why it could not be read.
    """

    value: Any
    identifier: str | None = None
    place: str = ""
    error: str | None = None


def collect(arguments: Sequence[str], files: Sequence[Path], formula_column: str | None, kind: Kind) -> list[Material]:
    """All materials, in the order of the command line.

    Args:
        arguments: formulas, files and folders.
        files: these are no formulas.
        formula_column: of tables.
        kind: what the model takes: a table that names formulas is not asked for its crystals if these do.
    """
    named: list[str | Path] = [*arguments, *files]
    sources = [argument if isinstance(argument, str) and not _is_path(argument) else Path(argument) for argument in named]
    structures = iter(_parsed([source for source in sources if isinstance(source, Path) and _is_structure_file(source)]))
    found: list[Material] = []
    for source in sources:
        if isinstance(source, str):
            found.append(Material(source))
        elif source.is_dir():
            found += _folder(source)
        elif _is_structure_file(source):
            found.append(next(structures))
        else:
            found += _table(source, formula_column, kind)
    if not found:
        raise InputError("no material to predict", expected="formulas or files, as in: tfmat predict MODEL Fe2O3 NaCl.cif more.csv")
    return found


def _is_path(text: str) -> bool:
    """A name with the ending of a data or structure file, or an existing path that is no formula."""
    from tfmat.data.crystals import kind_of
    from tfmat.data.readers import SUFFIXES
    from tfmat.featurizers.composition import parse_formula

    if len(text) > 4096:
        return False
    if text.lower().endswith(SUFFIXES) or kind_of(Path(text).name) is not None:
        return True
    try:
        parse_formula(text)
    except InputError:
        return bool(text.strip()) and os.path.exists(text)
    return False


def _is_structure_file(path: Path) -> bool:
    from tfmat.data.crystals import kind_of

    return kind_of(path.name) is not None and not path.is_dir()


def _parsed(paths: Sequence[Path], description: str = "reading structure files") -> list[Material]:
    """One material a structure file, those that cannot be read included."""
    from tfmat.data.structures import Reading, read_structure_files

    if not paths:
        return []
    with rows_done(description) as report:
        crystals = read_structure_files(paths, Reading(report=report))
    return [_material(path, crystal) for path, crystal in zip(paths, crystals, strict=True)]


def _material(path: Path, crystal: Crystal | InputError) -> Material:
    if isinstance(crystal, InputError):
        reason = str(InputError(crystal.problem, expected=crystal.expected))
        return Material(path.name, path.name, f"{path}: ", reason)
    return Material(crystal, path.name, f"{path}: ")


def _folder(folder: Path) -> list[Material]:
    """All structure files of a folder, whatever its id_prop.csv says."""
    from tfmat.data.folder import structure_files
    from tfmat.data.rejections import Rejections

    rejections = Rejections()
    names = sorted(name for several in structure_files(folder, rejections).values() for name in several)
    if not names:
        raise InputError("is a folder with no structure file", expected="CIF or POSCAR files", file=str(folder))
    return _parsed([folder / name for name in names], f"reading {folder}") + [_rejected(rejection) for rejection in rejections.found]


def _table(path: Path, formula_column: str | None, kind: Kind) -> list[Material]:
    """The rows of a table in their order, unreadable ones included."""
    from tfmat.data.readers import FORMULA_COLUMNS, build_table, read_cells
    from tfmat.data.rejections import Rejections
    from tfmat.data.structures import column_names, holds_structures
    from tfmat.data.user_data import read_user_data

    wanted = {formula_column} if formula_column else set(FORMULA_COLUMNS)
    rejections = Rejections()
    with rows_done(f"reading {path}") as report:
        if holds_structures(path) and not (kind == "composition" and wanted & set(column_names(path))):
            data = read_user_data(path, require_targets=False, report=report)
            table, rejections.found = data.table, list(data.rejections)
        else:
            cells = read_cells(path, rejections=rejections)
            table = build_table(cells, formula_column=formula_column, require_targets=False)
    rows = table.rows.tolist()
    found = [(row, Material(table.materials[i], table.ids[i], f"{path}, row {row}: ")) for i, row in enumerate(rows)]
    found += [(rejection.row or 0, _rejected(rejection)) for rejection in rejections.found]
    return [material for _, material in sorted(found, key=lambda pair: pair[0])]


def _rejected(rejection: Rejection) -> Material:
    name = Path(rejection.file).name
    place = str(dataclasses.replace(rejection, reason="")).rstrip(": ")
    return Material(name if rejection.row is None else f"{name}, row {rejection.row}", rejection.id, f"{place}: ", rejection.reason)
