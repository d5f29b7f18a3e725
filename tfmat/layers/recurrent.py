"""Recurrent layers over masked sequences: the LSTM's cell, and bidirectional layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import ops

from tfmat.layers.sequence import product

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
    and z, r, h). Difference: right-padded slots are skipped in both directions, so the backward pass starts at the last real
    slot and the result there does not depend on the padding. Without a mask the whole sequence is read.

    One loop does for all lengths; in training it has a gradient of its own, in which that of each kernel is one matrix product. Short
    sequences of a static length are unrolled, for compilers that do not like loops.

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

    def _run(self, sequence: Any, real: Any, weights: tuple[Any, Any, Any], trained: bool) -> Any:
        """Hidden states (L, B, dim) of one direction over a sequence (L, B, D) whose padding, with `real` (L, B, 1), comes first."""
        kernel, recurrent, bias = (ops.cast(weight, self.compute_dtype) for weight in weights)
        if self.cell == "lstm":
            return _lstm(product(sequence, kernel, bias), recurrent, real, self.initial_state, trained)
        return _gru(product(sequence, kernel, bias[0]), recurrent, bias[1], real, self.initial_state, trained)

    def call(self, inputs: Any, real: Any = None, training: bool | None = None) -> Any:
        sequence = ops.swapaxes(inputs, 0, 1)
        mask = None if real is None else ops.cast(real, self.compute_dtype)[:, :, None]
        reversed_mask = None if mask is None else ops.flip(ops.swapaxes(mask, 0, 1), axis=0)
        forward = self._run(sequence, None, self.directions[0], bool(training))  # behind all real slots it may find anything
        backward = self._run(ops.flip(sequence, axis=0), reversed_mask, self.directions[1], bool(training))
        outputs = ops.swapaxes(ops.concatenate([forward, ops.flip(backward, axis=0)], axis=-1), 0, 1)
        return outputs if mask is None else outputs * mask

    def compute_output_shape(self, inputs_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return (*inputs_shape[:-1], 2 * self.dim)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dim": self.dim, "cell": self.cell, "initial_state": self.initial_state}


def _lstm(projected: Any, recurrent: Any, real: Any, initial: float, trained: bool) -> Any:
    """Hidden states (L, N, D) of an LSTM.

    Args:
        projected: (L, N, 4 D), what enters the gates from the sequence.
        recurrent: (D, 4 D).
        real: (L, N, 1), 0 in slots before the first real one, after which the state is still the initial one; or None.
        initial: value of the initial states.
        trained: keep what a fast gradient needs; else it is found by automatic differentiation.
    """
    masks = [] if real is None else [real]

    def forward(projected: Any, recurrent: Any) -> list[Any]:
        def step(states: Sequence[Any], at: Sequence[Any]) -> list[Any]:
            i, f, c, o = ops.split(at[0] + ops.matmul(states[0], recurrent), 4, axis=-1)
            i, f, c, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(c), ops.sigmoid(o)
            carry = f * states[1] + i * c
            hidden = o * ops.tanh(carry)
            return [_started(hidden, at[1:], initial), _started(carry, at[1:], initial), *([i, f, c, o] if trained else [])]

        return _loop(step, [_start(projected, recurrent, initial)] * (6 if trained else 2), [projected, *masks])

    @ops.custom_gradient
    def run(projected: Any, recurrent: Any) -> Any:
        hidden, carry, *gates = forward(projected, recurrent)

        def grad(*args: Any, upstream: Any = None) -> Any:
            def back(states: Sequence[Any], at: Sequence[Any]) -> list[Any]:
                upstream, i, f, c, o, carry, before, *real = at
                final = ops.tanh(carry)
                d_hidden = _started(upstream + states[0], real, 0.0)
                d_carry = _started(states[1], real, 0.0) + d_hidden * o * (1.0 - final * final)
                d_gates = [d_carry * c * i * (1.0 - i), d_carry * before * f * (1.0 - f), d_carry * i * (1.0 - c * c)]
                d_gates = ops.concatenate([*d_gates, d_hidden * final * o * (1.0 - o)], axis=-1)
                return [ops.matmul(d_gates, ops.transpose(recurrent)), d_carry * f, d_gates]

            start, none = _start(projected, recurrent, initial), _start(projected, recurrent, 0.0)
            known = [args[0] if upstream is None else upstream, *gates, carry, _before(carry, start), *masks]
            *_, d_gates = _loop(back, [none, none, ops.zeros_like(projected[0])], known, reverse=True)
            return d_gates, _product_of_rows(_before(hidden, start), d_gates)

        return hidden, grad

    return run(projected, recurrent) if trained else forward(projected, recurrent)[0]


def _gru(projected: Any, recurrent: Any, bias: Any, real: Any, initial: float, trained: bool) -> Any:
    """Hidden states (L, N, D) of a GRU; arguments as of `_lstm`, with 3 D gates and the `bias` (3 D,) of the recurrent product."""
    masks = [] if real is None else [real]

    def forward(projected: Any, recurrent: Any, bias: Any) -> list[Any]:
        def step(states: Sequence[Any], at: Sequence[Any]) -> list[Any]:
            xz, xr, xh = ops.split(at[0], 3, axis=-1)
            rz, rr, rh = ops.split(ops.matmul(states[0], recurrent) + bias, 3, axis=-1)
            z, r = ops.sigmoid(xz + rz), ops.sigmoid(xr + rr)
            candidate = ops.tanh(xh + r * rh)
            hidden = candidate + z * (states[0] - candidate)
            return [_started(hidden, at[1:], initial), *([z, r, candidate, rh] if trained else [])]

        return _loop(step, [_start(projected, recurrent, initial)] * (5 if trained else 1), [projected, *masks])

    @ops.custom_gradient
    def run(projected: Any, recurrent: Any, bias: Any) -> Any:
        hidden, *gates = forward(projected, recurrent, bias)

        def grad(*args: Any, upstream: Any = None) -> Any:
            def back(states: Sequence[Any], at: Sequence[Any]) -> list[Any]:
                upstream, z, r, candidate, rh, before, *real = at
                d_hidden = _started(upstream + states[0], real, 0.0)
                d_candidate = d_hidden * (1.0 - z) * (1.0 - candidate * candidate)
                d_gates = [d_hidden * (before - candidate) * z * (1.0 - z), d_candidate * rh * r * (1.0 - r)]
                d_recurrent = ops.concatenate([*d_gates, d_candidate * r], axis=-1)
                back = d_hidden * z + ops.matmul(d_recurrent, ops.transpose(recurrent))
                return [back, ops.concatenate([*d_gates, d_candidate], axis=-1), d_recurrent]

            before = _before(hidden, _start(projected, recurrent, initial))
            first, none = _start(projected, recurrent, 0.0), ops.zeros_like(projected[0])
            known = [args[0] if upstream is None else upstream, *gates, before, *masks]
            _, d_projected, d_recurrent = _loop(back, [first, none, none], known, reverse=True)
            return d_projected, _product_of_rows(before, d_recurrent), ops.sum(d_recurrent, axis=(0, 1))

        return hidden, grad

    return run(projected, recurrent, bias) if trained else forward(projected, recurrent, bias)[0]


def _start(projected: Any, recurrent: Any, initial: float) -> Any:
    """A state (N, D) that is `initial` everywhere."""
    return ops.full_like(projected[0, :, : recurrent.shape[0]], initial)


def _started(state: Any, real: Sequence[Any], initial: float) -> Any:
    """`state`, or the `initial` one where there was nothing real yet; `real` holds the mask (N, 1), or nothing."""
    if not real:
        return state
    return real[0] * state if not initial else initial + real[0] * (state - initial)


def _before(states: Any, start: Any) -> Any:
    """The states before each step: (L, N, D) -> (L, N, D), `start` (N, D) first."""
    return ops.concatenate([start[None], states[:-1]], axis=0)


def _product_of_rows(left: Any, right: Any) -> Any:
    """Sum over all rows of their outer products: (L, N, D), (L, N, E) -> (D, E)."""
    left, right = (ops.reshape(x, (-1, x.shape[-1])) for x in (left, right))
    return ops.matmul(ops.transpose(left), right)


def _loop(step: Callable[..., list[Any]], states: list[Any], sequences: list[Any], reverse: bool = False) -> list[Any]:
    """The states after each step, (L, N, D) each.

    Args:
        step: function of the states and of the values of the sequences at one slot that gives the new states.
        states: (N, D) each.
        sequences: (L, N, D) each.
        reverse: begin at the last slot.
    """
    length = sequences[0].shape[0]
    if length is not None and length <= UNROLL_LIMIT:
        found: list[Any] = [None] * length
        for t in reversed(range(length)) if reverse else range(length):
            found[t] = states = step(states, [sequence[t] for sequence in sequences])
        return [ops.stack(values, axis=0) for values in zip(*found, strict=True)]

    # Keras' TensorFlow `scan` over a dynamic length takes one tensor only, and wants outputs shaped like the states.
    def body(states: tuple[Any, ...], t: Any) -> tuple[Any, Any]:
        new = tuple(step(states, [ops.take(sequence, t, axis=0) for sequence in sequences]))
        return new, new

    return list(ops.scan(body, tuple(states), ops.arange(ops.shape(sequences[0])[0]), reverse=reverse)[1])
