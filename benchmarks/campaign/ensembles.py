"""Ensembles of seeds, made of the predictions that finished jobs have left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.campaign.jobs import Job
from benchmarks.campaign.runner import COLUMNS, Work
from benchmarks.campaign.train import SPLITS, result
from benchmarks.rows import append
from tfmat.training.evaluation import Evaluation
from tfmat.training.scores import binary_scores, calibration, coverage, regression_scores

SAME = ("epochs_run", "train_rows", "left_out", "batch_size", "hardware", "instruction_set", "threads", "commit")


def append_ensembles(work: Work) -> list[dict[str, Any]]:
    """Rows of the ensembles that are not in the CSV file yet; their ``seed`` has the seeds of all members.

    A group of jobs that differ in their seed alone makes one; with more seeds than an earlier one had it is another one.
    """
    done = work.done()
    groups: dict[Job, list[Job]] = {}
    for job in sorted(done, key=lambda job: (len(job.seed), job.seed)):
        if " " not in job.seed and (work.folder / "finished" / job.key / "rows.json").is_file():
            groups.setdefault(job.without_seed, []).append(job)
    rows = []
    for common, members in groups.items():
        ensemble = replace(common, seed=" ".join(job.seed for job in members))
        if len(members) > 1 and ensemble not in done:
            rows += ensemble_rows(work, ensemble, members)
    append(work.out, COLUMNS, *rows)
    return rows


def ensemble_rows(work: Work, ensemble: Job, members: Sequence[Job]) -> list[dict[str, Any]]:
    """A row for each target."""
    folders = [work.folder / "finished" / job.key for job in members]
    stored = [json.loads((folder / "rows.json").read_text(encoding="utf-8")) for folder in folders]
    frames = {
        split: [pd.read_csv(folder / f"{split}.csv.gz") for folder in folders]
        for split in SPLITS
        if (folders[0] / f"{split}.csv.gz").is_file()
    }
    evaluations = {split: Evaluation({}, mean(frames[split])) for split in frames}
    rows = []
    for each in zip(*stored, strict=True):
        first = each[0]
        _score(evaluations, first["target"], first["task"])
        about = {name: first[name] for name in SAME} | {"parameters": sum(row["parameters"] for row in each)}
        about |= {name: round(sum(row[name] for row in each), 1) for name in ("seconds", "cpu_seconds")}
        about["date"] = max(row["date"] for row in each)
        rows.append(asdict(ensemble) | about | result(ensemble, first["target"], first["unit"], first["task"], evaluations))
    return rows


def mean(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean predictions of the same rows. The variance is the members' mean variance and the variance of their predictions.

    Raises:
        ValueError: the members have not predicted the same rows.
    """
    first = frames[0].copy()
    for frame in frames[1:]:
        if not (frame["id"].equals(first["id"]) and list(frame.columns) == list(first.columns)):
            raise ValueError("the members of an ensemble have not predicted the same rows")
    for name in [column.removesuffix("_true") for column in first.columns if column.endswith("_true")]:
        predictions = np.stack([frame[name].to_numpy(np.float64) for frame in frames])
        first[name] = predictions.mean(axis=0)
        if f"{name}_uncertainty" in first:
            variances = np.stack([frame[f"{name}_uncertainty"].to_numpy(np.float64) ** 2 for frame in frames])
            first[f"{name}_uncertainty"] = np.sqrt(variances.mean(axis=0) + predictions.var(axis=0))
    return first


def _score(evaluations: dict[str, Evaluation], target: str, task: str) -> None:
    """Fill in the scores of a target; its uncertainties are calibrated on the validation rows."""
    factor = 1.0
    for split, evaluation in evaluations.items():
        frame = evaluation.predictions
        values, predictions = frame[f"{target}_true"].to_numpy(), frame[target].to_numpy()
        if task == "binary":
            evaluation.scores[target] = binary_scores(values, predictions)
            continue
        evaluation.scores[target] = regression_scores(values, predictions)
        if f"{target}_uncertainty" in frame:
            spread = frame[f"{target}_uncertainty"].to_numpy()
            if split == "validation":
                factor = calibration(values, predictions, spread)
            evaluation.scores[target]["coverage"] = coverage(values, predictions, factor * spread)
