"""Mixed precision, of every architecture: what is rounded, and what is not."""

import keras
import numpy as np
import pytest
import tiny
from small_models import MATERIALS, SMALL
from test_training import table

from tfmat.architecture import architectures, get
from tfmat.batching.arrays import batch_arrays
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.precision import in_precision


@pytest.mark.parametrize("name", sorted(architectures()))
def test_mixed_precision_gives_about_the_same(name):
    architecture = get(name)

    def build():
        return architecture.builder(("y",), **SMALL[name])

    keras.utils.set_random_seed(1)
    model = build()
    mixed = in_precision("mixed_bfloat16", model, build)
    assert keras.config.dtype_policy().name == "float32"
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    assert "bfloat16" in {layer.compute_dtype for layer in mixed.layers}
    records = architecture.default_featurizer(SMALL[name]).featurize(MATERIALS[architecture.material])
    batch = batch_arrays(records, np.arange(len(records)), len(records))
    batch = {key: batch[key] for key in model.input}
    exact, rounded = model(batch)["y"], mixed(batch)["y"]
    assert keras.backend.standardize_dtype(rounded.dtype) == "float32"
    difference = np.abs(np.asarray(exact) - np.asarray(rounded))
    assert 0 < difference.max() < 0.1 * max(np.abs(np.asarray(exact)).max(), 0.5)  # rounding: in float16 an eighth of it


def test_float32_is_the_model_itself_and_frozen_layers_stay_frozen(monkeypatch):
    tiny.register(monkeypatch)
    predictor = Predictor.create("tiny", [Target("y")], freeze=["embedding"])
    assert in_precision("float32", predictor.model, tiny.build) is predictor.model
    mixed = in_precision("mixed_bfloat16", predictor.model, lambda: tiny.build(("y",)))
    assert [layer.name for layer in mixed.layers if not layer.trainable] == ["embedding"]
    with pytest.raises(InputError, match="unknown precision 'float16'"):
        predictor.fit(table(), precision="float16", epochs=1)


def test_the_trained_model_computes_in_float32(monkeypatch, tmp_path):
    tiny.register(monkeypatch)
    predictor = Predictor.create("tiny", [Target("y")], freeze=["embedding"])
    before = [np.asarray(weight) for weight in predictor.model.weights]
    model = predictor.model
    predictor.fit(table(), table(), precision="mixed_bfloat16", epochs=3)
    assert predictor.model is model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    moved = [weight.path for weight, old in zip(model.weights, before, strict=True) if not np.array_equal(np.asarray(weight), old)]
    assert moved and "embedding/embeddings" not in moved
    assert predictor.info["precision"] == "mixed_bfloat16"
    assert predictor.info["validation"]["y"]["MAE"] == pytest.approx(predictor.history[-1]["val_y_mae"], rel=0.02)
    loaded = Predictor.load(predictor.save(tmp_path / "model"))
    assert loaded.predict(["NaCl"])["y"].tolist() == predictor.predict(["NaCl"])["y"].tolist()
    assert loaded.history == predictor.history
