"""What every test shares. The environment is set here, before any test module imports Keras."""

import gc
import json
import os
import pathlib
import random
from collections.abc import Iterator

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import hypothesis
import numpy as np
import pytest

gc.set_threshold(50_000, 20, 100)  # a traced network is a hundred thousand objects, among which there is little garbage

hypothesis.settings.register_profile("tfmat", deadline=None)  # on shared machines a test may stand still for seconds
hypothesis.settings.load_profile("tfmat")


@pytest.fixture(scope="session")
def mirror() -> pathlib.Path:
    """The folder of data that is too large for the repository."""
    folder = os.environ.get("TFMAT_DATA_DIR")
    if not folder:
        pytest.skip("TFMAT_DATA_DIR is not set: needs the data mirror")
    return pathlib.Path(folder)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Python's and NumPy's random numbers, and so those of Keras' layers, are the same in every run.

    `keras.utils.set_random_seed` would also make TensorFlow forget all programs, which then takes up to a second to call each again.
    """
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def imported() -> None:
    """TensorFlow and Keras are there, and Python does not look for garbage in them: KerasTuner makes it look after every trial."""
    import keras
    import tensorflow

    assert keras and tensorflow
    gc.freeze()


@pytest.fixture
def eagerly(imported: None) -> Iterator[None]:
    """Nothing is traced: for models that are trained for a step or two, of which a test looks at something else than the training."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def megnet_oracle(mirror) -> dict:
    """Predictions of the real megnet and matgl packages, beside the data mirror."""
    path = mirror.parent / "oracles" / "megnet.json"
    if not path.is_file():
        pytest.skip("no oracles/megnet.json beside TFMAT_DATA_DIR")
    return json.loads(path.read_text(encoding="utf-8"))
