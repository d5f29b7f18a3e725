"""The training loop: learning, determinism, interruption and the published averaging rule."""

import dataclasses
import os
import signal

import keras
import numpy as np
import pytest
import tiny

from tfmat.batching.pipeline import Batches
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers import CompositionFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.checkpoint import Checkpoint
from tfmat.training.loop import Diverged, Interrupted, compile_model
from tfmat.training.recipe import Recipe
from tfmat.training.weight_averaging import StochasticWeightAveraging
from tfmat.zoo.lgdcnn import VARIANTS

SMALL = VARIANTS["dcnn_k1"] | {"dim": 16, "conv_dim": 16, "conv_blocks": 1}  # quick to trace
RECIPE = Recipe(learning_rate=3e-3, batch_size=16, epochs=4, ema=0.9, fraction_jitter=0.02)


def table(rows=64, missing=0):
    """Formulas with their mean atomic number as target, so that there is something to learn."""
    rng = np.random.default_rng(0)
    amounts = rng.integers(1, 9, (rows, 3))
    elements = rng.choice(["Li", "Na", "K", "O", "S", "Fe"], (rows, 3))
    formulas = ["".join(f"{e}{n}" for e, n in zip(*pair, strict=True)) for pair in zip(elements, amounts, strict=True)]
    numbers = np.vectorize({"Li": 3, "Na": 11, "K": 19, "O": 8, "S": 16, "Fe": 26}.get)(elements)
    values = (amounts * numbers).sum(axis=1) / amounts.sum(axis=1)
    other = np.where(np.arange(rows) < missing, np.nan, 100 * values)
    targets = {"y": values, "z": other} if missing else {"y": values}
    return Table(formulas, targets, [str(i) for i in range(rows)], np.arange(rows) + 2, "made.csv")


def fitted(recipe=RECIPE, data=None, targets=("y",), seed=1, **options):
    data = data or table()
    predictor = Predictor.create("lgdcnn", [Target(name) for name in targets], keywords=SMALL, seed=seed)
    predictor.fit(data, data, recipe=recipe, seed=seed, **options)
    return predictor


def weights(predictor):
    return [np.asarray(w) for w in predictor.model.weights]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_it_learns_and_reports():
    seen = []
    predictor = fitted(dataclasses.replace(RECIPE, epochs=30), report=lambda *arguments: seen.append(arguments))
    history = predictor.history
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert history[-1]["val_y_mae"] < 0.5 * history[0]["val_y_mae"]
    assert history[-1]["y_mae"] < history[0]["y_mae"]
    assert seen[-1][:4] == (30, 30, 4, 4)
    assert seen[-1][4]["val_y_mae"] == history[-1]["val_y_mae"]
    assert len(seen) == 30 * 4


def test_the_last_validation_error_is_that_of_the_final_weights():
    predictor = fitted()
    assert predictor.info["validation"]["y"]["MAE"] == pytest.approx(predictor.history[-1]["val_y_mae"], rel=1e-4)


def test_a_seed_repeats_and_another_does_not():
    first, again, other = (fitted(dataclasses.replace(RECIPE, epochs=2), seed=seed) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_accumulated_parts_make_the_step_of_the_whole_batch():
    """All rows are one batch, so its parts hold the same rows; a recipe with small batches learns something else."""
    rows = table().subset(range(32))
    alike = dataclasses.replace(rows, materials=[f"Na{1 + i % 7}Cl{1 + i % 5}" for i in range(32)])
    whole, parts, small = (
        fitted(
            dataclasses.replace(RECIPE, batch_size=size, accumulation=steps, schedule="constant", ema=None, fraction_jitter=0), data=alike
        )
        for size, steps in ((32, 1), (32, 4), (8, 1))
    )
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
    assert max(np.abs(one - apart).max() for one, apart in zip(weights(whole), weights(small), strict=True)) > 1e-3
    assert [r["loss"] for r in whole.history] == pytest.approx([r["loss"] for r in parts.history], rel=1e-4)
    average = dataclasses.replace(RECIPE, accumulation=4, batch_size=16).build_optimizer(40, 10).ema_momentum
    assert average**4 == pytest.approx(RECIPE.build_optimizer(10, 10).ema_momentum)
    with pytest.raises(ValueError, match="multiple of `accumulation`"):
        Recipe(batch_size=10, accumulation=4)


PAPER = Recipe(optimizer="lookahead_lamb", schedule="triangular", swa_epochs=2, batch_size=16, epochs=5)


@pytest.mark.parametrize(
    ("recipe", "signum"), [pytest.param(RECIPE, signal.SIGINT, marks=pytest.mark.slow), (PAPER, signal.SIGTERM)], ids=["default", "paper"]
)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, signum, tmp_path):
    def stop(epoch, epochs, step, steps, figures):
        if (epoch, step) == (3, 2):
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="after 2 finished epochs") as caught:
        fitted(recipe, checkpoint=tmp_path / "checkpoint.h5", report=stop)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before
    resumed = fitted(recipe, checkpoint=tmp_path / "checkpoint.h5", resume=True)
    whole = fitted(recipe)
    assert same(resumed, whole)
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    assert os.listdir(tmp_path) == ["checkpoint.h5"]


@pytest.mark.parametrize("recipe", [pytest.param(RECIPE, id="default"), pytest.param(PAPER, id="paper", marks=pytest.mark.slow)])
def test_the_first_epochs_of_a_run_and_the_rest_of_it_are_the_run(recipe, tmp_path):
    whole = fitted(recipe)
    first = fitted(recipe, checkpoint=tmp_path / "c.h5", until=2)
    assert [r["loss"] for r in first.history] == [r["loss"] for r in whole.history[:2]]
    assert Checkpoint.read(tmp_path / "c.h5").epoch == 2
    again = fitted(recipe, checkpoint=tmp_path / "c.h5", resume=True, until=2)
    assert same(again, first) and len(again.history) == 2
    rest = fitted(recipe, checkpoint=tmp_path / "c.h5", resume=True, until=100)
    assert same(rest, whole) and [r["loss"] for r in rest.history] == [r["loss"] for r in whole.history]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    predictor = fitted()
    predictor.model.optimizer.build(predictor.model.trainable_variables)
    Checkpoint.of(predictor.model, 1, []).write(tmp_path / "c.h5")
    other = Predictor.create("lgdcnn", [Target("y")], keywords=SMALL | {"dim": 32})
    with pytest.raises(InputError, match="does not fit this run"):
        other.fit(table(), recipe=RECIPE, checkpoint=tmp_path / "c.h5", resume=True)
    (tmp_path / "c.h5").write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="cannot be read"):
        fitted(checkpoint=tmp_path / "c.h5", resume=True)


def test_missing_targets_are_masked():
    data = table(missing=32)
    predictor = fitted(dataclasses.replace(RECIPE, epochs=8), data, ("y", "z"))
    assert predictor.history[-1]["val_z_mae"] < predictor.history[0]["val_z_mae"]
    assert np.isfinite([v for row in predictor.history for v in row.values()]).all()
    assert predictor.info["validation"]["z"]["n"] == 32


def test_divergence_is_an_error():
    with pytest.raises(Diverged, match="the loss became"):
        fitted(dataclasses.replace(RECIPE, learning_rate=1e20, schedule="constant", ema=None))


def test_dataset_equals_the_plan_and_starts_anywhere():
    data = table()
    records = CompositionFeaturizer().featurize(data.materials)
    batches = Batches.of(records, {"y": data.targets["y"].astype("float32")}, 16, seed=5)
    plain = [x for epoch in (0, 1) for x, *_ in batches.epoch(epoch)]
    later = list(batches.dataset(first_epoch=1, repeat=True).take(batches.plan.steps))
    for expected, (inputs, targets, loss_weights) in zip(plain[batches.plan.steps :], later, strict=True):
        np.testing.assert_array_equal(expected["species"], inputs["species"].numpy())
        assert len(targets["y"]) == len(loss_weights["y"]) == len(expected["species"])


def test_published_averaging_rule():
    """The rule, fed with given validation errors, against its written definition."""
    predictor = Predictor.create("lgdcnn", [Target("y")], keywords=SMALL)
    data = table()
    batches = Batches.of(predictor.featurizer.featurize(data.materials), {"y": data.targets["y"].astype("float32")}, 64)
    rule = StochasticWeightAveraging(20, predictor.model, batches)
    assert rule._error() == pytest.approx(
        float(np.mean(np.abs(predictor.outputs(batches.records)["y"][:, 0] - data.targets["y"]))), rel=1e-5
    )
    errors = iter([1.0, 0.99, 0.5, 0.505, 0.6])
    rule._error = lambda: next(errors)
    variable = predictor.model.trainable_variables[0]
    shape = tuple(variable.shape)
    average, count = None, 0
    for step, enters in enumerate([2, 1, 2, 1, 0]):  # a step that starts anew enters twice
        variable.assign(np.full(shape, float(step)))
        rule.after_step(20)
        if step in (0, 2):
            average, count = np.zeros(shape), 0
        for _ in range(enters):
            average = average + (step - average) * (1 / (count + 1)) ** (1 / 3)
            count += 1
        np.testing.assert_allclose(rule.average[0], average, rtol=1e-5)
        assert rule.count == count
    rule.after_step(21)  # not an averaging epoch: takes no error
    assert not rule.epoch_ended(20)
    assert [rule.epoch_ended(20 * k) for k in range(2, 7)] == [False] * 4 + [True]


def test_targets_are_checked():
    data = table()
    with pytest.raises(InputError, match="no target 'w'"):
        fitted(targets=("w",), data=data)
    binary = Predictor.create("lgdcnn", [Target("y", task="binary")], keywords=SMALL)
    with pytest.raises(InputError, match=r"made.csv, row 2: target 'y' is .*Expected 0 or 1"):
        binary.fit(data, recipe=RECIPE)


def test_uncertainties_are_scaled_to_the_validation_errors():
    predictor = fitted(dataclasses.replace(RECIPE, epochs=2))
    scores = predictor.info["validation"]["y"]
    assert scores["coverage"] == pytest.approx(0.757, abs=0.03)
    assert scores["coverage before scaling"] != scores["coverage"]
    assert predictor.targets[0].uncertainty_scale != 1.0
    assert predictor.evaluate(table()).scores["y"]["coverage"] == scores["coverage"]


STEADY = Recipe(loss="mae", learning_rate=3e-3, batch_size=4, epochs=6, schedule="constant", keep="best")


@pytest.fixture
def quick(monkeypatch):
    tiny.register(monkeypatch)


def reversed_table():
    """What is learnt on `table` makes the error here larger, sooner or later."""
    data = table()
    return dataclasses.replace(data, targets={"y": 25.0 - 0.5 * data.targets["y"]})


def kept(recipe, validation=None, **options):
    """Trained on `table`, validated on others, by default reversed values."""
    predictor = Predictor.create("tiny", [Target("y")], seed=1)
    predictor.fit(table(), validation or reversed_table(), recipe=recipe, seed=1, **options)
    return predictor


@pytest.mark.parametrize("ema", [None, 0.3], ids=["plain", "averaged"])
@pytest.mark.usefixtures("quick")
def test_the_best_epoch_is_kept(ema):
    recipe = dataclasses.replace(STEADY, ema=ema)
    predictor = kept(recipe)
    losses, best = [row["val_loss"] for row in predictor.history], predictor.info["best_epoch"]
    assert len(losses) == 6 and best == 1 + int(np.argmin(losses)) < 6, "the case must have its best epoch before its last"
    last = kept(dataclasses.replace(recipe, keep="last", epochs=best))
    assert "best_epoch" not in last.info
    for a, b in zip(weights(predictor), weights(last), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert predictor.info["validation"]["y"]["MAE"] == pytest.approx(predictor.history[best - 1]["val_y_mae"], rel=1e-4)
    assert f"of which the weights of epoch {best} are kept" in predictor.card


@pytest.mark.usefixtures("quick")
def test_a_run_without_improvement_ends():
    whole = kept(dataclasses.replace(STEADY, epochs=8))
    predictor = kept(dataclasses.replace(STEADY, epochs=8, patience=2))
    assert predictor.info["epochs"] == len(predictor.history) == predictor.info["best_epoch"] + 2 < 8
    assert predictor.info["best_epoch"] == whole.info["best_epoch"]
    assert same(predictor, whole)


@pytest.mark.parametrize(
    ("epoch", "ema"), [pytest.param(2, None, marks=pytest.mark.slow), (5, None), pytest.param(4, 0.3, marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("quick")
def test_a_resumed_run_keeps_the_same_epoch(epoch, ema, tmp_path):
    recipe = dataclasses.replace(STEADY, ema=ema, patience=4)

    def stop(at, epochs, step, steps, figures):
        if (at, step) == (epoch, 2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        kept(recipe, checkpoint=tmp_path / "checkpoint.h5", report=stop)
    resumed = kept(recipe, checkpoint=tmp_path / "checkpoint.h5", resume=True)
    whole = kept(recipe)
    assert same(resumed, whole)
    assert resumed.info["best_epoch"] == whole.info["best_epoch"]
    assert [row["val_loss"] for row in resumed.history] == [row["val_loss"] for row in whole.history]


@pytest.mark.usefixtures("quick")
def test_a_finished_run_is_resumed_to_its_best_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("tfmat.training.loop.CHECKPOINT_SECONDS", 0.0)
    whole = kept(dataclasses.replace(STEADY, patience=2), checkpoint=tmp_path / "checkpoint.h5")
    again = kept(dataclasses.replace(STEADY, patience=2), checkpoint=tmp_path / "checkpoint.h5", resume=True)
    assert same(again, whole) and len(again.history) == len(whole.history)


@pytest.mark.usefixtures("quick")
def test_keeping_the_best_epoch_needs_validation_and_its_own_checkpoint(tmp_path, monkeypatch):
    predictor = Predictor.create("tiny", [Target("y")])
    with pytest.raises(InputError, match=r"lowest validation loss. Expected validation rows"):
        predictor.fit(table(), recipe=STEADY)
    monkeypatch.setattr("tfmat.training.loop.CHECKPOINT_SECONDS", 0.0)
    kept(dataclasses.replace(STEADY, keep="last", epochs=1), checkpoint=tmp_path / "c.h5")
    with pytest.raises(InputError, match=r"c.h5: the checkpoint's run did not keep its best epoch"):
        kept(STEADY, checkpoint=tmp_path / "c.h5", resume=True)


@pytest.mark.parametrize(("loss", "columns"), [("mae", 1), ("mse", 2), ("mape", 1), ("mse_physical", 2)])
@pytest.mark.usefixtures("quick")
def test_every_loss_learns(loss, columns):
    data = table(missing=32)
    targets = [Target("y"), Target("z", transform="log10")]
    predictor = Predictor.create("tiny", targets, keywords={"columns": columns}, seed=1)
    recipe = Recipe(loss=loss, learning_rate=0.02, batch_size=16, epochs=12, optimizer="adam")
    history = predictor.fit(data, data, recipe=recipe)
    assert all(np.isfinite(list(row.values())).all() for row in history)
    assert history[-1]["val_loss"] < 0.7 * history[0]["val_loss"]
    assert history[-1]["val_z_mae"] < history[0]["val_z_mae"]
    if loss == "mae":  # in scaled units
        scaled = sum(predictor.info["validation"][t.name]["MAE"] / t.std for t in predictor.targets if t.transform == "none")
        assert scaled < history[-1]["val_loss"]


@pytest.mark.usefixtures("quick")
def test_laplace_needs_a_log_scale():
    predictor = Predictor.create("tiny", [Target("y"), Target("c", task="binary")])
    adam = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="laplace needs a value and a log-scale, tiny gives 'y' as a value alone"):
        compile_model(predictor.model, predictor.targets, adam)
    with pytest.raises(InputError, match="laplace needs"):
        data = table()
        predictor.fit(dataclasses.replace(data, targets=data.targets | {"c": np.ones(64)}), recipe=Recipe(epochs=1))
    binary = Predictor.create("tiny", [Target("c", task="binary")])
    compile_model(binary.model, binary.targets, adam)
    two = Predictor.create("lgdcnn", [Target("y")], keywords=SMALL)
    compile_model(two.model, two.targets, keras.optimizers.Adam(), loss="mae")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lookahead_lamb"])
@pytest.mark.usefixtures("quick", "eagerly")
def test_rates_of_layers_and_parts(optimizer):
    decay = 0.0 if optimizer == "adam" else 0.1
    recipe = Recipe(loss="mae", optimizer=optimizer, weight_decay=decay, batch_size=16, rates=(("hidden_2", 1.0), ("backbone", 0.0)))
    predictor = Predictor.create("tiny", [Target("y")])
    before = {w.path: np.array(w) for w in predictor.model.weights}
    predictor.fit(table(), recipe=recipe, epochs=1)
    moved = {w.path for w in predictor.model.weights if not np.array_equal(np.array(w), before[w.path])}
    assert moved == {"hidden_2/kernel", "hidden_2/bias", "y/kernel", "y/bias"}


@pytest.mark.usefixtures("quick")
def test_a_rate_for_no_layer():
    predictor = Predictor.create("tiny", [Target("y")])
    for pattern in ("heads", "absent"):
        with pytest.raises(
            InputError, match=f"'{pattern}' matches no layer of tiny. Expected one of the parts backbone, absent, or a layer of emb"
        ):
            predictor.fit(table(), recipe=Recipe(loss="mae", rates=((pattern, 0.1),)))
