"""MEGNet on Keras' JAX backend: the numbers of TensorFlow, and a model that is trained there and predicts the same here."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import megnet_cases
import numpy as np
import pytest
from jax_cases import ON_JAX
from megnet_cases import CRYSTALS, SALTS, SMALL, randomise

from tfmat.predictor import Predictor
from tfmat.target import Target

JAX = """
import json, sys
import keras
from megnet_cases import CRYSTALS, SALTS, table
from tfmat.predictor import Predictor
from tfmat.training.recipe import Recipe
assert keras.backend.backend() == "jax"
values = {name: Predictor.load(f"{sys.argv[1]}/{name}").predict(CRYSTALS)["y"].tolist() for name in ("megnet", "matgl")}
predictor = Predictor.load(f"{sys.argv[1]}/matgl")
recipe = Recipe(loss="mse", learning_rate=1e-2, batch_size=8, schedule="constant")
history = predictor.fit(table("y", [1.0, 2.0, 3.0, 4.0, 5.0, 2.0]), recipe=recipe, epochs=15)
predictor.save(f"{sys.argv[1]}/trained")
print(json.dumps([values, predictor.predict(SALTS)["y"].tolist(), [row["loss"] for row in history]]))
"""


@pytest.mark.slow  # test_architectures_jax.py is the fast one
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_jax_gives_the_same_numbers_and_trains(tmp_path):
    before = {}
    for name, keywords in (("megnet", {"legacy_set2set": True, "blocks": 1}), ("matgl", {"flavor": "matgl", "blocks": 2})):
        predictor = Predictor.create("megnet", [Target("y", "eV")], keywords=SMALL | keywords)
        randomise(predictor.model)
        predictor.save(tmp_path / name)
        before[name] = predictor.predict(CRYSTALS)["y"]
    paths = os.pathsep.join(filter(None, [str(pathlib.Path(megnet_cases.__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | ON_JAX | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", JAX, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stderr[-2000:]
    same, trained, losses = json.loads(result.stdout.splitlines()[-1])
    for name, predicted in before.items():
        np.testing.assert_allclose(predicted, same[name], rtol=0, atol=2e-5)
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_allclose(Predictor.load(tmp_path / "trained").predict(SALTS)["y"], trained, rtol=0, atol=1e-4)
