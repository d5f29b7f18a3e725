"""KerasTuner's oracles, with a state that survives a kill or a full disk, and an end where nothing works."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import scipy.linalg
import threadpoolctl
from keras_tuner import oracles
from keras_tuner.engine.trial import Trial, TrialStatus
from sklearn.gaussian_process import GaussianProcessRegressor

from tfmat.atomic import staged
from tfmat.errors import InputError
from tfmat.tuning.configuration import rounded

OBJECTIVE = "objective"
"""Name of the objective among the metrics of a trial."""
ERROR = "tfmat/error"
"""Key among the values of a failed trial under which a worker tells the error: KerasTuner's messages have no field for it."""
GIVE_UP = 5
"""A search ends if so many trials have failed and none has not."""
FACTOR = 3
"""With Hyperband one trial in this many goes on, and is trained this many times as long."""
FOLDER = "trials"
"""Folder of KerasTuner's own files, in that of the search."""

_ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)


class CannotWrite(keras_tuner.errors.FatalError):
    """The state of the search cannot be written, as ``__cause__`` tells. KerasTuner lets this error end the search."""


class Durable(keras_tuner.Oracle):
    """What all oracles have in common; stands before KerasTuner's class among the bases.

    KerasTuner writes its files in place, so that a kill or a full disk can cost all trials, forgets which process ran a trial, and loses
    the error of a trial that failed in another process.

    Attributes:
        workers: trial -> ID of the tuner that ran it.
        began: called with every trial that begins.
        ended: called with every trial that has ended, once it is written.
        failure: what was wrong with writing the state.
    """

    began: Callable[[Trial], None] | None = None
    ended: Callable[[Trial], None] | None = None
    failure: Exception | None = None
    _retry_queue: list[str]

    def open(self, folder: Path) -> None:
        """Keep the state below `folder`, and go on from what is there."""
        self.workers: dict[str, str] = {}
        self.verbose = 0
        self._set_project_dir(str(folder), FOLDER)
        if Path(self._get_oracle_fname()).is_file():
            self.reload()

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial of a tuner; see `keras_tuner.Oracle`."""
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.RUNNING:
            self.workers[trial.trial_id] = tuner_id
            self.save()
            self._tell(self.began, trial)
        return trial

    def end_trial(self, trial: Trial) -> None:
        """A trial has ended; see `keras_tuner.Oracle`. Its values stay those that were given out: a message rounds them to 32 bits."""
        message = trial.hyperparameters.values.pop(ERROR, None)
        trial.message = message or trial.message
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        self._retry_queue = [waiting for waiting in self._retry_queue if waiting != trial.trial_id]  # the chief was restarted meanwhile
        super().end_trial(trial)
        self._tell(self.ended, self.trials[trial.trial_id])

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Values for a trial, or the end of the search; see `keras_tuner.Oracle`."""
        if len(self.end_order) >= GIVE_UP and all(self.trials[ended].status == TrialStatus.FAILED for ended in self.end_order):
            return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
        response: dict[str, Any] = super().populate_space(trial_id)
        if response.get("values"):
            response["values"] = self._rounded(response["values"])
        return response

    def _rounded(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: rounded(value) for name, value in values.items()}

    def obsolete(self) -> list[str]:
        """Trials that have ended and from which no other trial goes on."""
        return [trial.trial_id for trial in self.trials.values() if trial.status in _ENDED]

    def get_state(self) -> dict[str, Any]:
        """See `keras_tuner.Oracle`."""
        return super().get_state() | {"workers": self.workers}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `keras_tuner.Oracle`."""
        super().set_state(state)
        self.workers = state["workers"]

    def reload(self) -> None:
        """Take the state from the folder. What was running is given out again, what had ended never is, wherever the kill came."""
        try:
            super().reload()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            problem = f"the state of the search cannot be read ({type(error).__name__}: {error})"
            raise InputError(problem, file=self._get_oracle_fname(), expected="a file written by tfmat tune") from None
        for trial_id in self.trials.keys() - set(self.start_order):  # written, but not given out yet
            del self.trials[trial_id]
        self._retry_queue = [trial_id for trial_id in dict.fromkeys(self._retry_queue) if self.trials[trial_id].status not in _ENDED]
        for trial_id in self.start_order:
            if self.trials[trial_id].status in _ENDED and trial_id not in self.end_order:
                self.end_order.append(trial_id)

    def save(self) -> None:
        """Write the state, complete or not at all."""
        self._write(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        self._write(Path(self._get_trial_dir(trial.trial_id), "trial.json"), trial.get_state())

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        try:
            with staged(path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(state), encoding="utf-8")
        except InputError as error:
            self.failure = error
            raise CannotWrite(str(error)) from error

    def _tell(self, listener: Callable[[Trial], None] | None, trial: Trial) -> None:
        try:
            if listener is not None:
                listener(trial)
        except Exception as error:
            self.failure = error
            raise


class Random(Durable, oracles.RandomSearchOracle):
    """Random values."""


class QuickProcess(GaussianProcessRegressor):
    """The same predictions as scikit-learn's for one output, without its checks of the input, which take most of its time."""

    def predict(self, X: np.ndarray, return_std: bool = False, return_cov: bool = False) -> Any:
        """Mean (N,) for the points X (N, D), and with `return_std` the standard deviation (N,).

        C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, algorithm 2.1.
        """
        if return_cov or not hasattr(self, "X_train_"):
            return super().predict(X, return_std=return_std, return_cov=return_cov)
        kernel = self.kernel_(X, self.X_train_)
        mean = kernel @ self.alpha_ * self._y_train_std + self._y_train_mean
        if not return_std:
            return mean
        solved = scipy.linalg.solve_triangular(self.L_, kernel.T, lower=True, check_finite=False)
        variance = self.kernel_.diag(X) - (solved**2).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 0.0)) * self._y_train_std


class Bayesian(Durable, oracles.BayesianOptimizationOracle):
    """Values that a Gaussian process expects to be good."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Values for a trial; see `keras_tuner.Oracle`. On one thread: more would only get into the way of TensorFlow's."""
        with threadpoolctl.threadpool_limits(1):
            return super().populate_space(trial_id)

    def _make_gpr(self) -> Any:
        """KerasTuner's process, whose predictions it asks for one by one, ten thousand of them per trial."""
        made = super()._make_gpr()
        return QuickProcess(**made.get_params(deep=False))


class Grid(Durable, oracles.GridSearchOracle):
    """All combinations of values; of a range without a step, ten."""

    def _rounded(self, values: dict[str, Any]) -> dict[str, Any]:
        return values  # KerasTuner looks for them in the list of values

    def reload(self) -> None:
        """Take the state from the folder; the order of the trials, which KerasTuner does not keep, is found again."""
        super().reload()
        ids = list(self.trials)
        ids.sort(key=functools.cmp_to_key(lambda a, b: self._compare(*(self.trials[i].hyperparameters.values for i in (a, b)))))
        for trial_id in ids:
            self._ordered_ids.insert(trial_id)
        self._populate_next = ids


class Hyperband(Durable, oracles.HyperbandOracle):
    """Many short trials, of which the best go on."""

    hyperband_iterations: float

    def set_state(self, state: dict[str, Any]) -> None:
        """See `keras_tuner.Oracle`. How often the brackets are run may have changed with the number of trials."""
        iterations = self.hyperband_iterations
        super().set_state(state)
        self.hyperband_iterations = iterations

    def obsolete(self) -> list[str]:
        """Trials that have ended and are too bad to be promoted, or cannot be."""
        groups: dict[tuple[int, int], list[Trial]] = {}
        for trial in self.trials.values():
            if trial.status == TrialStatus.COMPLETED:
                values = trial.hyperparameters.values
                groups.setdefault((values["tuner/bracket"], values["tuner/round"]), []).append(trial)
        kept: set[str] = set()
        for (bracket, number), trials in groups.items():
            promoted = self._get_size(bracket, number + 1) if number < bracket else 0
            kept |= {trial.trial_id for trial in sorted(trials, key=lambda trial: trial.score)[:promoted]}
        return [trial_id for trial_id in super().obsolete() if trial_id not in kept]


TUNERS = {"hyperband": Hyperband, "bayesian": Bayesian, "random": Random, "grid": Grid}
"""Name of a tuner -> its oracle."""


def oracle_for(tuner: str, hp: keras_tuner.HyperParameters, *, trials: int | None, epochs: int, seed: int) -> Durable:
    """A new oracle.

    Args:
        tuner: one of `TUNERS`.
        hp: the space.
        trials: most trials; None: for ``hyperband`` all brackets once, for ``grid`` all combinations.
        epochs: number of epochs of the longest trial.
        seed: seed by which values are chosen.
    """
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "min"),
        "hyperparameters": hp,
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "allow_new_entries": False,
        "max_consecutive_failed_trials": 10**9,  # see `GIVE_UP`
    }
    if tuner == "hyperband":
        oracle: Durable = Hyperband(max_epochs=epochs, factor=FACTOR, hyperband_iterations=1 if trials is None else None, **common)
        oracle.max_trials = trials
        return oracle
    if tuner == "bayesian":
        # KerasTuner's own number, three a hyper-parameter, would leave most searches nothing but random trials
        points = max(3, min(3 * len(hp.space), (trials or 10**9) // 3))
        return Bayesian(max_trials=trials, num_initial_points=points, **common)
    return (Grid if tuner == "grid" else Random)(max_trials=trials, **common)


def planned_epochs(tuner: str, trials: int | None, epochs: int, combinations: int | None) -> list[int]:
    """Epochs of each trial of a search, those that a promoted trial inherits not counted; in about the order of the trials.

    Args:
        tuner: one of `TUNERS`.
        trials: most trials.
        epochs: number of epochs of the longest trial.
        combinations: values that there are; None: no end of them.
    """
    if tuner != "hyperband":
        return [epochs] * min(count for count in (trials, combinations, 10**6) if count is not None)
    oracle = oracle_for(tuner, keras_tuner.HyperParameters(), trials=None, epochs=epochs, seed=0)
    found: list[int] = []
    for bracket in range(oracle._get_num_brackets() - 1, -1, -1):
        before = 0
        for number in range(bracket + 1):
            after = oracle._get_epochs(bracket, number)
            found += [after - before] * oracle._get_size(bracket, number)
            before = after
    if trials is None:
        return found
    return (found * (trials // len(found) + 1))[:trials]
