"""Crystals and weights for the tests of MEGNet and ParAIsite."""

import dataclasses

import keras
import numpy as np

from tfmat.batching.arrays import batch_arrays
from tfmat.crystal import Crystal
from tfmat.data.table import Table
from tfmat.featurizers.bonds import BondFeaturizer

SMALL = {"dim": 8, "hidden_dim": 8, "gaussians": 16}
FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])


def crystal(species, lattice, coords, state=None):
    lattice, coords = (np.asarray(array, np.float64) for array in (lattice, coords))
    return Crystal(np.array(species, np.int32), lattice, coords, None if state is None else np.atleast_1d(np.asarray(state, np.float64)))


def supercell(cell, repeats):
    """`repeats` copies along each lattice vector."""
    images = np.stack(np.meshgrid(*[np.arange(n) for n in repeats], indexing="ij"), -1).reshape(-1, 3)
    coords = (cell.frac_coords[None] + images[:, None]).reshape(-1, 3) / repeats
    return Crystal(np.tile(cell.species, len(images)), cell.lattice * np.array(repeats)[:, None], coords, cell.state)


IRON = crystal([26], np.array([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1]]) * 1.43, [[0, 0, 0]])
SALT = crystal([11, 17], FCC * 2.82, [[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = crystal([38, 22, 8, 8, 8], np.eye(3) * 3.9, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
TRICLINIC = crystal(
    [3, 8, 26, 94],
    [[4.1, 0.2, 0.0], [-0.7, 5.0, 0.3], [0.4, 0.9, 4.6]],
    [[0.02, 0.1, 0.05], [0.4, 0.55, 0.1], [0.9, 0.45, 0.6], [0.15, 0.8, 0.75]],
)
ISOLATED = crystal([18, 29, 29], np.eye(3) * 14.0, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.68]])
"""The first atom has no bond."""
CRYSTALS = [IRON, SALT, PEROVSKITE, TRICLINIC, ISOLATED, supercell(SALT, (1, 2, 1))]


_PAIRS = ((11, 17), (19, 17), (12, 8), (20, 8), (3, 9), (55, 53))
SALTS = [crystal(pair, FCC * (2.9 + 0.03 * k), SALT.frac_coords) for k, pair in enumerate(_PAIRS)]
"""Of 12 bonds each, so that training compiles one batch shape."""


def table(name, values):
    """The salts with a value each."""
    count = len(SALTS)
    return Table(SALTS, {name: np.array(values, np.float64)}, [f"c{i}" for i in range(count)], np.arange(count) + 2, "made.csv")


def batch_of(crystals, featurizer=None, same=1e-4):
    """A batch with more empty sites and bonds than needed, and one crystal that is nothing."""
    records = dataclasses.replace(featurizer or BondFeaturizer(), same=same).featurize(crystals)
    return batch_arrays(records, np.arange(len(crystals)), len(crystals) + 1, filled=True)


def randomise(layer, seed=0):
    """Give a layer or model random weights, none of them zero.

    Returns:
        Path -> array, what `megnet_reference` takes.
    """
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        deviation = 0.3 if weight.name.endswith("bias") else 1.0 if weight.name == "embeddings" else 1.4 * weight.shape[0] ** -0.5
        weight.assign(rng.normal(0, deviation, weight.shape))
    return values(layer)


def values(layer):
    """Path -> array."""
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in layer.weights}


def changed(before, after):
    """Paths of the weights that differ anywhere."""
    assert before.keys() == after.keys()
    return {path for path in before if not np.array_equal(before[path], after[path])}
