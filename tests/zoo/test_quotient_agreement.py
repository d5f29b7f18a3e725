"""Every model of crystals gives the same numbers whether equal sites, bonds and pairs are computed once or one by one."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from small_models import SMALL

from tfmat import datasets
from tfmat.architecture import architectures
from tfmat.data.featurize import featurize_each
from tfmat.predictor import Predictor
from tfmat.target import Target

NAMES = [name for name, architecture in architectures().items() if architecture.material == "crystal"]
SETS = ["matbench_phonons", "mp2018_subset", "mp_elasticity", "thermal_conductivity/aflow"]


@functools.cache
def predictor_of(name, **keywords):
    """One for all sets, so that it is traced once; its weights are away from the zeros and ones of a fresh model."""
    predictor = Predictor.create(name, [Target("y")], keywords=SMALL[name] | keywords, seed=1)
    rng = np.random.default_rng(0)
    for weight in predictor.model.trainable_weights:
        weight.assign(np.asarray(weight) + rng.normal(0, 0.05, weight.shape).astype(np.float32))
    return predictor


def agreement(name, crystals, **keywords):
    """Largest difference over the crystals that can be featurized, their number, and the spread of the outputs."""
    predictor = predictor_of(name, **keywords)
    found = []
    for featurizer in (predictor.featurizer, dataclasses.replace(predictor.featurizer, same=0)):
        records, kept, _ = featurize_each(featurizer, crystals)
        found.append((predictor.outputs(records, batch_size=64)["y"][:, 0], kept))
    (classes, kept), (copies, again) = found
    np.testing.assert_array_equal(kept, again)
    return float(np.abs(classes - copies).max()), len(kept), float(classes.std())


@functools.cache
def every_crystal(name):
    return [crystal for table in datasets.load(name).splits.values() for crystal in table.materials]


def some_crystals(name, count):
    crystals = every_crystal(name)
    chosen = np.random.default_rng(1).permutation(len(crystals))[:count]
    return [crystals[i] for i in chosen if len(crystals[i]) <= 120]


@pytest.mark.mirror
@pytest.mark.parametrize("source", SETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_few_crystals_of_every_set(mirror, name, source):
    keras.utils.set_random_seed(0)
    difference, count, spread = agreement(name, some_crystals(source, 24))
    assert count >= 20 and spread > 1e-4
    assert difference <= 1e-5


@pytest.mark.mirror
def test_angles_of_the_nearest_alone(mirror):
    keras.utils.set_random_seed(0)
    difference, count, spread = agreement("crysformer", some_crystals("matbench_phonons", 60), angle_neighbors=6)
    assert count >= 50 and spread > 1e-4
    assert difference <= 1e-5


@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize("source", SETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_crystals_of_every_set(mirror, name, source):
    difference, count, _ = agreement(name, some_crystals(source, 1000))
    assert count >= 800
    assert difference <= 1e-5
