"""Crysformer's layer: cross-attention of nodes to edges, attention between nodes conditioned on edges, and feed-forward networks.

Everything works on lists of N nodes and M edges (`tfmat.layers.lists`): sites and their bonds, or, one rank higher, bonds and their pairs.
So the edges of the first graph are the nodes of the second.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from tfmat.layers.gaussians import GaussianExpansion
from tfmat.layers.lists import Edges, at_receivers, at_senders, softmax_of, sum_of
from tfmat.layers.normalization import LayerNorm
from tfmat.layers.rematerialization import computed_again

Gate = Literal["tanh", "relu", "sigmoid"]
GATES = {"tanh": ops.tanh, "relu": ops.relu, "sigmoid": ops.sigmoid}


class _Part(keras.layers.Layer):
    """A layer of affine maps of width `dim`, which act on rows."""

    def _add_dense(self, name: str, width: int, rows: int, activation: Any = None) -> None:
        layer = keras.layers.Dense(width, activation, name=name, dtype=self.dtype_policy)
        layer.build((None, rows))
        setattr(self, name, layer)


class CrossAttention(_Part):
    """(1)-(2): queries from nodes, keys and values from edges.

        a_ij = (W_q h_i) . (W_k e_ij) / sqrt(D / H),  alpha = softmax over j,  result_i = W_o sum_j alpha_ij (W_v e_ij),   for each head.

    Args:
        heads: H, a divisor of D.

    Call arguments:
        nodes: (N, D).
        features: (M, D), of the edges.
        edges: see `tfmat.layers.lists`.

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


class ConditionalAttention(_Part):
    """(3): attention between nodes, conditioned on the edge between them.

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
        edges: see `tfmat.layers.lists`.

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


class FeedForward(_Part):
    """(4): ``W2 relu(W1 x + b1) + b2`` of rows (M, D)."""

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


@keras.saving.register_keras_serializable("tfmat")
class EdgeEmbedding(_Part):
    """One number an edge, as Gaussians, then a dense layer, normalisation and ReLU.

    Args:
        dim: D.
        lowest: first Gaussian, in the unit of the numbers.
        highest: last one.
        number: of Gaussians, whose exponent is (their distance)**-1 * (x - c)**2.
        norm_act: with normalisation and ReLU.
        remat: in training, keep only the layer's inputs for the gradient, which computes the rest again.

    Call arguments:
        numbers: (M,), one an edge.

    Returns:
        (M, D).
    """

    def __init__(
        self, dim: int, lowest: float, highest: float, number: int, *, norm_act: bool = True, remat: bool = False, **layer_options: Any
    ) -> None:
        super().__init__(**({"autocast": False} | layer_options))  # mixed precision must not round the numbers themselves
        self.options: dict[str, Any] = {"dim": dim, "lowest": lowest, "highest": highest, "number": number}
        self.options |= {"norm_act": norm_act, "remat": remat}
        width = ((highest - lowest) / (number - 1)) ** 0.5
        self.expansion = GaussianExpansion(highest, number, width, lowest, dtype="float32", name="expansion")

    def build(self, numbers_shape: Any) -> None:
        self._add_dense("map", self.options["dim"], self.options["number"])
        self.norm = None
        if self.options["norm_act"]:
            self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)
            self.norm.build((None, self.options["dim"]))

    def call(self, numbers: Any, training: bool = False) -> Any:
        if self.options["remat"] and training:
            return computed_again(self, self._embedded, numbers)
        return self._embedded(numbers)

    def _embedded(self, numbers: Any) -> Any:
        x = self.map(self.expansion(numbers))
        return x if self.norm is None else ops.relu(self.norm(x))

    def compute_output_shape(self, numbers_shape: Any) -> Any:
        return (*numbers_shape, self.options["dim"])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options


@keras.saving.register_keras_serializable("tfmat")
class CrysformerLayer(keras.layers.Layer):
    """One layer: cross-attention, conditional attention and feed-forward networks F, with nodes h and edges e.

        h = LN1(h + CrossAttention(h, e))
        h, e = LN2(h + update), LN3(e + update)    of ConditionalAttention(h, e)
        h, e = LN4(h + F(h)), LN5(e + F(e))

    The paper's text (Chin. Phys. B 2023, 32, 090703) with the forms that its equations lack; see `tfmat.zoo.crysformer`.

    Args:
        heads: a divisor of D.
        ff_ratio: hidden width of the feed-forward networks, in D.
        gate: of `ConditionalAttention`.
        cross: with the cross-attention.
        conditional: with the conditional attention.
        update_edges: the edges are updated; otherwise they come back as they are and LN3, LN5 and their network do not exist.
        dropout: rate, on every update of nodes and edges.
        stochastic_depth: probability that a crystal skips an update in training; the others are scaled up by 1 / (1 - it).
        remat: see `EdgeEmbedding`.

    Call arguments:
        nodes: (N, D).
        features: (M, D), of the edges.
        edges: of the graph, from `tfmat.layers.lists.edge_list`.
        crystals: int (N,), which crystal each node belongs to, ascending.

    Returns:
        New nodes (N, D) and edges (M, D).
    """

    def __init__(
        self,
        heads: int = 4,
        ff_ratio: int = 2,
        *,
        gate: Gate = "tanh",
        cross: bool = True,
        conditional: bool = True,
        update_edges: bool = True,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        remat: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__(**layer_options)
        if gate not in GATES:
            raise ValueError(f"`gate` must be one of {tuple(GATES)}. Received: gate={gate!r}")
        if remat and dropout:
            raise ValueError("`remat` computes the updates twice and cannot drop the same numbers again: `dropout` must be 0")
        self.options: dict[str, Any] = {
            "heads": heads,
            "ff_ratio": ff_ratio,
            "gate": gate,
            "cross": cross,
            "conditional": conditional,
            "update_edges": update_edges,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
            "remat": remat,
        }
        self.random = keras.random.SeedGenerator() if stochastic_depth else None

    def build(self, nodes_shape: Any, features_shape: Any = None, edges_shape: Any = None, crystals_shape: Any = None) -> None:
        options, dim = self.options, int(nodes_shape[-1])
        if dim % options["heads"]:
            raise ValueError(f"the width must be a multiple of `heads`. Received: {dim} and heads={options['heads']}")
        precision = self.dtype_policy
        rows = (None, dim)
        self.norms = {}
        if options["cross"]:
            self.cross = CrossAttention(options["heads"], name="cross", dtype=precision)
            self.cross.build(rows)
        if options["conditional"]:
            updated = options["update_edges"]
            self.conditional = ConditionalAttention(options["heads"], options["gate"], updated, name="conditional", dtype=precision)
            self.conditional.build(rows)
        used = {1: options["cross"], 2: options["conditional"], 3: options["conditional"] and options["update_edges"]}
        for number in (n for n, use in (used | {4: True, 5: options["update_edges"]}).items() if use):
            self.norms[f"norm_{number}"] = LayerNorm(name=f"norm_{number}", dtype=precision)
            self.norms[f"norm_{number}"].build(rows)
        self.feed_forward = FeedForward(options["ff_ratio"] * dim, name="feed_forward", dtype=precision)
        self.feed_forward.build(rows)
        if options["update_edges"]:
            self.edge_feed_forward = FeedForward(options["ff_ratio"] * dim, name="edge_feed_forward", dtype=precision)
            self.edge_feed_forward.build(rows)
        self.drop = keras.layers.Dropout(options["dropout"], dtype=precision) if options["dropout"] else None

    def call(self, nodes: Any, features: Any, edges: dict[str, Any], crystals: Any, training: bool = False) -> tuple[Any, Any]:
        graph, survival = Edges(**edges), self._survival(crystals, training)
        if not (self.options["remat"] and training):
            return self._update(nodes, features, graph, survival, training)
        return computed_again(self, lambda h, e: self._update(h, e, graph, survival, training=True), nodes, features)

    def _survival(self, crystals: Any, training: bool) -> Any:
        """Factors of the five updates of each node, (N, 5), the same in all of a crystal: 0 where it skips one. None: none is skipped."""
        rate = self.options["stochastic_depth"]
        if not training or not rate:
            return None
        kept = keras.random.uniform((ops.shape(crystals)[0], 5), seed=self.random) >= rate  # more rows than there are crystals
        return ops.take(ops.cast(kept, self.compute_dtype) / (1.0 - rate), crystals, axis=0)

    def _update(self, nodes: Any, features: Any, edges: Edges, survival: Any, training: bool) -> tuple[Any, Any]:
        h, e = nodes, features

        def add(number: int, x: Any, update: Any) -> Any:
            """LN(x + update), of nodes (N, D) or, as 3 and 5, of edges (M, D)."""
            if self.drop is not None:
                update = self.drop(update, training=training)
            if survival is not None:
                factors = survival[:, number - 1 : number]
                update = update * (ops.take(factors, edges.receivers, axis=0) if number in (3, 5) else factors)
            return self.norms[f"norm_{number}"](x + update)

        if self.options["cross"]:
            h = add(1, h, self.cross(h, e, edges))
        if self.options["conditional"]:
            of_nodes, of_edges = self.conditional(h, e, edges)
            h = add(2, h, of_nodes)
            e = e if of_edges is None else add(3, e, of_edges)
        h = add(4, h, self.feed_forward(h))
        if self.options["update_edges"]:
            e = add(5, e, self.edge_feed_forward(e))
        return h, e

    def compute_output_spec(self, nodes: Any, features: Any, edges: Any, crystals: Any, training: bool = False) -> Any:
        return keras.KerasTensor(nodes.shape, self.compute_dtype), keras.KerasTensor(features.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options
