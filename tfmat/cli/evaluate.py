"""``tfmat evaluate``."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.failures import tell, writing
from tfmat.cli.materials import open_dataset, resolved
from tfmat.cli.progress import rows_done, task
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.runs import stem
from tfmat.cli.settings import known
from tfmat.cli.tables import scores_table
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.table import Table
    from tfmat.predictor import Evaluation, Predictor

SPLITS = ("train", "validation", "test", "all")


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `tfmat train`.")],
    data: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="A dataset or a file. Default: what the model was trained on.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="|".join(SPLITS), help="Default: test; all of a file that is not the model's and has no column `split`."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Rows at a time.")] = 256,
) -> None:
    """Score a model on data that it has not seen.

    Scores, predictions and plots are written to MODEL/evaluations/DATA-SPLIT, replacing an earlier evaluation on the same data.

    \b
    Examples:
      tfmat evaluate runs/lgdcnn-exp_formation_enthalpy
      tfmat evaluate runs/gap --data new_measurements.csv
      tfmat evaluate runs/gap --split validation
    """  # noqa: D301
    if split is not None:
        known("split", split, SPLITS)
    load_tensorflow()
    from tfmat.predictor import Predictor

    predictor = Predictor.load(model)
    table, name, chosen = _open(predictor, data, split)
    _warn_about_training_rows(predictor, table, data, chosen)
    with rows_done("evaluating") as report:
        evaluation = predictor.evaluate(table, batch_size=batch_size, report=report)
    folder = model / "evaluations" / f"{stem(name)}-{chosen}"
    _write(predictor, evaluation, table, name, chosen, folder)
    units = {target.name: target.unit for target in predictor.targets}
    print(scores_table(f"{name}, {chosen}", evaluation.scores, units))
    print(f"\nwritten to {folder}")


def _own_data(predictor: Predictor) -> dict[str, Any]:
    """What the model says about the data that it was trained on; empty if it was trained by other means than the command line."""
    own: dict[str, Any] = predictor.info.get("dataset") or {}
    return own


def _open(predictor: Predictor, data: str | None, split: str | None) -> tuple[Table, str, str]:
    """The rows to score, what they are called, and which split they are."""
    own = _own_data(predictor)
    targets = [target.name for target in predictor.targets]
    if data is None:
        if not own:
            raise InputError("the model does not say what it was trained on", expected="--data with a dataset or a file")
        data = str(own["name"])
    same = bool(own) and resolved(data) == resolved(str(own["name"]))
    if not same and split in (None, "all") and resolved(data) != data and (split == "all" or not _has_split(data)):
        return _whole_file(data, targets), data, "all"
    dataset = open_dataset(data, targets, own.get("split") if same else None)
    if same and dataset.splits["train"].content_hash() != own.get("train_sha256"):
        tell(f"warning: {data} has changed: its training rows are not those that the model was trained on")
    chosen = split or "test"
    tables = list(dataset.splits.values()) if chosen == "all" else [dataset.splits[chosen]]
    return _joined(tables), data, chosen


def _has_split(file: str) -> bool:
    from tfmat.data.readers import read_cells

    return "split" in read_cells(file).columns


def _whole_file(file: str, targets: list[str]) -> Table:
    from tfmat.data.readers import read_table

    with task(f"reading {file}"):
        return read_table(file, targets=targets)


def _joined(tables: list[Table]) -> Table:
    import numpy as np

    if len(tables) == 1:
        return tables[0]
    return dataclasses.replace(
        tables[0],
        materials=[material for table in tables for material in table.materials],
        targets={name: np.concatenate([table.targets[name] for table in tables]) for name in tables[0].targets},
        ids=[identifier for table in tables for identifier in table.ids],
        rows=np.concatenate([table.rows for table in tables]),
    )


def _warn_about_training_rows(predictor: Predictor, table: Table, data: str | None, split: str) -> None:
    """Scores on materials of the training split say little about new ones."""
    own = _own_data(predictor)
    if not own:
        tell("warning: the model does not say what it was trained on, so an overlap with its training rows cannot be found")
        return
    try:
        training = open_dataset(str(own["name"]), [target.name for target in predictor.targets], own.get("split")).splits["train"]
    except InputError:
        tell(f"warning: the model's own data, {own['name']}, are not here, so an overlap with its training rows cannot be found")
        return
    known_compositions = set(compositions(predictor, training))
    repeated = sum(composition in known_compositions for composition in compositions(predictor, table))
    if repeated:
        tell(f"warning: {repeated:,} of {len(table):,} {split} rows have a composition that occurs in the training rows")


def compositions(predictor: Predictor, table: Table) -> list[bytes]:
    """One key a row: the same for formulas of the same composition in any notation."""
    import numpy as np

    from tfmat.data.cache import featurize_table

    records = featurize_table(table, predictor.featurizer)
    species, fractions, offsets = records.values["species"], records.values["fractions"], records.offsets["species"]
    row = np.repeat(np.arange(len(table)), np.diff(offsets))
    order = np.lexsort((species, row))
    pairs = np.stack([species[order].astype(np.int32), np.round(fractions[order] * 1e5).astype(np.int32)], axis=1)
    return [pairs[start:end].tobytes() for start, end in itertools.pairwise(offsets)]


def _write(predictor: Predictor, evaluation: Evaluation, table: Table, name: str, split: str, folder: Path) -> None:
    from tfmat.atomic import new_directory
    from tfmat.cli import figures
    from tfmat.cli.predict import write_csv
    from tfmat.provenance import hardware, versions

    content = {
        "data": name,
        "split": split,
        "rows": len(table),
        "sha256": table.content_hash(),
        "scores": evaluation.scores,
        "units": {target.name: target.unit for target in predictor.targets},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "hardware": hardware(),
    }
    with writing(folder), task(f"writing {folder}"), new_directory(folder, overwrite=True) as temporary:
        (temporary / "scores.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_csv(evaluation.predictions, predictor, temporary / "predictions.csv")
        if figures.can_plot():
            figures.write_parity(predictor, evaluation, temporary, split)
