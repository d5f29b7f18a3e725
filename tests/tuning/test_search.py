"""Searches in one process: what they find, what they write, and what happens when a trial or the disk fails."""

import csv
import dataclasses
import errno
import json
import math
import os
import pathlib

import numpy as np
import pytest

pytest.importorskip("keras_tuner")

import keras_tuner
from sklearn.gaussian_process import GaussianProcessRegressor
from tuning_cases import TARGETS, grid, space, tables

from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.tuning import search
from tfmat.tuning.objective import Objective
from tfmat.tuning.oracles import GIVE_UP, Durable, oracle_for, planned_epochs
from tfmat.tuning.trial import Fitting, Outcome
from tfmat.tuning.tuner import write_hparams


def run(out, *, tuner="random", trials=4, epochs=2, space=space, **options):
    return search("tiny", TARGETS, *tables(), out, tuner=tuner, trials=trials, epochs=epochs, space=space, **options)


def rows(out):
    return list(csv.DictReader((out / "trials.csv").read_text().splitlines()))


def state(out):
    return json.loads((out / "trials" / "oracle.json").read_text())


def statuses(out):
    return [json.loads(path.read_text())["status"] for path in sorted(out.glob("trials/trial_*/trial.json"))]


def test_a_trial_is_what_fit_does_and_the_best_one_can_be_trained_again(tmp_path):
    out = tmp_path / "s"
    found = run(out, trials=2, seed=3)
    assert statuses(out) == ["COMPLETED"] * 2 and [trial.status for trial in found.trials] == ["completed"] * 2
    best = json.loads((out / "best.json").read_text())
    assert best["search"]["value"] == found.best.objective == min(trial.objective for trial in found.trials)
    assert (found.objective, found.unit) == ("validation MAE of gap", "eV")

    predictor = Predictor.create(best["architecture"], TARGETS, keywords=best["keywords"], seed=best["seed"])
    training, validation = tables()
    predictor.fit(training, validation, recipe=Recipe.from_config(best["recipe"]), seed=best["seed"])
    assert predictor.info["validation"]["gap"]["MAE"] == pytest.approx(found.best.objective, rel=1e-6)

    again = found.train()
    assert again.info["validation"]["gap"]["MAE"] == pytest.approx(found.best.objective, rel=1e-6) and len(again.history) == 2

    first, second = rows(out)
    assert list(first) == [
        *("trial", "status", "validation MAE of gap [eV]", "epochs", "seconds", "parameters", "promoted from", "worker"),
        *("dim", "learning_rate", "error"),
    ]
    assert float(first["validation MAE of gap [eV]"]) == pytest.approx(found.trials[0].objective, rel=1e-5)
    assert (first["epochs"], first["status"], first["worker"]) == ("2", "completed", "tuner0")
    assert {float(row["learning_rate"]) for row in (first, second)} == {trial.values["learning_rate"] for trial in found.trials}
    assert len(list((out / "logs").glob("*/events.out.tfevents*"))) == 2
    assert not list(out.glob("trials/*/checkpoint.h5"))


def test_logs_for_tensorboard_hold_values_and_objective(tmp_path):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    values, errors = {"dim": 8, "learning_rate": 0.01}, {"gap": 0.25}
    outcome = Outcome(0.25, errors, 2, 1.0, 100, [{"epoch": float(i), "val_gap_mae": 1.0 / i, "seconds": 1.0} for i in (1, 2)])
    write_hparams(tmp_path / "7", values, outcome, Objective.of(TARGETS, tables()[0]))
    log = EventAccumulator(str(tmp_path / "7")).Reload()
    content = log.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.number_value for name, value in told.items()} == values
    (event,) = log.Tensors("validation MAE of gap [eV]")
    assert event.step == 2 and float(tf.make_ndarray(event.tensor_proto)) == 0.25
    assert [event.step for event in log.Tensors("val_gap_mae")] == [1, 2] and "seconds" not in log.Tags()["tensors"]


@pytest.mark.parametrize("tuner", ["random", "bayesian", "grid"])
def test_the_same_seed_tries_the_same_values(tuner, pretended, tmp_path):
    values = []
    for number, seed in enumerate((0, 0, 1)):
        values.append([trial.values for trial in run(tmp_path / str(number), tuner=tuner, trials=5, seed=seed).trials])
    assert values[0] == values[1] and len(values[0]) == 5
    assert (values[0] == values[2]) == (tuner == "grid")


def test_the_process_of_a_bayesian_search_predicts_as_scikit_learns(tmp_path):
    hp = keras_tuner.HyperParameters()
    space(hp)
    oracle = oracle_for("bayesian", hp, trials=9, epochs=1, seed=0)
    rng = np.random.default_rng(0)
    points, values, others = rng.random((12, 2)), rng.random(12), rng.random((5, 2))
    for expected, found in zip(
        *(p.predict(others, return_std=True) for p in (GaussianProcessRegressor(), type(oracle.gpr)())), strict=True
    ):
        np.testing.assert_array_equal(found, expected)  # nothing is learnt yet
    oracle.gpr.fit(points, values)
    expected = GaussianProcessRegressor.predict(oracle.gpr, others, return_std=True)
    for numbers in zip(expected, oracle.gpr.predict(others, return_std=True), strict=True):
        np.testing.assert_allclose(*numbers, rtol=1e-9)


def test_a_bayesian_search_comes_close(pretended, tmp_path):
    found = run(tmp_path / "s", tuner="bayesian", trials=14)
    assert abs(math.log10(found.best.values["learning_rate"]) + 2) < 0.2 and found.best.values["dim"] == 4


class Kill(BaseException):
    """As good as SIGKILL: nobody catches it."""


class Killer:
    """A watcher that ends the process when a trial begins."""

    def __init__(self, trial):
        self.trial, self.before, self.ends = trial, None, []

    def opened(self, results):
        self.before = results

    def began(self, result):
        if result.name == self.trial:
            raise Kill

    def report(self, *arguments):
        pass

    def ended(self, result):
        self.ends.append(result)


@pytest.mark.parametrize("tuner", ["random", "bayesian", "grid", "hyperband"])
def test_a_killed_search_goes_on_and_no_trial_runs_twice(tuner, pretended, tmp_path):
    out, options = tmp_path / "s", {"tuner": tuner, "trials": 6, "epochs": 4}
    whole = run(tmp_path / "whole", **options)
    expected, pretended.runs[:] = pretended.names, []
    third = sorted(path.name for path in (tmp_path / "whole" / "trials").glob("trial_*"))[3].removeprefix("trial_")
    with pytest.raises(Kill):
        run(out, **options, watcher=Killer(third))
    finished = {path: path.read_bytes() for path in out.glob("trials/*/trial.json")}
    assert len(finished) == 4 and len(rows(out)) == 3

    watcher = Killer(None)
    found = run(out, **options, watcher=watcher)
    assert [result.status for result in watcher.before] == ["completed"] * 3 + ["running"] and len(watcher.ends) == 3
    assert pretended.names == expected and len(set(expected)) == 6
    assert set(state(out)["run_times"].values()) == {1}
    for path in sorted(finished)[:3]:
        assert path.read_bytes() == finished[path]
    if tuner != "bayesian":  # whose random numbers begin anew
        assert [trial.values for trial in found.trials] == [trial.values for trial in whole.trials]
    assert found.best.objective == min(trial.objective for trial in found.trials)
    with pytest.raises(InputError, match="another number of epochs"):
        run(out, **options | {"epochs": 5})
    assert len(run(out, **options).trials) == 6 and len(pretended.runs) == 6


def test_a_finished_search_goes_on_with_more_trials(pretended, tmp_path):
    run(tmp_path / "s", trials=2)
    found = run(tmp_path / "s", trials=5)
    assert len(found.trials) == 5 and len(pretended.runs) == 5
    assert [trial.values for trial in found.trials] == [trial.values for trial in run(tmp_path / "at once", trials=5).trials]


@pytest.mark.parametrize("write", range(1, 14))
def test_a_kill_between_any_two_writes_costs_no_finished_trial(write, pretended, tmp_path, monkeypatch):
    """Files are written one after the other: whichever was the last, the search goes on and ends with the same trials."""
    writes = []
    original = Durable._write

    def counted(self, path, content):
        if len(writes) == write:
            raise Kill
        writes.append(path)
        original(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Durable, "_write", counted)
        with pytest.raises(Kill):
            run(tmp_path / "s", trials=3)
    completed = [path.parent.name for path in (tmp_path / "s").glob("trials/*/trial.json") if '"COMPLETED"' in path.read_text()]
    before = len(pretended.runs)
    found = run(tmp_path / "s", trials=3)
    assert [trial.status for trial in found.trials] == ["completed"] * 3
    assert not set(pretended.names[before:]) & set(completed)
    assert [trial.values for trial in found.trials] == [trial.values for trial in run(tmp_path / "whole", trials=3).trials]
    assert len(state(tmp_path / "s")["end_order"]) == len(set(state(tmp_path / "s")["end_order"])) == 3


def test_hyperband_goes_on_where_the_promoted_trial_ended(tmp_path, monkeypatch):
    """Optimizer and all: a trial that was promoted to the last epoch is the run that never stopped."""
    epochs = []

    class Watcher(Killer):
        def report(self, epoch, last, step, steps, figures):
            if figures:
                epochs.append((epoch, last))

    kept = []

    def count(names, folder=tmp_path / "s" / "trials"):
        kept.append(len(list(folder.glob("*/checkpoint.h5"))))

    watcher = Watcher(None)
    watcher.began = count
    found = run(tmp_path / "s", tuner="hyperband", trials=6, epochs=4, watcher=watcher)
    assert [trial.epochs for trial in found.trials] == [2, 2, 2, 2, 2, 4]
    last = found.trials[-1]
    source = next(trial for trial in found.trials if trial.name == last.promoted_from)
    assert source.objective == min(trial.objective for trial in found.trials[:5]) and source.values == last.values
    assert epochs == [(1, 2), (2, 2)] * 5 + [(3, 4), (4, 4)]
    assert kept == [0, 1, 2, 2, 2, 2] and not list((tmp_path / "s").glob("trials/*/checkpoint.h5"))

    predictor = Predictor.create("tiny", TARGETS, keywords={"dim": last.values["dim"]})
    training, validation = tables()
    recipe = dataclasses.replace(predictor.recipe("default"), learning_rate=last.values["learning_rate"], epochs=4)
    predictor.fit(training, validation, recipe=recipe)
    assert last.objective == pytest.approx(predictor.info["validation"]["gap"]["MAE"], rel=1e-6)
    predictor = Predictor.create("tiny", TARGETS, keywords={"dim": last.values["dim"]})
    predictor.fit(training, validation, recipe=recipe, until=2)
    assert source.objective == pytest.approx(predictor.info["validation"]["gap"]["MAE"], rel=1e-6)


def test_the_plan_of_a_search_is_what_it_does(pretended, tmp_path):
    found = run(tmp_path / "s", tuner="hyperband", trials=None, epochs=9)
    inherited = {trial.name: trial.epochs for trial in found.trials}
    done = [trial.epochs - inherited.get(trial.promoted_from, 0) for trial in found.trials]
    plan = planned_epochs("hyperband", None, 9, None)
    assert sorted(plan) == sorted(done) and len(plan) == len(found.trials)
    assert planned_epochs("hyperband", 5, 9, None) == plan[:5] and len(planned_epochs("hyperband", 100, 9, None)) == 100
    assert planned_epochs("random", 3, 9, None) == [9] * 3
    assert planned_epochs("grid", None, 2, 6) == [2] * 6 and planned_epochs("grid", 4, 2, 6) == [2] * 4
    assert {trial.promoted_from for trial in found.trials} > {None}


def failing(hp):
    return {"keywords": {"depth": 1, "dim": hp.Choice("dim", [8, -4], default=8)}, "recipe": {}}


def test_failed_trials_tell_their_error(tmp_path, capfd):
    watcher = Killer(None)
    found = run(tmp_path / "s", tuner="grid", trials=None, epochs=1, space=failing, watcher=watcher)
    assert [trial.status for trial in found.trials] == ["completed", "failed"]
    assert statuses(tmp_path / "s") == ["COMPLETED", "FAILED"]
    failed = found.trials[1]
    assert "-4" in failed.error and "\n" not in failed.error and failed.objective is None
    assert [result.error for result in watcher.ends] == ["", failed.error] and "Traceback" not in capfd.readouterr().err
    assert found.best.values["dim"] == 8 and rows(tmp_path / "s")[1]["error"] == failed.error


def diverging(hp):
    recipe = {"learning_rate": hp.Choice("learning_rate", [1e30]), "schedule": "constant", "loss": "mse"}
    return {"keywords": {}, "recipe": recipe}


def test_an_error_that_is_not_a_number_fails_the_trial(tmp_path):
    with pytest.raises(InputError, match=r"all 1 trials failed; the first: the loss became (nan|inf) in epoch"):
        run(tmp_path / "s", trials=1, space=diverging)
    assert statuses(tmp_path / "s") == ["FAILED"]


def test_a_search_of_which_all_trials_fail_ends_early(pretended, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise KeyError("no such thing")

    monkeypatch.setattr(Fitting, "run", fail)
    with pytest.raises(InputError) as caught:
        run(tmp_path / "s", trials=7)
    assert f"all {GIVE_UP} trials failed; the first: KeyError: 'no such thing'" in str(caught.value)
    assert statuses(tmp_path / "s") == ["FAILED"] * GIVE_UP and not (tmp_path / "s" / "best.json").exists()
    assert [row["status"] for row in rows(tmp_path / "s")] == ["failed"] * GIVE_UP
    with pytest.raises(InputError, match=f"all {GIVE_UP} trials failed"):
        run(tmp_path / "s", trials=7)


@pytest.mark.parametrize("writes", [9, 10, 11, 12, 13])
def test_a_full_disk_ends_the_search_and_finished_trials_survive(writes, pretended, tmp_path, monkeypatch):
    write, left = pathlib.Path.write_text, [writes]

    def full(self, *arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(InputError, match="it cannot be written: No space left on device") as caught:
            run(tmp_path / "s", trials=5)
    assert isinstance(caught.value.__cause__, OSError)
    before, ran = statuses(tmp_path / "s"), len(pretended.runs)
    assert "COMPLETED" in before and "FAILED" not in before and len(before) < 5
    found = run(tmp_path / "s", trials=5)
    assert [trial.status for trial in found.trials] == ["completed"] * 5
    assert len(pretended.names[ran:]) == 5 - before.count("COMPLETED")


@pytest.mark.slow
def test_a_disk_that_is_full_in_training_ends_the_search(tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "fit", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "s", trials=1, epochs=1)
    assert statuses(tmp_path / "s") == ["RUNNING"]
    assert [trial.status for trial in run(tmp_path / "s", trials=1, epochs=1).trials] == ["completed"]


def test_the_folder_of_another_search_is_refused(pretended, tmp_path):
    out = tmp_path / "s"
    run(out)
    training, validation = tables()
    with pytest.raises(InputError, match=r"it holds a search with another tuner \(random, not bayesian\). Expected another --out"):
        run(out, tuner="bayesian")
    with pytest.raises(InputError, match=r"another seed \(0, not 1\)"):
        run(out, seed=1)
    with pytest.raises(InputError, match="another search space"):
        run(out, space=grid)
    with pytest.raises(InputError, match="other builder keywords"):
        run(out, keywords={"depth": 3})
    with pytest.raises(InputError, match="another recipe"):
        run(out, recipe={"weight_decay": 0.1})
    with pytest.raises(InputError, match="other targets"):
        search("tiny", [Target("gap", "meV")], training, validation, out, tuner="random", trials=4, epochs=2, space=space)
    for changed, rows_ in (("training", (training.subset(range(60)), validation)), ("validation", (training, validation.subset(range(9))))):
        with pytest.raises(InputError, match=f"other {changed} rows"):
            search("tiny", TARGETS, *rows_, out, tuner="random", trials=4, epochs=2, space=space)
    before = (out / "search.json").read_text()
    for key, value, problem in (
        ("tfmat", "9.9", r"another version of tfmat \(9.9, not "),
        ("architecture", "megnet", "another architecture"),
    ):
        (out / "search.json").write_text(json.dumps(json.loads(before) | {key: value}))
        with pytest.raises(InputError, match=problem):
            run(out)
    (out / "search.json").write_text("{")
    with pytest.raises(InputError, match=r"search.json: it cannot be read"):
        run(out)
    assert len(pretended.runs) == 4
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"it holds no search: search.json is missing"):
        run(tmp_path / "other")


def test_a_damaged_state_is_told(pretended, tmp_path):
    run(tmp_path / "s")
    (tmp_path / "s" / "trials" / "oracle.json").write_text("{")
    with pytest.raises(InputError, match=r"oracle.json: the state of the search cannot be read"):
        run(tmp_path / "s")


def test_bad_arguments(tmp_path):
    for options, problem in (
        ({"tuner": "sobol"}, "unknown tuner 'sobol'. Expected one of hyperband"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"strategy": "sharded"}, "unknown strategy 'sharded'"),
        ({"keywords": {"width": 3}}, "tiny has no keyword 'width'"),
        ({"keywords": {"columns": 0}}, "tiny cannot be built with the defaults of its search space"),
        ({"recipe": {"loss": "laplace"}}, "the loss laplace needs"),
        ({"recipe": {"learning_rate": -1.0}}, "`learning_rate` must be positive"),
        ({"space": lambda hp: {"keywords": {}, "recipe": {}}}, "nothing is left to search"),
    ):
        with pytest.raises(InputError) as caught:
            run(tmp_path / "s", **options)
        assert problem in str(caught.value)
    with pytest.raises(InputError, match="no target 'energy'"):
        search("tiny", [Target("energy")], *tables(), tmp_path / "s", space=space)
    assert not (tmp_path / "s").exists()


def test_hyperband_goes_on_after_its_last_bracket(pretended, tmp_path):
    first = run(tmp_path / "s", tuner="hyperband", trials=None, epochs=4)
    more = run(tmp_path / "s", tuner="hyperband", trials=len(first.trials) + 3, epochs=4)
    assert len(more.trials) == len(first.trials) + 3 and more.trials[: len(first.trials)] == first.trials
