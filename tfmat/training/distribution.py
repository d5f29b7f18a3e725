"""Training on several devices of one machine: `tf.distribute.MirroredStrategy`, each replica with its share of the rows of every batch.

A step is the one that a single device would take with the whole batch: every replica finds the gradient of its rows' share of the batch's
mean loss, these are summed, and each replica makes the same update of its copy of the weights. Keras' own steps do otherwise in two
points: they clip the gradients of each replica before the sum, and accumulate within a branch where TensorFlow cannot leave a replica.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfmat.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

NAMES = ("none", "mirrored")

SEED_STEP = 7_368_787
"""Difference between the seeds of a replica and of the next one."""


@functools.cache
def strategy_of(name: str) -> tf.distribute.Strategy | None:
    """The strategy called `name`, always the same one of a process: several can kill it.

    Args:
        name: ``none``, or ``mirrored``: all GPUs; without any all logical CPUs, of which there is one unless TensorFlow was told otherwise.

    Returns:
        None for ``none``.

    Raises:
        InputError: there is no such strategy, or Keras does not run on TensorFlow.
    """
    if name not in NAMES:
        raise InputError(f"unknown strategy {name!r}", expected=f"one of {', '.join(NAMES)}")
    if name == "none":
        return None
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"the strategy mirrored needs TensorFlow, Keras runs on {keras.backend.backend()}", expected="KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def scope(strategy: tf.distribute.Strategy | None) -> AbstractContextManager[Any]:
    """Enter the scope in which a model, its optimizer and its metrics must be made to be trained under `strategy`."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Number of replicas."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def description(strategy: tf.distribute.Strategy) -> str:
    """Say in words for the model card what the strategy is, e.g. ``mirrored on 2 devices``."""
    number = replicas(strategy)
    return f"mirrored on {number} device{'s' if number != 1 else ''}"


def split(model: keras.Model, strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Any:
    """A dataset for `model.fit` in which each replica gets its rows.

    Args:
        model: made in the scope of `strategy`. From now on it learns the shapes of its batches from the dataset. Keras' `fit` would learn
            them from the mean of the first batch over the replicas, whose lists of sites and bonds differ in length.
        strategy: of the model.
        dataset: of each batch as many parts as there are replicas, one after the other, see `tfmat.batching.pipeline.Batches.dataset`.
    """

    def build(iterator: Any = None, data_batch: Any = None) -> None:
        with strategy.scope():
            model._symbolic_build(data_batch=dataset.element_spec)

    model._maybe_symbolic_build = build
    return strategy.distribute_datasets_from_function(lambda context: dataset)


def replicate(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Give a compiled `model` train and test functions that run on all replicas; calling `compile` again undoes this.

    They replace those that `keras.Model.fit` and `evaluate` would make.

    Args:
        model: made and compiled in the scope of `strategy`, its optimizer one of `tfmat.training.optimizers`.
        strategy: how its variables are mirrored.

    Raises:
        InputError: the model computes in float16, whose scaling of the loss differs from replica to replica.
    """
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise InputError(f"{model.name} computes in float16, which is not trained under a strategy", expected="bfloat16 or float32")
    model.optimizer.expect_sums()
    replica = _Replica(model)
    model.train_function = _on_all(model, strategy, replica.train)
    model.test_function = _on_all(model, strategy, replica.test)


def seed_replicas(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Let dropout and noise differ from replica to replica; the first one keeps its seeds."""
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            first, *others = strategy.experimental_local_results(variable.value)
            for number, other in enumerate(others, 1):
                other.assign(first + np.array([number * SEED_STEP, 0], first.dtype.as_numpy_dtype))


def _on_all(model: keras.Model, strategy: tf.distribute.Strategy, step: Callable[[Any], int]) -> Callable[[Any], Any]:
    """A function from an iterator over distributed batches to the figures so far, after one `step` on each replica.

    Args:
        model: compiled.
        strategy: on whose replicas.
        step: of one replica; returns by how much the count of the optimizer's steps grows.
    """
    import tensorflow as tf

    def run(data: Any) -> dict[str, Any]:
        model.optimizer._iterations.assign_add(strategy.experimental_local_results(strategy.run(step, args=(data,)))[0])
        figures: dict[str, Any] = model.get_metrics_result()
        return figures

    # The batch is taken within the function: the sizes of the first one must not become constants, by which Keras would weigh its losses.
    return tf.function(lambda iterator: run(next(iterator)), autograph=False)


class _Replica:
    """What one replica does with its rows."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def train(self, data: Any) -> int:
        """One step."""
        import tensorflow as tf

        sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, self.gradients(data))
        self.update(sums)
        return 1

    def test(self, data: Any) -> int:
        """Take one batch into the figures."""
        self._loss(data, training=False)
        return 0

    def gradients(self, data: Any) -> dict[str, Any]:
        """Path of a weight -> gradient of this replica's share of the loss: over all replicas they add up to that of the mean loss."""
        import tensorflow as tf

        weights = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(data, training=True)
        found = zip(weights, tape.gradient(loss, weights), strict=True)
        return {weight.path: gradient for weight, gradient in found if gradient is not None}

    def update(self, gradients: dict[str, Any]) -> None:
        """Change this replica's copies of the weights; the count of the steps is common to all and changed outside."""
        weights = [weight for weight in self.model.trainable_variables if weight.path in gradients]
        self.model.optimizer._backend_apply_gradients([gradients[weight.path] for weight in weights], weights)

    def _loss(self, data: Any, training: bool) -> Any:
        """Mean over the rows, divided by the number of replicas; the running figures take it in."""
        import tensorflow as tf

        inputs, targets, weights = data
        outputs = self.model(inputs, training=training)
        loss = self.model.compute_loss(inputs, targets, outputs, weights, training)
        filled = tf.reduce_any(tf.stack([weight > 0 for weight in weights.values()]), axis=0)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        rows = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(tf.cast(filled, tf.float32)))
        self.model._loss_tracker.update_state(loss * replicas, sample_weight=rows / replicas)
        self.model.compute_metrics(inputs, targets, outputs, weights)
        return loss
