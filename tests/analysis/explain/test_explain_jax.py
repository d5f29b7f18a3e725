"""Integrated gradients on Keras' JAX backend are those of TensorFlow."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from jax_cases import ON_JAX

SCRIPT = """
import json
import sys
import keras
import numpy as np
from small_models import SMALL, make_crystal
from tiny import build
from tfmat.architecture import architectures
from tfmat.analysis.explain.shares import Inside

if sys.argv[1] == "tiny":
    model, example = build(("a",)), {"species": np.array([8, 26, 11], np.int32), "fractions": np.array([0.5, 0.3, 0.2], np.float32)}
else:
    architecture = architectures()[sys.argv[1]]
    model, example = architecture.builder(("a",), **SMALL[sys.argv[1]]), architecture.featurizer()(make_crystal([22, 8, 38], 5))
rng = np.random.default_rng(0)
for weight in model.trainable_weights:
    weight.assign((1.0 if sys.argv[1] == "tiny" else 0.4) * rng.normal(size=weight.shape))
shares, values, _ = Inside(model).shares(example)
print(json.dumps([keras.backend.backend(), shares["a"].method, shares["a"].sites.tolist(), shares["a"].rest, values["a"]]))
"""


def run(backend: str, name: str) -> list:
    tests = pathlib.Path(__file__).parents[2]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | ON_JAX | {"KERAS_BACKEND": backend, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", SCRIPT, name], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("name", ["tiny", "megnet", "crysformer"])
def test_the_same_with_jax(name):
    found = {backend: run(backend, name) for backend in ("jax", "tensorflow")}
    for backend, (used, method, sites, rest, value) in found.items():
        assert (used, method) == (backend, "integrated gradients")
        assert sum(sites) + rest == pytest.approx(value, abs=1e-5)
    np.testing.assert_allclose(found["jax"][2], found["tensorflow"][2], atol=1e-4)
    assert np.ptp(found["jax"][2]) > 0.01
