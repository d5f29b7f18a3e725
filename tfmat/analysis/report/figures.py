"""Plots of one run: learning curves, parity, residuals, error against size, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfmat.analysis.plots import (
    BLUE,
    GREY,
    ORANGE,
    draw_diagonal,
    draw_learning,
    draw_roc,
    literal,
    logarithmic_axes,
    new_figure,
    on_logarithmic_axes,
    svg,
)
from tfmat.analysis.report.images import SIZE, Image, axis_label, cumulative
from tfmat.analysis.report.results import Result, Run
from tfmat.training.scores import LAPLACE_COVERAGE, binary_scores, coverage

LEAST_BINNED = 20
"""Rows that it takes to look at the uncertainty in bins."""


def learning(run: Run) -> list[Image]:
    """Loss, and the error of each target, against the epoch."""
    panels = [("loss", "loss", "Loss")]
    for result in run.results:
        target = result.target
        error = "share of wrong classes" if result.binary else axis_label(f"MAE of {target.name}", target.unit)
        panels.append((f"{target.name}_mae", error, f"Error of {target.name.replace('_', ' ')}"))
    images = []
    for key, quantity, title in panels:
        figure, (axis,) = new_figure(size=SIZE)
        draw_learning(axis, run.history, key, quantity)
        images.append(Image(f"learning-{key.removesuffix('_mae')}", title, _learning_text(run.history, key, title), svg(figure)))
    return images


def _learning_text(history: Sequence[Mapping[str, float]], key: str, title: str) -> str:
    ends = [f"{name} {history[-1][k]:.4g}" for name, k in (("training", key), ("validation", f"val_{key}")) if k in history[-1]]
    return f"{title} over {len(history)} epochs; after the last: {', '.join(ends) or 'not recorded'}."


def accuracy(result: Result, split: str) -> list[Image]:
    """Parity, residuals and sizes of the errors of a regression; ROC curve and probabilities of a binary target."""
    if result.binary:
        return [_roc(result), _probabilities(result)]
    return [_parity(result, split), _residuals(result, split), _cumulative(result, split)]


def _parity(result: Result, split: str) -> Image:
    from matplotlib.ticker import MaxNLocator

    target, values = result.target, result.true
    predictions, logarithmic = on_logarithmic_axes(values, result.predicted) if target.transform != "none" else (result.predicted, False)
    figure, (axis,) = new_figure(size=SIZE)
    draw_diagonal(axis, values, predictions, logarithmic)
    low, high = (math.log10(limit) if logarithmic else limit for limit in axis.get_xlim())
    scale = "log" if logarithmic else "linear"
    hexagons = axis.hexbin(
        values, predictions, gridsize=36, mincnt=1, extent=(low, high, low, high), xscale=scale, yscale=scale,
        bins="log" if len(values) > 1000 else None, cmap="viridis", linewidths=0.1,
    )  # fmt: skip
    if logarithmic:
        logarithmic_axes(axis)
    if len(values) <= 1000:
        hexagons.set_clim(0, max(2.0, float(np.max(hexagons.get_array()))))
    axis.set_aspect("equal")
    figure.colorbar(hexagons, label=f"{split} rows in a hexagon", ticks=None if len(values) > 1000 else MaxNLocator(integer=True))
    axis.set(xlabel=axis_label(f"true {target.name}", target.unit), ylabel=axis_label(f"predicted {target.name}", target.unit))
    mae = f"MAE {result.errors.mean():.3g} {target.unit}".rstrip()
    axis.text(0.04, 0.96, literal(f"{mae}\nn = {len(result):,}"), transform=axis.transAxes, va="top")
    name = target.name.replace("_", " ")
    text = f"Predicted against true {name} of {len(result):,} {split} rows, as a density; {mae}."
    return Image(f"parity-{target.name}", "Predicted against true", text, svg(figure), note="On the line a prediction is right.")


def _residuals(result: Result, split: str) -> Image:
    from matplotlib.ticker import MaxNLocator

    target, residuals = result.target, result.predicted - result.true
    figure, (axis,) = new_figure(size=SIZE)
    reach = float(np.quantile(np.abs(residuals), 0.99)) * 1.05 or 1.0
    inside = np.abs(residuals) <= reach
    axis.hist(residuals[inside], bins=min(60, max(10, len(residuals) // 8)), range=(-reach, reach), color=BLUE)
    bias = float(residuals.mean())
    axis.axvline(0, color=GREY, linewidth=1)
    axis.axvline(bias, color=ORANGE, linewidth=1.4, linestyle="--", label=literal(f"mean {bias:+.2g} {target.unit}".rstrip()))
    outside = int((~inside).sum())
    axis.legend(frameon=False, title=f"{outside:,} beyond the axis" if outside else None)
    axis.set(xlabel=axis_label(f"predicted − true {target.name}", target.unit), ylabel=f"{split} rows", xlim=(-reach, reach))
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    text = f"Histogram of predicted minus true {target.name.replace('_', ' ')}: mean {bias:.3g}, standard deviation {residuals.std():.3g}"
    return Image(f"residuals-{target.name}", "Residuals", f"{text} {target.unit}".rstrip() + ".", svg(figure))


def _cumulative(result: Result, split: str) -> Image:
    target, errors = result.target, result.errors
    figure, (axis,) = new_figure(size=SIZE)
    axis.step(*cumulative(errors), where="post", color=BLUE, linewidth=1.8)
    marks = {f"{share} %": float(np.quantile(errors, share / 100)) for share in (50, 90)}
    for (name, error), style in zip(marks.items(), ("--", ":"), strict=True):
        axis.axvline(error, color=ORANGE, linewidth=1.4, linestyle=style, label=literal(f"{name} below {error:.2g} {target.unit}".rstrip()))
    top = float(np.quantile(errors, 0.99)) or 1.0
    axis.set(
        xlabel=axis_label("absolute error", target.unit), ylabel=f"{split} rows with a smaller error [%]", xlim=(0, top), ylim=(0, 100)
    )
    axis.legend(edgecolor="none", framealpha=0.9, loc="lower right")
    text = "Share of rows whose error is smaller than a limit: " + ", ".join(f"{name} below {error:.3g}" for name, error in marks.items())
    return Image(f"cumulative-{target.name}", "Sizes of the errors", f"{text} {target.unit}".rstrip() + ".", svg(figure))


def _roc(result: Result) -> Image:
    figure, (axis,) = new_figure(size=SIZE)
    draw_roc(axis, result.true, result.predicted)
    area = binary_scores(result.true, result.predicted).get("ROC-AUC")
    said = f"area {area:.3f}" if area is not None else "only one class occurs"
    axis.text(0.96, 0.04, said, transform=axis.transAxes, ha="right")
    text = f"Receiver operating characteristic of {result.target.name.replace('_', ' ')}: {said}."
    return Image(f"roc-{result.target.name}", "Receiver operating characteristic", text, svg(figure))


def _probabilities(result: Result) -> Image:
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = new_figure(size=SIZE)
    true = result.true > 0.5
    for chosen, name, colour in ((~true, "class 0", BLUE), (true, "class 1", ORANGE)):
        options = {"bins": 20, "range": (0, 1), "color": colour, "linewidth": 1.6}
        axis.hist(result.predicted[chosen], histtype="step", label=f"true {name} ({chosen.sum():,})", **options)
    axis.axvline(0.5, color=GREY, linewidth=1)
    name = result.target.name.replace("_", " ")
    axis.set(xlabel=axis_label(f"predicted probability of {name}", ""), ylabel="rows", xlim=(0, 1))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    wrong = int((result.errors > 0).sum())
    text = f"Histogram of the predicted probability of {name} for each true class; {wrong:,} of {len(result):,} classes are wrong."
    return Image(f"probabilities-{result.target.name}", "Predicted probabilities", text, svg(figure))


def size_figure(result: Result) -> Image:
    """Errors in groups of rows of like size."""
    counted, sizes = result.sizes()
    groups = size_groups(sizes)
    errors = [result.errors[(sizes >= low) & (sizes <= high)] for low, high in groups]
    names = [f"{low}" if low == high else f"{low}–{high}" for low, high in groups]
    figure, (axis,) = new_figure(size=SIZE)
    places = np.arange(len(groups))
    means = [float(group.mean()) for group in errors]
    if result.binary:
        axis.bar(places, means, color=BLUE, width=0.6)
        axis.set_ylim(top=max(10.0, 1.1 * max(means)))
    else:
        axis.boxplot(
            errors, positions=places, widths=0.6, whis=(5, 95), showfliers=False,
            medianprops={"color": BLUE, "linewidth": 1.8}, boxprops={"color": GREY}, whiskerprops={"color": GREY}, capprops={"color": GREY},
        )  # fmt: skip
        axis.scatter(places, means, color=ORANGE, marker="D", s=26, zorder=3)
    ticks = [f"{name}\nn={len(group):,}" for name, group in zip(names, errors, strict=True)]
    axis.set_xticks(places, ticks, fontsize=9 if len(groups) < 7 else 7.5)
    axis.set(xlabel=counted, ylabel=axis_label(result.error_name if result.binary else "absolute error", result.error_unit))
    axis.set_ylim(bottom=0)
    listed = ", ".join(f"{name}: {mean:.3g}" for name, mean in zip(names, means, strict=True))
    text = f"Error against the number of {counted}; {result.error_name} in {result.error_unit or 'no unit'} for {listed}."
    note = "" if result.binary else "Box: middle half; whiskers: 5 % to 95 %; line: median; diamond: mean."
    return Image(f"size-{result.target.name}", f"Error against the number of {counted}", text, svg(figure), note=note)


def size_groups(sizes: np.ndarray, most: int = 8) -> list[tuple[int, int]]:
    """Ranges, both ends included, that hold all `sizes`: single numbers if they are few, else of similar numbers of rows."""
    present = np.unique(sizes)
    if len(present) <= most:
        return [(int(size), int(size)) for size in present]
    highest = np.unique(np.quantile(sizes, np.linspace(0, 1, most + 1)[1:], method="higher"))
    lowest = [present[0], *(present[present > high][0] for high in highest[:-1])]
    return [(int(low), int(high)) for low, high in zip(lowest, highest, strict=True)]


def calibration(result: Result) -> list[Image]:
    """Draw how far the predicted uncertainty, or the probability, can be believed; nothing where the model gives none."""
    if result.binary:
        return [_reliability(result)]
    if result.uncertainty is None:
        return []
    usable = np.flatnonzero(np.isfinite(result.uncertainty) & (result.uncertainty > 0))
    rows, uncertainty = result.take(usable), result.uncertainty[usable]
    images = [_coverage(rows, uncertainty)] if len(usable) > 1 else []
    return images + ([_spread(rows, uncertainty)] if len(usable) >= LEAST_BINNED else [])


def _coverage(result: Result, uncertainty: np.ndarray) -> Image:
    expected = np.linspace(0.01, 0.99, 99)
    reach = -np.log1p(-expected) / math.sqrt(2)  # of a Laplace distribution, in standard deviations
    observed = (result.errors[:, None] <= reach * uncertainty[:, None]).mean(axis=0)
    figure, (axis,) = new_figure(size=SIZE)
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1, label="perfectly calibrated")
    axis.plot(100 * expected, 100 * observed, color=BLUE, linewidth=1.8, label="this model")
    axis.set(xlabel="predicted share of errors within the interval [%]", ylabel="observed share [%]", xlim=(0, 100), ylim=(0, 100))
    axis.set_aspect("equal")
    axis.legend(frameon=False)
    within = coverage(result.true, result.predicted, uncertainty)
    text = f"Observed against predicted share of errors within an interval. Within one predicted standard deviation: {within:.1%}; "
    text += f"a calibrated model has {LAPLACE_COVERAGE:.1%}."
    note = "Above the line the model is too careful, below it too sure. Intervals of the Laplace distribution that the model predicts."
    return Image(f"coverage-{result.target.name}", "Calibration of the uncertainty", text, svg(figure), note=note)


def _spread(result: Result, uncertainty: np.ndarray) -> Image:
    target, order = result.target, np.argsort(uncertainty, kind="stable")
    bins = np.array_split(order, min(10, len(order) // 10))
    predicted = np.array([np.sqrt(np.mean(uncertainty[rows] ** 2)) for rows in bins])
    observed = np.array([np.sqrt(np.mean(result.errors[rows] ** 2)) for rows in bins])
    figure, (axis,) = new_figure(size=SIZE)
    top = 1.08 * float(max(predicted.max(), observed.max()))
    axis.plot([0, top], [0, top], color=GREY, linewidth=1)
    axis.plot(predicted, observed, color=BLUE, marker="o", linewidth=1)
    axis.set(
        xlabel=axis_label("predicted uncertainty", target.unit), ylabel=axis_label("RMS error", target.unit), xlim=(0, top), ylim=(0, top)
    )
    axis.set_aspect("equal")
    text = f"Root mean square error against predicted uncertainty in {len(bins)} groups of rows: from {observed[0]:.3g} where it is lowest "
    text += f"to {observed[-1]:.3g} where it is highest"
    note = f"Each point: about {len(order) // len(bins):,} rows of like uncertainty. On the line the uncertainty is right on average."
    title = "Error against predicted uncertainty"
    return Image(f"spread-{target.name}", title, f"{text} {target.unit}".rstrip() + ".", svg(figure), note=note)


def _reliability(result: Result) -> Image:
    place = np.minimum((result.predicted * 10).astype(int), 9)
    filled = [number for number in range(10) if (place == number).any()]
    predicted = [100 * float(result.predicted[place == number].mean()) for number in filled]
    observed = [100 * float((result.true[place == number] > 0.5).mean()) for number in filled]
    figure, (axis,) = new_figure(size=SIZE)
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1)
    axis.plot(predicted, observed, color=BLUE, marker="o", linewidth=1)
    axis.set(xlabel="predicted probability of class 1 [%]", ylabel="observed share of class 1 [%]", xlim=(-2, 102), ylim=(-2, 102))
    axis.set_aspect("equal")
    text = "Observed share of class 1 against its predicted probability: "
    text += ", ".join(f"{o:.0f} % at {p:.0f} %" for p, o in zip(predicted, observed, strict=True)) + "."
    note = "Each point: the rows within a tenth of the probability. On the line the probability is right on average."
    return Image(f"reliability-{result.target.name}", "Calibration of the probability", text, svg(figure), note=note)
