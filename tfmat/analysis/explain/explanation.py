"""Which elements of a formula, or sites of a crystal, a prediction comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

from tfmat.analysis.explain.shares import Inside, Method, Shares
from tfmat.crystal import Crystal
from tfmat.data.materials import read_material
from tfmat.elements import SYMBOLS
from tfmat.featurizers.base import Featurizer
from tfmat.featurizers.sites import each_crystal
from tfmat.layers.protocols import GroupsSites, OrdersSites
from tfmat.predictor import Predictor
from tfmat.target import Target


@dataclass(frozen=True)
class Contributions:
    """Where the prediction of one target comes from: ``prediction = base + sum of sites + rest``.

    Attributes:
        target: what is predicted.
        prediction: [unit]; for a binary target the probability of class 1.
        base: [unit], where the network's output is zero: the mean of the training values, behind a logarithm their geometric mean,
            for a binary target 0.5.
        sites: float64 (A,) [unit], of each site or element.
        rest: [unit], of the state of the whole crystal, where the model has one.
        before_mean: float64 (A,) [unit], where the method is exact: the prediction if all gave what this one gives, which is what the head
            gives for it before the mean over the elements or sites.
        method: ``"exact"``: the output is a sum of terms of the single elements or sites. ``"integrated gradients"``: an approximation of
            what they add, by the gradients of the readout; see `tfmat.analysis.explain.shares.Inside`.
        error: [unit], of the integral; it is part of `sites`.
    """

    target: Target
    prediction: float
    base: float
    sites: np.ndarray
    rest: float
    before_mean: np.ndarray | None
    method: Method
    error: float

    @property
    def unit(self) -> str:
        """The unit of all values."""
        return "probability" if self.target.task == "binary" else self.target.unit


@dataclass(frozen=True)
class Explanation:
    """Contributions of the elements of a formula, or of the sites of a crystal.

    Attributes:
        material: name.
        crystal: the crystal; None for a model of compositions.
        species: int (A,), atomic numbers, in the order of the formula's amounts or of the crystal's sites.
        fractions: float (A,), atomic fractions; None for a crystal.
        targets: target -> contributions.
        attention: name of a layer -> float64 (A,), the share of attention that goes to each; empty where the model has none.
    """

    material: str
    crystal: Crystal | None
    species: np.ndarray
    fractions: np.ndarray | None
    targets: Mapping[str, Contributions]
    attention: Mapping[str, np.ndarray]

    def frame(self) -> pd.DataFrame:
        """A table with one row per element or site; columns with units, those of contributions ``<target>_contribution [unit]``."""
        columns: dict[str, Any] = {}
        if self.crystal is not None:
            columns["site"] = np.arange(1, len(self.species) + 1)
        columns["element"] = [SYMBOLS[z] for z in self.species]
        if self.fractions is not None:
            columns["fraction"] = self.fractions
        if self.crystal is not None:
            columns |= {axis: self.crystal.frac_coords[:, i] for i, axis in enumerate("xyz")}
        for name, found in self.targets.items():
            unit = f" [{found.unit}]" if found.unit else ""
            columns[f"{name}_contribution{unit}"] = found.sites
            if found.before_mean is not None:
                columns[f"{name}_before_mean{unit}"] = found.before_mean
        columns |= {f"attention_{name.removeprefix('attention_')}": weights for name, weights in self.attention.items()}
        return pd.DataFrame(columns)


class Explainer:
    """Explains the predictions of one model; for several materials quicker than `explain`, as it takes the model apart once.

    Args:
        predictor: any model.

    Raises:
        InputError: the model has nothing of each element or site.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self._inside = predictor, Inside(predictor.model)

    def __call__(self, material: Any) -> Explanation:
        """Explain the predictions for one material; see `explain`."""
        predictor = self._predictor
        material = read_material(material, predictor.architecture.material)
        example = predictor.featurizer.featurize([material])[0]
        crystal, species = None, example["species"]
        if predictor.architecture.material == "crystal":
            (crystal,) = each_crystal([material], len(SYMBOLS) - 1)
            species = crystal.species
        classes, back = _classes(predictor.featurizer, example, crystal)
        found, values, attention = self._inside.shares(example, classes)
        found = {name: dataclasses.replace(part, sites=part.sites[back]) for name, part in found.items()}
        return Explanation(
            material if isinstance(material, str) else str(getattr(material, "formula", material)),
            crystal,
            np.asarray(species),
            example.get("fractions") if crystal is None else None,
            {target.name: _physical(target, found[target.name], values[target.name]) for target in predictor.targets},
            {name: weights[back] for name, weights in attention.items()},
        )


def explain(predictor: Predictor, material: Any) -> Explanation:
    """Split the predictions for a material into contributions of its elements or sites.

    Args:
        predictor: any model.
        material: one, in any of the forms that `Predictor.predict` takes; a model of crystals takes no formula.

    Raises:
        InputError: the material cannot be read, or the model has nothing of each element or site.
    """
    return Explainer(predictor)(material)


def _classes(featurizer: Featurizer, example: Mapping[str, np.ndarray], crystal: Crystal | None) -> tuple[np.ndarray, np.ndarray]:
    """Which row of ``species`` stands for each site, int (A,), in the order of the model; and where there each site of the crystal is."""
    if crystal is not None and isinstance(featurizer, OrdersSites):
        return example["lists"] - 1, np.argsort(featurizer.site_order(crystal))
    if crystal is not None and isinstance(featurizer, GroupsSites):
        classes = featurizer.site_classes(crystal)
    else:
        classes = np.arange(len(example["species"]))
    return classes, np.arange(len(classes))


def _physical(target: Target, found: Shares, value: float) -> Contributions:
    """The shares in the target's unit. Behind a logarithm or a sigmoid they become shares of the prediction in proportion.

    That is what integrated gradients give for a function of their sum, and the sum is the prediction again.
    """

    def unscaled(outputs: Any) -> np.ndarray:
        column = np.atleast_1d(np.asarray(outputs, np.float64))[:, None]
        return np.asarray(keras.ops.convert_to_numpy(target.unscale(column)), np.float64)[:, 0]

    (prediction, base) = unscaled([value, 0.0]).tolist()
    step = value if abs(value) > 1e-6 else 1e-3
    factor = float(unscaled(step)[0] - base) / step
    exact_mean = found.method == "exact" and found.rest == 0.0
    before_mean = unscaled(found.sites * len(found.sites)) if exact_mean else None
    return Contributions(
        target, prediction, base, found.sites * factor, found.rest * factor, before_mean, found.method, abs(found.error * factor)
    )
