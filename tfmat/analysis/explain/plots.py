"""Bars of contributions and of attention, in the style of `tfmat.analysis.plots`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfmat.analysis.explain.explanation import Contributions, Explanation
from tfmat.analysis.plots import BLUE, GREY, ORANGE, canvas, label
from tfmat.elements import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 40
"""Largest number of bars that have names; more are numbered by the axis."""
COLOURS = (BLUE, ORANGE, GREY, "#009E73", "#CC79A7")


def contribution_bars(explanation: Explanation, target: str, path: Path) -> None:
    """Draw what each element, or each site and element, adds to a prediction, and the attention it gets.

    Args:
        explanation: of one material.
        target: name of the target.
        path: PNG file.
    """
    found, crystal = explanation.targets[target], explanation.crystal
    panels = 1 + (crystal is not None) + bool(explanation.attention)
    if crystal is None:
        figure, axes = canvas(5.2 * panels, 4.4, columns=panels)
    else:
        figure, axes = canvas(min(max(6.4, 0.26 * len(explanation.species)), 12.0), 2.7 * panels + 0.5, rows=panels)
    first, *others = axes.flat
    names, values = _by_element(explanation, found)
    _bars(first, names, values, found)
    if crystal is not None:
        site_names = [f"{SYMBOLS[z]}{i}" for i, z in enumerate(explanation.species, 1)]
        _bars(others[0], site_names, found.sites, found)
        others[0].set_xlabel("site of the cell")
    if explanation.attention:
        _attention(others[-1], explanation)
    figure.suptitle(_title(explanation, found), fontsize=10)
    figure.savefig(path)


def _title(explanation: Explanation, found: Contributions) -> str:
    material = explanation.material if len(explanation.material) <= 40 else explanation.material[:37] + "..."
    added = float(found.sites.sum() + found.rest)
    equation = f"{found.prediction:.4g} = {found.base:.4g} (base) {'+' if added >= 0 else '-'} {abs(added):.4g} {found.unit}".rstrip()
    how = "exact" if found.method == "exact" else "integrated gradients of the readout: an approximation"
    return f"{material}: {found.target.name.replace('_', ' ')}\n{equation}\n{how}".replace("$", r"\$")


def _by_element(explanation: Explanation, found: Contributions) -> tuple[list[str], np.ndarray]:
    """Name and contribution of each element, and of the whole crystal where it has one."""
    if explanation.crystal is None:
        fractions = explanation.fractions if explanation.fractions is not None else np.full(len(found.sites), np.nan)
        names = [SYMBOLS[z] + ("" if np.isnan(f) else f"\n{100 * f:.3g} %") for z, f in zip(explanation.species, fractions, strict=True)]
        values = found.sites
    else:
        kinds, first, inverse, counts = np.unique(explanation.species, return_index=True, return_inverse=True, return_counts=True)
        order = np.argsort(first)
        names = [f"{SYMBOLS[kinds[k]]}\n{counts[k]} {'sites' if counts[k] > 1 else 'site'}" for k in order]
        values = np.bincount(inverse, weights=found.sites)[order]
    if found.rest:
        names, values = [*names, "whole\ncrystal"], np.append(values, found.rest)
    return names, values


def _bars(axis: Axes, names: list[str], values: np.ndarray, found: Contributions) -> None:
    colours = [BLUE if value >= 0 else ORANGE for value in values]
    axis.bar(np.arange(1, len(values) + 1), values, color=colours, width=0.75)
    axis.axhline(0.0, color=GREY, linewidth=0.8)
    axis.set_ylabel(label("contribution", found.unit))
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    _name_bars(axis, names)


def _name_bars(axis: Axes, names: list[str]) -> None:
    if len(names) <= LABELLED:
        crowded = len(names) > 8
        axis.set_xticks(np.arange(1, len(names) + 1), names, rotation=90 if crowded else 0, fontsize=7 if crowded else 9)
    axis.set_xlim(0.25, max(len(names), 3) + 0.75)


def _attention(axis: Axes, explanation: Explanation) -> None:
    number = len(explanation.attention)
    places = np.arange(1, len(explanation.species) + 1)
    width = 0.8 / number
    for index, (name, weights) in enumerate(explanation.attention.items()):
        shift = (index - (number - 1) / 2) * width
        axis.bar(places + shift, weights, width=0.92 * width, color=COLOURS[index % len(COLOURS)], label=name.replace("_", " "))
    axis.axhline(1 / len(places), color="black", linewidth=0.9, linestyle="--", label="equal parts")
    axis.set_ylabel("attention (parts of 1)")
    axis.set_ylim(0, 1.35 * max(max(weights.max() for weights in explanation.attention.values()), 1 / len(places)))
    if explanation.crystal is None:
        _name_bars(axis, [SYMBOLS[z] for z in explanation.species])
    else:
        _name_bars(axis, [f"{SYMBOLS[z]}{i}" for i, z in enumerate(explanation.species, 1)])
        axis.set_xlabel("site of the cell")
    axis.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
