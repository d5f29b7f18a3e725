"""Normalisation, the graphs of crystals as lists and the mean over their sites against NumPy and Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from tfmat.layers.gaussians import GaussianExpansion
from tfmat.layers.neighbors import CrystalGraph, MeanOverSites
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


def test_graph_of_two_crystals():
    inputs = {"species": [11, 17, 26, 0], "site_multiplicity": [4, 4, 1, 0], "batch_sites": [2, 1]}
    inputs |= {"bond_receivers": [0, 0, 1, 2, 3], "bond_senders": [1, 0, 0, 2, 3], "bond_multiplicity": [6, 12, 6, 8, 0]}
    inputs |= {"pair_receivers": [0, 1, 1, 3, 4], "pair_senders": [2, 0, 1, 3, 4], "pair_multiplicity": [6, 6, 12, 8, 0]}
    graph = CrystalGraph()({key: np.array(value, np.int32) for key, value in inputs.items()})
    np.testing.assert_array_equal(graph["crystals"], [0, 0, 1, 1])
    np.testing.assert_array_equal(graph["sites"][:, 0], [4, 4, 1, 0])
    np.testing.assert_array_equal(graph["bond_crystals"], [0, 0, 0, 1, 1])
    for kind, name in (("bond", "bonds"), ("pair", "pairs")):
        np.testing.assert_array_equal(graph[name]["receivers"], inputs[f"{kind}_receivers"])
        np.testing.assert_array_equal(graph[name]["senders"], inputs[f"{kind}_senders"])
        np.testing.assert_array_equal(graph[name]["multiplicity"][:, 0], inputs[f"{kind}_multiplicity"])
        if keras.backend.backend() == "tensorflow":
            assert (np.diff(np.array(inputs[f"{kind}_senders"])[np.asarray(graph[name]["by_sender"])]) >= 0).all()


def test_gaussians_from_a_lower_end():
    cosines = np.linspace(-1, 1, 7)[None]
    found = np.asarray(GaussianExpansion(1.0, 40, (2 / 39) ** 0.5, -1.0)(cosines))
    expected = np.exp(-19.5 * (cosines[..., None] - np.linspace(-1, 1, 40)) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="above `lowest`"):
        GaussianExpansion(1.0, 40, 0.5, 1.0)


def test_mean_over_sites_counts_each_as_often_as_it_occurs():
    atoms = RNG.normal(size=(4, 5)).astype(np.float32)
    multiplicity = np.array([[2], [3], [1], [0]], np.float32)
    found = np.asarray(MeanOverSites()(atoms, multiplicity, np.array([0, 0, 2, 2]), np.array([2, 0, 1])))
    np.testing.assert_allclose(found, [(2 * atoms[0] + 3 * atoms[1]) / 5, np.zeros(5), atoms[2]], atol=1e-6)
    assert ops.shape(found) == (3, 5)
