"""LSTM layers on top of each other, of which only the final states count."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.recurrent import UNROLL_LIMIT, lstm_cell


@keras.saving.register_keras_serializable("tfmat")
class StackedLSTM(keras.layers.Layer):
    """LSTM layers, each reading the hidden states of the one below; from a sequence to the means of the final states of all layers.

    Equations of `keras.layers.LSTM`. The kernel of each layer has the rows of Keras' kernel, then those of its recurrent kernel, so that a
    step is one matrix product. All layers make a step before the next one is read: nothing but the states is kept between steps. Short
    sequences of a static length are unrolled. Slots of padding, anywhere, leave all states as they are.

    Initial weights as published: normal with the variance ``2 * 2 / (rows + columns)`` for what layers 1 and 2 read and for the recurrent
    kernel of layer 2; all else uniform in +-1 / sqrt(dim).

    Args:
        dim: D, width of every layer.
        layers: how many.
        initial_state: value of every initial hidden and cell state.

    Call arguments:
        inputs: (N, L, features).
        real: (N, L), 1 for a real slot and 0 for padding; or None.

    Returns:
        Mean over the layers of the final hidden states (N, D), and the same of the cell states.
    """

    def __init__(self, dim: int, layers: int = 4, initial_state: float = 1.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if dim < 1 or layers < 1:
            raise ValueError(f"`dim` and `layers` must be at least 1. Received: dim={dim}, layers={layers}")
        self.dim, self.layers, self.initial_state = dim, layers, initial_state

    def build(self, inputs_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        self.kernels, self.biases = [], []
        for layer in range(self.layers):
            rows = int(inputs_shape[-1] or 0) if layer == 0 else self.dim
            kernel = self.add_weight(
                name=f"kernel_{layer + 1}",
                shape=(rows + self.dim, 4 * self.dim),
                initializer=_Rows(rows, _published() if layer < 2 else self._uniform(), _published() if layer == 1 else self._uniform()),
            )
            self.kernels.append(kernel)
            self.biases.append(self.add_weight(name=f"bias_{layer + 1}", shape=(4 * self.dim,), initializer=self._uniform()))

    def _uniform(self) -> keras.initializers.Initializer:
        return keras.initializers.RandomUniform(-(self.dim**-0.5), self.dim**-0.5)

    def call(self, inputs: Any, real: Any = None) -> tuple[Any, Any]:
        kernels, biases = ([ops.cast(weight, self.compute_dtype) for weight in group] for group in (self.kernels, self.biases))

        def advance(states: list[Any], x: Any, valid: Any) -> list[Any]:
            """All layers, one step; `states` are the hidden and the cell state of each layer in turn."""
            new: list[Any] = []
            for kernel, bias, hidden, carry in zip(kernels, biases, states[::2], states[1::2], strict=True):
                after = lstm_cell(ops.matmul(ops.concatenate([x, hidden], axis=-1), kernel) + bias, carry)
                new += after if valid is None else [ops.where(valid, a, b) for a, b in zip(after, (hidden, carry), strict=True)]
                x = new[-2]
            return new

        states = [ops.full((ops.shape(inputs)[0], self.dim), self.initial_state, self.compute_dtype)] * (2 * self.layers)
        length = inputs.shape[1]
        if length is not None and length <= UNROLL_LIMIT:
            valid = None if real is None else ops.cast(real, "bool")
            for t in range(length):
                states = advance(states, inputs[:, t], None if valid is None else valid[:, t, None])
        else:
            states = self._loop(advance, states, inputs, real)
        return sum(states[2::2], states[0]) / self.layers, sum(states[3::2], states[1]) / self.layers

    def _loop(self, advance: Any, states: list[Any], inputs: Any, real: Any) -> list[Any]:
        def step(packed: Any, at: Any) -> Any:
            return ops.concatenate(advance(ops.split(packed, 2 * self.layers, axis=-1), at[:, :-1], at[:, -1:] > 0), axis=-1)

        flag = ops.ones_like(inputs[:, :, :1]) if real is None else ops.cast(real, inputs.dtype)[:, :, None]
        sequence = ops.swapaxes(ops.concatenate([inputs, flag], axis=-1), 0, 1)
        packed, length = ops.concatenate(states, axis=-1), inputs.shape[1]
        if keras.backend.backend() == "tensorflow" and length is not None:  # XLA has no gradient of a loop that may be of any length

            def counted(t: Any, packed: Any) -> tuple[Any, Any]:
                return t + 1, step(packed, ops.take(sequence, t, axis=0))

            _, packed = ops.while_loop(lambda t, _: t < length, counted, (ops.zeros((), "int32"), packed), maximum_iterations=length)
        else:  # Keras' TensorFlow `scan` over a dynamic length takes one tensor only, and wants outputs shaped like the states
            packed, _ = ops.scan(lambda packed, at: (step(packed, at),) * 2, packed, sequence)
        return ops.split(packed, 2 * self.layers, axis=-1)

    def compute_output_shape(self, inputs_shape: Any, real_shape: Any = None) -> tuple[Any, Any]:
        return (inputs_shape[0], self.dim), (inputs_shape[0], self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "layers": self.layers, "initial_state": self.initial_state}


def _published() -> keras.initializers.Initializer:
    """Normal as of Glorot, with the gain sqrt(2)."""
    return keras.initializers.VarianceScaling(2.0, "fan_avg", "untruncated_normal")


class _Rows(keras.initializers.Initializer):
    """One initializer for the first `rows` rows, another one for the others."""

    def __init__(self, rows: int, first: keras.initializers.Initializer, rest: keras.initializers.Initializer) -> None:
        self.rows, self.first, self.rest = rows, first, rest

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """The matrix, of this `shape`."""
        rows, columns = shape
        return ops.concatenate([self.first((self.rows, columns), dtype), self.rest((rows - self.rows, columns), dtype)], axis=0)
