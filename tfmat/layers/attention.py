"""Attention on graphs: of nodes to their edges, and between nodes conditioned on the edge; and feed-forward networks.

Everything works on lists of N nodes and M edges (`tfmat.layers.lists`): sites and their bonds, or, one rank higher, bonds and their pairs.
So the edges of the first graph are the nodes of the second.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from tfmat.layers.lists import Edges, at_receivers, at_senders, softmax_of, sum_of

Gate = Literal["tanh", "relu", "sigmoid"]
GATES = {"tanh": ops.tanh, "relu": ops.relu, "sigmoid": ops.sigmoid}


class _DenseLayers(keras.layers.Layer):
    """A layer made of affine maps, which act on rows."""

    def _add_dense(self, name: str, width: int, rows: int, activation: Any = None) -> None:
        layer = keras.layers.Dense(width, activation, name=name, dtype=self.dtype_policy)
        layer.build((None, rows))
        setattr(self, name, layer)


class CrossAttention(_DenseLayers):
    """Queries from nodes, keys and values from edges.

        a_ij = (W_q h_i) . (W_k e_ij) / sqrt(D / H),  alpha = softmax over j,  result_i = W_o sum_j alpha_ij (W_v e_ij),   for each head.

    Args:
        heads: H, a divisor of D.

    Call arguments:
        nodes: (N, D).
        features: (M, D), of the edges.
        edges: the edges of the graph, see `tfmat.layers.lists`.

    Returns:
        (N, D).
    """

    def __init__(self, heads: int, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.heads = heads

    def build(self, nodes_shape: Any, features_shape: Any = None, edges_shape: Any = None) -> None:
        dim = nodes_shape[-1]
        for name in ("query", "key", "value", "output_map"):
            self._add_dense(name, dim, dim)

    def call(self, nodes: Any, features: Any, edges: Edges) -> Any:
        scores = _per_head(at_receivers(self.query(nodes), edges.receivers) * self.key(features), self.heads)
        return self.output_map(_attended(scores, self.value(features), edges, nodes))

    def compute_output_shape(self, nodes_shape: Any, features_shape: Any = None, edges_shape: Any = None) -> Any:
        return nodes_shape


class ConditionalAttention(_DenseLayers):
    """Attention between nodes, conditioned on the edge between them.

        s_ij = (U_q h_i) * (U_k h_j) * gate(U_c e_ij),  b_ij = sum over a head of s_ij / sqrt(D / H),  beta = softmax over j,
        result_i = U_o sum_j beta_ij (U_v h_j),  update of the edge = U_e s_ij.

    Keys and values are projected at the nodes, which are fewer than the edges, and then gathered.

    Args:
        heads: H, a divisor of D.
        gate: ``tanh``, ``relu`` or ``sigmoid``.
        update_edges: whether the edges' update is computed.

    Call arguments:
        nodes: (N, D).
        features: (M, D), of the edges.
        edges: the edges of the graph, see `tfmat.layers.lists`.

    Returns:
        Update of the nodes (N, D); and of the edges (M, D), or None.
    """

    def __init__(self, heads: int, gate: Gate = "tanh", update_edges: bool = True, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.heads, self.gate, self.update_edges = heads, gate, update_edges

    def build(self, nodes_shape: Any, features_shape: Any = None, edges_shape: Any = None) -> None:
        dim = nodes_shape[-1]
        self._add_dense("query_key_value", 3 * dim, dim)
        for name in ("condition", "output_map", *(("edge_map",) if self.update_edges else ())):
            self._add_dense(name, dim, dim)

    def call(self, nodes: Any, features: Any, edges: Edges) -> tuple[Any, Any]:
        queries, keys, values = ops.split(self.query_key_value(nodes), 3, axis=-1)
        products = at_receivers(queries, edges.receivers) * at_senders(keys, edges) * GATES[self.gate](self.condition(features))
        mean = _attended(_per_head(products, self.heads), at_senders(values, edges), edges, nodes)
        return self.output_map(mean), self.edge_map(products) if self.update_edges else None


def _per_head(products: Any, heads: int) -> Any:
    """Sums over each head's part of the columns over sqrt(D / H), (M, D) -> (M, H)."""
    width = products.shape[-1] // heads
    return ops.sum(ops.reshape(products, (-1, heads, width)), axis=-1) / width**0.5


def _attended(scores: Any, values: Any, edges: Edges, nodes: Any) -> Any:
    """Means of the edges' values at each receiver, weighted by the softmax of the scores: (M, H) and (M, D) -> (N, D)."""
    heads, dim = scores.shape[-1], values.shape[-1]
    weighted = ops.expand_dims(softmax_of(scores, edges, nodes), -1) * ops.reshape(values, (-1, heads, dim // heads))
    return sum_of(ops.reshape(weighted, (-1, dim)), edges.receivers, nodes)


class FeedForward(_DenseLayers):
    """``W2 relu(W1 x + b1) + b2`` of rows (M, D)."""

    def __init__(self, hidden_dim: int, **layer_options: Any) -> None:
        super().__init__(**layer_options)
        self.hidden_dim = hidden_dim

    def build(self, shape: Any) -> None:
        self._add_dense("expand", self.hidden_dim, shape[-1], "relu")
        self._add_dense("contract", shape[-1], self.hidden_dim)

    def call(self, x: Any) -> Any:
        return self.contract(self.expand(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape
