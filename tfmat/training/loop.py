"""The training loop: `keras.Model.fit` with checkpoints, clean interruption, weight averaging and a history.

A run is exactly resumable: the batches of an epoch depend on the seed and the number of the epoch alone, and a checkpoint holds
weights, optimizer state and the state of the averaging as they were at the end of an epoch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfmat.batching.pipeline import Batches, BatchSequence
from tfmat.errors import InputError
from tfmat.signals import handled_by
from tfmat.target import Target
from tfmat.training.best_epoch import BestEpoch
from tfmat.training.checkpoint import Checkpoint
from tfmat.training.distribution import replicas, replicate, scope, seed_replicas, split
from tfmat.training.losses import loss_for
from tfmat.training.metrics import PhysicalMAE
from tfmat.training.parts import Parts, layer_of, rate_factors
from tfmat.training.recipe import Loss, Recipe
from tfmat.training.weight_averaging import StochasticWeightAveraging

if TYPE_CHECKING:
    import tensorflow as tf

CHECKPOINT_SECONDS = 30.0
"""A finished epoch is written to disk if the last checkpoint is older than this; on a signal the last finished epoch always is."""

Report = Callable[[int, int, int, int, Mapping[str, float]], None]
"""Called as ``report(epoch, epochs, step, steps, figures)`` after every step (step >= 1) and every epoch (step == steps)."""


class Interrupted(Exception):
    """Training was stopped by a signal; the last finished epoch is in the checkpoint.

    Attributes:
        signum: the signal.
        epoch: number of finished epochs.
    """

    def __init__(self, signum: int, epoch: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after {epoch} finished epochs")
        self.signum, self.epoch = signum, epoch


class Diverged(Exception):
    """The training loss is not a number any more."""


@dataclass(frozen=True)
class Schedule:
    """The length of a run and where its state is kept.

    Attributes:
        epochs: total number.
        checkpoint: file for the state of the unfinished run; None keeps none.
        resume: continue from that file if it exists.
        until: end after this epoch, with the state in the checkpoint, so that the run can go on later as if it had not ended; None: at the
            end.
    """

    epochs: int
    checkpoint: Path | None = None
    resume: bool = False
    until: int | None = None

    @property
    def last(self) -> int:
        """The epoch after which it ends."""
        return self.epochs if self.until is None else min(self.until, self.epochs)


def train(
    model: keras.Model,
    targets: Sequence[Target],
    recipe: Recipe,
    training: Batches,
    validation: Batches | None,
    schedule: Schedule,
    *,
    parts: Parts | None = None,
    report: Report | None = None,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> list[dict[str, float]]:
    """Fit `model` in place.

    Args:
        model: outputs target -> (B, 1 or 2); what is not trainable stays as it is.
        targets: with their scales, which the batches use already.
        recipe: how to train.
        training: shuffled batches.
        validation: batches for the validation figures, for the averaging rule of the published recipe, and for keeping the best epoch;
            may be None.
        schedule: how long, and where the checkpoint lies.
        parts: of the architecture, for the recipe's learning rates by part.
        report: progress callback.
        strategy: in whose scope the model was made.
        callbacks: further ones, called after those of the run.
        verbose: as of Keras' ``fit``.

    Returns:
        One dictionary per epoch: ``epoch``, ``loss``, ``<target>_mae`` in the target's unit, the same with ``val_``, ``seconds``.

    Raises:
        InputError: the recipe does not fit the model or the data.
        Interrupted: on SIGINT or SIGTERM, once the checkpoint is written.
        Diverged: the loss became NaN or infinite.
    """
    steps = training.plan.steps
    check_recipe(model, targets, recipe, parts or {}, validated=validation is not None)
    with scope(strategy):
        optimizer = recipe.build_optimizer(steps, schedule.epochs)
        compile_model(model, targets, optimizer, loss=recipe.loss, strategy=strategy)
    if recipe.rates:
        factors = rate_factors(model, recipe.rates, parts or {})
        model.optimizer.set_factors([factors.get(layer_of(weight), 1.0) for weight in model.trainable_variables])
    state = _RunState(schedule, report, steps)
    if recipe.keep == "best":
        state.best = BestEpoch(model, recipe.patience)
    if recipe.swa_epochs is not None and validation is not None:
        state.averaging = StochasticWeightAveraging(recipe.swa_epochs, model, validation)
    if schedule.resume and schedule.checkpoint is not None and schedule.checkpoint.exists():
        state.restore(model, Checkpoint.read(schedule.checkpoint))
    if state.finished < schedule.last and not state.stopped_early:
        _fit(model, recipe, training, validation, schedule, state, strategy, callbacks=callbacks, verbose=verbose)
    else:
        model.optimizer.finalize_variable_values(model.trainable_variables)  # as `fit` does at its end: with averaging, takes the average
    if state.averaging is not None:
        state.averaging.apply(model)
    if state.best is not None:
        state.best.apply()
    return state.history


def _fit(
    model: keras.Model,
    recipe: Recipe,
    training: Batches,
    validation: Batches | None,
    schedule: Schedule,
    state: _RunState,
    strategy: tf.distribute.Strategy | None,
    *,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
) -> None:
    own: list[keras.callbacks.Callback] = [] if recipe.ema is None else [keras.callbacks.SwapEMAWeights()]
    own.append(state)
    feed = _feed(model, training, validation, state.finished, strategy)
    if isinstance(feed.data, BatchSequence):
        own.append(keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: feed.data.begin(epoch)))
    with handled_by(state.stop), state.written_on_interrupt():
        model.fit(
            feed.data,
            steps_per_epoch=feed.steps,
            epochs=schedule.last,
            initial_epoch=state.finished,
            validation_data=feed.validation,
            validation_steps=feed.validation_steps,
            callbacks=[*own, *callbacks],
            shuffle=False,
            verbose=verbose,
        )
        if state.finished < schedule.epochs:
            state.write()


@dataclass(frozen=True)
class _Feed:
    """What `fit` reads: tf.data under TensorFlow, NumPy elsewhere. Steps are of an epoch; None: as many as the data has."""

    data: Any
    steps: int | None
    validation: Any = None
    validation_steps: int | None = None


def _feed(
    model: keras.Model,
    training: Batches,
    validation: Batches | None,
    first_epoch: int,
    strategy: tf.distribute.Strategy | None,
) -> _Feed:
    if keras.backend.backend() != "tensorflow":
        return _Feed(BatchSequence(training, first_epoch), None, None if validation is None else BatchSequence(validation))
    parts = replicas(strategy)
    data = training.dataset(first_epoch=first_epoch, repeat=True, parts=parts)
    if strategy is None:
        return _Feed(data, training.plan.steps, None if validation is None else validation.dataset())
    seed_replicas(model, strategy)
    feed = _Feed(split(model, strategy, data), training.plan.steps)
    if validation is None:
        return feed
    # Keras takes the number of parts for that of batches unless it is told.
    held_out = split(model, strategy, validation.dataset(repeat=True, parts=parts))
    return dataclasses.replace(feed, validation=held_out, validation_steps=validation.plan.steps)


def check_recipe(model: keras.Model, targets: Sequence[Target], recipe: Recipe, parts: Parts, *, validated: bool) -> None:
    """Refuse a recipe whose loss or parts the model does not have, or that needs validation rows where there are none."""
    _check_loss(model, targets, recipe.loss)
    rate_factors(model, recipe.rates, parts)
    if recipe.keep == "best" and not validated:
        raise InputError("the recipe keeps the epoch with the lowest validation loss", expected="validation rows, or keep=last")


def _check_loss(model: keras.Model, targets: Sequence[Target], loss: str) -> None:
    columns = dict(zip(model.output_names, (int(output.shape[-1]) for output in model.outputs), strict=True))
    for target in targets:
        if loss == "laplace" and target.task == "regression" and columns[target.name] != 2:
            raise InputError(
                f"the loss laplace needs a value and a log-scale, {model.name} gives {target.name!r} as a value alone",
                expected="a model with uncertainties, or one of the losses mae, mse, mape, mse_physical",
            )


def compile_model(
    model: keras.Model,
    targets: Sequence[Target],
    optimizer: keras.optimizers.Optimizer,
    *,
    loss: Loss = "laplace",
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Losses and metrics for `targets`; the optimizer's variables exist afterwards. With a `strategy`, call it in its scope.

    Raises:
        InputError: the loss needs outputs that the model does not have.
    """
    _check_loss(model, targets, loss)
    losses = {t.name: loss_for(loss, t) for t in targets}
    metrics = {t.name: [PhysicalMAE(t)] for t in targets}
    # Under TensorFlow without XLA: one program for all sizes, where XLA would compile one for each. JAX knows nothing else.
    model.compile(optimizer=optimizer, loss=losses, metrics=metrics, jit_compile="auto" if keras.backend.backend() == "jax" else False)
    optimizer.build(model.trainable_variables)
    if strategy is not None:
        replicate(model, strategy)


class _RunState(keras.callbacks.Callback):
    """History, progress, checkpoints and signals of one run."""

    def __init__(self, schedule: Schedule, report: Report | None, steps: int) -> None:
        super().__init__()
        self.schedule, self.report, self.steps = schedule, report, steps
        self.history: list[dict[str, float]] = []
        self.finished = 0
        self.stopped_early = False
        self.signum: int | None = None
        self.averaging: StochasticWeightAveraging | None = None
        self.best: BestEpoch | None = None
        self._snapshot: Checkpoint | None = None
        self._written = time.monotonic()
        self._began = 0.0

    def restore(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        checkpoint.restore(model, self.schedule.checkpoint or Path())
        self.finished, self.history = checkpoint.epoch, checkpoint.history
        self.stopped_early = bool(checkpoint.state.get("stopped_early"))
        if self.averaging is not None:
            self.averaging.restore(checkpoint)
        if self.best is not None:
            self.best.restore(checkpoint, str(self.schedule.checkpoint))

    def stop(self, signum: int) -> None:
        """Stop after the step that is running, the first time; the second time at once."""
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.averaging is not None:
            self.averaging.after_step(self.finished + 1)
        if self.signum is not None:
            raise Interrupted(self.signum, self.finished)
        if self.report is not None and batch + 1 < self.steps:
            self.report(self.finished + 1, self.schedule.epochs, batch + 1, self.steps, {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = {key: float(value) for key, value in (logs or {}).items() if key == "loss" or key.endswith(("_loss", "mae"))}
        if not np.isfinite(figures.get("loss", 0.0)):
            raise Diverged(f"the loss became {figures['loss']} in epoch {epoch + 1}")
        self.finished = epoch + 1
        row = {"epoch": float(self.finished)} | _by_target(figures, self.model.output_names) | {"seconds": time.monotonic() - self._began}
        self.history.append(row)
        if self.averaging is not None and self.averaging.epoch_ended(self.finished):
            self.model.stop_training = self.stopped_early = True
        if self.best is not None and self.best.epoch_ended(self.finished, row["val_loss"]):
            self.model.stop_training = self.stopped_early = True
        self._keep()
        if self.report is not None:
            self.report(self.finished, self.schedule.epochs, self.steps, self.steps, row)

    def _keep(self) -> None:
        if self.schedule.checkpoint is None:
            return
        self._snapshot = Checkpoint.of(self.model, self.finished, self.history)
        self._snapshot.state["stopped_early"] = self.stopped_early
        if self.averaging is not None:
            self.averaging.save(self._snapshot)
        if self.best is not None:
            self.best.save(self._snapshot)
        if time.monotonic() - self._written > CHECKPOINT_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the state after the last finished epoch, unless that is done."""
        if self._snapshot is not None and self.schedule.checkpoint is not None:
            self._snapshot.write(self.schedule.checkpoint)
            self._snapshot, self._written = None, time.monotonic()

    @contextlib.contextmanager
    def written_on_interrupt(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.write()
            raise


def _by_target(figures: Mapping[str, float], targets: Sequence[str]) -> dict[str, float]:
    """Keras calls the metric of a model's only output ``mae``; always use ``<target>_mae``."""
    if len(targets) > 1:
        return dict(figures)
    return {f"{key[:-3]}{targets[0]}_mae" if key in ("mae", "val_mae") else key: value for key, value in figures.items()}
