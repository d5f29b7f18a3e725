"""The folder of one evaluation, MODEL/evaluations/DATA-SPLIT: written when a model is scored, read for a report."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.analysis import figures
from tfmat.errors import InputError
from tfmat.runs.folder import stem

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
_TEXTS = ("id", "source", "material")


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


def folder_of(model: Path, data: str | Sequence[str], split: str) -> Path:
    """Name the folder for the evaluation of a model on a split of a dataset or file."""
    return model / FOLDER / f"{stem(data)}-{split}"


def headers(targets: Sequence[Target]) -> dict[str, str]:
    """Give each column of predictions the name with its unit, as in ``band_gap [eV]``."""
    found = {}
    for target in targets:
        unit = "probability" if target.task == "binary" else target.unit
        for name in (target.name, f"{target.name}_true", f"{target.name}_uncertainty"):
            told = "" if target.task == "binary" and name != target.name else unit
            found[name] = f"{name} [{told}]" if told else name
    return found


def write_predictions(frame: pd.DataFrame, targets: Sequence[Target], out: Path) -> None:
    """Write predictions to a CSV file whose header has the units, complete or not at all."""
    from tfmat.atomic import staged

    with staged(out, overwrite=True) as temporary:
        frame.rename(columns=headers(targets)).to_csv(temporary, index=False, float_format="%.7g")


def write(
    predictor: Predictor, evaluation: Evaluation, table: Table, about: Mapping[str, Any], rejections: Sequence[Rejection], folder: Path
) -> dict[str, Any]:
    """Write scores, predictions, plots and, of a model of crystals, the worst crystals, in place of an earlier evaluation.

    Args:
        predictor: the model.
        evaluation: its predictions and scores.
        table: the rows. Where they were merged from several sources, the predictions have a column ``source``.
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
    frame = evaluation.predictions
    if table.origins is not None:
        frame = frame.copy()
        frame.insert(1, "source", table.origins)
    with new_directory(folder, overwrite=True) as temporary:
        (temporary / SCORES).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_predictions(frame, predictor.targets, temporary / PREDICTIONS)
        if all(isinstance(material, Crystal) for material in table.materials):
            _write_worst(frame, predictor.targets, table, temporary / WORST)
        if rejections:
            write_rejections(temporary / FILE_NAME, rejections)
        if figures.can_plot():
            figures.write_parity(predictor, evaluation, temporary, str(about["split"]))
    return content


def _write_worst(frame: pd.DataFrame, targets: Sequence[Target], table: Table, path: Path) -> None:
    """Write the crystals with the ten largest errors of each target, one JSON object per line, as `tfmat predict` reads them."""
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
    """Read what `write` wrote.

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
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"data", "split", "rows", "rejected", "scores", "date"} <= set(content):
            raise ValueError("keys are missing")
    except (ValueError, TypeError) as error:
        raise InputError(f"it cannot be read ({error})", file=str(path), expected=_AGAIN) from None
    return content


def _read_predictions(path: Path, targets: Sequence[Target]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError("no predictions: the file is missing", file=str(path), expected=_AGAIN)
    frame = read_csv(path, _AGAIN, keep_default_na=False, dtype=str).rename(columns={told: name for name, told in headers(targets).items()})
    needed = ["id", "material", *(name for target in targets for name in (f"{target.name}_true", target.name))]
    absent = [name for name in needed if name not in frame]
    if absent:
        raise InputError(f"no predictions of {absent[0]!r} in it", file=str(path), row=1, expected=_AGAIN)
    for name in [column for column in frame if column not in _TEXTS]:
        frame[name] = _numbers(frame[name], path)
    return frame


def read_csv(path: Path, expected: str, **options: Any) -> pd.DataFrame:
    """Read a CSV file with pandas and its `options`; what cannot be read is an `InputError` that says what was `expected`."""
    import pandas as pd

    try:
        return pd.read_csv(path, **options)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"it cannot be read ({str(error).splitlines()[0]})", file=str(path), expected=expected) from None


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    """Read a column as numbers, an empty cell as NaN."""
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = np.flatnonzero(numbers.isna() & ~column.str.lower().isin(["", "nan"]))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{column.iloc[row][:40]!r} is not a number", file=str(path), row=row + 2, expected=_AGAIN)
    return numbers
