"""KerasTuner's tuner: asks the oracle for trials, runs them and tells it the results."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import config

from tfmat.atomic import is_full
from tfmat.errors import InputError
from tfmat.training.loop import Interrupted, Report
from tfmat.tuning.configuration import Configuration, Reader, rounded, trial_values
from tfmat.tuning.objective import Objective
from tfmat.tuning.oracles import ERROR, FOLDER, OBJECTIVE, Durable
from tfmat.tuning.results import Status, TrialResult
from tfmat.tuning.trial import Fitting, Outcome

PAUSE = 0.05
"""Pause before each request for a trial [s]: without one KerasTuner asks again and again while the oracle waits for other trials."""
_STATUS: Mapping[str, Status] = {TrialStatus.COMPLETED: "completed", TrialStatus.FAILED: "failed"}


class Ended(keras_tuner.errors.FatalError):
    """The search cannot or must not go on, for the reason in ``__cause__``; KerasTuner takes any other error for a failed trial."""


class Watcher(Protocol):
    """Follows a search: it is told when trials begin, go on and end."""

    def opened(self, results: Sequence[TrialResult]) -> None:
        """The search begins, with the trials of an earlier run; not in a worker."""
        ...

    def began(self, result: TrialResult) -> None:
        """A trial begins, here or in a worker."""
        ...

    def report(self, epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """A step of the trial that runs in this process, see `tfmat.training.loop.Report`."""
        ...

    def ended(self, result: TrialResult) -> None:
        """A trial has ended, here or in a worker."""
        ...


class Tuner(BaseTuner):
    """Runs the trials of a search in this process, with KerasTuner's own loop.

    Args:
        oracle: knows the state; KerasTuner replaces it by a client of the chief's in a worker.
        folder: folder of the search.
        reader: makes a configuration of values.
        fitting: what the trials have in common.
        watcher: is told about steps and epochs.
        logs: folder of the logs for TensorBoard.
    """

    def __init__(
        self, oracle: Durable, folder: Path, reader: Reader, fitting: Fitting, watcher: Watcher | None = None, logs: Path | None = None
    ) -> None:
        config.DEBUG = logging.getLogger("tfmat").isEnabledFor(logging.DEBUG)  # whether KerasTuner prints the traceback of a failed trial
        super().__init__(oracle, directory=str(folder), project_name=FOLDER)
        self._reader, self._fitting, self._watcher, self._logs = reader, fitting, watcher, logs
        self._error = ""

    def save(self) -> None:
        """The oracle keeps the state of the search: a tuner has none."""

    def pre_create_trial(self) -> None:
        """Wait a little before a trial is asked for."""
        time.sleep(PAUSE)

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Train a model; returns the metrics."""
        self._error = ""
        try:
            return self._run(trial)
        except (Interrupted, Ended) as error:
            raise Ended(str(error)) from error
        except Exception as error:
            if is_full(error):
                raise Ended(str(error)) from error
            self._error = one_line(error)
            raise keras_tuner.errors.FailedTrialError(self._error) from error

    def on_trial_begin(self, trial: Trial) -> None:
        """Tell the watcher of a worker that a trial begins; elsewhere the oracle does."""
        if self._watcher is not None and self._is_worker():
            self._watcher.began(result_of(trial, self.tuner_id))

    def on_trial_end(self, trial: Trial) -> None:
        """Tell the oracle that a trial ended, and why it failed."""
        if trial.status != TrialStatus.COMPLETED:
            self._error = self._error or (trial.message or "unknown error").strip().splitlines()[-1]
            trial.hyperparameters.values[ERROR] = self._error
        self.oracle.end_trial(trial)
        if self._watcher is not None and self._is_worker():
            result = result_of(self.oracle.get_trial(trial.trial_id), self.tuner_id)
            self._watcher.ended(dataclasses.replace(result, error=self._error))

    def _run(self, trial: Trial) -> dict[str, float]:
        configuration = read_trial(self._reader, trial)
        values = trial.hyperparameters.values
        until = int(values.get("tuner/epochs", self._fitting.search.epochs))
        start = values.get("tuner/trial_id")
        outcome = self._fitting.run(
            configuration,
            Path(self.get_trial_dir(trial.trial_id)),
            until=until,
            start=None if start is None else Path(self.get_trial_dir(start)),
            report=self._report(until),
        )
        if self._logs is not None:
            write_hparams(self._logs / trial.trial_id, trial_values(trial.hyperparameters), outcome, self._fitting.search.objective)
        return outcome.metrics(OBJECTIVE)

    def _report(self, until: int) -> Report | None:
        """The watcher's callback, which counts to the last epoch of the trial, not of the whole run."""
        watcher = self._watcher
        if watcher is None:
            return None
        return lambda epoch, epochs, step, steps, figures: watcher.report(epoch, until, step, steps, figures)


def write_hparams(folder: Path, values: Mapping[str, Any], outcome: Outcome, objective: Objective) -> None:
    """Write one trial's log.

    Args:
        folder: folder of the trial's log; those of a search lie beside each other.
        values: values of the hyper-parameters.
        outcome: what the trial gave.
        objective: names it, with its unit.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    title = f"{objective.name} [{objective.unit}]" if objective.unit else objective.name
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams(dict(values), trial_id=folder.name)
        for row in outcome.history:
            for key, value in row.items():
                if key not in ("epoch", "seconds"):
                    tf.summary.scalar(key, value, step=int(row["epoch"]))
        tf.summary.scalar(title, outcome.objective, step=outcome.epochs)
    writer.close()


def read_trial(reader: Reader, trial: Trial) -> Configuration:
    """The configuration of a trial."""
    hp = trial.hyperparameters.copy()
    hp.values = {name: rounded(value) for name, value in hp.values.items()}
    return reader.read(hp)


def result_of(trial: Trial, worker: str = "") -> TrialResult:
    """A trial as a plain row."""
    metrics = {name: trial.metrics.get_last_value(name) for name in trial.metrics.metrics}
    completed = trial.status == TrialStatus.COMPLETED
    return TrialResult(
        name=trial.trial_id,
        status=_STATUS.get(trial.status, "running"),
        values=trial_values(trial.hyperparameters),
        objective=float(metrics[OBJECTIVE]) if completed else None,
        epochs=int(metrics.get("epochs", 0)),
        seconds=float(metrics.get("seconds", 0.0)),
        errors={name.removeprefix("error/"): float(value) for name, value in metrics.items() if name.startswith("error/")},
        parameters=int(metrics.get("parameters", 0)),
        promoted_from=trial.hyperparameters.values.get("tuner/trial_id"),
        worker=worker,
        error=(trial.message or "") if trial.status == TrialStatus.FAILED else "",
    )


def results_of(oracle: Durable) -> list[TrialResult]:
    """All trials of a search in their order."""
    return [result_of(oracle.trials[name], oracle.workers.get(name, "")) for name in oracle.start_order]


def one_line(error: BaseException) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, InputError) or type(error).__name__ == "Diverged" else f"{type(error).__name__}: {text}"
