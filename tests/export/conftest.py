"""A small L-G-DCNN with one target of each kind and random weights."""

import numpy as np
import pytest
from export_cases import TARGETS

from tfmat.predictor import Predictor


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    result = Predictor.create("lgdcnn", TARGETS, keywords={"dim": 32, "conv_dim": 32})
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    result.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in result.model.get_weights()])
    return result
