"""Graphs as lists of edges, without padding: what a layer may do with them.

A graph has N nodes and M edges, each from a sender to a receiver, sorted by receiver. An edge stands for ``multiplicity`` equal ones at its
receiver, and a node for ``multiplicity`` equal nodes of its crystal (the quotient graph, see `tfmat.featurizers.quotient`). The last node
and the last edge of a batch are always empty, with multiplicity 0, and that edge ends at that node: so no list is empty, and a reduction
over the edges has one row per node. More empty ones may stand before them.

Where all sizes must be static (`tfmat.layers.tracing`) neither holds: edges may be in any order, the last ones need not be empty, and empty
ones may end anywhere. A reduction over edges of which every node has equally many is then one over an axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from tfmat.batching.arrays import PADDED, STACKED
from tfmat.featurizers.base import Spec
from tfmat.layers.precision import exact
from tfmat.layers.tracing import edges_per_node, sizes_may_depend_on_values

LOWEST = -1e30
"""The score of an empty edge where its receiver may have others."""


def list_inputs(spec: Spec) -> dict[str, keras.KerasTensor]:
    """The inputs of a model of crystals: the lists that its featurizer gives, and ``batch_sites`` int32 (B,).

    Args:
        spec: what the featurizer gives.
    """
    shapes = {key: shape if key in PADDED + STACKED else shape[1:] for key, (_, shape) in spec.items()}
    inputs = {key: keras.Input(shapes[key], dtype=dtype, name=key) for key, (dtype, _) in spec.items()}
    return inputs | {"batch_sites": keras.Input((), dtype="int32", name="batch_sites")}


class Edges(NamedTuple):
    """The edges of a batch of graphs; the graphs follow each other.

    Attributes:
        receivers: int (M,), ascending.
        senders: int (M,).
        by_sender: int (M,), the edges in the order of their senders.
        multiplicity: float (M, 1), equal edges at the receiver that this one stands for; 0 for an empty one.
    """

    receivers: Any
    senders: Any
    by_sender: Any
    multiplicity: Any


def edge_list(receivers: Any, senders: Any, multiplicity: Any) -> dict[str, Any]:
    """The attributes of `Edges` as a dictionary, which Keras passes between layers.

    Args:
        receivers: int (M,), ascending.
        senders: int (M,).
        multiplicity: int (M,).
    """
    by_sender = ops.argsort(senders) if sizes_may_depend_on_values() else ops.zeros_like(senders)  # read by the gradient there alone
    weights = ops.expand_dims(ops.cast(multiplicity, "float32"), -1)
    return {"receivers": receivers, "senders": senders, "by_sender": ops.cast(by_sender, "int32"), "multiplicity": weights}


def at_receivers(nodes: Any, receivers: Any) -> Any:
    """The value of the node where each edge arrives, or of the crystal that each site belongs to: (N, D) -> (M, D).

    Args:
        nodes: (N, D).
        receivers: int (M,), ascending; the last one is N - 1.
    """
    each = edges_per_node(nodes.shape[0], receivers.shape[0])
    return _gathered(nodes, receivers, None) if each is None else ops.repeat(nodes, each, axis=0)


def at_senders(nodes: Any, edges: Edges) -> Any:
    """The value of the node where each edge comes from: (N, D) -> (M, D)."""
    return _gathered(nodes, edges.senders, edges.by_sender)


def sum_of(values: Any, receivers: Any, nodes: Any) -> Any:
    """Sums of the rows of each receiver, (M, D) -> (N, D).

    Args:
        values: (M, D).
        receivers: int (M,), ascending; the last one is N - 1.
        nodes: any array with N rows.
    """
    if sizes_may_depend_on_values():
        return ops.segment_sum(values, receivers, sorted=True)  # TensorFlow's is four times as fast as the general one
    if (grid := _grid(values, nodes)) is not None:
        return ops.sum(grid, axis=1)
    return ops.segment_sum(values, receivers, num_segments=ops.shape(nodes)[0], sorted=keras.backend.backend() == "jax")


def largest_of(values: Any, receivers: Any, nodes: Any) -> Any:
    """Largest of the rows of each receiver, like `sum_of`; without a gradient, and any number where a receiver has no row."""
    values = ops.stop_gradient(values)
    if sizes_may_depend_on_values():
        return ops.segment_max(values, receivers, sorted=True)
    if (grid := _grid(values, nodes)) is not None:
        return ops.max(grid, axis=1)
    return ops.segment_max(values, receivers, num_segments=ops.shape(nodes)[0], sorted=keras.backend.backend() == "jax")


def softmax_of(scores: Any, edges: Edges, nodes: Any) -> Any:
    """Softmax over the edges of each receiver, every one counted `multiplicity` times; in float32 at least.

    Args:
        scores: (M, H).
        edges: the edges of the graph.
        nodes: any array with N rows.

    Returns:
        (M, H) in the precision of `scores`: multiplicity x exp(score) / sum of them, which sums to 1; 0 for an empty edge.
    """
    fine = exact(scores)
    multiplicity = ops.cast(edges.multiplicity, fine.dtype)
    if not sizes_may_depend_on_values():
        fine = ops.where(multiplicity > 0, fine, LOWEST)
    highest = ops.take(largest_of(fine, edges.receivers, nodes), edges.receivers, axis=0)
    powers = ops.exp(fine - highest) * multiplicity  # at most 1: an empty edge ends where no other one does, or is LOWEST
    total = sum_of(powers, edges.receivers, nodes)
    total = at_receivers(ops.where(total > 0, total, 1.0), edges.receivers)
    return ops.cast(powers / total, scores.dtype)


def crystals_of(batch_sites: Any, sites: Any) -> Any:
    """Tell which crystal each site belongs to, int (S,); the last one for empty sites.

    Args:
        batch_sites: int (B,), number of sites of each crystal of the batch, which follow each other.
        sites: any array with S rows.
    """
    ends = ops.cumsum(batch_sites)
    place = ops.expand_dims(ops.arange(ops.shape(sites)[0], dtype="int32"), -1)
    number = ops.sum(ops.cast(place >= ends, "int32"), axis=1)
    return ops.minimum(number, ops.shape(batch_sites)[0] - 1)


def mean_of(values: Any, multiplicity: Any, receivers: Any, nodes: Any) -> Any:
    """Weighted means of the rows of each receiver, (M, D) -> (N, D); zero where all weights are.

    Args:
        values: (M, D).
        multiplicity: (M, 1), weights.
        receivers: int (M,), ascending; the last one is N - 1.
        nodes: any array with N rows.
    """
    total = sum_of(multiplicity, receivers, nodes)
    return sum_of(values * multiplicity, receivers, nodes) / ops.where(total > 0, total, 1.0)


def _grid(values: Any, nodes: Any) -> Any:
    """Values of edges as (N, edges of a node, D); None where nodes may have different numbers of them."""
    each = edges_per_node(nodes.shape[0], values.shape[0])
    return None if each is None else ops.reshape(values, (-1, each, values.shape[-1]))


def _gathered(nodes: Any, indices: Any, order: Any) -> Any:
    """Rows of `nodes`; under TensorFlow with a gradient that sums sorted rows, which is two to four times as fast as unsorted ones."""
    if not sizes_may_depend_on_values():
        return ops.take(nodes, indices, axis=0)

    @ops.custom_gradient
    def gather(nodes: Any) -> Any:
        def grad(*args: Any, upstream: Any = None) -> Any:
            rows = args[0] if upstream is None else upstream
            if order is None:
                return ops.segment_sum(rows, indices, sorted=True)
            return ops.segment_sum(ops.take(rows, order, axis=0), ops.take(indices, order, axis=0), sorted=True)

        return ops.take(nodes, indices, axis=0), grad

    return gather(nodes)
