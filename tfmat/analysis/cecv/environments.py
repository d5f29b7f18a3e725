"""Chemical environments: how the features of the elements of a compound resemble each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfmat.analysis.readout import READOUT, element_features
from tfmat.batching.pipeline import Batches
from tfmat.data.featurize import RowsDone
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.records import Records
from tfmat.training.inference import forward

SIZES = range(3, 8)
"""Numbers K of elements of the compounds that count. With two elements the correlation is always -1."""


@dataclass(frozen=True)
class Environment:
    """The environment that a model sees in one compound.

    Attributes:
        elements: symbols of its K elements in the order of the model, by descending amount.
        features: (K, D), z-scored over the elements.
        correlations: (K, K), Pearson's, between the elements over the D channels.
    """

    elements: tuple[str, ...]
    features: np.ndarray
    correlations: np.ndarray


def environment(predictor: Predictor, material: Any, layer: str = READOUT) -> Environment:
    """The environment in one compound.

    Raises:
        InputError: a model of crystals, no such layer, a formula that cannot be read or that has a single element.
    """
    check_composition_model(predictor)
    records = predictor.featurizer.featurize([material])
    species = records.values["species"]
    if len(species) < 2:
        raise InputError(f"{material} has one element, and a correlation needs two", expected="a compound")
    inputs = {key: value[None] for key, value in records[0].items()}
    features = _probe(predictor, layer)(inputs, training=False)["features"]
    scores = z_scores(keras.ops.convert_to_numpy(features))
    return Environment(tuple(SYMBOLS[z] for z in species), scores[0], correlations(scores)[0])


def environments(
    predictor: Predictor,
    records: Records,
    layer: str = READOUT,
    *,
    batch_size: int = 256,
    report: RowsDone | None = None,
) -> dict[int, np.ndarray]:
    """Correlation matrices of many compounds.

    Args:
        predictor: a model of compositions.
        records: its featurized compounds (N), all of 3 to 7 elements.
        layer: see `tfmat.analysis.readout.element_features`.
        batch_size: compounds at a time.
        report: progress callback.

    Returns:
        K -> float64 (N_K, K, K) of the compounds of K elements, in their order among `records`.
    """
    run = forward(_probe(predictor, layer))
    sizes = records.lengths("species")
    found = {size: np.empty((int((sizes == size).sum()), size, size)) for size in SIZES}
    ranks = np.empty(len(sizes), np.int64)
    for size in SIZES:
        ranks[sizes == size] = np.arange(len(found[size]))
    batches = Batches.of(records, {}, batch_size)
    done = 0
    for (inputs, *_), indices in zip(batches.epoch(0), batches.plan.epoch(0), strict=True):
        features = run(inputs)["features"][: len(indices)]
        for size in np.unique(sizes[indices]).tolist():
            rows = np.flatnonzero(sizes[indices] == size)
            found[size][ranks[indices[rows]]] = correlations(z_scores(features[rows, :size]))
        done += len(indices)
        if report is not None:
            report(done, len(records))
    return found


def z_scores(features: np.ndarray) -> np.ndarray:
    """Every channel of (N, K, D) standardised over the K elements with the unbiased deviation, float64; 0 where it is the same for all."""
    exact = features.astype(np.float64)
    deviations = exact - exact.mean(axis=1, keepdims=True)
    spread = np.sqrt((deviations**2).sum(axis=1, keepdims=True) / (features.shape[1] - 1))
    differ = spread > 1e-6 * np.abs(exact).max(axis=1, keepdims=True)  # what is left of equal float32 numbers is rounding
    return np.where(differ, deviations / np.where(differ, spread, 1.0), 0.0)


def correlations(scores: np.ndarray) -> np.ndarray:
    """Pearson's correlations between the K rows of (N, K, D) over the D channels, (N, K, K); 0 with a row that is constant."""
    centred = scores - scores.mean(axis=2, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=2, keepdims=True))
    unit = centred / np.where(norms > 0, norms, 1.0)
    found = np.clip(unit @ unit.transpose(0, 2, 1), -1.0, 1.0)
    found[:, *np.diag_indices(scores.shape[1])] = 1.0
    return found


def check_composition_model(predictor: Predictor) -> None:
    """Refuse a model of crystals: its sites have no fixed order and number."""
    if predictor.architecture.material != "composition":
        name = predictor.architecture.name
        raise InputError(f"{name} predicts crystals, and CECV compares the elements of a formula", expected="a model of compositions")


def _probe(predictor: Predictor, layer: str) -> keras.Model:
    """A model with the output ``features`` (B, E, D)."""
    return keras.Model(predictor.model.input, {"features": element_features(predictor.model, layer)})
