"""What is done and what is left: a table, a line for each data set and kind of model."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Group
from rich.table import Table

from benchmarks.campaign.estimates import Estimates
from benchmarks.campaign.jobs import Job, cost, from_row
from benchmarks.campaign.machine import hardware
from benchmarks.campaign.runner import Work


@dataclass
class Line:
    """Jobs that differ in fold and seed alone.

    Attributes:
        jobs: number.
        done: of them.
        failed: of them; given up.
        errors: target -> validation errors of those that are done (ROC-AUC of a binary target).
        spent: seconds.
        left: seconds, estimated.
    """

    jobs: int = 0
    done: int = 0
    failed: int = 0
    errors: dict[str, list[float]] = field(default_factory=dict)
    spent: float = 0.0
    left: float = 0.0


class Status:
    """How far a campaign is; read anew from its files by every call of `lines`."""

    def __init__(self, jobs: Sequence[Job], work: Work) -> None:
        self.jobs, self.work, self.hardware = jobs, work, hardware()
        self.failures: Mapping[str, Any] = {}
        self.running: Mapping[str, Any] = {}

    def lines(self) -> dict[Job, Line]:
        """By the job without fold and seed."""
        results: dict[Job, list[dict[str, str]]] = {}
        for row in self.work.results():
            results.setdefault(from_row(row), []).append(row)
        estimates = Estimates((row for rows in results.values() for row in rows), self.hardware)
        self.failures, self.running = self.work.failures(), self.work.running()
        lines: dict[Job, Line] = {}
        for job in self.jobs:
            line = lines.setdefault(replace(job, fold="", seed=""), Line())
            line.jobs += 1
            if job in results:
                line.done += 1
                line.spent += cost(results[job][0])
                for row in results[job]:
                    score = row["validation_MAE"] or row["validation_ROC-AUC"]
                    line.errors.setdefault(row["target"], []).append(float(score or "nan"))
            elif self.failures.get(job.key, {}).get("given_up"):
                line.failed += 1
            else:
                line.left += self.seconds_left(job, estimates)
        return lines

    def seconds_left(self, job: Job, estimates: Estimates) -> float:
        """Of a job that is not done: as it says itself, or estimated."""
        state = self.running.get(job.key, {})
        if state.get("seconds_left") is not None:
            return float(state["seconds_left"])
        return estimates.seconds(job) * (1.0 - float(state.get("done", 0.0)))

    def view(self) -> Group:
        """The table, what runs, and what has failed."""
        lines = self.lines()
        table = Table("data", "model", "done", "validation MAE or ROC-AUC", "hours", "hours left", box=None, header_style="bold")
        for job, line in lines.items():
            count = f"{line.done}/{line.jobs}" + (f", {line.failed} failed" if line.failed else "")
            scores = ", ".join(f"{statistics.fmean(errors):.4g}" for errors in line.errors.values())
            table.add_row(job.dataset, model(job), count, scores, _hours(line.spent), _hours(line.left))
        done, every = (sum(getattr(line, name) for line in lines.values()) for name in ("done", "jobs"))
        spent, left = (sum(getattr(line, name) for line in lines.values()) for name in ("spent", "left"))
        table.add_section()
        table.add_row("in all", "", f"{done}/{every}", "", _hours(spent), _hours(left))
        names = {job.key: str(job) for job in self.jobs}
        told = [
            f"{names[key]}: epoch {state['epoch']}/{state['epochs']}"
            + (f", {left / 60:.0f} min left" if (left := state["seconds_left"]) else "")
            for key, state in self.running.items()
            if key in names
        ]
        told += [
            f"failed{'' if state['given_up'] else ' once'}: {names[key]}: {state['error']}"
            for key, state in self.failures.items()
            if key in names
        ]
        return Group(table, *told)


def model(job: Job) -> str:
    """Architecture and settings, in words."""
    settings = json.loads(job.keywords) | json.loads(job.recipe_options)
    settings |= {name: value for name, value in (("rows", job.rows), ("above", job.above), ("epochs", job.epochs)) if value}
    settings |= {"transform": job.transform} if job.transform != "none" else {}
    return " ".join([job.architecture, *([job.recipe] if job.recipe != "default" else []), *(f"{k}={v}" for k, v in settings.items())])


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds else ""
