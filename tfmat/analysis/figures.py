"""The plots of a model, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfmat.predictor import Predictor
    from tfmat.training.evaluation import Evaluation


def can_plot() -> bool:
    """Tell whether matplotlib is installed; if not, a warning says how to get it."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    logging.getLogger("tfmat").warning("no plots: matplotlib is not installed (pip install 'tfmat[plot]')")
    return False


def write_learning_curve(predictor: Predictor, folder: Path) -> None:
    """Draw ``learning_curve.png``: loss and errors by epoch."""
    from tfmat.analysis.plots import learning_curve

    units, tasks = {t.name: t.unit for t in predictor.targets}, {t.name: t.task for t in predictor.targets}
    learning_curve(predictor.history, units, folder / "learning_curve.png", tasks)


def write_parity(predictor: Predictor, evaluation: Evaluation, folder: Path, split: str) -> None:
    """Draw ``parity-<split>-<target>.png`` for each target, or ``roc-<split>-<target>.png`` for a binary one."""
    from tfmat.analysis.plots import parity, roc

    frame = evaluation.predictions
    for target in predictor.targets:
        values, predictions = frame[f"{target.name}_true"].to_numpy(), frame[target.name].to_numpy()
        if target.task == "binary":
            title = f"{split}: {target.name.replace('_', ' ')}"
            roc(values, predictions, folder / f"roc-{split}-{target.name}.png", target=target.name, title=title)
            continue
        spread = f"{target.name}_uncertainty"
        parity(
            values,
            predictions,
            folder / f"parity-{split}-{target.name}.png",
            target=target.name,
            unit=target.unit,
            uncertainty=frame[spread].to_numpy() if spread in frame else None,
            logarithmic=target.transform != "none",
            title=split,
        )


def file_name(text: str, taken: set[str]) -> str:
    """`text` as part of a file name, another one than those taken already, to which it is added."""
    base = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:80] or "material"
    name, number = base, 1
    while name.lower() in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name.lower())
    return name
