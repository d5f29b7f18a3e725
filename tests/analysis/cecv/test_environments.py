"""Environments of a compound's elements, and the vector that they give."""

import itertools

import numpy as np
import pytest
from small_models import SMALL

from tfmat.analysis.cecv import TOLERANCES, cecv, count_clusters, environment
from tfmat.analysis.cecv.environments import correlations, z_scores
from tfmat.architecture import architectures
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target

COMPOUNDS = [
    *(f"{a}{n}Si{m}O{k}" for a in ("Na", "Mg", "Al", "K", "Ca") for n, m, k in ((1, 1, 3), (2, 1, 4), (1, 2, 6), (3, 2, 7))),
    *("KAlSi3O8", "NaAlSi2O6", "Ca2MgSi2O7", "LiAlSi2O6", "KAl3Si3O12H2", "NaCaMg5Si8O22", "KMg3AlSi3O12H2", "SiO2", "Fe2O3", "NaAlO2"),
]


def make(variant):
    keywords = dict(architectures()["lgdcnn"].variants[variant])
    return Predictor.create("lgdcnn", [Target("a")], keywords=keywords | SMALL["lgdcnn"], seed=1)


@pytest.fixture(scope="module")
def predictor():
    return make("dcnn")  # without recurrent layers it compiles quickly


def test_matrices_against_numpy(predictor):
    features = np.random.default_rng(0).normal(size=(5, 4, 32)).astype(np.float32)
    features[:, :, 7] = 3.25  # a channel that is the same for all elements
    matrices = correlations(z_scores(features))
    for one, matrix in zip(features.astype(float), matrices, strict=True):
        spread = one.std(axis=0, ddof=1)
        spread[7] = 1.0
        np.testing.assert_allclose(matrix, np.corrcoef((one - one.mean(axis=0)) / spread), atol=1e-12)


def test_two_elements_are_always_opposite():
    features = np.random.default_rng(0).normal(size=(3, 2, 16)).astype(np.float32)
    np.testing.assert_allclose(correlations(z_scores(features)), np.broadcast_to([[1, -1], [-1, 1]], (3, 2, 2)), atol=1e-12)


def test_elements_without_features_have_no_correlation():
    features = np.zeros((1, 3, 8), np.float32)
    np.testing.assert_array_equal(correlations(z_scores(features))[0], np.eye(3))


def test_one_compound(predictor):
    found = environment(predictor, "KAl3Si3O12H2")
    assert found.elements == ("O", "Al", "Si", "H", "K")
    assert found.features.shape == (5, 16) and found.correlations.shape == (5, 5)
    np.testing.assert_allclose(found.features.std(axis=0, ddof=1), 1.0, atol=1e-6)
    with pytest.raises(InputError, match="Si has one element"):
        environment(predictor, "Si")


@pytest.mark.parametrize("clustering", ["leader", "legacy"])
def test_the_vector_from_single_environments(predictor, clustering):
    found = cecv(predictor, COMPOUNDS, "Si", clustering=clustering, batch_size=7)
    assert found.compounds == {3: 20, 4: 4, 5: 2, 6: 1, 7: 0}
    chosen = [c for c in COMPOUNDS if "Si" in c and c != "SiO2"]
    alone = [environment(predictor, compound).correlations for compound in chosen]
    if clustering == "leader":
        records = predictor.featurizer.featurize(chosen)
        key = [tuple(records[i]["species"]) + (0,) * 9 for i in range(len(chosen))]
        order = sorted(range(len(chosen)), key=lambda i: (key[i][:9], tuple(records[i]["fractions"])))
        alone = [alone[i] for i in order]
    expected = [
        sum(count_clusters(np.array([m for m in alone if len(m) == size]).reshape(-1, size, size), t, clustering) for size in range(3, 8))
        for t in TOLERANCES
    ]
    assert found.vector.tolist() == expected
    np.testing.assert_allclose(found.retention, [1.0, *(b / a for a, b in itertools.pairwise(expected))])
    np.testing.assert_allclose(found.shares, np.array(expected) / 27)


def test_the_order_of_the_file_does_not_matter(predictor):
    rng = np.random.default_rng(0)
    vectors = {tuple(cecv(predictor, [COMPOUNDS[i] for i in rng.permutation(len(COMPOUNDS))], "O").vector) for _ in range(3)}
    assert len(vectors) == 1


def test_batches_and_layers(predictor):
    vector = cecv(predictor, COMPOUNDS, "Si").vector
    assert vector.tolist() == cecv(predictor, COMPOUNDS, "Si", batch_size=3).vector.tolist()
    assert vector.tolist() != cecv(predictor, COMPOUNDS, "Si", layer="elements").vector.tolist()


@pytest.mark.parametrize(("variant", "role"), [("lstm", "global"), ("dcnn_k1", "local"), ("lgdcnn", None), ("gru", None), ("dcnn", None)])
def test_references(variant, role):
    predictor = make(variant)
    assert predictor.architecture.reference_role(predictor.keywords) == role


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"element": "U"}, r"none of the 30 compounds holds U"),
        ({"element": "Fe"}, r"none of the 1 compounds that hold Fe has 3 to 7 elements"),
        ({"element": "Xx"}, r"unknown element 'Xx'"),
        ({"layer": "head"}, r"no layer 'head' with features of each element"),
        ({"clustering": "kmeans"}, r"unknown clustering 'kmeans'"),
    ],
)
def test_bad_input(predictor, options, message):
    with pytest.raises(InputError, match=message):
        cecv(predictor, COMPOUNDS, **options)


def test_no_compounds_and_models_of_crystals(predictor):
    with pytest.raises(InputError, match="none of the 0 compounds holds Si"):
        cecv(predictor, [], "Si")
    with pytest.raises(InputError, match="megnet predicts crystals, and CECV compares the elements of a formula"):
        cecv(Predictor.create("megnet", [Target("a")], keywords=SMALL["megnet"]), COMPOUNDS, "Si")
