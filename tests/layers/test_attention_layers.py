"""Normalisation, softmax over slots and the graphs of neighbour lists against NumPy and Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from tfmat.layers.attention import masked_softmax
from tfmat.layers.bonds import GaussianExpansion
from tfmat.layers.neighbors import MeanOverSites, NeighborGraph, SiteNoise
from tfmat.layers.normalization import LayerNorm

RNG = np.random.default_rng(0)


def test_layer_norm_is_that_of_keras_with_its_gradient():
    tf = pytest.importorskip("tensorflow")
    x, weights = (tf.constant(RNG.normal(1, 3, (4, 5, 16)), tf.float32) for _ in range(2))
    results = []
    for layer in (LayerNorm(), keras.layers.LayerNormalization(epsilon=1e-6)):
        layer.build(x.shape)
        layer.set_weights([np.linspace(0.5, 2, 16), np.linspace(-1, 1, 16)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(weights * y)
        results.append([y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


def test_layer_norm_of_equal_numbers_is_beta():
    layer = LayerNorm()
    np.testing.assert_array_equal(layer(np.full((2, 8), 3.0, np.float32)), np.zeros((2, 8)))
    assert LayerNorm.from_config(layer.get_config()).epsilon == layer.epsilon


def test_masked_softmax():
    scores = RNG.normal(0, 30, (4, 6, 2)).astype(np.float32)
    real = (RNG.random((4, 6, 1)) < 0.6).astype(np.float32)
    real[0], real[1] = 0, 1
    found = np.asarray(masked_softmax(scores, real))
    for node in range(1, 4):
        kept = real[node, :, 0] > 0
        powers = np.exp(scores[node, kept].astype(np.float64) - scores[node, kept].max(0))
        np.testing.assert_allclose(found[node, kept], powers / powers.sum(0), atol=1e-6)
        assert not found[node, ~kept].any()
    assert not found[0].any()


def test_graph_of_a_chain():
    """Three atoms in a row: 0 - 1 - 2, where 1 has a slot for each end, and a crystal of one site that sees itself to both sides."""
    neighbors = np.array([[[1, 0], [0, 2], [1, 0]], [[0, 0], [0, 0], [0, 0]]], np.int32)
    x, y = np.array([2.0, 0, 0]), np.array([0, 3.0, 0])
    zero = np.zeros(3)
    vectors = np.array([[[x, zero], [-x, y], [-y, zero]], [[x, -x], [zero, zero], [zero, zero]]], np.float32)
    graph = {key: np.asarray(value) for key, value in NeighborGraph()(np.array([[1, 6, 95], [3, 0, 0]]), neighbors, vectors).items()}
    np.testing.assert_array_equal(graph["elements"], [[0, 5, 94], [2, 0, 0]])
    np.testing.assert_array_equal(graph["real_atoms"][..., 0], [[1, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(graph["real_bonds"][..., 0], [[[1, 0], [1, 1], [1, 0]], [[1, 1], [0, 0], [0, 0]]])
    np.testing.assert_array_equal(graph["distances"], [[2, 0, 2, 3, 3, 0], [2, 2, 0, 0, 0, 0]])
    np.testing.assert_array_equal(graph["senders"].reshape(2, 3, 2), neighbors + np.array([0, 3])[:, None, None])
    pairs, cosines = graph["real_pairs"][..., 0], graph["cosines"].reshape(2, 6, 2)
    np.testing.assert_array_equal(pairs[0, 0], [1, 1])  # the bond 1 -> 0: both bonds that arrive at 1
    np.testing.assert_allclose(cosines[0, 0], [1, 0], atol=1e-6)  # the way back, and a right angle
    np.testing.assert_array_equal(pairs[0, 1], [0, 0])
    np.testing.assert_allclose(cosines[1, :2], [[-1, 1], [1, -1]], atol=1e-6)
    assert not pairs[1, 2:].any()


def test_gaussians_from_a_lower_end():
    cosines = np.linspace(-1, 1, 7)[None]
    found = np.asarray(GaussianExpansion(1.0, 40, (2 / 39) ** 0.5, -1.0)(cosines))
    expected = np.exp(-19.5 * (cosines[..., None] - np.linspace(-1, 1, 40)) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="above `lowest`"):
        GaussianExpansion(1.0, 40, 0.5, 1.0)


def test_site_noise_moves_sites_and_not_bonds_alone():
    """What a site gains one way it loses the other: r_ij = -r_ji before and after, images of a site stay where they are."""
    neighbors = np.array([[[1, 0, 0], [0, 1, 1]]], np.int32)
    bond, image = np.array([1.0, 2, 3]), np.array([4.0, 0, 0])
    vectors = np.array([[[bond, image, 0 * bond], [-bond, image, 0 * bond]]], np.float32)
    layer = SiteNoise(0.1)
    np.testing.assert_array_equal(layer(neighbors, vectors), vectors)
    moved = np.asarray(layer(neighbors, vectors, training=True))
    np.testing.assert_allclose(moved[0, 0, 0], -moved[0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(moved[0, :, 1], vectors[0, :, 1], atol=1e-6)
    assert np.abs(moved[0, 0, 0] - bond).max() > 1e-3
    assert not moved[0, :, 2].any()
    many = np.zeros((500, 2, 1), np.int32) + np.array([[1], [0]], np.int32)
    steps = np.asarray(layer(many, np.ones((500, 2, 1, 3), np.float32), training=True)) - 1
    assert abs(steps.std() - 0.1 * 2**0.5) < 0.01


def test_mean_over_sites():
    atoms = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    real = np.array([[1, 1, 0], [0, 0, 0]], np.float32)[..., None]
    found = np.asarray(MeanOverSites()(atoms, real))
    np.testing.assert_allclose(found, [atoms[0, :2].mean(0), np.zeros(4)], atol=1e-6)
    assert ops.shape(found) == (2, 4)
