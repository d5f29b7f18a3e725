"""Set2Set: a fixed-size summary of a set by repeated attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfmat.layers.lists import Edges, at_receivers, softmax_of, sum_of


@keras.saving.register_keras_serializable("tfmat")
class Set2Set(keras.layers.Layer):
    """Order-invariant pooling: an LSTM asks the set the same question `steps` times, each time with its last answer.

    With the items m (L, n) of one set and q* = [h; r] = 0 at first:

        i, f, g, o = q* K + k;   c = sigmoid(f) c + sigmoid(i) tanh(g);   h = sigmoid(o) tanh(c)
        a = softmax over the items of (m . h);   r = sum of a m;   q* = [h; r]

    An item may stand for several equal ones, which is a factor of its power in the softmax.

    The recurrent matrix of the LSTM is part of K, because q* contains h. O. Vinyals et al., arXiv:1511.06391.

    Args:
        dim: n.
        steps: number of questions.
        project: map the items to width n first; otherwise they must have it.
        legacy: what the published MEGNet weights need: gates are ``clip(0.2 x + 0.5, 0, 1)`` and the cell state is not carried over
            (c = gate(i) tanh(g) in every step), a slip of the original code with which these were trained.
        l2: weight of the L2 penalty of the projection.

    Call arguments:
        items: (L, D), of B sets that follow each other.
        number: (L, 1), how many equal items each one stands for; 0 for an empty one.
        owners: int (L,), which set each item belongs to, ascending; the last one is B - 1.
        sets: any array with B rows.

    Returns:
        (B, 2 n): [h; r]; r is zero for a set without items.
    """

    def __init__(
        self, dim: int = 16, steps: int = 3, *, project: bool = True, legacy: bool = False, l2: float = 0.0, **layer_options: Any
    ) -> None:
        super().__init__(**layer_options)
        if steps < 1:
            raise ValueError(f"`steps` must be at least 1. Received: steps={steps}")
        self.dim, self.steps, self.project, self.legacy, self.l2 = dim, steps, project, legacy, l2

    def build(self, items_shape: Any, *other_shapes: Any) -> None:
        if self.project:
            self.projection_kernel = self.add_weight(
                name="projection_kernel",
                shape=(items_shape[-1], self.dim),
                initializer=keras.initializers.GlorotUniform(),
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )
            self.projection_bias = self.add_weight(name="projection_bias", shape=(self.dim,), initializer="zeros")
        elif items_shape[-1] != self.dim:
            raise ValueError(f"without `project` the items must be {self.dim} wide. Received: {items_shape[-1]}")
        self.kernel = self.add_weight(name="kernel", shape=(2 * self.dim, 4 * self.dim), initializer=keras.initializers.Orthogonal())
        self.bias = self.add_weight(name="bias", shape=(4 * self.dim,), initializer=self._bias)

    def _bias(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Zero, and one for the forget gate."""
        n = self.dim
        return ops.concatenate([ops.zeros((n,), dtype), ops.ones((n,), dtype), ops.zeros((2 * n,), dtype)])

    def weights_of(self, items: Any, number: Any, owners: Any, sets: Any) -> Any:
        """Attention (L, 1) to each item in the last question, its equal ones together; it sums to 1 over a set."""
        return self._ask(items, number, owners, sets)[1]

    def call(self, items: Any, number: Any, owners: Any, sets: Any) -> Any:
        return self._ask(items, number, owners, sets)[0]

    def _ask(self, items: Any, number: Any, owners: Any, sets: Any) -> tuple[Any, Any]:
        """[h; r] (B, 2 n) and the attention (L, 1) after the last question."""
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        if self.project:
            projection, shift = (ops.cast(weight, self.compute_dtype) for weight in (self.projection_kernel, self.projection_bias))
            items = ops.matmul(items, projection) + shift
        edges = Edges(owners, owners, None, number)
        query = ops.zeros((ops.shape(sets)[0], 2 * self.dim), self.compute_dtype)
        carry, attention = query[:, : self.dim], number
        for _ in range(self.steps):
            i, f, g, o = ops.split(ops.matmul(query, kernel) + bias, 4, axis=-1)
            if self.legacy:
                carry, output = _hard(i) * ops.tanh(g), _hard(o)
            else:
                carry, output = ops.sigmoid(f) * carry + ops.sigmoid(i) * ops.tanh(g), ops.sigmoid(o)
            hidden = output * ops.tanh(carry)
            scores = ops.sum(items * at_receivers(hidden, owners), axis=-1, keepdims=True)
            attention = softmax_of(scores, edges, hidden)
            query = ops.concatenate([hidden, sum_of(items * attention, owners, hidden)], axis=-1)
        return query, attention

    def compute_output_shape(self, items_shape: Any, number_shape: Any, owners_shape: Any, sets_shape: Any) -> tuple[int | None, ...]:
        return (sets_shape[0], 2 * self.dim)

    def get_config(self) -> dict[str, Any]:
        options = {"dim": self.dim, "steps": self.steps, "project": self.project, "legacy": self.legacy, "l2": self.l2}
        return super().get_config() | options


def _hard(x: Any) -> Any:
    """The hard sigmoid of Keras 1 and 2; Keras 3 has another one."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)
