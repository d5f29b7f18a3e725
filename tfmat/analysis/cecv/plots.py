"""Plots of chemical environments, in the style of `tfmat.analysis.plots`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfmat.analysis.cecv.environments import Environment
from tfmat.analysis.cecv.vector import CECV, TOLERANCES
from tfmat.analysis.plots import BLUE, GREY, ORANGE, canvas

COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
REFERENCES = {"local": (ORANGE, "s", "local reference"), "global": (BLUE, "o", "global reference")}
"""Role -> colour, marker, and name in the legend."""


def tolerance_curves(found: Mapping[str, CECV], roles: Mapping[str, str], path: Path) -> None:
    """The vectors of several models against the tolerance: clusters, and on the right axis as a part of the compounds.

    Args:
        found: name of a model -> its vector, all of the same compounds.
        roles: name -> ``"local"`` or ``"global"`` of the models that are references; between them the space is shaded.
        path: PNG file.
    """
    figure, axes = canvas(6.4, 4.6)
    axis = axes[0, 0]
    for name, (colour, marker, line, role) in _styles(list(found), roles).items():
        text = _literal(name) + (f" ({role})" if role else "")
        axis.plot(TOLERANCES, found[name].vector, color=colour, marker=marker, linestyle=line, linewidth=1.6, markersize=5, label=text)
    ends = {role: name for name, role in roles.items()}
    if len(ends) == 2:
        low, high = found[ends["global"]].vector, found[ends["local"]].vector
        axis.fill_between(TOLERANCES, low, high, color=GREY, alpha=0.12, linewidth=0, label="between the references")
    (first, *_) = found.values()
    total = sum(first.compounds.values())
    _finish(axis, f"clusters of environments of {first.element}")
    axis.set_ylim(bottom=0)
    right = axis.secondary_yaxis("right", functions=(lambda y: y / total, lambda y: y * total))
    right.set_ylabel(f"clusters / compounds ({total:,})")
    figure.savefig(path)


def retention_curves(found: Mapping[str, CECV], roles: Mapping[str, str], path: Path) -> None:
    """The retention rates, each number of clusters over that at the tolerance before; arguments as of `tolerance_curves`."""
    figure, axes = canvas(6.4, 4.6)
    axis = axes[0, 0]
    for name, (colour, marker, line, role) in _styles(list(found), roles).items():
        text = _literal(name) + (f" ({role})" if role else "")
        axis.plot(TOLERANCES, found[name].retention, color=colour, marker=marker, linestyle=line, linewidth=1.6, markersize=5, label=text)
    _finish(axis, "retention rate (clusters / clusters one step before)")
    axis.set_ylim(0, 1.05)
    figure.savefig(path)


def environment_maps(found: Mapping[str, Environment], material: str, path: Path) -> None:
    """Draw one row per model for one compound: correlations of its elements, and the features that these come from.

    Args:
        found: name of a model -> the environment.
        material: name of the compound.
        path: PNG file.
    """
    size = max(len(environment.elements) for environment in found.values())
    height = max(2.6, 0.45 * size + 1.4)
    figure, axes = canvas(10.4, height * len(found) + 0.4, rows=len(found), columns=2)
    for (name, environment), (left, right) in zip(found.items(), axes, strict=True):
        places, elements = range(len(environment.elements)), environment.elements
        image = left.imshow(environment.correlations, cmap="RdBu_r", vmin=-1, vmax=1)
        for i, row in enumerate(environment.correlations):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.6 else "black"
                left.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        left.set(xticks=places, yticks=places, xticklabels=elements, yticklabels=elements, title=_literal(name))
        figure.colorbar(image, ax=left, label="Pearson correlation")
        limit = float(np.abs(environment.features).max()) or 1.0
        image = right.imshow(environment.features, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        right.set(yticks=places, yticklabels=elements, xlabel="channel of the features")
        figure.colorbar(image, ax=right, label="z-score over the elements")
        for axis in (left, right):
            axis.spines[["left", "bottom"]].set_visible(False)
    figure.suptitle(f"{_literal(material)}: environments of its elements", fontsize=11)
    figure.savefig(path)


def _styles(names: list[str], roles: Mapping[str, str]) -> dict[str, tuple[str, str, str, str]]:
    """Name -> colour, marker, line style, and what kind of reference it is."""
    styles = {}
    for name in names:
        if name in roles:
            colour, marker, role = REFERENCES[roles[name]]
            styles[name] = (colour, marker, "--", role)
        else:
            used = sum(other not in roles for other in styles)
            styles[name] = (COLOURS[used % len(COLOURS)], "^Dv<>P"[used % 6], "-", "")
    return styles


def _finish(axis: object, quantity: str) -> None:
    axis.set(xlabel="tolerance (difference of correlations)", ylabel=quantity, xticks=TOLERANCES)  # type: ignore[attr-defined]
    axis.grid(alpha=0.25, linewidth=0.6)  # type: ignore[attr-defined]
    axis.legend(frameon=False, fontsize=8)  # type: ignore[attr-defined]


def _literal(text: str) -> str:
    """A dollar sign begins no formula."""
    return text.replace("$", r"\$")
