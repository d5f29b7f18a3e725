"""The error of the rows that hold an element, on the periodic table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfmat.analysis.plots import label, new_figure, svg
from tfmat.analysis.report.images import Image
from tfmat.analysis.report.results import Result
from tfmat.elements import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize

FEW = 5
"""Elements in fewer rows do not stretch the colours, where most are in more."""
_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


def place(number: int) -> tuple[int, int]:
    """Row from 1 to 7, or 9 and 10 for lanthanides and actinides, and column from 1 to 18 of an atomic number."""
    if 57 <= number <= 71:
        return 9, number - 54
    if 89 <= number <= 103:
        return 10, number - 86
    period = next(row for row, last in enumerate(_NOBLE) if number <= last)
    step, length = number - _NOBLE[period - 1], _NOBLE[period] - _NOBLE[period - 1]
    before_gap = 1 if period == 1 else 2
    return period, step if step <= before_gap else 18 - (length - step)


def element_figure(result: Result) -> Image:
    """Mean error by element, with its number and the number of rows where there is space for them."""
    errors = result.by_element()
    often = [error for rows, error in errors.values() if rows >= FEW]
    limited = 2 * len(often) >= len(errors)
    top = max(often if limited else [error for _, error in errors.values()], default=0.0) or 1.0
    title = label(f"{result.error_name} of {result.target.name}", result.error_unit)
    worst = sorted(errors, key=lambda number: -errors[number][1])[:3]
    listed = ", ".join(f"{SYMBOLS[number]} {errors[number][1]:.3g} ({errors[number][0]:,} rows)" for number in worst)
    text = f"Periodic table of {title} over the rows that hold an element; highest: {listed}. The table below has all numbers."
    note = "Wide screens show the error and the number of rows under each symbol."
    if limited:
        note += f" Colours end at the highest error of an element in {FEW} rows or more."
    return Image(
        f"elements-{result.target.name}", "Error by element", text, _draw(errors, top, title, numbers=True),
        narrow=_draw(errors, top, title, numbers=False), note=note, full=True,
    )  # fmt: skip


def _draw(errors: Mapping[int, tuple[int, float]], top: float, title: str, *, numbers: bool) -> bytes:
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, (axis,) = new_figure(size=(11.5, 6.6) if numbers else (4.2, 2.9))
    colours, scale = matplotlib.colormaps["viridis"], Normalize(0, top)
    for number in range(1, len(SYMBOLS)):
        _cell(axis, number, errors.get(number), colours, scale, numbers)
    axis.set(xlim=(0.4, 18.6), ylim=(10.6, 0.4))
    axis.set_aspect("equal")
    axis.set_axis_off()
    over = any(error > top for _, error in errors.values())
    figure.colorbar(
        ScalarMappable(scale, colours), ax=axis, label=title, orientation="horizontal", extend="max" if over else "neither",
        shrink=0.6, aspect=40, pad=0.02,
    )  # fmt: skip
    return svg(figure)


def _cell(axis: Axes, number: int, found: tuple[int, float] | None, colours: Colormap, scale: Normalize, numbers: bool) -> None:
    from matplotlib.patches import Rectangle

    row, column = place(number)
    fill = "none" if found is None else colours(scale(found[1]))
    edge = "#bbbbbb" if found is None else "none"
    axis.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=fill, edgecolor=edge, linewidth=0.6))
    light = found is not None and scale(found[1]) < 0.6
    colour = "#777777" if found is None else "white" if light else "black"
    if not numbers:
        axis.text(column, row, SYMBOLS[number], ha="center", va="center", fontsize=7, color=colour)
        return
    axis.text(column, row - (0 if found is None else 0.2), SYMBOLS[number], ha="center", va="center", fontsize=11, color=colour)
    if found is not None:
        rows, error = found
        axis.text(column, row + 0.12, _short(error), ha="center", va="center", fontsize=8.5, color=colour)
        axis.text(column, row + 0.35, f"{rows:,}", ha="center", va="center", fontsize=6.5, color=colour)


def _short(value: float) -> str:
    """Two digits or more, without an exponent as long as a cell has space for them."""
    return f"{value:.0f}" if 9.95 <= value < 99_999.5 else f"{value:#.2g}"
