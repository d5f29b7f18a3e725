"""A user's own file or folder, whatever it holds, as a table of formulas or crystals."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfmat.crystal import Material
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import RowsDone
from tfmat.data.read.bounded import LIMITS, Limits
from tfmat.data.read.cells import Cells, check_any_value, choose_targets, formula_rows, read_cells, read_targets
from tfmat.data.read.folder import read_folder
from tfmat.data.read.rows import TableRows
from tfmat.data.read.structures import Collected, Reading, holds_structures, read_structures
from tfmat.data.rejections import Rejection, Rejections
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer


@dataclass(frozen=True)
class UserData:
    """What a user's file holds.

    Attributes:
        table: the usable rows.
        cells: all columns of the same rows (a column of splits, say).
        material: what the materials are.
        rejections: the other rows, and files that no row names.
        read: how many rows and files were looked at.
    """

    table: Table
    cells: Cells
    material: Material
    rejections: tuple[Rejection, ...]
    read: int


def read_user_data(
    path: str | os.PathLike[str] | TableRows,
    *,
    targets: Sequence[str] | str | None = None,
    formula_column: str | None = None,
    structure_column: str | None = None,
    id_column: str | None = None,
    material: Material | None = None,
    require_targets: bool = True,
    strict: bool = False,
    max_sites: int | None = None,
    limits: Limits = LIMITS,
    processes: int | None = None,
    cache: RecordCache | None = None,
    report: RowsDone | None = None,
) -> UserData:
    """Read a table of formulas or crystals (CSV, JSON lines, JSON, Parquet), or a folder of structure files.

    Args:
        path: the file or folder, or the rows of a file of which none is read yet.
        targets: the targets wanted. Default: of a folder all; of a file ``target``, else the only numeric column.
        formula_column: default: ``formula``, else ``composition``, or what exports of the Materials Project and OPTIMADE call it.
        structure_column: of crystals. Default: ``structure``, else ``atoms`` or ``cif``.
        id_column: default: ``id``, else ``material_id``, ``jid`` or a first column without name; where there is none, or several rows
            share such another one, the rows' numbers are the ids.
        material: ``composition`` does not parse the crystals of a file that also names formulas, and of crystals takes the formula, so
            that they may be disordered; ``crystal`` refuses a file without crystals. Default: crystals where there are any.
        require_targets: `False` for materials to predict.
        strict: the first bad row is an error. Otherwise bad rows are returned as rejections.
        max_sites: most sites of a crystal. Default: that of `limits`, 1,000; for ``composition`` as many as there are.
        limits: the largest files and crystals that are read.
        processes: how many parse structure files. Default: one per core.
        cache: keeps crystals that were parsed; a file with the same content is then not parsed again.
        report: called with the rows done and the rows in all, 0 where that is not known.

    Raises:
        InputError: the file as a whole cannot be read, a column is missing, or no row is usable; with `strict`, a row is bad.
    """
    rows = path if isinstance(path, TableRows) else None
    source = Path(path if not isinstance(path, TableRows) else path.source)
    names = (targets,) if isinstance(targets, str) else None if targets is None else tuple(targets)
    rejections = Rejections(strict)
    composition = material == "composition"
    limits = replace(limits, sites=max_sites or (sys.maxsize if composition else limits.sites))
    how = Reading(limits, processes, cache, report, disordered=composition, structure_column=structure_column)
    if source.is_dir():
        found, folder_targets = read_folder(source, rejections, how, targets=names)
        if require_targets and not folder_targets:
            raise InputError("no id_prop.csv", expected="rows of id,target beside the structure files", file=str(source))
        names = folder_targets
    elif holds_structures(rows := rows or TableRows(source, limits), structure_column) and not (
        composition and rows.names_formulas(formula_column)
    ):
        found = read_structures(rows, rejections, how, id_column=id_column)
    else:
        if material == "crystal":
            raise InputError("holds formulas, no crystals", expected="a column 'structure', or cell, species and frac", file=str(source))
        cells = read_cells(rows, rejections=rejections)
        return _formulas(cells, names, formula_column, id_column, require_targets, rejections)
    return _crystals(found, names, require_targets)


def _crystals(found: Collected, targets: tuple[str, ...] | None, require_targets: bool) -> UserData:
    materials: Any = found.formulas if found.crystals is None else found.crystals
    if not materials:
        raise _nothing_left(found.source, found.rejections, found.read)
    cells = found.cells
    values, good = read_targets(cells, choose_targets(cells, targets, {"id"}, require_targets=require_targets), found.rejections)
    _check_ids(found.ids, cells, good, found.rejections)
    table = Table(materials, values, found.ids, cells.rows, cells.source)
    kind: Material = "composition" if found.crystals is None else "crystal"
    return _without_rejected(UserData(table, cells, kind, (), found.read), good, found.rejections, require_targets)


def _formulas(
    cells: Cells,
    targets: tuple[str, ...] | None,
    formula_column: str | None,
    id_column: str | None,
    require_targets: bool,
    rejections: Rejections,
) -> UserData:
    read = len(cells.rows) + len(rejections.found)
    materials, ids, names = formula_rows(cells, targets, formula_column, id_column, require_targets)
    values, good = read_targets(cells, names, rejections)
    _check_formulas(materials, ids, cells, good, rejections)
    _check_ids(ids, cells, good, rejections)
    table = Table(materials, values, ids, cells.rows, cells.source)
    return _without_rejected(UserData(table, cells, "composition", (), read), good, rejections, require_targets)


def _check_formulas(materials: list[Any], ids: list[str], cells: Cells, good: np.ndarray, rejections: Rejections, rows: int = 512) -> None:
    """Reject formulas that cannot be read, without reading the good ones one by one."""
    featurizer = CompositionFeaturizer()
    for large in range(0, len(materials), 128 * rows):
        if _readable(featurizer, materials[large : large + 128 * rows]):
            continue
        for start in range(large, min(large + 128 * rows, len(materials)), rows):
            if _readable(featurizer, materials[start : start + rows]):
                continue
            for index in range(start, min(start + rows, len(materials))):
                try:
                    featurizer(materials[index])
                except InputError as error:
                    if good[index]:
                        good[index] = False
                        rejections.add(error, file=cells.source, row=int(cells.rows[index]), identifier=ids[index])


def _readable(featurizer: CompositionFeaturizer, materials: list[Any]) -> bool:
    try:
        featurizer.featurize(materials)
    except InputError:
        return False
    return True


def _check_ids(ids: list[str], cells: Cells, good: np.ndarray, rejections: Rejections) -> None:
    """Reject every further row of an id; the first good one stays."""
    if len(set(ids)) == len(ids):
        return
    seen: dict[str, int] = {}
    for index, identifier in enumerate(ids):
        if not good[index]:
            continue
        row = int(cells.rows[index])
        if seen.setdefault(identifier, row) != row:
            good[index] = False
            error = InputError(f"id {identifier[:60]!r} stands already in row {seen[identifier]}", expected="each id once")
            rejections.add(error, file=cells.source, row=row, identifier=identifier)


def _without_rejected(data: UserData, good: np.ndarray, rejections: Rejections, require_targets: bool) -> UserData:
    """Leave out the rows that are not `good`."""
    table, cells = data.table, data.cells
    if not good.any():
        raise _nothing_left(cells.source, rejections, data.read)
    if not good.all():
        kept = np.flatnonzero(good)
        table = table.subset(kept)
        columns = {name: [column[i] for i in kept] for name, column in cells.columns.items()}
        cells = replace(cells, columns=columns, rows=cells.rows[kept])
    if require_targets:
        check_any_value(table.targets, cells.source)
    return replace(data, table=table, cells=cells, rejections=tuple(rejections.found))


def _nothing_left(source: str, rejections: Rejections, read: int) -> InputError:
    first = rejections.found[0] if rejections.found else None
    if first is None:
        return InputError("holds no material", expected="at least one", file=source)
    if read == 1 or len(rejections.found) == 1:
        return InputError(first.reason, file=first.file, row=first.row)
    problem = f"none of {read:,} rows can be used; the first because: {first.reason}"
    return InputError(problem, file=source, row=first.row)


def check_material(needed: Material, offered: Material, *, model: str, data: str) -> None:
    """Refuse formulas for a model of crystals; crystals also feed a model of compositions.

    Args:
        needed: ``architecture.material``.
        offered: what the dataset holds.
        model: name of the architecture.
        data: name of the dataset or file.
    """
    if needed == "crystal" and offered != "crystal":
        raise InputError(
            f"{data} holds formulas, and {model} learns from crystals",
            expected="a dataset of crystals, a folder of CIF files with id_prop.csv, or an architecture for compositions such as lgdcnn",
        )
