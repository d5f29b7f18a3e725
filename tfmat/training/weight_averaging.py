"""The average of the weights of good steps, as CrabNet and L-G-DCNN were published with."""

from __future__ import annotations

import keras
import numpy as np

from tfmat.batching.pipeline import Batches
from tfmat.training.checkpoint import Checkpoint
from tfmat.training.inference import forward


class StochasticWeightAveraging:
    """The published averaging rule of CrabNet and L-G-DCNN.

    In every `period`-th epoch, after each optimizer step, the validation error m is taken: if m < 0.98 M the average starts anew and
    M = m; if m <= 1.01 times the least m so far, the weights enter the average, ``a <- a + (w - a) (1 / (n + 1))**(1/3)``. An epoch
    without such a step counts as a failure; five failures end the run. At the end the average replaces the weights.
    """

    PATIENCE = 5

    def __init__(self, period: int, model: keras.Model, validation: Batches) -> None:
        self.period, self.model = period, model
        self._predict = forward(model)
        self._batches = [(inputs, values) for inputs, values, _ in validation.epoch(0)]
        self.average: list[np.ndarray] = []
        self.count, self.failures = 0, 0
        self.best = self.least = 1e9
        self._found = False

    def after_step(self, epoch: int) -> None:
        """Take the validation error and update the average, if `epoch` (1-based) is one of the averaging epochs."""
        if epoch % self.period:
            return
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within an epoch the weights are elsewhere
        error = self._error()
        if error < 0.98 * self.best:
            self.count, self.best = 0, error
            self._add()
        self.least = min(self.least, error)
        if error <= 1.01 * self.least:
            self._add()
            self._found = True

    def _error(self) -> float:
        """Mean over the targets of the mean absolute error in scaled units."""
        totals: dict[str, list[float]] = {}
        for inputs, values in self._batches:
            outputs = self._predict(inputs)
            for name, column in values.items():
                present = np.isfinite(column[:, 0])
                total = totals.setdefault(name, [0.0, 0.0])
                total[0] += float(np.abs(outputs[name][present, 0] - column[present, 0]).sum())
                total[1] += float(present.sum())
        return float(np.mean([error / max(count, 1.0) for error, count in totals.values()]))

    def _add(self) -> None:
        weights = [keras.ops.convert_to_numpy(w) for w in self.model.trainable_variables]
        share = (1.0 / (self.count + 1)) ** (1.0 / 3.0)
        old = self.average if self.count else [np.zeros_like(w) for w in weights]
        self.average = [a + (w - a) * np.float32(share) for a, w in zip(old, weights, strict=True)]
        self.count += 1

    def epoch_ended(self, epoch: int) -> bool:
        """Tell whether the run should end after `epoch` (1-based)."""
        if epoch % self.period == 0 and not self._found:
            self.failures += 1
        self._found = False
        return self.failures >= self.PATIENCE

    def apply(self, model: keras.Model) -> None:
        """Replace the weights by their average, if there is one."""
        for variable, value in zip(model.trainable_variables if self.average else [], self.average, strict=True):
            variable.assign(value)

    def save(self, checkpoint: Checkpoint) -> None:
        """Add the state to `checkpoint`."""
        checkpoint.arrays["average"] = list(self.average)
        checkpoint.state["averaging"] = [self.count, self.failures, self.best, self.least]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the state from `checkpoint`."""
        self.average = checkpoint.arrays.get("average", [])
        self.count, self.failures, self.best, self.least = checkpoint.state["averaging"]
