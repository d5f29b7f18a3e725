"""How long jobs take: from what finished ones took on this processor, or from a guess."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping

from benchmarks.campaign.jobs import Job, cost
from tfmat.datasets import registry

START = 60.0
"""Seconds of a job besides its training: imports, data, compilation, scores."""
GUESSES = {"lgdcnn": 4e-5, "crysformer": 5e-3, "megnet": 2e-3, "paraisite": 3e-3, "atom_list_lstm": 3e-3}
"""Architecture -> seconds a training row and epoch on one thread, of L-G-DCNN and Crysformer at a width of 64."""


def training_rows(job: Job) -> int:
    """Rows that it learns from, as far as that is known without reading the data."""
    source = registry.SOURCES[job.dataset]
    fold = f"fold{job.fold}"
    if not job.fold:
        rows = source.splits["train"]
    elif f"{fold}_train" in source.splits:
        rows = source.splits[f"{fold}_train"]
    else:  # the split is of the test rows; a tenth of the others is for validation
        rows = round(0.9 * (source.rows - source.splits[fold]))
    return min(rows, int(job.rows)) if job.rows else rows


class Estimates:
    """Seconds that jobs take, given the rows of the results."""

    def __init__(self, results: Iterable[Mapping[str, str]], hardware: str) -> None:
        self._factors: dict[tuple[str, ...], list[float]] = {}
        for row in results:
            if row["hardware"] == hardware and cost(row) and " " not in row["seed"]:
                measured = cost(row) / (int(row["train_rows"]) * int(row["epochs_run"]))
                for group in _groups(row["dataset"], row["architecture"], row["keywords"]):
                    self._factors.setdefault(group, []).append(measured / _guess(row["architecture"], row["keywords"]))

    def seconds(self, job: Job) -> float:
        """Of the whole job, from the results that are most like it."""
        guess = _guess(job.architecture, job.keywords)
        groups = _groups(job.dataset, job.architecture, job.keywords)
        factor = next((statistics.median(self._factors[group]) for group in groups if group in self._factors), 1.0)
        return START + guess * factor * training_rows(job) * int(job.epochs)


def _groups(dataset: str, architecture: str, keywords: str) -> tuple[tuple[str, ...], ...]:
    """From the most alike to the least."""
    return (architecture, keywords, dataset), (architecture, keywords), (architecture,)


def _guess(architecture: str, keywords: str) -> float:
    width = float(json.loads(keywords).get("dim", 0) or 64)
    scale = (width / 64) ** 2 if architecture in ("lgdcnn", "crysformer") else 1.0
    return GUESSES.get(architecture, 3e-3) * scale
