"""Reductions over lists of edges against loops in NumPy, and their gradients."""

import numpy as np
import pytest

from tfmat.layers.lists import Edges, at_receivers, at_senders, crystals_of, edge_list, mean_of, softmax_of, sum_of
from tfmat.layers.tracing import static_shapes_only

RNG = np.random.default_rng(0)
RECEIVERS = np.array([0, 0, 0, 2, 2, 3, 5], np.int32)  # nodes 1 and 4 receive nothing; 5 is the empty one
SENDERS = np.array([1, 2, 0, 0, 3, 2, 5], np.int32)
MULTIPLICITY = np.array([1, 3, 2, 1, 4, 2, 0], np.int32)
NODES = RNG.normal(size=(6, 4)).astype(np.float32)
VALUES = RNG.normal(0, 20, size=(7, 4)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["free sizes", "static sizes"], autouse=True)
def sizes(request):
    with static_shapes_only(request.param):
        yield


def edges():
    return Edges(**edge_list(RECEIVERS, SENDERS, MULTIPLICITY))


def test_sums_and_means():
    sums = [VALUES[node == RECEIVERS].sum(0) for node in range(6)]
    np.testing.assert_allclose(sum_of(VALUES, RECEIVERS, NODES), sums, atol=1e-5)
    weights = MULTIPLICITY[:, None].astype(np.float32)
    means = [(VALUES * weights)[node == RECEIVERS].sum(0) / max(weights[node == RECEIVERS].sum(), 1) for node in range(6)]
    np.testing.assert_allclose(mean_of(VALUES, weights, RECEIVERS, NODES), means, atol=1e-5)


def test_softmax_counts_an_edge_as_often_as_it_occurs():
    found = np.asarray(softmax_of(VALUES, edges(), NODES))
    for node in range(5):
        mine = np.flatnonzero(node == RECEIVERS)
        if len(mine):
            powers = MULTIPLICITY[mine, None] * np.exp(VALUES[mine].astype(np.float64) - VALUES[mine].max(0))
            np.testing.assert_allclose(found[mine], powers / powers.sum(0), atol=1e-6)
    assert not found[-1].any()


def test_values_at_both_ends_with_their_gradients():
    tf = pytest.importorskip("tensorflow")
    np.testing.assert_array_equal(at_receivers(NODES, RECEIVERS), NODES[RECEIVERS])
    np.testing.assert_array_equal(at_senders(NODES, edges()), NODES[SENDERS])
    nodes, upstream = tf.constant(NODES), tf.constant(VALUES)
    for gather, ends in ((lambda x: at_receivers(x, RECEIVERS), RECEIVERS), (lambda x: at_senders(x, edges()), SENDERS)):
        with tf.GradientTape() as tape:
            tape.watch(nodes)
            loss = tf.reduce_sum(gather(nodes) * upstream)
        expected = np.zeros_like(NODES)
        np.add.at(expected, ends, VALUES)
        np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, nodes)), expected, atol=1e-4)


def test_crystals_of_sites():
    found = crystals_of(np.array([2, 0, 3], np.int32), np.zeros(7))
    np.testing.assert_array_equal(found, [0, 0, 2, 2, 2, 2, 2])
