"""The folder of one evaluation, MODEL/evaluations/DATA-SPLIT: written by ``tfmat evaluate``, read by ``tfmat report``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.cli import figures
from tfmat.cli.failures import writing
from tfmat.cli.predict import headers, write_csv
from tfmat.cli.progress import task
from tfmat.cli.runs import stem
from tfmat.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from tfmat.crystal import Crystal
    from tfmat.data.rejections import Rejection
    from tfmat.data.table import Table
    from tfmat.predictor import Predictor
    from tfmat.target import Target
    from tfmat.training.evaluation import Evaluation

FOLDER, SCORES, PREDICTIONS, WORST = "evaluations", "scores.json", "predictions.csv", "worst.jsonl"
_AGAIN = "what `tfmat evaluate` writes: run it again"


@dataclass(frozen=True)
class Stored:
    """An evaluation as it was written.

    Attributes:
        scores: data, split, rows, scores, units, date, ...
        predictions: see `tfmat.predictor.Evaluation`.
        worst: id -> crystal of the worst rows of a model of crystals.
    """

    scores: dict[str, Any]
    predictions: pd.DataFrame
    worst: dict[str, dict[str, Any]]


def folder_of(model: Path, data: str, split: str) -> Path:
    """Where the evaluation of a model on a split of a dataset or file is."""
    return model / FOLDER / f"{stem(data)}-{split}"


def write(
    predictor: Predictor, evaluation: Evaluation, table: Table, about: Mapping[str, Any], rejections: Sequence[Rejection], folder: Path
) -> dict[str, Any]:
    """Scores, predictions, plots and, of a model of crystals, the worst crystals, in place of an earlier evaluation.

    Args:
        predictor: the model.
        evaluation: its predictions and scores.
        table: the rows.
        about: ``data`` and ``split``.
        rejections: rows that were left out.
        folder: see `folder_of`.

    Returns:
        The content of ``scores.json``: `about`, number of rows and rejections, scores, units, date, versions, hardware.
    """
    from tfmat.atomic import new_directory
    from tfmat.crystal import Crystal
    from tfmat.data.rejections import FILE_NAME, write_rejections
    from tfmat.model_directory.provenance import hardware, versions

    content = {
        **about,
        "rows": len(table),
        "rejected": len(rejections),
        "sha256": table.content_hash(),
        "scores": evaluation.scores,
        "units": {target.name: target.unit for target in predictor.targets},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "hardware": hardware(),
    }
    with writing(folder), task(f"writing {folder}"), new_directory(folder, overwrite=True) as temporary:
        (temporary / SCORES).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_csv(evaluation.predictions, predictor, temporary / PREDICTIONS)
        if all(isinstance(material, Crystal) for material in table.materials):
            _write_worst(evaluation.predictions, predictor.targets, table, temporary / WORST)
        if rejections:
            write_rejections(temporary / FILE_NAME, rejections)
        if figures.can_plot():
            figures.write_parity(predictor, evaluation, temporary, str(about["split"]))
    return content


def _write_worst(frame: pd.DataFrame, targets: Sequence[Target], table: Table, path: Path) -> None:
    """The crystals with the ten largest errors of each target, one JSON object a line, as `tfmat predict` reads them."""
    from tfmat.training.scores import worst_rows

    rows = dict.fromkeys(
        row for t in targets for row in worst_rows(frame[f"{t.name}_true"].to_numpy(float), frame[t.name].to_numpy(float)).tolist()
    )
    lines = [json.dumps({"id": table.ids[row], **_record(table.materials[row])}) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _record(crystal: Crystal) -> dict[str, Any]:
    from tfmat.elements import SYMBOLS

    return {
        "cell": crystal.lattice.round(6).tolist(),
        "species": [SYMBOLS[z] for z in crystal.species.tolist()],
        "frac": crystal.frac_coords.round(6).tolist(),
    }


def read(folder: Path, targets: Sequence[Target]) -> Stored:
    """What `write` wrote.

    Raises:
        InputError: a file is missing, cannot be read or lacks a column.
    """
    scores = _read_scores(folder / SCORES)
    frame = _read_predictions(folder / PREDICTIONS, targets)
    worst = {}
    if (folder / WORST).is_file():
        try:
            records = [json.loads(line) for line in (folder / WORST).read_text(encoding="utf-8").splitlines()]
            worst = {str(record["id"]): {key: record[key] for key in ("cell", "species", "frac")} for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"it cannot be read ({error})", file=str(folder / WORST), expected=_AGAIN) from None
    return Stored(scores, frame, worst)


def _read_scores(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("no scores: the file is missing", file=str(path), expected=_AGAIN)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not {"data", "split", "rows", "rejected", "scores", "date"} <= set(content):
            raise ValueError("keys are missing")
    except (ValueError, TypeError) as error:
        raise InputError(f"it cannot be read ({error})", file=str(path), expected=_AGAIN) from None
    found: dict[str, Any] = content
    return found


def _read_predictions(path: Path, targets: Sequence[Target]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise InputError("no predictions: the file is missing", file=str(path), expected=_AGAIN)
    columns = {written: name for name, written in headers(targets).items()}
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False).rename(columns=columns)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"it cannot be read ({str(error).splitlines()[0]})", file=str(path), expected=_AGAIN) from None
    needed = ["id", "material", *(name for target in targets for name in (f"{target.name}_true", target.name))]
    absent = [name for name in needed if name not in frame]
    if absent:
        raise InputError(f"no predictions of {absent[0]!r} in it", file=str(path), row=1, expected=_AGAIN)
    for name in [column for column in frame if column not in ("id", "material")]:
        frame[name] = _numbers(frame[name], path)
    return frame


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    """A column as numbers; NaN for an empty cell."""
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = np.flatnonzero(numbers.isna() & ~column.str.lower().isin(["", "nan"]))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{column.iloc[row][:40]!r} is not a number", file=str(path), row=row + 2, expected=_AGAIN)
    return numbers
