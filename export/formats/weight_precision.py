"""What storing weights with fewer bits costs: differences from the Keras model in the target's unit, and when they are too large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.errors import InputError
from tfmat.export.errors import ExportError
from tfmat.export.interfaces.base import Example, Interface

if TYPE_CHECKING:
    from tfmat.predictor import Predictor
    from tfmat.target import Target

PRECISIONS = ("float32", "float16", "int8")
"""Of the weights: whole; half the size; a quarter of it, with dynamic ranges. Inputs, outputs and what is small stay float32."""

SHARE = 0.5
"""Largest part of the model's own validation MAE by which the outputs may differ in the mean."""

SPREADS = 0.05
"""The same where the model does not know its validation MAE: in standard deviations of the target as it is learnt, or as a probability."""

MOST = 200
"""Materials that are compared, at most."""


@dataclass(frozen=True)
class Loss:
    """What a target loses.

    Attributes:
        target: name.
        unit: of the target; none for a probability.
        mae: mean absolute difference between the exported and the Keras model [unit].
        largest: largest absolute difference [unit].
        validation_mae: error of the Keras model on its validation split [unit], if it is known.
        rows: number of materials that were compared.
        source: what they are, such as ``validation rows``.
    """

    target: str
    unit: str
    mae: float
    largest: float
    validation_mae: float | None
    rows: int
    source: str

    def to_config(self) -> dict[str, Any]:
        """JSON-able dictionary."""
        return asdict(self)


def check_precision(precision: str) -> None:
    """Refuse what is not one of the `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", expected=f"one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class Rows:
    """What a loss is measured on.

    Attributes:
        source: what they are, such as ``validation rows``.
        materials: formulas or crystals.
        examples: their arrays.
    """

    source: str
    materials: Sequence[Any]
    examples: Sequence[Example]


def rows_of(interface: Interface, lengths: Mapping[str, int], validation: Sequence[Any] | None, examples: Rows) -> Rows:
    """The first `MOST` of the validation rows that the featurizer takes and that fit into `lengths`; the examples if there is none."""
    materials, arrays = interface.fitting(list(islice(validation or (), 4 * MOST)), lengths)
    return Rows("validation rows", materials[:MOST], arrays[:MOST]) if materials else examples


def measure(predictor: Predictor, rows: Rows, exported: Mapping[str, np.ndarray]) -> tuple[Loss, ...]:
    """The loss of every target.

    Args:
        predictor: the Keras model.
        rows: N materials.
        exported: outputs of the exported model for them, name -> (N, 1).

    Raises:
        ExportError: an output is not finite, or a difference exceeds `SHARE` or `SPREADS`.
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
    told = f"the mean difference of {target.name} from the Keras model is {loss.mae:.3g} {unit}".rstrip()
    if validation is not None and loss.mae > SHARE * validation:
        allowed = f"{SHARE * validation:.3g} {unit}, {100 * SHARE:g} % of the validation MAE"
        raise ExportError(f"{told} on {len(differences)} {source}, more than the allowed {allowed}; nothing was written")
    if validation is None:
        spreads = float(np.abs(_learnt(target, exported) - _learnt(target, original)).mean())
        if not spreads <= SPREADS:
            allowed = "0.05" if target.task == "binary" else f"{100 * SPREADS:g} % of the target's standard deviation"
            raise ExportError(f"{told} on {len(differences)} {source}, more than the allowed {allowed}; nothing was written")
    return loss


def _learnt(target: Target, values: np.ndarray) -> np.ndarray:
    """Values as the network learns them; infinite where they are outside of a logarithm."""
    inside = values > target.lowest
    return np.where(inside, target.scale(np.where(inside, values, target.lowest + 1.0)), np.inf)
