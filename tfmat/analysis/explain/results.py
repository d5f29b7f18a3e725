"""Explanations of several materials as a folder of tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfmat.analysis import figures
from tfmat.analysis.explain.explanation import Explanation

TABLE = "contributions.csv"
"""The file by which such a folder is known."""


def write_results(folder: Path, found: Sequence[tuple[str, Explanation]]) -> None:
    """Write what each element or site adds, the predictions, and, with matplotlib, a plot per material and target.

    Args:
        folder: an existing one.
        found: names of materials and their explanations.
    """
    import pandas as pd

    frames, rows = [], []
    for place, (name, explanation) in enumerate(found, 1):
        frame = explanation.frame()
        frame.insert(0, "material", name)
        frame.insert(0, "number", place)
        frames.append(frame)
        for part in explanation.targets.values():
            values = {
                "prediction": part.prediction,
                "base": part.base,
                "sum_of_contributions": part.sites.sum(),
                "whole_crystal": part.rest,
            }
            about = {"number": place, "material": name, "target": part.target.name, "unit": part.unit}
            rows.append(about | values | {"method": part.method, "error": part.error})
    pd.concat(frames).to_csv(folder / TABLE, index=False, float_format="%.7g")
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False, float_format="%.7g")
    if figures.can_plot():
        from tfmat.analysis.explain.plots import contribution_bars

        taken: set[str] = set()
        for name, explanation in found:
            for target in explanation.targets:
                contribution_bars(explanation, target, folder / (figures.file_name(f"{name}-{target}", taken) + ".png"))
