"""A small L-G-DCNN with one target of each kind and random weights."""

import numpy as np
import pytest
from export_cases import LEAN, TARGETS
from fake_server import newest
from serving_cases import CRYSTALS, FORMULAS, crystal_model

from tfmat.predictor import Predictor


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    result = Predictor.create("lgdcnn", TARGETS, keywords={"dim": 32, "conv_dim": 32, "conv_blocks": 1})
    random = np.random.default_rng(0)
    # Independent weights everywhere, so that no two of them can be mistaken for each other.
    result.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in result.model.get_weights()])
    return result


@pytest.fixture(scope="session")
def lean() -> Predictor:
    return Predictor.create("lgdcnn", TARGETS, keywords=LEAN)


@pytest.fixture(scope="session")
def repository(predictor, tmp_path_factory):
    pytest.importorskip("tensorflow_serving")
    from tfmat.export.serving import export_to_repository

    root = tmp_path_factory.mktemp("repository") / "repo"
    export_to_repository(predictor, root, "gap", FORMULAS)
    export_to_repository(crystal_model(), root, "energy", CRYSTALS)
    return root


@pytest.fixture(scope="session")
def models(repository):
    """The models of the repository, as TensorFlow Serving calls them."""
    return newest(repository)
