"""``tfmat predict``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.errors import check_file, tell
from tfmat.cli.progress import load_tensorflow, rows_done
from tfmat.cli.tables import MODEL_HELP, aligned, number, shortened
from tfmat.cli.train import FormulaColumn, MaxSites, StructureColumn
from tfmat.errors import InputError
from tfmat.runs.evaluations import headers, write_predictions

if TYPE_CHECKING:
    import pandas as pd

    from tfmat.data.materials import GivenMaterial
    from tfmat.predictor import Predictor

REPORTED = 20
"""Unreadable materials that are told one by one."""


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    materials: Annotated[
        list[str] | None,
        typer.Argument(metavar="MATERIAL...", help="Formulas, CSV or JSON lines files, structure files, or folders of these."),
    ] = None,
    input_: Annotated[list[Path] | None, typer.Option("--input", metavar="FILE", help="A file or folder; repeatable.")] = None,
    formula_column: FormulaColumn = None,
    structure_column: StructureColumn = None,
    max_sites: MaxSites = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV file with all digits instead of printing a table.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Materials at a time.")] = 256,
) -> None:
    """Predict materials: formulas as arguments, or files and folders of formulas or crystals.

    Of a crystal, a model of compositions takes the formula. Structure files are CIF and POSCAR files and, with
    pip install 'tfmat[ase]', extended XYZ, XSF, XDATCAR, DFTB+ .gen, FHI-aims geometry.in and Quantum ESPRESSO .pwi; of several frames
    each is a row, FILE#1, FILE#2, ...

    The uncertainty is the standard deviation of the predicted error. What cannot be read is told on stderr and kept as a row without
    numbers; the exit code is 2 then.

    \b
    Examples:
      tfmat predict runs/lgdcnn-exp_formation_enthalpy Fe2O3 NaCl "Ca(OH)2" Li0.5CoO2
      tfmat predict runs/gap candidates.csv --out predictions.csv
      tfmat predict runs/gap NaCl.cif POSCAR my_cifs/
      tfmat predict runs/gap --input table.csv --formula-column composition
    """  # noqa: D301
    if out is not None:
        check_file(out, overwrite, "csv")
    predictor, wanted = load_and_collect(
        model, materials or [], input_ or [], formula_column=formula_column, structure_column=structure_column, max_sites=max_sites
    )
    with rows_done("predicting") as report:
        frame = predictor.predict(wanted, batch_size=batch_size, report=report)
    failed = _report_errors(frame, wanted)
    _report_unseen(frame)
    if caveat := predictor.architecture.depends_on_cell(predictor.keywords):
        tell(f"warning: {caveat[0].lower()}{caveat[1:]}")
    _report_warnings(frame, wanted)
    if out is None:
        print(_table(frame, predictor))
    else:
        write_predictions(frame, predictor.targets, out)
        tell(f"{out}: {len(frame):,} materials" + (f", {failed:,} of them unreadable" if failed else ""))
    if failed:
        raise typer.Exit(2)


def load_and_collect(
    model: Path,
    arguments: Sequence[str],
    files: Sequence[Path],
    *,
    formula_column: str | None = None,
    structure_column: str | None = None,
    max_sites: int | None = None,
) -> tuple[Predictor, list[GivenMaterial]]:
    """Load the model and read the materials for it, in the order of the command line.

    The process that parses structure files starts while this one loads TensorFlow.

    Args:
        model: folder or preset.
        arguments: formulas, files and folders.
        files: these are no formulas.
        formula_column: of tables.
        structure_column: of tables.
        max_sites: most sites of a crystal in a file.
    """
    from tfmat.data.materials import may_parse, read_materials
    from tfmat.data.read.structures import parsers

    with parsers() as workers:
        if may_parse([*arguments, *files]):
            workers.warm()
        load_tensorflow()
        from tfmat.predictor import Predictor

        predictor = Predictor.load(model)
        kind = predictor.architecture.material
        found = read_materials(
            [*arguments, *files], kind, formula_column=formula_column, structure_column=structure_column, max_sites=max_sites,
            workers=workers, progress=rows_done,
        )  # fmt: skip
        if not found:
            raise InputError("no material to predict", expected="formulas or files, as in: tfmat predict MODEL Fe2O3 NaCl.cif more.csv")
        return predictor, found


def _report_errors(frame: pd.DataFrame, materials: Sequence[GivenMaterial]) -> int:
    failed = [i for i, error in enumerate(frame["error"]) if isinstance(error, str)]
    for i in failed[:REPORTED]:
        tell(f"{materials[i].place}{frame['error'].iloc[i]}")
    if len(failed) > REPORTED:
        tell(f"{len(failed) - REPORTED:,} more materials cannot be read; the column `error` says why")
    return len(failed)


def _report_unseen(frame: pd.DataFrame) -> None:
    unseen = frame.loc[~frame["in_domain"] & frame["error"].isna(), "material"].tolist()
    if unseen:
        listed = ", ".join(shortened(material, 24) for material in unseen[:5]) + (", ..." if len(unseen) > 5 else "")
        tell(f"warning: {len(unseen):,} of {len(frame):,} materials hold elements that did not occur in training: {listed}")


def _report_warnings(frame: pd.DataFrame, materials: Sequence[GivenMaterial]) -> None:
    told = [i for i, warning in enumerate(frame["warning"]) if warning] if "warning" in frame else []
    if told:
        first = f"{materials[told[0]].place or str(frame['material'].iloc[told[0]]) + ': '}{frame['warning'].iloc[told[0]]}"
        others = f" (and {len(told) - 1:,} more, see the column `warning`)" if len(told) > 1 else ""
        tell(f"warning: {first}{others}")


def _table(frame: pd.DataFrame, predictor: Predictor) -> str:
    """Write the table that is printed: ids, formulas, values and uncertainties with the digits that matter, warnings and errors."""
    failed = frame["error"].notna().any()
    columns = [*(["id"] if "id" in frame else []), "material"]
    texts = {name: [shortened(value) for value in frame[name]] for name in columns}
    for target in predictor.targets:
        spread = f"{target.name}_uncertainty"
        columns += [target.name] + ([spread] if spread in frame else [])
        spreads = frame[spread].tolist() if spread in frame else [None] * len(frame)
        texts[target.name] = [number(value, u) for value, u in zip(frame[target.name].tolist(), spreads, strict=True)]
        texts[spread] = [number(u, u) for u in spreads if u is not None]
    if "sites" in frame:
        columns.append("sites")
        texts["sites"] = ["-" if math.isnan(sites) else f"{sites:.0f}" for sites in frame["sites"].to_numpy(float, na_value=math.nan)]
    unseen = [f"{symbols} unseen in training" if symbols else "" for symbols in frame["unseen_elements"]]
    odd = frame["warning"].tolist() if "warning" in frame else unseen
    if any(unseen) or any(odd):
        columns.append("warning")
        texts["warning"] = ["; ".join(dict.fromkeys(filter(None, pair))) for pair in zip(unseen, odd, strict=True)]
    if failed:
        columns.append("error")
        texts["error"] = [error if isinstance(error, str) else "" for error in frame["error"]]
    names = headers(predictor.targets)
    header = [
        "uncertainty" + names[name].removeprefix(name) if name.endswith("_uncertainty") else names.get(name, name) for name in columns
    ]
    right = [i for i, name in enumerate(columns) if name in names or name == "sites"]
    return aligned(header, list(zip(*(texts[name] for name in columns), strict=True)), right=right)
