"""Recurrent layers over masked sequences: the LSTM's cell, and bidirectional layers."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

UNROLL_LIMIT = 24
"""Sequences of a static length up to this are unrolled; longer or dynamic ones run in a loop."""


def lstm_cell(gates: Any, carry: Any) -> tuple[Any, Any]:
    """New hidden and cell state (N, D) of an LSTM.

    Args:
        gates: (N, 4 D), what enters the gates i, f, c, o.
        carry: (N, D), the cell state before.
    """
    i, f, c, o = ops.split(gates, 4, axis=-1)
    carry = ops.sigmoid(f) * carry + ops.sigmoid(i) * ops.tanh(c)
    return ops.sigmoid(o) * ops.tanh(carry), carry


@keras.saving.register_keras_serializable("tfmat")
class BidirectionalRNN(keras.layers.Layer):
    """One bidirectional LSTM or GRU layer whose two directions are concatenated.

    Equations of `keras.layers.LSTM` and of `keras.layers.GRU(reset_after=True)`, with the same weight layout (gates i, f, c, o
    and z, r, h). Differences: right-padded slots are skipped in both directions, so the backward pass starts at the last real
    slot and the result there does not depend on the padding; short static sequences are unrolled, which keeps XLA free of loops
    (Keras' own unrolled recurrent layers give wrong numbers with a mask). Without a mask the whole sequence is read.

    Args:
        cell: ``"lstm"`` or ``"gru"``.
        dim: width of each direction.
        initial_state: value of every initial hidden and cell state.

    Call arguments:
        inputs: (B, L, D).
        real: (B, L), 1 for a real slot and 0 for padding on the right; or None.

    Returns:
        (B, L, 2 dim), forward direction first; zero in padded slots.
    """

    unrolls = True  # see `tfmat.data.static_shapes`

    def __init__(self, dim: int, cell: Literal["lstm", "gru"] = "lstm", initial_state: float = 0.0, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        if cell not in ("lstm", "gru"):
            raise ValueError(f"`cell` must be 'lstm' or 'gru'. Received: cell={cell!r}")
        self.dim, self.cell, self.initial_state = dim, cell, initial_state
        self.supports_masking = True

    def build(self, inputs_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        width = (4 if self.cell == "lstm" else 3) * self.dim

        def add(name: str, shape: tuple[int | None, ...]) -> Any:  # a fresh initializer each: one object repeats its numbers
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.RandomUniform(-(self.dim**-0.5), self.dim**-0.5))

        bias_shape = (width,) if self.cell == "lstm" else (2, width)
        self.directions = []
        for direction in ("forward", "backward"):
            kernel = add(f"{direction}_kernel", (inputs_shape[-1], width))
            recurrent = add(f"{direction}_recurrent_kernel", (self.dim, width))
            bias = add(f"{direction}_bias", bias_shape)
            self.directions.append((kernel, recurrent, bias))

    def _lstm_step(self, projected: Any, states: tuple[Any, ...], recurrent: Any, _: Any) -> tuple[Any, ...]:
        hidden, carry = states
        return lstm_cell(projected + ops.matmul(hidden, recurrent), carry)

    def _gru_step(self, projected: Any, states: tuple[Any, ...], recurrent: Any, bias: Any) -> tuple[Any, ...]:
        (hidden,) = states
        xz, xr, xh = ops.split(projected, 3, axis=-1)
        rz, rr, rh = ops.split(ops.matmul(hidden, recurrent) + bias[1], 3, axis=-1)
        z = ops.sigmoid(xz + rz)
        candidate = ops.tanh(xh + ops.sigmoid(xr + rr) * rh)
        return (z * hidden + (1.0 - z) * candidate,)

    def _run(self, inputs: Any, real: Any, weights: tuple[Any, Any, Any], reverse: bool) -> Any:
        kernel, recurrent, bias = (ops.cast(weight, self.compute_dtype) for weight in weights)
        is_lstm = self.cell == "lstm"
        projected = ops.matmul(inputs, kernel) + (bias if is_lstm else bias[0])
        start = ops.full_like(projected[:, 0, : self.dim], self.initial_state)
        step, states = (self._lstm_step, (start, start)) if is_lstm else (self._gru_step, (start,))

        def advance(states: tuple[Any, ...], now: Any, valid: Any) -> tuple[Any, ...]:
            new = step(now, states, recurrent, bias)
            return new if valid is None else tuple(ops.where(valid, after, before) for after, before in zip(new, states, strict=True))

        valid = None if real is None else ops.cast(real, "bool")[:, :, None]
        length = inputs.shape[1]
        if length is not None and length <= UNROLL_LIMIT:
            outputs: list[Any] = [None] * length
            for t in reversed(range(length)) if reverse else range(length):
                states = advance(states, projected[:, t], None if valid is None else valid[:, t])
                outputs[t] = states[0]
            return ops.stack(outputs, axis=1)

        # Keras' TensorFlow `scan` over a dynamic length takes one tensor only, and wants outputs shaped like the states.
        def body(states: tuple[Any, ...], at: Any) -> tuple[Any, Any]:
            states = advance(states, at[:, :-1], at[:, -1:] > 0)
            return states, states

        flag = ops.ones_like(projected[:, :, :1]) if valid is None else ops.cast(valid, projected.dtype)
        _, (stacked, *_) = ops.scan(body, states, ops.swapaxes(ops.concatenate([projected, flag], axis=-1), 0, 1), reverse=reverse)
        return ops.swapaxes(stacked, 0, 1)

    def call(self, inputs: Any, real: Any = None) -> Any:
        forward, backward = self.directions
        outputs = ops.concatenate([self._run(inputs, real, forward, False), self._run(inputs, real, backward, True)], axis=-1)
        return outputs if real is None else outputs * ops.cast(real, self.compute_dtype)[:, :, None]

    def compute_output_shape(self, inputs_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return (*inputs_shape[:-1], 2 * self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "cell": self.cell, "initial_state": self.initial_state}
