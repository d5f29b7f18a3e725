"""What a model must beat: the mean of the training values, and a random forest on element statistics. Needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmat.data.table import Table
from tfmat.elements import element_table
from tfmat.featurizers.composition import CompositionFeaturizer


def magpie_features(materials: Sequence[Any]) -> np.ndarray:
    """Statistics of the Magpie element properties over each composition, float32 (N, 5 F).

    For each of the F properties: fraction-weighted mean and mean absolute deviation, largest and smallest value, range.
    After L. Ward et al., npj Comput. Mater. 2016, 2, 16028 (without its orbital and ionicity features).
    """
    table = element_table("magpie")
    records = CompositionFeaturizer().featurize(materials)
    properties, fractions = table[records.values["species"]], records.values["fractions"][:, None]
    starts, lengths = records.offsets["species"][:-1], records.lengths("species")
    mean = np.add.reduceat(properties * fractions, starts)
    deviation = np.add.reduceat(np.abs(properties - np.repeat(mean, lengths, axis=0)) * fractions, starts)
    largest, smallest = np.maximum.reduceat(properties, starts), np.minimum.reduceat(properties, starts)
    return np.concatenate([mean, deviation, largest, smallest, largest - smallest], axis=1)


def mean_predictor(training: Table, test: Table, target: str) -> np.ndarray:
    """The mean of the training values for every row of `test` [unit of the target]."""
    return np.full(len(test), np.nanmean(training.targets[target]))


def random_forest(training: Table, test: Table, target: str, *, trees: int = 500, seed: int = 0) -> np.ndarray:
    """Predictions of a random forest on `magpie_features` for `test` [unit of the target]. Rows without a target are not learnt."""
    from sklearn.ensemble import RandomForestRegressor

    known = training.subset(np.flatnonzero(np.isfinite(training.targets[target])))
    forest = RandomForestRegressor(trees, random_state=seed, n_jobs=-1)
    forest.fit(magpie_features(known.materials), known.targets[target])
    return np.asarray(forest.predict(magpie_features(test.materials)))
