"""Materials to predict, from the arguments of ``tfmat predict``: formulas, tables, structure files and folders of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.cli.progress import rows_done
from tfmat.cli.quiet import load_tensorflow
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.architecture import Material as Kind
    from tfmat.crystal import Crystal
    from tfmat.data.rejections import Rejection
    from tfmat.data.workers import Workers
    from tfmat.predictor import Predictor


@dataclass(frozen=True)
class Material:
    """One material to predict.

    Attributes:
        value: formula or crystal; the name of the file where it could not be read.
        identifier: the id in its file, or the file's name, with ``#1``, ``#2``, ... where it holds several frames; None for a formula of
            the command line.
        place: file and row, for messages; empty for a formula of the command line.
        error: why it could not be read.
    """

    value: Any
    identifier: str | None = None
    place: str = ""
    error: str | None = None


def load_and_collect(
    model: Path, arguments: Sequence[str], files: Sequence[Path], formula_column: str | None
) -> tuple[Predictor, list[Material]]:
    """The model and the materials for it, see `collect`; the process that parses structure files starts while this one loads TensorFlow."""
    from tfmat.data.crystals import kind_of
    from tfmat.data.structures import parsers

    with parsers() as workers:
        if any(kind_of(path.name) is not None or os.path.isdir(path) for path in map(Path, [*arguments, *map(str, files)])):
            workers.warm()
        load_tensorflow()
        from tfmat.predictor import Predictor

        predictor = Predictor.load(model)
        return predictor, collect(arguments, files, formula_column, predictor.architecture.material, workers)


def collect(
    arguments: Sequence[str], files: Sequence[Path], formula_column: str | None, kind: Kind, workers: Workers | None = None
) -> list[Material]:
    """All materials, in the order of the command line.

    Args:
        arguments: formulas, files and folders.
        files: these are no formulas.
        formula_column: of tables.
        kind: what the model takes: a table that names formulas is not asked for its crystals if these do.
        workers: that parse structure files.
    """
    named: list[str | Path] = [*arguments, *files]
    sources = [argument if isinstance(argument, str) and not _is_path(argument) else Path(argument) for argument in named]
    structures = iter(_parsed([source for source in sources if isinstance(source, Path) and _is_structure_file(source)], workers))
    found: list[Material] = []
    for source in sources:
        if isinstance(source, str):
            found.append(Material(source))
        elif source.is_dir():
            found += _folder(source, workers)
        elif _is_structure_file(source):
            found += next(structures)
        else:
            found += _table(source, formula_column, kind)
    if not found:
        raise InputError("no material to predict", expected="formulas or files, as in: tfmat predict MODEL Fe2O3 NaCl.cif more.csv")
    return found


def _is_path(text: str) -> bool:
    """A name with the ending of a data or structure file, or an existing path that is no formula."""
    from tfmat.data.readers import SUFFIXES
    from tfmat.featurizers.composition import parse_formula

    if len(text) > 4096:
        return False
    if text.lower().endswith(SUFFIXES) or _names_structures(Path(text).name):
        return True
    try:
        parse_formula(text)
    except InputError:
        return bool(text.strip()) and os.path.exists(text)
    return False


def _is_structure_file(path: Path) -> bool:
    return _names_structures(path.name) and not path.is_dir()


def _names_structures(name: str) -> bool:
    from tfmat.data.ase_files import ase_format
    from tfmat.data.crystals import kind_of

    return kind_of(name) is not None or ase_format(name) is not None


def _parsed(paths: Sequence[Path], workers: Workers | None, description: str = "reading structure files") -> list[list[Material]]:
    """The materials of each structure file, those that cannot be read included."""
    from tfmat.data.ase_files import read_ase_files
    from tfmat.data.crystals import kind_of
    from tfmat.data.structures import Reading, read_structure_files

    own = [path for path in paths if kind_of(path.name) is not None]
    others = [path for path in paths if kind_of(path.name) is None]
    if own:
        with rows_done(description) as report:
            crystals = iter(read_structure_files(own, Reading(report=report, workers=workers)))
    if others:
        with rows_done(description) as report:
            frames = iter(read_ase_files(others, Reading(report=report)))
    return [[_material(path, next(crystals))] if kind_of(path.name) is not None else _frames(path, next(frames)) for path in paths]


def _frames(path: Path, crystals: Sequence[Crystal | InputError]) -> list[Material]:
    if len(crystals) == 1:
        return [_material(path, crystals[0])]
    return [_material(path, crystal, f"#{number}") for number, crystal in enumerate(crystals, start=1)]


def _material(path: Path, crystal: Crystal | InputError, frame: str = "") -> Material:
    name, place = f"{path.name}{frame}", f"{path}{frame}: "
    if isinstance(crystal, InputError):
        return Material(name, name, place, str(InputError(crystal.problem, expected=crystal.expected)))
    return Material(crystal, name, place)


def _folder(folder: Path, workers: Workers | None) -> list[Material]:
    """All structure files of a folder, whatever its id_prop.csv says."""
    from tfmat.data.ase_files import ase_format
    from tfmat.data.folder import structure_files
    from tfmat.data.rejections import Rejections

    rejections = Rejections()
    names = [name for several in structure_files(folder, rejections).values() for name in several]
    names += [path.name for path in folder.iterdir() if ase_format(path.name) and not path.name.startswith(".") and not path.is_dir()]
    if not names:
        raise InputError("is a folder with no structure file", expected="CIF or POSCAR files", file=str(folder))
    materials = _parsed([folder / name for name in sorted(names)], workers, f"reading {folder}")
    return [material for several in materials for material in several] + [_rejected(rejection) for rejection in rejections.found]


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
