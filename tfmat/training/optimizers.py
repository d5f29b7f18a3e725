"""Optimizers whose learning rate may differ from part to part of a model.

Adam and AdamW of Keras, and the stack of CrabNet and L-G-DCNN: Lamb without bias correction inside Lookahead, with a triangular rate.
With TensorFlow they pass over the weights as seldom as they can: with a wide model and small batches these passes take half a step.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class PartRates(keras.optimizers.Optimizer):
    """Mixin of an optimizer: factors on the learning rate and on the weight decay of single variables, and a sparing moving average.

    The factors are no part of the optimizer's config: they belong to the variables that it was built with.
    """

    weight_decay: float | None
    global_clipnorm: float | None
    iterations: Any
    _factors: tuple[float, ...] = ()
    _summed: bool = False

    def set_factors(self, factors: Sequence[float]) -> None:
        """Set one factor for each of the variables that the built optimizer updates, in their order."""
        if len(factors) != len(self._trainable_variables):
            raise ValueError(f"`factors` must have {len(self._trainable_variables)} values. Received: {len(factors)}")
        self._factors = tuple(map(float, factors))

    def _factor(self, variable: Any) -> float:
        return self._factors[self._get_variable_index(variable)] if self._factors else 1.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, with its own learning rate."""
        factor = self._factor(variable)
        super().update_step(gradient, variable, learning_rate if factor == 1.0 else learning_rate * factor)

    def expect_sums(self) -> None:
        """Expect gradients that are summed over all replicas, which `training.distribution` does: each replica updates its own copies.

        Else Keras' TensorFlow optimizers leave the replica to sum the gradients, after they have clipped them, and cannot be compiled.
        """
        self._summed = True

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if not self._summed:
            return super()._backend_update_step(grads, trainable_variables, learning_rate)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(gradient, variable, learning_rate)

    def _backend_increment_gradient_accumulators(self, grads: Any, acc_grads: Any) -> None:
        if not self._summed:
            return super()._backend_increment_gradient_accumulators(grads, acc_grads)
        for gradient, accumulator in zip(grads, acc_grads, strict=True):
            accumulator.assign(accumulator + gradient)

    def _apply_weight_decay(self, variables: Any) -> None:
        if self.weight_decay is None:
            return
        rate = ops.cast(self.learning_rate, "float32") * self.weight_decay
        kept = functools.cache(lambda factor, dtype: ops.cast(1.0 - rate * factor, dtype))
        for variable in filter(self._use_weight_decay, variables):
            variable.assign(variable * kept(self._factor(variable), variable.dtype))

    def _clip_gradients(self, grads: Any) -> Any:
        if not self.global_clipnorm or not _on_tensorflow():
            return super()._clip_gradients(grads)
        import tensorflow as tf

        grads = [tf.convert_to_tensor(gradient) for gradient in grads]  # an embedding's is sparse
        norm = tf.sqrt(2.0 * tf.add_n([tf.cast(tf.nn.l2_loss(gradient), tf.float32) for gradient in grads]))  # half the squares: one pass
        share = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        return [gradient * tf.cast(share, gradient.dtype) for gradient in grads]

    @property
    def average_period(self) -> int:
        """Steps from one update of the moving average to the next: up to 4, as long as it forgets 2 % of itself in them at most."""
        return max(1, min(4, round(0.02 / (1.0 - self.ema_momentum)))) if self.use_ema else 1

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        """``a <- m**n a + (1 - m**n) w`` every n-th step, ``a <- w`` after the first one."""
        period = self.average_period
        momentum = ops.where(ops.equal(self.iterations, 0), 0.0, self.ema_momentum**period)
        pairs = [pair for pair in zip(trainable_variables, self._model_variables_moving_average, strict=True) if pair[1] is not None]

        def update() -> None:
            share = functools.cache(lambda dtype: ops.cast(1.0 - momentum, dtype))
            for variable, average in pairs:
                _move(average, share(average.dtype), average - variable)

        due = ops.logical_or(ops.equal(self.iterations, 0), ops.equal((self.iterations + 1) % period, 0))
        if period == 1:
            update()
        elif keras.backend.backend() == "jax":  # no assignment within a branch
            momentum = ops.where(due, momentum, 1.0)
            update()
        else:
            ops.cond(due, update, lambda: None)


def _move(variable: Any, rate: Any, direction: Any) -> None:
    """``variable <- variable - rate direction``; under TensorFlow in one operation."""
    if not _on_tensorflow() or _cross_replica():
        variable.assign(variable - rate * direction)
        return
    import tensorflow as tf

    tf.raw_ops.ResourceApplyGradientDescent(var=variable.value.handle, alpha=rate, delta=direction)


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


class _OnePassAdam(PartRates):
    """Mixin of Keras' Adam: under TensorFlow the moments and the weight are updated by one operation, with the same equations."""

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if not _on_tensorflow() or self.amsgrad:
            return super()._backend_update_step(grads, trainable_variables, learning_rate)
        if not self._summed and _cross_replica():
            return super()._backend_update_step(grads, trainable_variables, learning_rate)
        import tensorflow as tf

        step, rate = tf.cast(self.iterations + 1, tf.float32), tf.cast(learning_rate, tf.float32)

        @functools.cache  # one operation for all variables: a model may have hundreds
        def numbers(factor: float, dtype: str) -> dict[str, Any]:
            values = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon, "lr": rate * factor}
            powers = {"beta1_power": tf.pow(self.beta_1, step), "beta2_power": tf.pow(self.beta_2, step)}
            return {name: tf.cast(value, dtype) for name, value in (values | powers).items()}

        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
                **numbers(self._factor(variable), variable.dtype),
            )


def _cross_replica() -> bool:
    """Tell whether Keras would sum the gradients of several replicas now."""
    import tensorflow as tf

    return bool(tf.distribute.get_strategy().num_replicas_in_sync > 1)


@keras.saving.register_keras_serializable("tfmat")
class Adam(_OnePassAdam, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with `PartRates`."""


@keras.saving.register_keras_serializable("tfmat")
class AdamW(_OnePassAdam, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with `PartRates`."""


@keras.saving.register_keras_serializable("tfmat")
class LookaheadLamb(PartRates, keras.optimizers.Optimizer):
    """Lamb as in CrabNet (no bias correction, weight norm clipped at 10), with Lookahead around it.

    Per tensor: m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; u = m / (sqrt(v) + epsilon);
    trust = min(|w|, 10) / |u|, or 1 where either norm is 0; w <- w - lr trust u.
    Every `sync_period` steps: slow <- slow + slow_step (w - slow); w <- slow. The slow copy is taken at the first synchronisation,
    so that one changes nothing. `keras.optimizers.Lamb` differs: it corrects the bias and does not clip the weight norm.

    Args:
        learning_rate: number or schedule.
        beta_1: decay of the mean gradient.
        beta_2: decay of the mean squared gradient.
        epsilon: added to sqrt(v).
        sync_period: steps between synchronisations.
        slow_step: how far the slow weights move.
        name: of the optimizer.
        options: weight decay, clipping and moving averages, as of `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        sync_period: int = 6,
        slow_step: float = 0.5,
        name: str = "lookahead_lamb",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.sync_period, self.slow_step = sync_period, slow_step

    def build(self, variables: list[Any]) -> None:
        """Create the moments and the slow weights of `variables`."""
        if self.built:
            return
        super().build(variables)
        self._mean = self.add_optimizer_variables(variables, "mean")
        self._square = self.add_optimizer_variables(variables, "square")
        self._slow = self.add_optimizer_variables(variables, "slow")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        rate = ops.cast(learning_rate * self._factor(variable), variable.dtype)
        index = self._get_variable_index(variable)
        mean, square, slow = self._mean[index], self._square[index], self._slow[index]
        weight, last_slow = ops.convert_to_tensor(variable), ops.convert_to_tensor(slow)
        gradient = ops.zeros_like(weight) + ops.cast(gradient, variable.dtype)  # an embedding's is sparse under TensorFlow
        new_mean = self.beta_1 * mean + (1.0 - self.beta_1) * gradient
        new_square = self.beta_2 * square + (1.0 - self.beta_2) * ops.square(gradient)
        update = new_mean / (ops.sqrt(new_square) + self.epsilon)
        weight_norm = ops.minimum(ops.sqrt(ops.sum(ops.square(weight))), 10.0)
        update_norm = ops.sqrt(ops.sum(ops.square(update)))
        usable = ops.logical_and(weight_norm > 0, update_norm > 0)
        trust = ops.where(usable, weight_norm / ops.where(usable, update_norm, 1.0), 1.0)
        fast = weight - rate * trust * update

        step = ops.cast(self.iterations + 1, "int32")
        sync = ops.equal(step % self.sync_period, 0)
        start = ops.where(ops.equal(step, self.sync_period), fast, last_slow)
        moved = start + self.slow_step * (fast - start)
        self.assign(mean, new_mean)
        self.assign(square, new_square)
        self.assign(slow, ops.where(sync, moved, last_slow))
        self.assign(variable, ops.where(sync, moved, fast))

    def get_config(self) -> dict[str, Any]:
        """Keywords that rebuild the optimizer."""
        own = ("beta_1", "beta_2", "epsilon", "sync_period", "slow_step")
        return super().get_config() | {key: getattr(self, key) for key in own}


@keras.saving.register_keras_serializable("tfmat")
class TriangularCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate low -> high -> low, linearly, again and again.

    Args:
        low: lowest rate.
        high: highest rate.
        half_period: steps from the one to the other.
    """

    def __init__(self, low: float, high: float, half_period: int) -> None:
        super().__init__()
        if half_period < 1:
            raise ValueError(f"`half_period` must be at least 1. Received: half_period={half_period}")
        self.low, self.high, self.half_period = low, high, half_period

    def __call__(self, step: Any) -> Any:
        """Rate at `step`."""
        phase = ops.cast(step, "float32") % (2.0 * self.half_period) / self.half_period
        return self.low + (self.high - self.low) * ops.minimum(phase, 2.0 - phase)

    def get_config(self) -> dict[str, Any]:
        """Keywords that rebuild the schedule."""
        return {"low": self.low, "high": self.high, "half_period": self.half_period}
