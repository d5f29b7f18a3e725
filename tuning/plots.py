"""Plots of a search: its objective trial by trial, and against each hyper-parameter. Needs matplotlib (the ``plot`` extra)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmat.analysis.plots import BLUE, GREY, ORANGE, label, new_figure
from tfmat.tuning.results import SearchResult, TrialResult

_DECADES = 10.0
"""An axis is logarithmic where the largest value is at least this many times the smallest."""


def write_plots(result: SearchResult) -> None:
    """``objective.png``, and ``objective-NAME.png`` for each hyper-parameter, into the folder of a search."""
    axis = {"objective": result.objective, "unit": result.unit}
    objective_by_trial(result.trials, result.folder / "objective.png", **axis)
    for name in result.best.values:
        path = result.folder / f"objective-{name}.png"
        objective_by_value(result.trials, name, path, **axis, logarithmic=name in result.logarithmic)


def objective_by_trial(results: Sequence[TrialResult], path: Path, *, objective: str, unit: str) -> None:
    """The objective of each trial in their order, the best so far, and which trials failed.

    Args:
        results: results of all trials.
        path: PNG file.
        objective: name on the axis.
        unit: its unit.
    """
    figure, (axis,) = new_figure()
    done = [(number, result.objective) for number, result in enumerate(results, 1) if result.objective is not None]
    numbers, values = [number for number, _ in done], [value for _, value in done]
    best = [min(values[: count + 1]) for count in range(len(values))]
    axis.scatter(numbers, values, s=16, color=BLUE, label="trial", zorder=3)
    axis.step(numbers, best, where="post", color=ORANGE, linewidth=1.6, label="best so far")
    failed = [number for number, result in enumerate(results, 1) if result.status == "failed"]
    if failed:
        top = axis.get_ylim()[1]
        axis.scatter(failed, [top] * len(failed), marker="x", s=24, color=GREY, label="failed", clip_on=False)
    axis.set(xlabel="trial", ylabel=label(objective, unit))
    axis.set_yscale("log" if _spans_decades(values) else "linear")
    axis.legend(frameon=False)
    figure.savefig(path)


def objective_by_value(
    results: Sequence[TrialResult], name: str, path: Path, *, objective: str, unit: str, logarithmic: bool = False
) -> None:
    """The objective against the values of one hyper-parameter, coloured by the epochs of the trial where these differ.

    Args:
        results: results of all trials.
        name: name of the hyper-parameter.
        path: PNG file.
        objective: name on the axis.
        unit: its unit.
        logarithmic: axis of a hyper-parameter that is searched on a logarithmic scale.
    """
    figure, (axis,) = new_figure()
    done = [result for result in results if result.objective is not None and name in result.values]
    heights = [result.objective for result in done]
    places: list[Any] = [result.values[name] for result in done]
    if any(isinstance(place, (bool, str)) for place in places):
        names = sorted(set(map(str, places)))
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
        places = [names.index(str(place)) for place in places]
    elif logarithmic:
        axis.set_xscale("log")
    epochs = [result.epochs for result in done]
    if len(set(epochs)) > 1:
        points = axis.scatter(places, heights, c=epochs, s=22, cmap="viridis")
        figure.colorbar(points, label="epochs")
    else:
        axis.scatter(places, heights, s=22, color=BLUE, alpha=0.8)
    axis.set(xlabel=label(name, UNITS.get(name, "")), ylabel=label(objective, unit))
    axis.set_yscale("log" if _spans_decades([height for height in heights if height is not None]) else "linear")
    figure.savefig(path)


UNITS = {"cutoff": "Å"}
"""Hyper-parameters that have a unit."""


def _spans_decades(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > _DECADES
