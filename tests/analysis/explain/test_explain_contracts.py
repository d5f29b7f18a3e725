"""What the explanations of every architecture, in every variant, must keep to. New architectures are picked up from the registry."""

import dataclasses

import numpy as np
import pytest
from small_models import SMALL, make_crystal, of_variants

from tfmat.analysis.explain import Explainer, explain
from tfmat.analysis.readout import find_readout
from tfmat.architecture import architectures
from tfmat.crystal import Crystal
from tfmat.predictor import Predictor
from tfmat.target import Target

TARGETS = [
    Target("gap", "eV", mean=1.0, std=2.0),
    Target("modulus", "GPa", transform="log10", mean=1.5, std=0.4),
]
BASES = {"gap": 1.0, "modulus": 10**1.5}
PEROVSKITE = Crystal(
    np.array([38, 38, 22, 22, 8, 8, 8, 8, 8, 8], np.int32),
    np.diag([7.8, 3.9, 4.2]),
    np.array([[0, 0, 0], [2, 0, 0], [1, 2, 2], [3, 2, 2], [0, 2, 2], [1, 0, 2], [2, 2, 2], [3, 0, 2], [1, 2, 0], [3, 2, 0]]) / 4,
)
"""Two tetragonal cells of SrTiO3, side by side."""
EQUAL = np.array([0, 0, 1, 1, 2, 2, 2, 2, 3, 3])
"""Its sites by symmetry."""
MATERIAL = {"composition": "KAl3Si3O12H2", "crystal": make_crystal([22, 8, 38], 5)}


@pytest.fixture(scope="module", params=of_variants(("atom_list_lstm", "lstm")), ids="-".join)
def case(request):
    """Predictor with weights that are not those at the start, where biases are zero; its explainer; a material, and its explanation."""
    name, variant = request.param
    architecture = architectures()[name]
    predictor = Predictor.create(name, TARGETS, keywords={**architecture.variants.get(variant, {}), **SMALL[name]}, seed=1)
    rng = np.random.default_rng(0)
    for weight in predictor.model.trainable_weights:
        weight.assign(weight.numpy() + 0.05 * rng.normal(size=weight.shape))
    explainer, material = Explainer(predictor), MATERIAL[architecture.material]
    return predictor, explainer, material, explainer(material)


def test_contributions_add_up_to_the_prediction(case):
    predictor, _, material, explanation = case
    frame = predictor.predict([material])
    for name, found in explanation.targets.items():
        predicted = frame[name][0]
        assert found.prediction == pytest.approx(predicted, rel=2e-5, abs=1e-5)
        assert found.base == pytest.approx(BASES[name])
        assert found.base + found.sites.sum() + found.rest == pytest.approx(predicted, rel=2e-5, abs=1e-5)
        assert found.error <= 0.01 * max(abs(predicted - found.base), 1.0)
        assert found.sites.shape == explanation.species.shape and np.ptp(found.sites) > 0


def test_one_row_an_element_or_site(case):
    explanation = case[3]
    if explanation.crystal is None:
        assert explanation.frame()["element"].tolist() == ["O", "Al", "Si", "H", "K"]
        assert explanation.fractions.sum() == pytest.approx(1.0)
    else:
        assert explanation.frame()["element"].tolist() == ["Ti", "O", "Sr"] and explanation.frame()["site"].tolist() == [1, 2, 3]


def test_formulas_are_exact_and_means_before_the_mean(case):
    found = case[3]
    if found.crystal is not None:
        pytest.skip("no model of crystals has a head that is linear in its sites by default")
    for target in found.targets.values():
        assert target.method == "exact" and target.error == 0 and target.rest == 0
    gap = found.targets["gap"]
    assert gap.before_mean.mean() == pytest.approx(gap.prediction, abs=1e-5)
    np.testing.assert_allclose(gap.sites, (gap.before_mean - gap.base) / 5, atol=1e-6)


def test_sites_keep_their_contributions_when_they_are_permuted(case):
    _, explainer, crystal, one = case
    if one.crystal is None:
        pytest.skip("the elements of a formula are sorted by their amounts")
    order = np.array([2, 0, 1])
    other = explainer(Crystal(crystal.species[order], crystal.lattice, crystal.frac_coords[order]))
    assert other.species.tolist() == [38, 22, 8]
    for name, found in one.targets.items():
        again = other.targets[name]
        scale = max(1.0, np.abs(found.sites).max())
        np.testing.assert_allclose(again.sites, found.sites[order], atol=1e-3 * scale + 2 * found.error)
        assert again.rest == pytest.approx(found.rest, abs=1e-4 * scale)
    for name, weights in one.attention.items():
        np.testing.assert_allclose(other.attention[name], weights[order], atol=1e-4)


def test_attention(case):
    predictor, _, _, found = case
    expected = {"megnet": {"atom_set2set"}, "paraisite": {"atom_set2set"}}
    if (predictor.architecture.default_keywords() | predictor.keywords).get("attention"):
        expected["lgdcnn"] = {"bilstm_1", "bigru_2"}
    assert set(found.attention) >= expected.get(predictor.architecture.name, set())
    for weights in found.attention.values():
        assert weights.shape == found.species.shape and (weights >= 0).all() and weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert sum("attention_" in column for column in found.frame()) == len(found.attention)


def test_equal_sites_get_the_same_as_if_each_were_computed(case):
    predictor, explainer, _, found = case
    if found.crystal is None:
        pytest.skip("the elements of a formula differ")
    every = dataclasses.replace(predictor.featurizer, same=0.0)
    assert len(predictor.featurizer(PEROVSKITE)["species"]) == 4 and len(every(PEROVSKITE)["species"]) == 10
    one = explainer(PEROVSKITE)
    other = explain(Predictor(predictor.architecture, predictor.keywords, every, predictor.targets, predictor.model), PEROVSKITE)
    in_sequence = find_readout(predictor.model).kinds == ("slots",)  # equal sites have their turns one after the other
    for name, target in one.targets.items():
        again = other.targets[name]
        scale = max(1.0, np.abs(target.sites).max())
        expected = mean_of_equal(again.sites) if in_sequence else again.sites
        np.testing.assert_allclose(target.sites, expected, atol=1e-4 * scale + target.error + again.error)
        np.testing.assert_allclose(target.sites, mean_of_equal(target.sites), atol=1e-9 * scale)
        assert again.rest == pytest.approx(target.rest, abs=1e-4 * scale)
    assert one.attention.keys() == other.attention.keys()
    for name, weights in one.attention.items():
        np.testing.assert_allclose(weights, other.attention[name], atol=1e-5)
        assert weights.sum() == pytest.approx(1.0, abs=1e-5)


def mean_of_equal(values):
    return (np.bincount(EQUAL, values) / np.bincount(EQUAL))[EQUAL]
