"""``tfmat evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.progress import SHOWN, load_tensorflow
from tfmat.cli.tables import MODEL_HELP, scores_table
from tfmat.cli.train import FormulaColumn, MaxSites, StructureColumn
from tfmat.runs.settings import known, stated

SPLITS = ("train", "validation", "test", "all")
DATA_HELP = "Default: what the model was trained on. Repeat it to merge several; predictions.csv tells which row is whose."


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE|FOLDER", help=DATA_HELP)] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="|".join(SPLITS), help="Default: test; all of a file that is not the model's and has no column `split`."),
    ] = None,
    formula_column: FormulaColumn = None,
    structure_column: StructureColumn = None,
    max_sites: MaxSites = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Rows at a time.")] = 256,
    keep: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep crystals and featurized data in TFMAT_CACHE_DIR.")] = True,
) -> None:
    """Score a model on data that it has not seen.

    Scores, predictions, plots and, of crystals, the ten worst (worst.jsonl) are written to MODEL/evaluations/DATA-SPLIT, replacing an
    earlier evaluation on the same data.

    \b
    Examples:
      tfmat evaluate runs/lgdcnn-exp_formation_enthalpy
      tfmat evaluate runs/gap --data new_measurements.csv
      tfmat evaluate runs/gap --data new_cifs/
      tfmat evaluate runs/gap --split validation
    """  # noqa: D301
    if split is not None:
        known("split", split, SPLITS)
    load_tensorflow()
    from tfmat.model_directory.files import model_folder
    from tfmat.runs.evaluate import score

    # A preset is evaluated where it lies.
    folder, found = score(
        model_folder(model), data, split, batch_size=batch_size, keep=keep, progress=SHOWN,
        reading=stated(formula_column=formula_column, structure_column=structure_column, max_sites=max_sites),
    )  # fmt: skip
    print(scores_table(f"{found['data']}, {found['split']}", found["scores"], found["units"]))
    print(f"\nwritten to {folder}")
