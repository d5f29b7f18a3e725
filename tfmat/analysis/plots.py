"""Plots in one style: colour-blind safe (Okabe-Ito), units on every axis. Needs matplotlib (the ``plot`` extra)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tfmat.datasets.dataset import Dataset

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
SERIES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe-Ito, for several curves in one plot."""


def canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """An empty figure of `width` x `height` inches and its axes (rows, columns), without grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def new_figure(columns: int = 1, size: tuple[float, float] = (5.2, 4.4)) -> tuple[Figure, Any]:
    """An empty figure in the common style and its `columns` axes, of `size` [inch] each, with a grid."""
    figure, axes = canvas(size[0] * columns, size[1], 1, columns)
    for axis in axes[0]:
        axis.grid(alpha=0.25, linewidth=0.6)
    return figure, axes[0]


def svg(figure: Figure) -> bytes:
    """The figure as SVG, without date: the same figure gives the same bytes."""
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "tfmat"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def label(quantity: str, unit: str) -> str:
    """``band_gap``, ``eV`` -> ``band gap [eV]``."""
    return literal(quantity.replace("_", " ") + (f" [{unit}]" if unit else ""))


def literal(text: str) -> str:
    """Text that matplotlib shows as it stands: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def learning_curve(
    history: Sequence[Mapping[str, float]], units: Mapping[str, str], path: Path, tasks: Mapping[str, str] | None = None
) -> None:
    """Loss, and for each target the training and validation error, against the epoch. One panel each.

    Args:
        history: one dictionary per epoch, see `tfmat.training.loop.train`.
        units: target -> unit.
        path: PNG file.
        tasks: target -> task; a binary target's error is the share of wrong classes.
    """
    figure, axes = new_figure(1 + len(units))
    panels: list[tuple[Axes, str, str]] = [(axes[0], "loss", "loss")]
    for axis, (target, unit) in zip(axes[1:], units.items(), strict=True):
        binary = (tasks or {}).get(target) == "binary"
        panels.append((axis, f"{target}_mae", "share of wrong classes" if binary else label(f"MAE of {target}", unit)))
    for axis, key, title in panels:
        draw_learning(axis, history, key, title)
    figure.savefig(path)


def draw_learning(axis: Axes, history: Sequence[Mapping[str, float]], key: str, title: str) -> None:
    """A figure of the history, e.g. ``loss``, of the training and the validation split against the epoch."""
    epochs = [row["epoch"] for row in history]
    for prefix, name, colour in (("", "training", BLUE), ("val_", "validation", ORANGE)):
        values = [row.get(prefix + key, np.nan) for row in history]
        if np.isfinite(values).any():
            axis.plot(epochs, values, color=colour, label=name, linewidth=1.6, marker="o" if len(epochs) < 3 else None)
    axis.set(xlabel="epoch", ylabel=title)
    if key != "loss":
        axis.set_ylim(bottom=0)
    axis.legend(frameon=False)


def parity(
    values: np.ndarray,
    predictions: np.ndarray,
    path: Path,
    *,
    target: str,
    unit: str,
    uncertainty: np.ndarray | None = None,
    logarithmic: bool = False,
    title: str = "",
) -> None:
    """Predicted against true values, coloured by the predicted uncertainty where there is one.

    Args:
        values: true values (N,) [unit]; NaN rows are left out.
        predictions: (N,) [unit].
        path: PNG file.
        target: name on the axes.
        unit: of both.
        uncertainty: (N,) [unit] or None.
        logarithmic: logarithmic axes, for positive values over several decades; predictions below a tenth of the lowest value are drawn
            there. Without effect where a value is not positive.
        title: above the plot, e.g. split and number of rows.
    """
    finite = np.isfinite(values) & np.isfinite(predictions)
    values, predictions = values[finite], predictions[finite]
    mae = float(np.mean(np.abs(values - predictions))) if len(values) else np.nan
    predictions, logarithmic = on_logarithmic_axes(values, predictions) if logarithmic else (predictions, False)
    figure, (axis,) = new_figure()
    style: dict[str, Any] = {"s": 9, "alpha": 0.7, "linewidths": 0, "rasterized": True}
    if uncertainty is None:
        axis.scatter(values, predictions, color=BLUE, **style)
    else:
        spread = uncertainty[finite]
        top = float(np.quantile(spread, 0.98)) if len(spread) else 1.0
        order = np.argsort(spread)
        points = axis.scatter(values[order], predictions[order], c=spread[order], cmap="viridis", vmin=0, vmax=top, **style)
        figure.colorbar(points, label=label("predicted uncertainty", unit), extend="max")
    if len(values):
        draw_diagonal(axis, values, predictions, logarithmic)
        axis.text(0.04, 0.96, literal(f"MAE {mae:.3g} {unit}\nn = {len(values):,}"), transform=axis.transAxes, va="top")
    axis.set(xlabel=label(f"true {target}", unit), ylabel=label(f"predicted {target}", unit), title=title)
    axis.set_aspect("equal")
    figure.savefig(path)


def on_logarithmic_axes(values: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, bool]:
    """The predictions as they are drawn, and whether the axes can be logarithmic: only with values that are all positive.

    Predictions below a tenth of the lowest value are drawn there.
    """
    if not len(values) or not (values > 0).all():
        return predictions, False
    return np.maximum(predictions, values.min() / 10), True


def draw_diagonal(axis: Axes, values: np.ndarray, predictions: np.ndarray, logarithmic: bool) -> None:
    """Equal limits of both axes around all points (at least one), and the line on which a prediction is right."""
    low, high = float(min(values.min(), predictions.min())), float(max(values.max(), predictions.max()))
    margin = 0.03 * (high - low or 1.0)
    limits = (low / 1.2, high * 1.2) if logarithmic else (low - margin, high + margin)
    axis.plot(limits, limits, color=GREY, linewidth=1, zorder=0)
    axis.set(xlim=limits, ylim=limits)
    if logarithmic:
        logarithmic_axes(axis)


def logarithmic_axes(axis: Axes) -> None:
    """Both axes logarithmic, with plain numbers."""
    from matplotlib.ticker import LogFormatter, StrMethodFormatter

    axis.set(xscale="log", yscale="log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
        side.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def roc(classes: np.ndarray, probabilities: np.ndarray, path: Path, *, target: str, title: str = "") -> None:
    """Receiver operating characteristic of a binary target.

    Args:
        classes: 0 or 1 (N,); NaN rows are left out.
        probabilities: of class 1 (N,).
        path: PNG file.
        target: name.
        title: above the plot.
    """
    figure, (axis,) = new_figure()
    draw_roc(axis, classes, probabilities)
    axis.set_title(title or target.replace("_", " "))
    figure.savefig(path)


def draw_roc(axis: Axes, classes: np.ndarray, probabilities: np.ndarray) -> None:
    """See `roc`."""
    finite = np.isfinite(classes) & np.isfinite(probabilities)
    truth = classes[finite][np.argsort(-probabilities[finite], kind="stable")] > 0.5
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    if truth.any() and not truth.all():
        true_rate, false_rate = np.cumsum(truth) / truth.sum(), np.cumsum(~truth) / (~truth).sum()
        axis.plot([0, *false_rate], [0, *true_rate], color=BLUE, linewidth=1.6)
    axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    axis.set_aspect("equal")


def histogram(
    values: Mapping[str, Mapping[str, np.ndarray]], path: Path, *, units: Mapping[str, str], title: str = "", bins: int = 60
) -> None:
    """Draw how the values of each target are distributed in each split: one panel per target, counts on a logarithmic axis.

    The horizontal axis holds the middle 99.8 % of the values; what lies outside is counted in the legend.

    Args:
        values: target -> split -> values (N,) [unit]; NaN is left out.
        path: PNG file.
        units: target -> unit.
        title: above the plot.
        bins: of each panel.
    """
    figure, axes = new_figure(len(values))
    for axis, (target, splits) in zip(axes, values.items(), strict=True):
        known = {split: column[np.isfinite(column)] for split, column in splits.items()}
        together = np.concatenate(list(known.values()))
        if not len(together):
            axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center")
            continue
        low, high = (float(limit) for limit in np.quantile(together, [0.001, 0.999]))
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1)
        for (split, column), colour in zip(known.items(), (BLUE, ORANGE, GREY), strict=False):
            axis.hist(column, bins=edges, histtype="step", color=colour, linewidth=1.4, label=f"{split} ({len(column):,})")
        outside = int(((together < low) | (together > high)).sum())
        axis.set_yscale("log")
        axis.set(xlabel=label(target, units[target]), ylabel="materials")
        axis.legend(frameon=False, title=f"{outside:,} beyond the axis" if outside else None)
    figure.suptitle(title)
    figure.savefig(path)


def dataset_histogram(dataset: Dataset, path: Path) -> None:
    """`histogram` of all targets of a dataset, written as PNG to `path`."""
    values = {name: {split: table.targets[name] for split, table in dataset.splits.items()} for name in dataset.units}
    rows = sum(len(table) for table in dataset.splits.values())
    histogram(values, path, units=dataset.units, title=f"{dataset.name}: {rows:,} materials")
