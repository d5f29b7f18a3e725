"""Whatever a user hands over as materials to predict: formulas, crystals as objects, files, folders and tables, in one form.

`Predictor.predict`, `tfmat.analysis.explain` and the command line all read through `read_materials`, so the same rules hold everywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfmat.crystal import Crystal, Material
from tfmat.data.featurize import RowsDone
from tfmat.data.packed import FeaturizedMaterial
from tfmat.data.read.ase_files import crystal_of_atoms
from tfmat.data.read.bounded import LIMITS, Limits
from tfmat.data.read.cells import read_cells, read_table
from tfmat.data.read.dictionaries import crystal_from_dict, formula_from_dict, formula_of, is_crystal
from tfmat.data.read.folder import structure_files
from tfmat.data.read.parse import kind_of
from tfmat.data.read.rows import FORMULA_COLUMNS, ID_COLUMNS, STRUCTURE_COLUMNS, SUFFIXES, TableRows
from tfmat.data.read.structures import Reading, holds_structures, read_structure_files
from tfmat.data.read.user_data import read_user_data
from tfmat.data.rejections import Rejection, Rejections
from tfmat.data.workers import Workers
from tfmat.errors import InputError
from tfmat.featurizers.formula import parse_formula

ShowsReading = Callable[[str], AbstractContextManager[RowsDone | None]]
"""Gives, for what is about to be read, a context in which a progress callback shows how far the reading is."""
_UNLIMITED = dataclasses.replace(LIMITS, sites=sys.maxsize)
"""The limits of a crystal that is in memory already, or of which the formula alone is wanted."""
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class GivenMaterial:
    """One material that was handed over, or why it could not be read.

    Attributes:
        value: formula, `Crystal` or pymatgen object; the name of the file where it could not be read.
        identifier: the id in its file, or the file's name, with ``#1``, ``#2``, ... where it holds several frames, and ``#BLOCK`` where a
            CIF holds several crystals; None for what comes from no file.
        place: file and row, for messages; empty for what comes from no file.
        error: why it could not be read.
        entry: position of what was handed over; a folder, say, gives many materials of the same entry.
        cells: what else the row of a table holds, by column.
    """

    value: Any
    identifier: str | None = None
    place: str = ""
    error: str | None = None
    entry: int = 0
    cells: Mapping[str, Any] = field(default_factory=dict)


def read_materials(
    materials: Any,
    kind: Material,
    *,
    formula_column: str | None = None,
    structure_column: str | None = None,
    max_sites: int | None = None,
    workers: Workers | None = None,
    progress: ShowsReading = lambda description: contextlib.nullcontext(),
) -> list[GivenMaterial]:
    """The materials that are meant, in order; those that cannot be read are among them, with the reason.

    Args:
        materials: one material or an iterable of them. A material is a formula, a `Crystal`, a ``Structure`` or ``Composition`` of
            pymatgen or its ``as_dict``, an ``Atoms`` of ASE, CIF text, or the path of a structure file. The path of a folder stands for
            all its structure files, that of a CSV or JSON lines file for its rows, and a pandas ``DataFrame`` for its column
            ``structure`` or of formulas. Text is a path if it ends as such files do, or if it is no formula and exists.
        kind: what the model takes: a table that names formulas is not asked for its crystals if these do. Where formulas do, a structure
            file may hold a crystal of any size, and a CIF a disordered one.
        formula_column: of tables. Default: ``formula``, else ``composition``, or what exports of the Materials Project call it.
        structure_column: of tables. Default: ``structure``, else ``atoms`` or ``cif``.
        max_sites: most sites of a crystal in a file. Default: 1,000; as many as there are where formulas do.
        workers: that parse structure files. Default: some are started if there is something to parse.
        progress: see `ShowsReading`.

    Raises:
        InputError: a table, or a folder as a whole, cannot be read, and nothing else is handed over; otherwise that is a material with an
            error.
    """
    limits = _limits(kind, max_sites)
    how = Reading(limits, workers=workers, disordered=kind == "composition")
    entries = _entries(materials, kind, formula_column, structure_column)
    sources = [_source(entry, number, kind) for number, entry in enumerate(entries)]
    parsed = iter(
        _parsed([source for source in sources if not isinstance(source, GivenMaterial) and _holds_one_structure(source)], how, progress)
    )
    found: list[GivenMaterial] = []
    for number, source in enumerate(sources):
        if isinstance(source, GivenMaterial):
            found.append(source)
            continue
        try:
            if _holds_one_structure(source):
                several = next(parsed)
            elif isinstance(source, Path) and source.is_dir():
                several = _folder(source, how, progress)
            else:
                several = _table(Path(source), formula_column, structure_column, kind, limits, progress)
        except InputError as error:
            if len(sources) == 1:
                raise
            name, place = Path(source).name, f"{source}: " if error.row is None else f"{source}, row {error.row}: "
            several = [GivenMaterial(name, name, place, str(InputError(error.problem, expected=error.expected)))]
        found += [dataclasses.replace(material, entry=number) for material in several]
    return found


def _limits(kind: Material, max_sites: int | None) -> Limits:
    """The largest crystals that are read from files."""
    if max_sites is not None:
        return dataclasses.replace(LIMITS, sites=max_sites)
    return _UNLIMITED if kind == "composition" else LIMITS


def read_material(material: Any, kind: Material) -> Any:
    """The formula or crystal that is meant by one material; see `read_materials`.

    Raises:
        InputError: it cannot be read, or it is not one.
    """
    found = read_materials(material, kind)
    if len(found) != 1:
        raise InputError(f"{len(found):,} materials are given", expected="one")
    if found[0].error is not None:
        raise InputError(f"{found[0].place}{found[0].error}")
    return found[0].value


def may_parse(materials: Sequence[str | Path]) -> bool:
    """Tell whether reading these names of files and folders may need a parser of structure files."""
    return any(kind_of(path.name) is not None or os.path.isdir(path) for path in map(Path, materials))


def is_frame(materials: Any) -> bool:
    """Tell whether it is a ``DataFrame`` of pandas, which is not imported to find out."""
    return _comes_from(materials, "pandas") and hasattr(materials, "columns")


def _comes_from(value: Any, *packages: str) -> bool:
    return any(kind.__module__.partition(".")[0] in packages for kind in type(value).__mro__)


def _entries(materials: Any, kind: Material, formula_column: str | None, structure_column: str | None) -> list[Any]:
    """List what is handed over, one material, file or folder after the other."""
    if is_frame(materials):
        return list(materials[_column(list(materials.columns), kind, formula_column, structure_column)])
    one = isinstance(materials, (str, bytes, os.PathLike, Mapping, Crystal, FeaturizedMaterial, GivenMaterial))
    if one or _comes_from(materials, "pymatgen", "ase") or not hasattr(materials, "__iter__"):
        return [materials]
    return list(materials)


def _column(names: list[Any], kind: Material, formula_column: str | None, structure_column: str | None) -> Any:
    formulas = [formula_column] if formula_column else list(FORMULA_COLUMNS)
    structures = [structure_column] if structure_column else list(STRUCTURE_COLUMNS)
    wanted = structures if kind == "crystal" else [*formulas, *structures]
    for name in wanted:
        if name in names:
            return name
    listed = ", ".join(str(name) for name in names[:10])
    raise InputError(f"the table has the columns {listed}", expected=f"a column {' or '.join(map(repr, wanted[:2]))}")


def _source(entry: Any, number: int, kind: Material) -> GivenMaterial | Path | str:
    """A material that is there already, or else the path or text that holds it."""
    if isinstance(entry, str):
        if "\n" in entry and _is_structure_text(entry):
            return entry
        return Path(entry) if _is_path(entry) else GivenMaterial(entry, entry=number)
    if isinstance(entry, os.PathLike):
        return Path(entry)
    if isinstance(entry, GivenMaterial):
        return dataclasses.replace(entry, entry=number)
    try:
        return GivenMaterial(_converted(entry, kind), entry=number)
    except InputError as error:
        name = " ".join(str(entry)[:60].split())
        return GivenMaterial(name, error=str(InputError(error.problem, expected=error.expected)), entry=number)


def _converted(entry: Any, kind: Material) -> Any:
    """A formula or crystal from a dictionary or an ``Atoms``; anything else as it is."""
    if _comes_from(entry, "ase") and hasattr(entry, "get_scaled_positions"):
        return str(entry.get_chemical_formula()) if kind == "composition" else crystal_of_atoms(entry, _UNLIMITED)
    if not isinstance(entry, Mapping) or _comes_from(entry, "pymatgen"):
        return entry
    if is_crystal(entry):
        return formula_from_dict(entry, _UNLIMITED) if kind == "composition" else crystal_from_dict(entry, _UNLIMITED)
    if not entry or not all(isinstance(amount, (int, float)) for amount in entry.values()):
        raise InputError(f"a dictionary with the keys {', '.join(map(str, list(entry)[:6]))}", expected="as_dict of a pymatgen object")
    return formula_of(entry)


def _is_structure_text(text: str) -> bool:
    """CIF text, or what has as many lines as a POSCAR at least."""
    return "_cell_length" in text or len(text.strip().splitlines()) > 7


def _is_path(text: str) -> bool:
    """A name with the ending of a data or structure file, or an existing path that is no formula."""
    if len(text) > _LONGEST_NAME or "\0" in text:
        return False
    plain = text.isalnum() and not text.upper().endswith("CAR")  # most formulas: no ending to look at
    if not plain and (text.lower().endswith(SUFFIXES) or kind_of(text) is not None):
        return True
    if not text.strip() or not os.path.exists(text):
        return False
    try:
        parse_formula(text)
    except InputError:
        return True
    return False


def _holds_one_structure(source: Path | str) -> bool:
    """Tell whether it is CIF or POSCAR text, or a structure file."""
    return isinstance(source, str) or (kind_of(source.name) is not None and not source.is_dir())


def _parsed(
    sources: Sequence[Path | str], how: Reading, progress: ShowsReading, description: str = "reading structure files"
) -> list[list[GivenMaterial]]:
    """The materials of each structure file or text, those that cannot be read included."""
    if not sources:
        return []
    with progress(description) as report:
        found = read_structure_files(sources, dataclasses.replace(how, report=report))
    return [
        [_of_text(source, one) if isinstance(source, str) else _of_file(source, one, name and f"#{name}") for name, one in several]
        for source, several in zip(sources, found, strict=True)
    ]


def _of_text(text: str, crystal: Crystal | str | InputError) -> GivenMaterial:
    if isinstance(crystal, InputError):
        return GivenMaterial(" ".join(text[:60].split()), error=str(crystal))
    return GivenMaterial(crystal)


def _of_file(path: Path, crystal: Crystal | str | InputError, frame: str = "") -> GivenMaterial:
    name, place = f"{path.name}{frame}", f"{path}{frame}: "
    if isinstance(crystal, InputError):
        return GivenMaterial(name, name, place, str(InputError(crystal.problem, expected=crystal.expected)))
    return GivenMaterial(crystal, name, place)


def _folder(folder: Path, how: Reading, progress: ShowsReading) -> list[GivenMaterial]:
    """All structure files of a folder, whatever its id_prop.csv says."""
    rejections = Rejections()
    names = [name for several in structure_files(folder, rejections).values() for name in several]
    if not names:
        raise InputError("is a folder with no structure file", expected="CIF or POSCAR files", file=str(folder))
    materials = _parsed([folder / name for name in sorted(names)], how, progress, f"reading {folder}")
    return [material for several in materials for material in several] + [_rejected(rejection) for rejection in rejections.found]


def _table(
    path: Path, formula_column: str | None, structure_column: str | None, kind: Material, limits: Limits, progress: ShowsReading
) -> list[GivenMaterial]:
    """The rows of a table in their order, unreadable ones included."""
    rejections = Rejections()
    with progress(f"reading {path}") as report:
        rows = TableRows(path, limits)
        enough = kind == "composition" and rows.names_formulas(formula_column)
        if not enough and holds_structures(rows, structure_column):
            data = read_user_data(
                rows, structure_column=structure_column, material=kind, require_targets=False, max_sites=limits.sites, report=report
            )
            table, cells, rejections.found = data.table, data.cells, list(data.rejections)
        else:
            cells = read_cells(rows, rejections=rejections)
            table = read_table(cells, formula_column=formula_column, require_targets=False)
    ids = {name for name in ID_COLUMNS if list(map(str, cells.columns.get(name, ()))) == table.ids}
    used = {formula_column, structure_column, *ids, *FORMULA_COLUMNS, *STRUCTURE_COLUMNS}
    others = {name: column for name, column in cells.columns.items() if name not in used}
    found = []
    for i, row in enumerate(table.rows.tolist()):
        kept = {name: column[i] for name, column in others.items()}
        found.append((row, GivenMaterial(table.materials[i], table.ids[i], f"{path}, row {row}: ", cells=kept)))
    found += [(rejection.row or 0, _rejected(rejection)) for rejection in rejections.found]
    return [material for _, material in sorted(found, key=lambda pair: pair[0])]


def _rejected(rejection: Rejection) -> GivenMaterial:
    name = Path(rejection.file).name
    place = str(dataclasses.replace(rejection, reason="")).rstrip(": ")
    return GivenMaterial(name if rejection.row is None else f"{name}, row {rejection.row}", rejection.id, f"{place}: ", rejection.reason)
