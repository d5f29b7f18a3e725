"""Scores of finished predictions, in numpy alone."""

from __future__ import annotations

import numpy as np

LAPLACE_COVERAGE = float(1.0 - np.exp(-np.sqrt(2.0)))
"""Share of a Laplace distribution within one standard deviation, 0.757."""


def regression_scores(values: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Scores in the unit of `values`, over the rows where both are finite.

    Returns:
        ``n``, ``MAE``, ``RMSE``, ``R2`` and ``MAD/MAE`` (mean absolute deviation of the values from their mean, over MAE: 1 = no
        better than the mean).
    """
    finite = np.isfinite(values) & np.isfinite(predictions)
    values, errors = values[finite], predictions[finite] - values[finite]
    if not len(values):
        return {"n": 0.0}
    mae = float(np.mean(np.abs(errors)))
    variance = float(np.mean((values - values.mean()) ** 2))
    scores = {"n": float(len(values)), "MAE": mae, "RMSE": float(np.sqrt(np.mean(errors**2)))}
    if variance > 0:
        scores["R2"] = 1.0 - float(np.mean(errors**2)) / variance
    if mae > 0:
        scores["MAD/MAE"] = float(np.mean(np.abs(values - values.mean()))) / mae
    return scores


def mape(values: np.ndarray, predictions: np.ndarray) -> float:
    """Mean absolute error relative to the value, a fraction, over the rows where both are finite and the value is not 0."""
    used = np.isfinite(values) & np.isfinite(predictions) & (values != 0)
    return float(np.mean(np.abs(predictions[used] / values[used] - 1))) if used.any() else float("nan")


def binary_scores(classes: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """``n``, ``accuracy``, ``ROC-AUC`` (ties count half; absent with one class only) and ``log_loss``."""
    finite = np.isfinite(classes) & np.isfinite(probabilities)
    truth, probability = classes[finite] > 0.5, probabilities[finite]
    if not len(truth):
        return {"n": 0.0}
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    scores = {
        "n": float(len(truth)),
        "accuracy": float(np.mean((probability > 0.5) == truth)),
        "log_loss": float(-np.mean(np.where(truth, np.log(clipped), np.log(1 - clipped)))),
    }
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives and negatives:
        _, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
        scores["ROC-AUC"] = float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return scores


def coverage(values: np.ndarray, predictions: np.ndarray, uncertainties: np.ndarray) -> float:
    """Share of finite rows whose error is within the uncertainty; see `LAPLACE_COVERAGE`."""
    finite = np.isfinite(values) & np.isfinite(predictions) & np.isfinite(uncertainties)
    return float(np.mean(np.abs(values - predictions)[finite] <= uncertainties[finite])) if finite.any() else float("nan")


def calibration(values: np.ndarray, predictions: np.ndarray, uncertainties: np.ndarray, *, least: int = 20) -> float:
    """The factor on the uncertainties that brings their coverage to that of a Laplace distribution.

    A network that has learnt its training rows well is too sure of itself on others. With fewer than `least` finite rows, 1.
    """
    finite = np.isfinite(values) & np.isfinite(predictions) & (uncertainties > 0)
    if finite.sum() < least:
        return 1.0
    return max(float(np.quantile(np.abs(values - predictions)[finite] / uncertainties[finite], LAPLACE_COVERAGE)), 1e-6)


def worst_rows(values: np.ndarray, predictions: np.ndarray, most: int = 10) -> np.ndarray:
    """Positions of the `most` rows with the largest errors, the worst first; rows that are not finite are left out."""
    errors = np.abs(predictions - values)
    order = np.argsort(-np.where(np.isfinite(errors), errors, -1.0), kind="stable")
    return order[: min(most, int(np.isfinite(errors).sum()))]
