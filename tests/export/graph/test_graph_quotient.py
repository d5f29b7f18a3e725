"""The quotient graph in an exported model is the featurizer's."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from crystal_descriptions import PROTOTYPES, other_cell, prototype, random_crystal
from exported_crystals import make
from raw_cases import handmade

from tfmat.batching.arrays import batch_arrays
from tfmat.export.formats.saved_model import as_module
from tfmat.export.graph import quotient
from tfmat.export.graph.quotient import classes_of
from tfmat.export.interfaces import interface_of
from tfmat.featurizers import BondFeaturizer
from tfmat.featurizers.neighbors import NeighborFeaturizer

FEATURIZERS = {"bonds": BondFeaturizer(), "neighbors": NeighborFeaturizer(), "strict": NeighborFeaturizer(k=4, strict=True)}
LISTS = {"species": ("site_multiplicity",), "distances": ("bond_receivers", "bond_senders", "bond_multiplicity")}
LISTS["cosines"] = ("pair_receivers", "pair_senders", "pair_multiplicity")


def lists_of(featurizer, materials):
    """Without empty entries."""
    arrays = batch_arrays(featurizer.featurize(materials), np.arange(len(materials)), len(materials))
    return {key: value if key == "batch_sites" else value[:-1] for key, value in arrays.items()}


def found_and_wanted(featurizer, materials):
    every = lists_of(dataclasses.replace(featurizer, same=0.0), materials)
    found = classes_of({key: tf.constant(value) for key, value in every.items()}, featurizer.same)
    return {key: value.numpy() for key, value in found.items()}, lists_of(featurizer, materials)


@pytest.mark.parametrize("name", FEATURIZERS)
def test_same_classes(name):
    materials = handmade()
    found, wanted = found_and_wanted(FEATURIZERS[name], materials)
    assert set(found) == set(wanted)
    np.testing.assert_array_equal(found["batch_sites"], wanted["batch_sites"])
    for key, others in LISTS.items():
        if key not in wanted:
            continue
        assert len(found[key]) == len(wanted[key])
        for one in (key, *others):
            assert len(found[one]) == len(found[key]) and found[one].dtype == wanted[one].dtype
        # The classes of a crystal are numbered in another way.
        np.testing.assert_allclose(np.sort(found[key]), np.sort(wanted[key]), atol=2e-6)
        np.testing.assert_array_equal(*(np.sort(lists[others[-1]]) for lists in (found, wanted)))
    assert (np.diff(found["bond_receivers"]) >= 0).all()
    assert found["site_multiplicity"].sum() == sum(len(material) for material in materials)
    assert "cosines" not in found or (np.diff(found["pair_receivers"]) >= 0).all()


def test_nothing_repeats():
    """Every site, bond and pair of a random cell stays as it is, in its order."""
    rng = np.random.default_rng(0)
    crystals = [random_crystal(rng, sites) for sites in (2, 3, 5)]
    every = lists_of(dataclasses.replace(FEATURIZERS["neighbors"], same=0.0), crystals)
    found = classes_of({key: tf.constant(value) for key, value in every.items()}, 1e-9)
    for key, value in every.items():
        np.testing.assert_allclose(found[key], value, atol=1e-7, err_msg=key)


@pytest.mark.parametrize("name", ["rock salt", "perovskite", "diamond"])
def test_a_supercell_has_the_classes_of_its_cell(name):
    cell = prototype(name)
    found, _ = found_and_wanted(FEATURIZERS["neighbors"], [cell, other_cell(cell, 2 * np.eye(3, dtype=int))[0]])
    sites = len(set(PROTOTYPES[name][2]))
    assert found["batch_sites"].tolist() == [sites, sites]
    np.testing.assert_array_equal(found["site_multiplicity"][sites:], 8 * found["site_multiplicity"][:sites])
    for key in ("bond_multiplicity", "pair_multiplicity"):
        np.testing.assert_array_equal(*np.split(found[key], 2))


def test_clusters():
    colors = tf.constant([7, 7, 7, -3, 7, 7, -3], tf.int64)
    values = tf.constant([1.0, 2.0, 1.00005, 1.0, 1.00012, 1.0003, 1.00001])
    clusters = quotient._clusters(colors, values, 1e-4).numpy()
    assert len(set(clusters.tolist())) == 4
    assert clusters[0] == clusters[2] == clusters[4] and clusters[3] == clusters[6] and len({*clusters[[0, 1, 3, 5]]}) == 4
    spectrum = tf.constant(np.arange(0, 1e-2, 5e-5), tf.float32)  # no gap: cut by rounding
    cut = quotient._clusters(tf.zeros([200], tf.int64), spectrum, 1e-4).numpy()
    assert np.bincount(cut).max() <= 3 and (np.diff(cut) >= 0).all()


def test_models_compute_classes(monkeypatch):
    """The network of a SavedModel sees each class once, and nothing of it where the featurizer keeps every copy."""
    seen = []
    monkeypatch.setattr("tfmat.export.formats.saved_model.classes_of", lambda lists, same: seen.append(same) or classes_of(lists, same))
    predictor = make("crysformer, uncertainty", blocks=1)
    as_module(predictor, interface_of(predictor).signatures())
    assert seen == [1e-4]
    predictor.featurizer = dataclasses.replace(predictor.featurizer, same=0.0)
    as_module(predictor, interface_of(predictor).signatures())
    assert seen == [1e-4]
