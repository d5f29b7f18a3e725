"""Beginning with the weights of a trained model, frozen layers, and presets."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tiny

from tfmat.architecture import get
from tfmat.atomic import sha256_of
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.model_directory.files import WEIGHTS
from tfmat.model_directory.transfer import freeze, initialise
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.zoo.lgdcnn import VARIANTS

SMALL = VARIANTS["dcnn_k1"] | {"dim": 16, "conv_dim": 16, "conv_blocks": 1}
FORMULAS = ["Fe2O3", "NaCl", "Li0.5CoO2", "Si", "SrTiO3", "KCl", "MgO", "CaF2"]
RECIPE = Recipe(loss="mse", learning_rate=0.01, batch_size=8, epochs=2)
GAP = Target("gap", "eV")


def table(name="gap"):
    values = {name: np.array([2.2, 8.5, 1, 1.1, 3.2, 8.4, 7.8, 11.8])}
    return Table(FORMULAS, values, [f"id{i}" for i in range(8)], np.arange(8) + 2, "made.csv")


def values(model):
    return {weight.path: np.array(weight) for weight in model.weights}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A trained ``tiny`` of the gap, its folder, and a preset of it."""
    tiny.register(monkeypatch, tmp_path / "source")
    predictor = Predictor.create("tiny", [GAP], seed=7)
    predictor.fit(table(), recipe=RECIPE)
    predictor.save(tmp_path / "source")
    return predictor


def test_the_same_target_takes_everything_over(source, tmp_path):
    predictor = Predictor.create("tiny", [GAP], init=tmp_path / "source", seed=8)
    assert not changed(values(source.model), values(predictor.model))
    info = predictor.info["init"]
    assert info["loaded"] == len(source.model.weights) == 7
    assert info["replaced"] == info["missing"] == info["different_shape"] == [] and info["unused"] == 0
    assert info["weights_sha256"] == sha256_of(tmp_path / "source" / WEIGHTS)
    assert (info["source"], info["architecture"], info["targets"]) == (str(tmp_path / "source"), "tiny", ["gap"])
    json.dumps(predictor.info)


def test_an_output_that_was_taken_over_keeps_its_scale(source, tmp_path):
    predictor = Predictor.create("tiny", [GAP], init=tmp_path / "source")
    scale = (source.targets[0].mean, source.targets[0].std)
    assert (predictor.targets[0].mean, predictor.targets[0].std) == scale != (0.0, 1.0)
    assert predictor.info["init"]["scales"] == ["gap"]
    data = table()
    np.testing.assert_array_equal(predictor.predict(data.materials)["gap"], source.predict(data.materials)["gap"])
    data.targets["gap"][:] *= 3
    predictor.fit(data, recipe=RECIPE)
    assert (predictor.targets[0].mean, predictor.targets[0].std) == scale
    fresh = Predictor.create("tiny", [Target("energy", "eV")], init=tmp_path / "source")
    fresh.fit(dataclasses.replace(data, targets={"energy": data.targets["gap"]}), recipe=RECIPE)
    assert fresh.targets[0].mean == pytest.approx(3 * scale[0])


def test_the_builder_follows_the_source(tmp_path):
    Predictor.create("lgdcnn", [Target("gap")], keywords={"dim": 16, "conv_dim": 8, "conv_blocks": 1}).save(tmp_path / "source")
    predictor = Predictor.create("lgdcnn", [Target("gap")], init=tmp_path / "source")
    assert predictor.keywords["conv_dim"] == 8 and predictor.info["init"]["missing"] == []
    predictor = Predictor.create("lgdcnn", [Target("gap")], keywords={"conv_blocks": 2}, init=tmp_path / "source")
    assert (predictor.keywords["dim"], predictor.keywords["conv_blocks"]) == (16, 2)
    assert {path.split("/")[0] for path in predictor.info["init"]["missing"]} == {"block2_conv1", "block2_conv2"}
    assert Predictor.load(predictor.save(tmp_path / "saved")).model.count_params() == predictor.model.count_params()


@pytest.mark.parametrize(
    "target",
    [Target("gap", "meV"), Target("gap", task="binary"), Target("gap", "eV", transform="log10"), Target("energy", "eV")],
    ids=["unit", "task", "transform", "name"],
)
def test_the_output_of_another_target_stays_new(source, tmp_path, target):
    fresh = Predictor.create("tiny", [target], seed=8)
    predictor = Predictor.create("tiny", [target], init=tmp_path / "source", seed=8)
    kernel, bias = f"{target.name}/kernel", f"{target.name}/bias"
    assert predictor.info["init"]["replaced"] == [kernel, bias]
    assert predictor.info["init"]["loaded"] == 5 and predictor.info["init"]["unused"] == 2
    after = values(predictor.model)
    np.testing.assert_array_equal(after[kernel], values(fresh.model)[kernel])
    assert not changed({k: v for k, v in values(source.model).items() if not k.startswith("gap/")}, after)
    assert f"new: {kernel}, {bias}" in predictor.card and "5 from `" in predictor.card


def test_a_layer_called_like_a_target_there_is_no_output_here(source, tmp_path):
    """The hidden layer of the new model must not get the weights of an output by chance of its name."""
    other = Predictor.create("tiny", [Target("hidden_3", "eV")], keywords={"depth": 2, "columns": 8})
    other.save(tmp_path / "other")
    predictor = Predictor.create("tiny", [GAP], keywords={"depth": 3, "columns": 8}, init=tmp_path / "other")
    assert predictor.info["init"]["missing"] == ["hidden_3/kernel", "hidden_3/bias"]
    assert predictor.info["init"]["replaced"] == ["gap/kernel", "gap/bias"]


def test_one_of_several_targets(source, tmp_path):
    predictor = Predictor.create("tiny", [Target("energy", "eV"), GAP], init=tmp_path / "source")
    assert predictor.info["init"]["replaced"] == ["energy/kernel", "energy/bias"]
    np.testing.assert_array_equal(values(predictor.model)["gap/kernel"], values(source.model)["gap/kernel"])


def test_layers_that_do_not_fit_are_reported(source, tmp_path):
    deeper = Predictor.create("tiny", [GAP], keywords={"depth": 3}, init=tmp_path / "source")
    assert deeper.info["init"]["missing"] == ["hidden_3/kernel", "hidden_3/bias"]
    report = initialise(tiny.build(("gap",), depth=1), [GAP], tmp_path / "source")
    assert report.unused == ("hidden_2/kernel", "hidden_2/bias")
    assert report.loaded == ("embedding/embeddings", "hidden_1/kernel", "hidden_1/bias", "gap/kernel", "gap/bias")
    two = Predictor.create("tiny", [GAP], keywords={"columns": 2}, init=tmp_path / "source")
    assert two.info["init"]["different_shape"] == ["gap/kernel", "gap/bias"]


def test_nothing_to_take_over_is_an_error(source, tmp_path):
    model = get("lgdcnn").builder(("gap",), **SMALL)
    before = values(model)
    with pytest.raises(InputError) as caught:
        initialise(model, [GAP], tmp_path / "source")
    text = str(caught.value)
    assert "source: no weight of this tiny (layers embedding, hidden_1, hidden_2, gap) fits the new lgdcnn (layers elements, fra" in text
    assert not changed(before, values(model))
    with pytest.raises(InputError, match="no weight of this tiny"):
        Predictor.create("tiny", [GAP], keywords={"dim": 9}, init=tmp_path / "source")


def test_a_damaged_source_is_refused(source, tmp_path):
    weights = tmp_path / "source" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated or changed"):
        Predictor.create("tiny", [GAP], init=tmp_path / "source")
    with pytest.raises(InputError, match=r"none: no such model. Expected a folder written by `tfmat train`, or a preset of `tfmat models`"):
        Predictor.create("tiny", [GAP], init=tmp_path / "none")


def test_the_shared_head_of_lgdcnn(tmp_path):
    """One layer serves all targets, so it is taken over only where all agree, in their order."""
    both = [GAP, Target("energy", "eV")]
    source = Predictor.create("lgdcnn", both, keywords=SMALL, seed=3)
    source.save(tmp_path / "both")
    again = Predictor.create("lgdcnn", both, keywords=SMALL, init=tmp_path / "both")
    assert not changed(values(source.model), values(again.model))
    for targets in (both[::-1], [GAP, Target("energy", "meV")], [GAP]):
        predictor = Predictor.create("lgdcnn", targets, keywords=SMALL, init=tmp_path / "both")
        assert predictor.info["init"]["replaced"] == ["head/kernel", "head/bias"]
        assert predictor.info["init"]["missing"] == predictor.info["init"]["different_shape"] == []


def test_presets(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = Predictor.load("tiny-1/gap")
    assert loaded.predict(FORMULAS).equals(source.predict(FORMULAS))
    assert Predictor.load(pathlib.Path("tiny-1/gap")).targets == source.targets
    assert Predictor.create("tiny", [GAP], init="tiny-1/gap").info["init"]["source"] == "tiny-1/gap"
    Predictor.create("tiny", [Target("mine")]).save(tmp_path / "tiny-1" / "gap")
    assert Predictor.load("tiny-1/gap").targets[0].name == "mine", "a folder goes before a preset"


def test_frozen_layers_stay(source, tmp_path):
    predictor = Predictor.create("tiny", [GAP], init=tmp_path / "source", freeze=["backbone"])
    assert predictor.info["frozen"] == ["embedding", "hidden_1", "hidden_2"]
    before = values(predictor.model)
    predictor.fit(table(), table(), recipe=RECIPE)
    assert changed(before, values(predictor.model)) == {"gap/kernel", "gap/bias"}
    assert "Layers that were not trained: embedding, hidden_1, hidden_2" in predictor.card
    loaded = Predictor.load(predictor.save(tmp_path / "tuned"))
    assert not changed(values(predictor.model), values(loaded.model))
    assert loaded.predict(FORMULAS).equals(predictor.predict(FORMULAS))
    assert loaded.info["frozen"] == predictor.info["frozen"] and loaded.info["init"] == predictor.info["init"]
    again = Predictor.create("tiny", [GAP], init=tmp_path / "tuned")
    assert not changed(values(predictor.model), values(again.model))


def test_frozen_layers_of_lgdcnn(tmp_path):
    """Layers with weights that are not trained anyway, scalars and several patterns; resumed, saved and loaded."""
    predictor = Predictor.create("lgdcnn", [GAP], keywords=SMALL, freeze=["elements", "block*"])
    assert predictor.info["frozen"] == ["elements", "block1_conv1", "block1_conv2"]
    before = values(predictor.model)
    recipe = Recipe(batch_size=8, epochs=2, ema=0.5, keep="best", weight_decay=0.1, learning_rate=0.01)
    predictor.fit(table(), table(), recipe=recipe, checkpoint=tmp_path / "c.h5")
    still = {path for path in before if path.split("/")[0] in predictor.info["frozen"]}
    resting = {"fractions_code/linear_exponent", "fractions_code/log_exponent"}
    assert changed(before, values(predictor.model)) >= before.keys() - still - resting
    assert not changed(before, values(predictor.model)) & still
    loaded = Predictor.load(predictor.save(tmp_path / "model"))
    assert loaded.predict(FORMULAS).equals(predictor.predict(FORMULAS))


def test_frozen_nothing_and_everything(monkeypatch):
    parts = tiny.register(monkeypatch).parts
    model = tiny.build(("gap",))
    with pytest.raises(InputError, match=r"'hiden\*' matches no layer of tiny. Expected .* a layer of embedding, hidden_1, hidden_2, gap"):
        freeze(model, ["embedding", "hiden*"], parts)
    with pytest.raises(InputError, match="all layers of tiny would be frozen"):
        freeze(model, ["backbone", "gap"], parts)
    assert len(model.trainable_weights) == len(model.weights) == 7
    assert freeze(model, ["hidden_?", "hidden_1"], parts) == ["hidden_1", "hidden_2"]
    assert [w.path for w in model.trainable_weights] == ["embedding/embeddings", "gap/kernel", "gap/bias"]
