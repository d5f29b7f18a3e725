"""What storing weights with fewer bits costs: differences from the Keras model in the target's unit, and when they are too large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.export.interfaces.base import Example, Interface
from tfmat.export.results import ExportError, Loss

if TYPE_CHECKING:
    from tfmat.predictor import Predictor
    from tfmat.target import Target

PRECISIONS = ("float32", "float16", "int8")
"""How weights are stored: whole, in half or in a quarter of the size. Inputs, outputs and what is small stay float32."""

LARGE = 1024
"""Smallest number of weights in an array that is stored with fewer bits."""

SHARE = 0.5
"""Largest part of the model's own validation MAE by which the outputs may differ in the mean."""

SPREADS = 0.01
"""The same where the model does not know its validation MAE, in standard deviations of the target as it is learnt: good models are off by a
few hundredths. So int8 is refused for MEGNet's published formation energies: 0.02 eV/atom, beside an error of 0.028."""

PROBABILITY = 0.05
"""The same for a probability."""

MOST = 200
"""Largest number of materials that are compared."""


@dataclass(frozen=True)
class Rows:
    """What a loss is measured on.

    Attributes:
        source: what the materials are, such as ``validation rows``.
        materials: formulas or crystals.
        examples: their arrays.
    """

    source: str
    materials: Sequence[Any]
    examples: Sequence[Example]


def as_float16(values: np.ndarray) -> np.ndarray | None:
    """Constants of a graph as float16, or None where they stay as they are: fewer than `LARGE` values, or one that is too large."""
    if values.size < LARGE:
        return None
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else None


def rows_of(interface: Interface, lengths: Mapping[str, int], validation: Sequence[Any] | None, examples: Rows) -> Rows:
    """The first `MOST` of the validation rows that do, or the examples if there is none.

    Args:
        interface: the interface, whose featurizer must take them.
        lengths: axis -> largest length that fits.
        validation: formulas or crystals.
        examples: what is taken otherwise.
    """
    materials, arrays = interface.fitting(islice(validation or (), 4 * MOST), lengths)
    return Rows("validation rows", materials[:MOST], arrays[:MOST]) if materials else examples


def measure(predictor: Predictor, rows: Rows, exported: Mapping[str, np.ndarray]) -> tuple[Loss, ...]:
    """The loss of every target.

    Args:
        predictor: the Keras model.
        rows: N materials.
        exported: outputs of the exported model for them, (N, 1) by name.

    Raises:
        ExportError: an output is not finite, or a difference exceeds `SHARE`, `SPREADS` or `PROBABILITY`.
    """
    if not all(np.isfinite(value).all() for value in exported.values()):
        raise ExportError("with weights of this precision the model gives values that are not finite; nothing was written")
    frame = predictor.predict(rows.materials)
    return tuple(
        _loss(predictor, target, exported[target.name][:, 0].astype(np.float64), frame[target.name].to_numpy(np.float64), rows.source)
        for target in predictor.targets
    )


def _loss(predictor: Predictor, target: Target, exported: np.ndarray, original: np.ndarray, source: str) -> Loss:
    differences = np.abs(exported - original)
    validation = (predictor.info.get("validation") or {}).get(target.name, {}).get("MAE")
    unit = "" if target.task == "binary" else target.unit
    loss = Loss(target.name, unit, float(differences.mean()), float(differences.max()), validation, len(differences), source)
    if validation is not None:
        bad, allowed = loss.mae > SHARE * validation, f"{SHARE * validation:.3g} {unit}, {100 * SHARE:g} % of the validation MAE"
    else:
        limit = PROBABILITY if target.task == "binary" else SPREADS
        bad = not float(np.abs(_learnt(target, exported) - _learnt(target, original)).mean()) <= limit
        allowed = f"{limit:g}" if target.task == "binary" else f"{100 * limit:g} % of the target's standard deviation"
    if bad:
        difference = f"the mean difference of {target.name} from the Keras model is {loss.mae:.3g} {unit}".rstrip()
        raise ExportError(f"{difference} on {len(differences)} {source}, more than the allowed {allowed}; nothing was written")
    return loss


def _learnt(target: Target, values: np.ndarray) -> np.ndarray:
    """Values as the network learns them; infinite where they are outside of a logarithm."""
    inside = values > target.lowest
    return np.where(inside, target.scale(np.where(inside, values, target.lowest + 1.0)), np.inf)
