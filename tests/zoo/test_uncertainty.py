"""The keyword `uncertainty` of every builder: one column or two, and what two may be compiled with."""

import inspect

import keras
import numpy as np
import pytest
from small_models import MATERIALS

from tfmat.architecture import architectures
from tfmat.batching.arrays import batch_arrays
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.losses import RobustL1, ScaledMAE
from tfmat.zoo import LGDCNN

NAMES = sorted(architectures())
QUICK = {"recurrent": (), "attention": False, "conv_blocks": 1}
"""Of the L-G-DCNN, which is traced at once without its recurrent layers."""


def build(name, **keywords):
    architecture = architectures()[name]
    return architecture.builder(("a", "b"), **architecture.small | keywords)


def batch_of(name, model):
    """Inputs of a model, and made-up targets."""
    architecture = architectures()[name]
    materials = MATERIALS[architecture.material]
    arrays = batch_arrays(architecture.featurizer().featurize(materials), np.arange(len(materials)), len(materials))
    values = np.random.default_rng(0).normal(size=(len(materials), 1)).astype("float32")
    return {key: arrays[key] for key in model.input}, {"a": values, "b": -values}


def labelled(name):
    materials = MATERIALS[architectures()[name].material]
    values = np.linspace(-1.0, 1.0, len(materials))
    return Table(materials, {"a": values}, [str(i) for i in range(len(materials))], np.arange(len(materials)), "made up")


@pytest.mark.parametrize("name", NAMES)
def test_the_keyword_says_how_many_columns_there_are(name):
    default = inspect.signature(architectures()[name].builder).parameters["uncertainty"].default
    assert default is (name == "lgdcnn")
    for uncertainty in (True, False):
        model = build(name, uncertainty=uncertainty)
        assert [tuple(output.shape) for output in model.outputs] == [(None, 2 if uncertainty else 1)] * 2
        outputs = model(batch_of(name, model)[0])
        assert all(np.isfinite(np.asarray(output)).all() for output in outputs.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_loss_is_for_one_column(name):
    plain = ["mae", keras.losses.MeanSquaredError(), keras.losses.huber, {"a": RobustL1(), "b": "mean_absolute_error"}]
    model = build(name, uncertainty=True)
    for loss in plain:
        with pytest.raises(ValueError, match=rf"{name} gives a value and a log-scale.*uncertainty=False.*RobustL1"):
            model.compile("adam", loss=loss)
    build(name, uncertainty=False).compile("adam", loss="mae")


def test_one_column_learns_with_a_plain_loss():
    model = build("lgdcnn", uncertainty=False, **QUICK)
    inputs, targets = batch_of("lgdcnn", model)
    model.compile(keras.optimizers.Adam(1e-2), loss="mae")
    losses = model.fit(inputs, targets, epochs=20, batch_size=7, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_two_columns_learn_with_a_loss_of_ones_own():
    def of_the_value(y_true, y_pred):
        return keras.ops.abs(y_true[:, 0] - y_pred[:, 0])

    model = build("lgdcnn", uncertainty=True, **QUICK)
    inputs, targets = batch_of("lgdcnn", model)
    model.compile("adam", loss={"a": of_the_value, "b": ScaledMAE()}, metrics={"a": ["mae"]})
    assert np.isfinite(model.fit(inputs, targets, verbose=0).history["loss"]).all()


def test_a_compiled_model_is_loaded_compiled(tmp_path):
    model = LGDCNN(("a",), dim=8, conv_dim=8, **QUICK)
    inputs, targets = batch_of("lgdcnn", model)
    model.compile("adam", loss={"a": RobustL1()})
    model.fit(inputs, {"a": targets["a"]}, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(inputs)["a"], model(inputs)["a"])
    assert int(loaded.optimizer.iterations) == 1 and isinstance(loaded.loss["a"], RobustL1)
    for again, before in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(again, before)
    with pytest.raises(ValueError, match="uncertainty=False"):
        keras.models.clone_model(loaded).compile(loss="mse")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("eagerly")
def test_predictions_have_an_uncertainty_or_none(name):
    for uncertainty in (True, False):
        predictor = Predictor.create(name, [Target("a", "eV")], keywords=architectures()[name].small | {"uncertainty": uncertainty})
        assert ("a_uncertainty" in predictor.predict(labelled(name).materials)) is uncertainty


def test_the_loss_laplace_needs_the_log_scale():
    predictor = Predictor.create("lgdcnn", [Target("a", "eV")], keywords=architectures()["lgdcnn"].small | {"uncertainty": False})
    with pytest.raises(InputError, match="laplace needs a value and a log-scale"):
        predictor.fit(labelled("lgdcnn"), epochs=1)
