"""A small L-G-DCNN with one target of each kind and random weights."""

import numpy as np
import pytest

from tfmat.predictor import Predictor
from tfmat.target import Target

TARGETS = (
    Target("conductivity", "W/(m K)", transform="log10", mean=0.6, std=0.4),
    Target("formation_enthalpy", "eV/atom", mean=-1.4, std=1.1),
    Target("metal", task="binary"),
)
OUTPUTS = ("conductivity", "conductivity_uncertainty", "formation_enthalpy", "formation_enthalpy_uncertainty", "metal")


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    result = Predictor.create("lgdcnn", TARGETS, keywords={"dim": 32, "conv_dim": 32})
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    result.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in result.model.get_weights()])
    return result
