"""The same model trains on Keras' JAX backend, and what is saved there predicts the same under TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from jax_cases import ON_JAX

from tfmat.predictor import Predictor

TRAIN = """
import json, sys
import numpy as np
from tfmat import datasets
from tfmat.predictor import Predictor
from tfmat.training.recipe import Recipe
from tfmat.target import Target
data = datasets.load(datasets.DEFAULT).splits["train"].subset(range(64))
predictor = Predictor.create("lgdcnn", [Target(next(iter(data.targets)), "eV/atom")], keywords={"dim": 16, "conv_dim": 16})
predictor.fit(data, data, recipe=Recipe(epochs=20, learning_rate=3e-3, batch_size=32, ema=0.9, fraction_jitter=0.02))
predictor.save(sys.argv[1])
frame = predictor.predict(data.materials[:5])
still = Predictor.create("lgdcnn", predictor.targets, keywords={"dim": 16, "conv_dim": 16}, init=sys.argv[1], freeze=("head",))
before = {w.path: w.numpy() for w in still.model.weights}
recipe = Recipe(loss="mae", keep="best", weight_decay=0.1, rates=(("region", 1.0), ("*", 0.0)), batch_size=64)
still.fit(data, data, recipe=recipe, epochs=2)
moved = sorted(w.path for w in still.model.weights if not np.array_equal(w.numpy(), before[w.path]))
print(json.dumps([frame.iloc[:, 1].tolist(), [row["loss"] for row in predictor.history], moved]))
"""


@pytest.mark.slow  # tests/zoo/test_architectures_jax.py is the fast one
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_a_model_trained_with_jax_predicts_the_same_with_tensorflow(tmp_path):
    environment = os.environ | ON_JAX
    command = [sys.executable, "-c", TRAIN, str(tmp_path / "model")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stderr[-2000:]
    predictions, losses, moved = json.loads(result.stdout.splitlines()[-1])
    assert losses[-1] < losses[0] - 0.1
    assert moved == ["region/bias", "region/kernel"], "the rate of all other layers is 0"
    loaded = Predictor.load(tmp_path / "model")
    from tfmat import datasets

    frame = loaded.predict(datasets.load(datasets.DEFAULT).splits["train"].materials[:5])
    np.testing.assert_allclose(frame.iloc[:, 1], predictions, rtol=1e-4, atol=1e-4)
