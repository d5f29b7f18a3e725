"""From a network's outputs to numbers in physical units and their scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfmat.data.prediction_rows import sites_of
from tfmat.data.table import Table
from tfmat.target import Target
from tfmat.training.scores import binary_scores, calibration, coverage, mape, regression_scores

if TYPE_CHECKING:
    import pandas as pd

Scores = dict[str, dict[str, float]]
"""Target -> name of the score -> value, errors in the target's unit."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a table and their scores.

    Attributes:
        scores: target -> name of the score -> value, errors in the target's unit.
        predictions: one row per material: ``id``, ``material``; for each target ``<target>_true``, ``<target>`` and, where the model gives
            it, ``<target>_uncertainty`` [unit]; for a model of crystals ``sites``, the number of sites of the cell.
    """

    scores: Scores
    predictions: pd.DataFrame

    @classmethod
    def of(cls, table: Table, targets: Iterable[Target], columns: Mapping[str, np.ndarray]) -> Evaluation:
        """Evaluate the predictions `columns`, see `in_units`, for the rows of `table`."""
        import pandas as pd

        about: dict[str, Any] = {"id": table.ids, "material": [str(m) for m in table.materials]}
        sites = [sites_of(material) for material in table.materials]
        if None not in sites:
            about["sites"] = sites
        for target in targets:
            about[f"{target.name}_true"] = table.targets[target.name]
            about |= {name: columns[name] for name in (target.name, f"{target.name}_uncertainty") if name in columns}
        frame = pd.DataFrame(about)
        frame.attrs["units"] = {target.name: target.unit for target in targets}
        return cls(scored(targets, table.targets, columns), frame)


def in_units(targets: Iterable[Target], outputs: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Column -> float64 (N,): for each target its value [unit], or the probability of class 1, and ``<target>_uncertainty`` [unit].

    Args:
        targets: what is predicted, with scales.
        outputs: target -> scaled network output (N, 1 or 2); none for no materials.
        widths: target -> columns of its output: of 2 the second is the log-scale, from which the uncertainty follows.
    """
    columns = {}
    for target in targets:
        output = outputs.get(target.name)
        columns[target.name] = _numpy(output, target.unscale)
        if target.task == "regression" and widths[target.name] == 2:
            columns[f"{target.name}_uncertainty"] = _numpy(output, target.unscale_uncertainty)
    return columns


def scored(targets: Iterable[Target], values: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray]) -> Scores:
    """The scores of predictions.

    A regression has MAE, RMSE, R2 and, where the logarithm is learnt, MAPE (a fraction); where there is an uncertainty, ``coverage`` is the
    share of errors within it. A binary target has accuracy, ROC-AUC and the log loss.

    Args:
        targets: what is predicted.
        values: target -> true values (N,) [unit], NaN where unknown.
        columns: see `in_units`.
    """
    scores: Scores = {}
    for target in targets:
        true, predicted, spread = values[target.name], columns[target.name], columns.get(f"{target.name}_uncertainty")
        if target.task == "binary":
            scores[target.name] = binary_scores(true, predicted)
            continue
        scores[target.name] = regression_scores(true, predicted)
        if target.transform != "none":
            scores[target.name]["MAPE"] = mape(true, predicted)
        if spread is not None:
            scores[target.name]["coverage"] = coverage(true, predicted, spread)
    return scores


def calibrated(
    targets: Iterable[Target], values: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray]
) -> tuple[tuple[Target, ...], Scores]:
    """The targets with their uncertainties scaled to the errors of predictions, and the scores, with the coverage before and after.

    Args:
        targets: with an `uncertainty_scale` of 1.
        values: see `scored`.
        columns: of these targets, see `in_units`.
    """
    scores, found = scored(targets, values, columns), []
    for target in targets:
        spread = columns.get(f"{target.name}_uncertainty")
        if spread is not None:
            true, predicted = values[target.name], columns[target.name]
            target = dataclasses.replace(target, uncertainty_scale=calibration(true, predicted, spread))
            scores[target.name]["coverage before scaling"] = scores[target.name]["coverage"]
            scores[target.name]["coverage"] = coverage(true, predicted, target.uncertainty_scale * spread)
        found.append(target)
    return tuple(found), scores


def _numpy(output: np.ndarray | None, unscale: Any) -> np.ndarray:
    if output is None:
        return np.zeros(0)
    return np.asarray(keras.ops.convert_to_numpy(unscale(output)), np.float64)[:, 0]
