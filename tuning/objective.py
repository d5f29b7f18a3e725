"""The number that a search makes small: the validation error, in the target's unit where there is one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.target import Target


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    One target: its MAE over the validation rows in its unit, or, for a binary target, its log loss. Several: the mean over the targets of
    that error relative to the error of a constant, a number without a unit: MAE / MAD, where MAD is the mean absolute deviation of the
    training values from their mean, and log loss / entropy of the training classes. 1 is then a model that has learnt nothing.

    Attributes:
        targets: what is predicted.
        references: target -> the error of a constant, in the same unit.
    """

    targets: tuple[Target, ...]
    references: Mapping[str, float]

    @classmethod
    def of(cls, targets: Sequence[Target], training: Table) -> Objective:
        """The objective for `targets`, with references of the `training` rows."""
        return cls(tuple(targets), {target.name: _reference(target, training.targets[target.name]) for target in targets})

    @property
    def name(self) -> str:
        """What the number is called in tables and on axes, without its unit."""
        if len(self.targets) > 1:
            return "mean relative validation error"
        return f"validation {_score(self.targets[0]).replace('_', ' ')} of {self.targets[0].name}"

    @property
    def unit(self) -> str:
        """The unit of the number; "" where it has none."""
        return self.targets[0].unit if len(self.targets) == 1 and self.targets[0].task == "regression" else ""

    def errors(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Target -> its validation error: MAE [unit] or log loss.

        Args:
            scores: target -> name of the score -> value, as of `tfmat.predictor.Evaluation`.
        """
        return {target.name: float(scores[target.name].get(_score(target), np.nan)) for target in self.targets}

    def value(self, scores: Mapping[str, Mapping[str, float]]) -> float:
        """The number.

        Raises:
            InputError: it is NaN or infinite.
        """
        errors = self.errors(scores)
        for name, error in errors.items():
            if not np.isfinite(error):
                raise InputError(f"the validation error of {name!r} is {error}", expected="a finite number: a lower learning_rate may help")
        if len(self.targets) == 1:
            return errors[self.targets[0].name]
        return float(np.mean([errors[target.name] / self.references[target.name] for target in self.targets]))


def _score(target: Target) -> str:
    return "log_loss" if target.task == "binary" else "MAE"


def _reference(target: Target, values: np.ndarray) -> float:
    """The error of the best constant; 1 where it has none, as for a target with one value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 1.0
    if target.task == "binary":
        shares = np.clip([known.mean(), 1 - known.mean()], 1e-12, 1)
        error = float(-(shares * np.log(shares)).sum())
    else:
        error = float(np.abs(known - known.mean()).mean())
    return error if error > 1e-9 else 1.0
