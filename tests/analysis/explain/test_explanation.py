"""Explanations against what the weights say."""

import keras
import numpy as np
import pytest
from keras import ops
from small_models import SMALL, make_crystal

from tfmat.analysis.explain import explain
from tfmat.analysis.explain.shares import Inside
from tfmat.analysis.readout import element_features
from tfmat.batching.arrays import batch_arrays
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.layers.neighbors import CrystalGraph
from tfmat.predictor import Predictor
from tfmat.target import Target

GAP = Target("gap", "eV", mean=1.0, std=2.0)
ROCK_SALT = Crystal(
    np.array([11] * 4 + [17] * 4, np.int32),
    5.64 * np.eye(3),
    np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]]),
)


def test_the_gated_output_of_the_head_before_the_mean():
    """(v, s, g) of each element from the weights of the head; the gate is that of the mean."""
    predictor = Predictor.create("lgdcnn", [Target("other"), GAP], keywords=SMALL["lgdcnn"], seed=2)
    records = predictor.featurizer.featurize(["Ca3Al2Si3O12"])
    inputs = {key: value[None] for key, value in records.values.items()}
    h = np.asarray(keras.Model(predictor.model.input, element_features(predictor.model))(inputs))[0]
    head = predictor.model.get_layer("head")
    v, _, g = ((h @ head.kernel.numpy() + head.bias.numpy())[:, 3:]).T
    gated = v / (1 + np.exp(-g.mean()))
    found = explain(predictor, "Ca3Al2Si3O12").targets["gap"]
    np.testing.assert_allclose(found.before_mean, 1.0 + 2.0 * gated, atol=1e-5)
    np.testing.assert_allclose(found.sites, 2.0 * gated / 4, atol=1e-5)


def test_a_probability():
    predictor = Predictor.create("lgdcnn", [Target("metal", task="binary")], keywords=SMALL["lgdcnn"], seed=2)
    found = explain(predictor, "Fe2O3").targets["metal"]
    assert (found.base, found.unit) == (0.5, "probability")
    assert 0.5 + found.sites.sum() == pytest.approx(predictor.predict(["Fe2O3"])["metal"][0], abs=1e-6)
    assert found.sites[0] / found.sites[1] == pytest.approx(logit(found.before_mean[0]) / logit(found.before_mean[1]), rel=1e-3)


def logit(probability):
    return np.log(probability / (1 - probability))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_linear_head_behind_a_mean_is_exact_and_another_is_not(head):
    predictor = Predictor.create("crysformer", [GAP], keywords={**SMALL["crysformer"], "head": head}, seed=2)
    crystal = make_crystal([22, 8, 8], 1)
    found = explain(predictor, crystal).targets["gap"]
    assert (found.method == "exact") == (head == "linear")
    assert (found.before_mean is None) == (head == "mlp")
    if head == "linear":
        inputs = batch_arrays(predictor.featurizer.featurize([crystal]), np.zeros(1, int), 1)
        h = np.asarray(keras.Model(predictor.model.input, element_features(predictor.model))(inputs))
        h = h[predictor.featurizer.site_classes(crystal)]
        dense = predictor.model.get_layer("gap")
        np.testing.assert_allclose(found.sites, 2.0 * (h @ dense.kernel.numpy() + dense.bias.numpy())[:, 0] / 3, atol=1e-5)


@pytest.mark.parametrize("name", ["megnet", "crysformer", "atom_list_lstm"])
def test_equivalent_sites_get_the_same(name):
    keywords = SMALL[name] | ({"pooling": "mean"} if name == "atom_list_lstm" else {})
    found = explain(Predictor.create(name, [GAP], keywords=keywords, seed=2), ROCK_SALT)
    for half in (slice(0, 4), slice(4, 8)):
        assert np.ptp(found.targets["gap"].sites[half]) < 1e-4
        assert all(np.ptp(weights[half]) < 1e-6 for weights in found.attention.values())
    assert found.frame()["element"].tolist() == ["Na"] * 4 + ["Cl"] * 4 and found.frame()["site"].tolist() == list(range(1, 9))


def test_bonds_belong_to_both_ends_even_if_they_are_as_many_as_sites():
    """y = sum over sites of 1 + sum over bonds of their length: three sites and three bonds, which must not be mixed up."""
    keys = ("species", "site_multiplicity", "bond_receivers", "bond_senders", "bond_multiplicity", "batch_sites")
    inputs = {key: keras.Input((), dtype="int32", name=key) for key in keys}
    inputs["distances"] = keras.Input((), name="distances")
    graph = CrystalGraph()(inputs)
    sites = keras.layers.Embedding(99, 2, embeddings_initializer="ones")(inputs["species"])
    bonds = keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)(ops.expand_dims(inputs["distances"], -1))
    total = ops.concatenate([Total()(sites, graph["sites"], inputs), Total()(bonds, graph["bonds"]["multiplicity"], inputs)], axis=-1)
    weights = keras.initializers.Constant(np.array([[1.0], [0.0], [1.0], [0.0]]))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, kernel_initializer=weights, name="a")(total)})
    example = {
        "species": np.array([11, 17, 19], np.int32),
        "site_multiplicity": np.array([1, 1, 1], np.int32),
        "bond_receivers": np.array([0, 1, 1], np.int32),
        "bond_senders": np.array([1, 0, 2], np.int32),
        "bond_multiplicity": np.array([1, 1, 1], np.int32),
        "distances": np.array([2.0, 2.0, 4.0], np.float32),
    }
    shares, values, _ = Inside(model).shares(example)
    assert values["a"] == pytest.approx(11.0)
    np.testing.assert_allclose(shares["a"].sites, [1 + 2, 1 + 2 + 2, 1 + 2], atol=1e-5)


class Total(keras.layers.Layer):
    """Sum over all rows of a batch of equal crystals, for each of them."""

    def call(self, rows, multiplicity, inputs):
        crystals = ops.shape(inputs["batch_sites"])[0]
        return ops.sum(ops.reshape((rows * multiplicity)[:-1], (crystals, -1, 2)), axis=1)

    def compute_output_shape(self, rows_shape, multiplicity_shape, inputs_shape):
        return (inputs_shape["batch_sites"][0], 2)


def test_as_many_bonds_as_sites_in_a_crystal():
    predictor = Predictor.create("megnet", [GAP], keywords={**SMALL["megnet"], "cutoff": 2.0}, seed=2)
    pair = Crystal(np.array([1, 9], np.int32), 8.0 * np.eye(3), np.array([[0, 0, 0], [0.12, 0, 0]]))
    found = explain(predictor, pair)
    assert len(predictor.featurizer.featurize([pair]).values["bond_receivers"]) == 2
    whole = found.targets["gap"]
    assert whole.base + whole.sites.sum() + whole.rest == pytest.approx(predictor.predict([pair])["gap"][0], abs=1e-5)
    assert set(found.attention) == {"atom_set2set"}


def test_the_order_of_sites_of_an_atom_list():
    """The model has its sites sorted; the explanation has them as the crystal does."""
    crystal = make_crystal([38, 8, 22, 8], 4)
    for order in ("canonical", "published"):
        predictor = Predictor.create("atom_list_lstm", [GAP], keywords={**SMALL["atom_list_lstm"], "order": order, "pooling": "mean"})
        records = predictor.featurizer.featurize([crystal])
        sites = predictor.featurizer.site_order(crystal)
        assert sorted(sites) == [0, 1, 2, 3]
        assert crystal.species[sites].tolist() == records.values["species"][records.values["lists"] - 1].tolist()
    assert explain(predictor, crystal).frame()["element"].tolist() == ["Sr", "O", "Ti", "O"]


def test_bad_input():
    predictor = Predictor.create("megnet", [GAP], keywords=SMALL["megnet"])
    with pytest.raises(InputError, match="'NaCl' is a formula"):
        explain(predictor, "NaCl")
    with pytest.raises(InputError, match="unknown element 'Xx'"):
        explain(Predictor.create("lgdcnn", [GAP], keywords=SMALL["lgdcnn"]), "Xx2")
