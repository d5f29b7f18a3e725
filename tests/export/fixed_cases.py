"""One small model of every architecture for the formats of fixed sizes, with a matrix that is large enough to be stored as integers."""

import numpy as np
import pytest

from tfmat.export.interfaces import interface_of
from tfmat.predictor import Predictor
from tfmat.target import Target

ENERGY = Target("energy", "eV/atom", mean=-1.4, std=1.1)
BONDS = {"blocks": 1, "embedding_dim": 4, "hidden_dim": 32, "dim": 32, "gaussians": 12, "set2set_steps": 1, "readout_dims": (32, 4)}
MODELS = {
    "lgdcnn": {"dim": 32, "conv_dim": 32, "conv_blocks": 1},
    "megnet": BONDS,
    "paraisite": BONDS | {"head_dims": (32, 6)},
    "crysformer": {"dim": 32, "blocks": 1, "heads": 2, "distance_gaussians": 8, "angle_gaussians": 8},
    "atom_list_lstm": {"embedding_dim": 8, "site_units": 8, "crystal_units": 24, "layers": 1},
}
SIZES = {
    "lgdcnn": {"max_elements": 3},
    "megnet": {"max_sites": 2, "max_bonds": 150},
    "paraisite": {"max_sites": 2, "max_bonds": 150},
    "crysformer": {"max_sites": 2},
    "atom_list_lstm": {"max_sites": 2},
}


def params(*slow):
    """Names of all `MODELS` for a fixture; those that convert slowly are for the slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in MODELS]


def make(name):
    predictor = Predictor.create(name, [ENERGY], keywords=MODELS[name])
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    predictor.model.set_weights([w + 0.05 * random.normal(size=w.shape).astype("float32") for w in predictor.model.get_weights()])
    return predictor


def batch_of(predictor, materials, **more):
    """Arrays of the `SIZES`, of which `more` changes some."""
    name = predictor.architecture.name
    interface = interface_of(predictor)
    return interface.pad([interface.arrays_of(material) for material in materials], interface.lengths(SIZES[name] | more, name))


def fitting(predictor, most=3):
    """Built-in materials of the `SIZES`."""
    name = predictor.architecture.name
    interface = interface_of(predictor)
    return interface.featurize(None, interface.lengths(SIZES[name], name))[0][:most]
