"""Aligned text tables and numbers with the digits that matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL_HELP = "A folder written by `tfmat train`, a .keras file of Predictor.save, or a preset of `tfmat models`."
"""What MODEL may be, in the help of every command."""


def names_of_models(models: Sequence[Path]) -> list[str]:
    """Name models by their folders, or by their paths where names repeat."""
    names = [model.absolute().name if model.is_dir() else str(model) for model in models]
    return names if len(set(names)) == len(names) else [str(model) for model in models]


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Write a table with columns two spaces apart; those with a number in `right` are aligned to the right."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(row[i].rjust(widths[i]) if i in right else row[i].ljust(widths[i]) for i in range(len(header))).rstrip() for row in cells
    ]
    return "\n".join(lines)


def number(value: float, uncertainty: float | None = None) -> str:
    """Write a number with four significant digits, or beside an uncertainty with the decimals of its two significant digits."""
    if not math.isfinite(value):
        return "-"
    if uncertainty is not None and math.isfinite(uncertainty) and uncertainty > 0:
        decimals = 1 - math.floor(math.log10(uncertainty))
        if 0 <= decimals <= 6 and abs(value) < 1e7:
            return f"{value:.{decimals}f}"
    return f"{value:.4g}"


def scores_table(title: str, scores: Mapping[str, Mapping[str, float]], units: Mapping[str, str]) -> str:
    """Write one line per score: the main one (MAE or ROC-AUC) first, the number of rows last."""
    from tfmat.model_directory.card import score_lines

    rows = []
    for target, values in scores.items():
        lines = score_lines(values, units[target])
        rows += [[target if position == 0 else "", name, text] for position, (name, text) in enumerate(lines)]
    return aligned([title, "score", "value"], rows)


def with_unit(name: str, unit: str) -> str:
    """Write ``band_gap`` and ``eV`` as ``band_gap [eV]``."""
    return f"{name} [{unit}]" if unit else name


def duration(seconds: float) -> str:
    """Write seconds as ``47 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def shortened(text: Any, width: int = 40) -> str:
    """Write a text as one line of at most `width` characters."""
    line = " ".join(str(text)[: 4 * width].split())
    return line if len(line) <= width else line[: width - 3] + "..."
