"""The trials of a search as plain rows, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfmat.atomic import write_csv
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset
from tfmat.tuning.configuration import Configuration

if TYPE_CHECKING:
    import keras

    from tfmat.predictor import Predictor
    from tfmat.tuning.trial import Fitting

Status = Literal["running", "completed", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        name: its number, with zeros in front.
        status: where it stands.
        values: values of its hyper-parameters.
        objective: validation error, see `tfmat.tuning.objective.Objective`; None if it has none.
        epochs: that its model was trained for, those of the trial that it goes on from included.
        seconds: that it took.
        errors: target -> validation MAE [unit] or log loss.
        parameters: number of weights of its model.
        promoted_from: the trial that it goes on from.
        worker: ID of the process that ran it.
        error: why it failed.
    """

    name: str
    status: Status
    values: dict[str, Any]
    objective: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    errors: Mapping[str, float] = field(default_factory=dict)
    parameters: int = 0
    promoted_from: str | None = None
    worker: str = ""
    error: str = ""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        trials: all of them, in their order.
        best: the completed trial with the lowest objective.
        configuration: keywords and recipe of the best trial.
        objective: name of what was minimised.
        unit: its unit.
        folder: with ``best.json``, ``trials.csv`` and logs.
        fitting: what all trials had in common.
        logarithmic: hyper-parameters that are searched on a logarithmic scale.
    """

    trials: list[TrialResult]
    best: TrialResult
    configuration: Configuration
    objective: str
    unit: str
    folder: Path
    fitting: Fitting
    logarithmic: tuple[str, ...] = ()

    def train(
        self,
        training: Table | Dataset | None = None,
        validation: Table | None = None,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = 0,
    ) -> Predictor:
        """A predictor with the configuration of the best trial, trained for as many epochs as a whole run of the search has.

        Args:
            training: rows to learn, or a dataset, see `tfmat.Predictor.fit`. Default: those of the search.
            validation: rows to validate with. Default: of the dataset, or of the search.
            callbacks: of Keras, see `tfmat.Predictor.fit`.
            verbose: as of Keras' ``fit``.
        """
        search, cache = self.fitting.search, self.fitting.cache
        if training is None:
            training, validation = search.training, search.validation
        predictor = self.fitting.create(self.configuration)
        predictor.fit(
            training, validation, recipe=self.configuration.recipe, epochs=search.epochs, seed=search.seed, cache=cache,
            callbacks=callbacks, verbose=verbose,
        )  # fmt: skip
        return predictor


def best_of(results: Sequence[TrialResult]) -> TrialResult | None:
    """The completed trial with the lowest objective; of equal ones the one that was trained for longest."""
    done = [(result.objective, -result.epochs, result.name, result) for result in results if result.objective is not None]
    return min(done, key=lambda entry: entry[:3])[3] if done else None


def write_trials(path: Path, results: Sequence[TrialResult], objective: str, errors: Mapping[str, str]) -> None:
    """``trials.csv``: one row per trial, one column per hyper-parameter.

    Args:
        path: the file, which is replaced.
        results: in the order of the trials.
        objective: title of its column, with the unit.
        errors: target -> title of the column of its error, for several targets.
    """
    names = list(dict.fromkeys(name for result in results for name in result.values))
    header = ["trial", "status", objective, *errors.values(), "epochs", "seconds", "parameters", "promoted from", "worker", *names, "error"]
    rows = (
        [
            *(result.name, result.status, "" if result.objective is None else f"{result.objective:.6g}"),
            *(f"{result.errors[target]:.6g}" if target in result.errors else "" for target in errors),
            *(result.epochs or "", f"{result.seconds:.1f}", result.parameters or "", result.promoted_from or "", result.worker),
            *(result.values.get(name, "") for name in names),
            result.error,
        ]
        for result in results
    )
    write_csv(path, header, rows)
