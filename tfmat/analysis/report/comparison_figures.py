"""Plots of several runs on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfmat.analysis.plots import BLUE, GREY, SERIES, new_figure, svg
from tfmat.analysis.report.comparison import LEVEL, Paired
from tfmat.analysis.report.images import SIZE, Image, axis_label, cumulative
from tfmat.analysis.report.results import Run

_LINES = ("-", "--", ":")
"""Styles that tell more runs apart than there are colours."""


def letters(count: int) -> list[str]:
    """A, B, ..., Z, A2, B2, ...: short names of runs."""
    return [chr(ord("A") + i % 26) + (str(i // 26 + 1) if i >= 26 else "") for i in range(count)]


def comparison_figures(paired: Paired, runs: Sequence[Run]) -> list[Image]:
    """Mean errors and their differences with intervals, how errors are distributed, and validation errors against the epoch."""
    images = [_means(paired), _differences(paired), _distribution(paired)]
    curve = _validation(paired, runs)
    return images + ([curve] if curve is not None else [])


def _means(paired: Paired) -> Image:
    first, names = paired.results[0], letters(len(paired.results))
    found = {name: paired.mean_error(run) for run, name in enumerate(names)}
    drawn = _intervals(found, axis_label(first.error_name, first.error_unit))
    text = f"{first.error_name} with {LEVEL:.0%} intervals: {_listed(found)} {first.error_unit}".rstrip() + "."
    note = "Intervals may overlap although one run is better on the same rows: the differences tell."
    return Image(f"means-{first.target.name}", "Mean errors", text, drawn, note=note)


def _differences(paired: Paired) -> Image:
    first, names = paired.results[0], letters(len(paired.results))
    found = {f"{names[run]} − A": paired.difference(run) for run in range(1, len(names))}
    drawn = _intervals(found, axis_label(f"difference of {first.error_name}", first.error_unit), zero=True)
    text = f"Differences of {first.error_name} to the first run with {LEVEL:.0%} intervals: {_listed(found)} {first.error_unit}"
    note = "Left of the line the run is better than A. An interval that crosses the line leaves open which is better."
    return Image(f"differences-{first.target.name}", "Paired differences", text.rstrip() + ".", drawn, note=note)


def _intervals(found: Mapping[str, tuple[float, float, float]], quantity: str, *, zero: bool = False) -> bytes:
    """A point and its interval in a line of each name."""
    figure, (axis,) = new_figure(size=SIZE)
    if zero:
        axis.axvline(0, color=GREY, linewidth=1)
    for place, (mean, low, high) in enumerate(found.values()):
        reach = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
        axis.errorbar([mean], [place], xerr=reach, fmt="o", color=BLUE, capsize=4, linewidth=1.6)
    axis.set_yticks(range(len(found)), list(found))
    axis.set(xlabel=quantity, ylim=(len(found) - 0.4, -0.6))
    return svg(figure)


def _listed(found: Mapping[str, tuple[float, float, float]]) -> str:
    return "; ".join(f"{name} {mean:.3g} ({low:.3g} to {high:.3g})" for name, (mean, low, high) in found.items())


def _distribution(paired: Paired) -> Image:
    first, names = paired.results[0], letters(len(paired.results))
    if first.binary:
        errors = np.stack([100 * np.abs(result.predicted - (result.true > 0.5)) for result in paired.results])
        quantity = axis_label("distance of the probability from the class", "%")
    else:
        errors, quantity = paired.errors, axis_label(f"absolute error of {first.target.name}", first.target.unit)
    figure, (axis,) = new_figure(size=SIZE)
    for run, (row, name) in enumerate(zip(errors, names, strict=True)):
        axis.step(*cumulative(row), where="post", linewidth=1.6, label=name, **_style(run))
    top = float(np.quantile(errors, 0.99)) or 1.0
    axis.set(xlabel=quantity, ylabel="rows with a smaller error [%]", xlim=(0, top), ylim=(0, 100))
    axis.legend(frameon=False, ncols=1 + len(names) // 8)
    medians = ", ".join(f"{name} {np.median(row):.3g}" for name, row in zip(names, errors, strict=True))
    text = f"Share of rows whose error is smaller than a limit, for each run; medians: {medians}."
    return Image(
        f"distribution-{first.target.name}",
        "How errors are distributed",
        text,
        svg(figure),
        note="Higher is better. The axis ends at 99 %.",
    )


def _validation(paired: Paired, runs: Sequence[Run]) -> Image | None:
    first, names = paired.results[0], letters(len(runs))
    key = f"val_{first.target.name}_mae"
    shown = [(run, names[run], found.history) for run, found in enumerate(runs) if found.history and key in found.history[0]]
    if not shown:
        return None
    figure, (axis,) = new_figure(size=SIZE)
    for run, name, history in shown:
        epochs, values = [row["epoch"] for row in history], [row[key] for row in history]
        axis.plot(epochs, values, linewidth=1.6, label=name, marker="o" if len(epochs) < 3 else None, **_style(run))
    error = "share of wrong classes" if first.binary else axis_label("MAE", first.target.unit)
    axis.set(xlabel="epoch", ylabel=f"validation {error}", ylim=(0, None))
    axis.legend(frameon=False, ncols=1 + len(names) // 8)
    ends = ", ".join(f"{name} {history[-1][key]:.3g} after {len(history)} epochs" for _, name, history in shown)
    text = f"Validation error against the epoch, of each run on its own validation split: {ends}."
    return Image(f"validation-{first.target.name}", "Validation error", text, svg(figure), note="Each run on its own validation split.")


def _style(run: int) -> dict[str, str]:
    """Colour and line of a run's curve."""
    return {"color": SERIES[run % len(SERIES)], "linestyle": _LINES[run // len(SERIES) % len(_LINES)]}
