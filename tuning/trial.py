"""One trial: a model built, fitted and scored on the validation rows, as `tfmat train` would."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from tfmat.atomic import staged
from tfmat.data.cache import RecordCache
from tfmat.predictor import Predictor
from tfmat.training.distribution import strategy_of
from tfmat.training.loop import Report
from tfmat.tuning.configuration import Configuration
from tfmat.tuning.search import Search

CHECKPOINT = "checkpoint.h5"
"""File in a trial's folder: the state of its run, while it or a trial that goes on from it may need it."""


@dataclass(frozen=True)
class Fitting:
    """How each trial of a search is run.

    Attributes:
        search: what all trials have in common. Its rows are those that every featurizer of the search accepts.
        cache: where featurized data is kept.
    """

    search: Search
    cache: RecordCache | None = None

    def create(self, configuration: Configuration) -> Predictor:
        """The untrained model of a trial."""
        keras.utils.clear_session()
        gc.collect()
        search = self.search
        return Predictor.create(
            search.reader.architecture.name, search.objective.targets, keywords=configuration.keywords, seed=search.seed, init=search.init,
            freeze=search.freeze, strategy=strategy_of(search.strategy),
        )  # fmt: skip

    def run(
        self, configuration: Configuration, folder: Path, *, until: int, start: Path | None = None, report: Report | None = None
    ) -> Outcome:
        """Train a model for the first `until` epochs of a run of `epochs`.

        A run that was killed goes on where its checkpoint stands, and one that goes on from another trial where that one ended, optimizer
        and all: to the same weights as if it had not been interrupted. Without those files it begins at the first epoch.

        Args:
            configuration: what to train.
            folder: of the trial, for its checkpoint.
            until: the last epoch.
            start: folder of the trial that it goes on from.
            report: progress callback.

        Raises:
            InputError: the error is not a number, or the configuration cannot be built.
            Diverged: the loss is not a number any more.
        """
        began = time.monotonic()
        checkpoint = folder / CHECKPOINT
        if start is not None and not checkpoint.exists():
            _copy(start / CHECKPOINT, checkpoint)
        predictor = self.create(configuration)
        search = self.search
        predictor.fit(
            search.training, search.validation, recipe=configuration.recipe, epochs=search.epochs, until=until, seed=search.seed,
            checkpoint=checkpoint, resume=True, cache=self.cache, report=report,
        )  # fmt: skip
        scores = predictor.info["validation"]
        return Outcome(
            search.objective.value(scores),
            search.objective.errors(scores),
            len(predictor.history),
            time.monotonic() - began,
            int(predictor.model.count_params()),
            predictor.history,
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial gives.

    Attributes:
        objective: see `tfmat.tuning.objective.Objective.value`.
        errors: target -> validation MAE [unit] or log loss.
        epochs: finished ones, those of the trial that it goes on from included.
        seconds: that it took.
        parameters: number of weights.
        history: see `tfmat.training.loop.train`.
    """

    objective: float
    errors: Mapping[str, float]
    epochs: int
    seconds: float
    parameters: int
    history: list[dict[str, float]]

    def metrics(self, name: str) -> dict[str, float]:
        """The numbers as KerasTuner keeps them, the objective under `name`; `tfmat.tuning.tuner.result_of` reads them."""
        counts = {"epochs": float(self.epochs), "seconds": self.seconds, "parameters": float(self.parameters)}
        return {name: self.objective, **counts, **{f"error/{target}": error for target, error in self.errors.items()}}


def remove_checkpoints(folder_of: Callable[[str], Path], trials: list[str]) -> None:
    """Remove the checkpoints of trials."""
    for trial in trials:
        (folder_of(trial) / CHECKPOINT).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """A whole copy or none; none where `source` has been removed."""
    with contextlib.suppress(FileNotFoundError):
        content = source.read_bytes()
        with staged(target, overwrite=True) as temporary:
            temporary.write_bytes(content)
