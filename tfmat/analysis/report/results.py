"""What a report is made from: a trained model's history, card and scored predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.elements import ATOMIC_NUMBERS
from tfmat.errors import InputError
from tfmat.featurizers.formula import parse_formula

if TYPE_CHECKING:
    import pandas as pd

    from tfmat.target import Target


@dataclass(frozen=True)
class Result:
    """One target on the N rows that have both a value and a prediction.

    Attributes:
        target: name, unit, task.
        ids: one a row.
        materials: formulas, of crystals those of the cell.
        true: values [unit], or classes 0 and 1 (N,).
        predicted: predictions [unit], or probabilities of class 1 (N,).
        uncertainty: predicted standard deviation of the error [unit] (N,), or None.
        sites: of the cell (N,), or None for a model of compositions.
        unpredicted: number of further rows that have a value and no finite prediction.
    """

    target: Target
    ids: list[str]
    materials: list[str]
    true: np.ndarray
    predicted: np.ndarray
    uncertainty: np.ndarray | None = None
    sites: np.ndarray | None = None
    unpredicted: int = 0

    @classmethod
    def of(cls, target: Target, frame: pd.DataFrame) -> Result:
        """Take the predictions of an evaluation, see `tfmat.predictor.Evaluation`."""
        true, predicted = frame[f"{target.name}_true"].to_numpy(float), frame[target.name].to_numpy(float)
        used = np.flatnonzero(np.isfinite(true) & np.isfinite(predicted))
        spread = frame[f"{target.name}_uncertainty"].to_numpy(float)[used] if f"{target.name}_uncertainty" in frame else None
        return cls(
            target,
            [str(identifier) for identifier in frame["id"].iloc[used]],
            [str(material) for material in frame["material"].iloc[used]],
            true[used],
            predicted[used],
            spread,
            frame["sites"].to_numpy(int)[used] if "sites" in frame else None,
            int(np.isfinite(true).sum()) - len(used),
        )

    def __len__(self) -> int:
        return len(self.true)

    def take(self, rows: np.ndarray) -> Result:
        """The rows at integer positions, in that order."""

        def chosen(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        ids, materials = [self.ids[row] for row in rows], [self.materials[row] for row in rows]
        return Result(self.target, ids, materials, self.true[rows], self.predicted[rows], chosen(self.uncertainty), chosen(self.sites))

    @property
    def binary(self) -> bool:
        """Whether classes are predicted."""
        return self.target.task == "binary"

    @cached_property
    def errors(self) -> np.ndarray:
        """Absolute error of each row [unit]; of a binary target 100 where the class is wrong, else 0 [%]."""
        if self.binary:
            return 100.0 * ((self.predicted > 0.5) != (self.true > 0.5))
        return np.abs(self.predicted - self.true)

    @property
    def error_name(self) -> str:
        """The name of the mean of `errors`."""
        return "share of wrong classes" if self.binary else "MAE"

    @property
    def error_unit(self) -> str:
        """The unit of `errors`."""
        return "%" if self.binary else self.target.unit

    @cached_property
    def amounts(self) -> list[dict[str, float]]:
        """Symbol -> amount of each row; empty for text that is no formula."""
        return [_amounts(material) for material in self.materials]

    def by_element(self) -> dict[int, tuple[int, float]]:
        """Atomic number -> number of rows that hold the element, mean of their `errors`."""
        found: dict[int, list[float]] = {}
        for amounts, error in zip(self.amounts, self.errors.tolist(), strict=True):
            for number in {ATOMIC_NUMBERS[symbol] for symbol in amounts}:
                found.setdefault(number, []).append(error)
        return {number: (len(errors), float(np.mean(errors))) for number, errors in sorted(found.items())}

    def sizes(self) -> tuple[str, np.ndarray]:
        """Say what is counted in each row, and give the counts (N,): sites of the cell, or elements of a composition."""
        if self.sites is not None:
            return "sites in the cell", self.sites
        return "elements in the formula", np.array([len(amounts) for amounts in self.amounts])


@dataclass(frozen=True)
class Run:
    """A trained model and one evaluation of it.

    Attributes:
        name: what it is called on the page.
        config: of the model directory.
        history: one dictionary an epoch; empty for a model that was converted.
        card: Markdown.
        evaluation: what ``scores.json`` says: data, split, scores, date, ...
        results: one a target.
        inputs: id -> the crystal (``species``, ``cell`` [Å], ``frac``), of the worst rows of a model of crystals.
    """

    name: str
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    card: str
    evaluation: Mapping[str, Any]
    results: Sequence[Result]
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def result(self, target: str) -> Result | None:
        """Find the result of a target, if the run has it."""
        return next((result for result in self.results if result.target.name == target), None)

    def check(self, place: str) -> None:
        """Refuse what no figure can show: fewer than two rows of every target.

        Args:
            place: the file, for the message.
        """
        if max(len(result) for result in self.results) >= 2:
            return
        unpredicted = sum(result.unpredicted for result in self.results)
        rows = max(len(result) for result in self.results)
        problem = f"{rows or 'no'} row{'' if rows == 1 else 's'} with a value and a finite prediction" + (
            f" ({unpredicted:,} predictions are not finite)" if unpredicted else ""
        )
        raise InputError(problem, expected="at least two rows to report on", file=place)


def _amounts(material: str) -> dict[str, float]:
    try:
        return parse_formula(material)
    except InputError:
        return {}
