"""Integrated gradients on Keras' JAX backend are those of TensorFlow."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import json
import keras
import numpy as np
from tiny import build
from tfmat.explain.shares import Inside

model = build(("a",))
rng = np.random.default_rng(0)
for weight in model.trainable_weights:
    weight.assign(rng.normal(size=weight.shape))
example = {"species": np.array([8, 26, 11], np.int32), "fractions": np.array([0.5, 0.3, 0.2], np.float32)}
shares, values, _ = Inside(model).look(example)
print(json.dumps([keras.backend.backend(), shares["a"].method, shares["a"].sites.tolist(), values["a"]]))
"""


def run(backend: str) -> list:
    tests = pathlib.Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_the_same_with_jax():
    found = {backend: run(backend) for backend in ("jax", "tensorflow")}
    for backend, (used, method, sites, value) in found.items():
        assert (used, method) == (backend, "integrated gradients")
        assert sum(sites) == pytest.approx(value, abs=1e-5)
    np.testing.assert_allclose(found["jax"][2], found["tensorflow"][2], atol=1e-4)
    assert np.ptp(found["jax"][2]) > 0.01
