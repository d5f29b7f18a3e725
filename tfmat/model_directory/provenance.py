"""What a model tells about its training: data, recipe, package versions and hardware."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmat import __version__
from tfmat.data.workers import cores
from tfmat.records import Records
from tfmat.training.best_epoch import best_epoch
from tfmat.training.distribution import description
from tfmat.training.recipe import Recipe


def data_info(training: Records) -> dict[str, Any]:
    """Collect what `Predictor.info` says about any training.

    Args:
        training: the featurized rows; their elements are those that the model knows.
    """
    return {
        "training_rows": len(training),
        "elements": sorted({int(z) for z in np.unique(training.values["species"])} - {0}),
        "versions": versions(),
        "hardware": hardware(),
    }


def recipe_info(
    recipe: Recipe,
    history: Sequence[Mapping[str, float]],
    *,
    batch_size: int,
    seed: int,
    precision: str,
    strategy: Any,
) -> dict[str, Any]:
    """Collect what `Predictor.info` says about a training by a recipe; see `tfmat.Predictor.fit` for the arguments."""
    info = {
        "recipe": recipe.to_config(),
        "epochs": len(history),
        "batch_size": batch_size,
        "seed": seed,
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
    }
    if precision != "float32":
        info["precision"] = precision
    if strategy is not None:
        info["strategy"] = description(strategy)
    if recipe.keep == "best":
        info["best_epoch"] = best_epoch(history)
    return info


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version(), "tfmat": __version__}
    for package in ("keras", keras.backend.backend(), "numpy", "pymatgen"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Processor, logical cores in use and accelerators, for the card."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    gpus = [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]
    return f"{name}, {cores()} cores" + (f", {len(gpus)} x {gpus[0].split(':')[0]}" if gpus else "")
