"""The weights of the epoch with the lowest validation loss, and the end of a run that does not get better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfmat.errors import InputError
from tfmat.training.checkpoint import Checkpoint


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Number of the first epoch with the lowest ``val_loss`` (1-based); the last epoch where none is a number."""
    losses = [row["val_loss"] if math.isfinite(row["val_loss"]) else math.inf for row in history]
    return losses.index(min(losses)) + 1 if any(map(math.isfinite, losses)) else len(losses)


class BestEpoch:
    """Keeps the best weights of a run so far.

    Where the optimizer averages the weights, the averages are kept: they are what the validation loss belongs to.

    Args:
        model: compiled.
        patience: epochs without improvement after which the run should end; None = it never should.

    Attributes:
        epoch: the best epoch (1-based), 0 before there is one.
        loss: its validation loss.
        weights: the model's weights after it.
    """

    def __init__(self, model: keras.Model, patience: int | None) -> None:
        self.model, self.patience = model, patience
        self.epoch, self.loss = 0, math.inf
        self.weights: list[np.ndarray] = []

    def epoch_ended(self, epoch: int, loss: float) -> bool:
        """Note the validation loss of `epoch` (1-based); whether the run should end."""
        if loss < self.loss:
            self.epoch, self.loss, self.weights = epoch, loss, self._validated()
        return self.patience is not None and epoch - self.epoch >= self.patience

    def _validated(self) -> list[np.ndarray]:
        optimizer = self.model.optimizer
        averages = optimizer._model_variables_moving_average if optimizer.use_ema else []
        average = {id(variable): mean for variable, mean in zip(optimizer._trainable_variables, averages, strict=False)}
        return [np.array(keras.ops.convert_to_numpy(average.get(id(weight), weight))) for weight in self.model.weights]

    def apply(self) -> None:
        """Put the best weights back."""
        for variable, value in zip(self.model.weights if self.weights else [], self.weights, strict=True):
            variable.assign(value)

    def save(self, checkpoint: Checkpoint) -> None:
        """Add the state to `checkpoint`."""
        checkpoint.arrays["best"] = list(self.weights)
        checkpoint.state["best"] = [self.epoch, self.loss]

    def restore(self, checkpoint: Checkpoint, source: str) -> None:
        """Take the state from `checkpoint`."""
        if "best" not in checkpoint.state:
            raise InputError("the checkpoint's run did not keep its best epoch", file=source, expected="the run that wrote it")
        self.weights = checkpoint.arrays.get("best", [])
        self.epoch, self.loss = checkpoint.state["best"]
