"""Train, predict, evaluate, export; interruption and resumption."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cli_cases import TINY, Command, listing, start

import tfmat.predictor as predictor_module
import tfmat.training.loop as training_module
from tfmat.analysis import figures
from tfmat.cli.progress import SHOWN, TrainingProgress
from tfmat.predictor import Predictor
from tfmat.runs import folder as runs
from tfmat.runs.config import RunConfig, model_settings

pytestmark = pytest.mark.usefixtures("eagerly")

GAP = ("--target", "gap", "--unit", "eV")
needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than these tests' training."""
    monkeypatch.setattr(figures, "can_plot", lambda: False)


def weights(folder: pathlib.Path) -> list[np.ndarray]:
    return list(Predictor.load(folder).model.get_weights())


def assert_same_weights(first: pathlib.Path, second: pathlib.Path) -> None:
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_round_trip(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, "--epochs", "2")
    assert result.code == 0, result.err
    out = tmp_path / "runs" / "lgdcnn-compounds"
    assert result.out.index("MAE") < result.out.index("RMSE") and " eV\n" in result.out
    assert "tfmat predict runs/lgdcnn-compounds" in result.out
    assert {"config.json", "model.weights.h5", "history.csv", "README.md"} <= listing(out)
    assert set(os.listdir(tmp_path / "runs")) == {"lgdcnn-compounds"}
    data = Predictor.load(out).info["dataset"]
    assert data["name"] == str(table) and data["rows"] == {"train": 76, "validation": 10, "test": 10} and len(data["train_sha256"]) == 64

    result = tfmat("predict", out, "NaCl", "Ca(OH)2", "K2O")
    assert result.code == 0
    header, *rows = result.out.splitlines()
    assert header.split("  ")[0] == "material" and "gap [eV]" in header and "uncertainty [eV]" in header
    assert [row.split()[0] for row in rows] == ["NaCl", "Ca(OH)2", "K2O"]
    assert header.endswith("  warning") and [row.endswith("  H unseen in training") for row in rows] == [False, True, False]
    assert "1 of 3 materials hold elements that did not occur in training: Ca(OH)2" in result.err

    result = tfmat("predict", out, table, "--out", "p.csv")
    frame = pd.read_csv(tmp_path / "p.csv")
    predicted, travelled = list(frame.columns)[:7], list(frame.columns)[7:]
    assert predicted == ["id", "material", "gap [eV]", "gap_uncertainty [eV]", "in_domain", "unseen_elements", "error"]
    given = pd.read_csv(table)
    assert travelled == [f"{name}_given" if name == "gap" else name for name in given.columns if name not in ("id", "formula")]
    np.testing.assert_array_equal(frame["gap_given"], given["gap"])
    assert list(frame["id"]) == [f"m{i}" for i in range(96)] and frame["in_domain"].all()
    expected = Predictor.load(out).predict(list(frame["material"]))
    np.testing.assert_allclose(frame["gap [eV]"], expected["gap"], rtol=1e-5)

    result = tfmat("evaluate", out)
    assert result.code == 0 and "warning" not in result.err
    folder = out / "evaluations" / "compounds-test"
    scores = json.loads((folder / "scores.json").read_text())
    frame = pd.read_csv(folder / "predictions.csv")
    assert scores["rows"] == scores["scores"]["gap"]["n"] == len(frame) == 10
    assert scores["scores"]["gap"]["MAE"] == pytest.approx(np.mean(np.abs(frame["gap_true [eV]"] - frame["gap [eV]"])), rel=1e-5)

    result = tfmat("export", out)
    assert result.code == 0 and "serving_default, from_formula" in result.out
    assert all(line.startswith("tfmat: ") for line in result.lines)
    assert (tmp_path / "lgdcnn-compounds.savedmodel" / "saved_model.pb").is_file()


def test_export_litert(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("ai_edge_litert")
    result = tfmat("export", model, "--format", "litert", "--max-elements", "4")
    assert result.code == 0 and "largest relative difference" in result.out
    assert all(line.startswith("tfmat: ") for line in result.lines)
    assert (tmp_path / "model.tflite").is_file()


def test_export_onnx(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for package in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    result = tfmat("export", model, "--format", "onnx", "--max-elements", "4", "--batch-size", "2")
    assert result.code == 0 and "largest relative difference" in result.out and "ms for 2 materials" in result.out
    assert all(line.startswith("tfmat: ") for line in result.lines), result.err
    assert (tmp_path / "model.onnx").is_file()


def test_export_of_smaller_weights(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("ai_edge_litert")
    arguments = ("export", model, "--format", "litert", "--max-elements", "4", "--precision", "int8", "--out")
    result = tfmat(*arguments, "a.tflite")
    mae = Predictor.load(model).info["validation"]["gap"]["MAE"]
    (line,) = [line for line in result.out.splitlines() if line.startswith("loss ")]
    assert line.split(None, 1)[1].startswith("gap: mean ") and line.endswith(f" eV on 10 validation rows; validation MAE {mae:.3g} eV")
    assert "example materials" not in result.err

    predictor = Predictor.load(model)
    predictor.info["dataset"]["name"] = str(tmp_path / "gone.csv")
    predictor.save(tmp_path / "moved")
    result = tfmat("export", "moved", *arguments[2:], "b.tflite")
    assert result.code == 0 and "gone.csv, are not here: example materials take the place of its validation rows" in result.err
    assert " example formulas; validation MAE " in result.out


@needs_matplotlib
def test_several_targets_with_gaps(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    text = table.read_text().splitlines()
    (tmp_path / "d.csv").write_text("\n".join([*text, "RbF5,x,,,,", "KF5,y,,,,"]) + "\n")
    options = ("--target", "gap", "--unit", "eV", "--target", "modulus", "--unit", "GPa", "--transform", "none", "--transform", "log10")
    result = tfmat("train", "lgdcnn", "--data", "d.csv", *options, *TINY, "--epochs", "1", "--out", "m", "--split", "hash")
    assert result.code == 0, result.err
    assert "rows have no target value and are not used (the first is row" in result.err
    assert {"learning_curve.png", "parity-validation-gap.png", "parity-validation-modulus.png"} <= listing(tmp_path / "m")
    predictor = Predictor.load(tmp_path / "m")
    assert [(t.name, t.unit, t.transform) for t in predictor.targets] == [("gap", "eV", "none"), ("modulus", "GPa", "log10")]
    assert predictor.info["dataset"]["split"] == "hash"
    header = tfmat("predict", "m", "NaCl").out.splitlines()[0]
    assert "gap [eV]" in header and "modulus [GPa]" in header


@needs_matplotlib
def test_binary(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = ("--target", "metal", "--task", "binary", "--out", "m", "--epochs", "1")
    result = tfmat("train", "lgdcnn", "--data", table, *options, *TINY)
    assert result.code == 0 and "ROC-AUC" in result.out
    assert "roc-validation-metal.png" in listing(tmp_path / "m")
    result = tfmat("predict", "m", "NaCl")
    assert "metal [probability]" in result.out and "uncertainty" not in result.out
    result = tfmat("evaluate", "m", "--split", "all")
    assert "m has a composition" not in result.err and "96 all rows" not in result.out
    assert "76 of 96 all rows have a composition that occurs in the training rows" in result.err


@pytest.mark.usefixtures("unplotted")
def test_overwrite(tfmat: Command, model: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    (tmp_path / "m.training").mkdir()
    (tmp_path / "m.training" / "run.json").write_text("{}")
    options = ("--data", table, *GAP, *TINY, "--epochs", "1", "--out", "m", "--overwrite")
    assert tfmat("train", "lgdcnn", *options).code == 0
    assert Predictor.load(tmp_path / "m").info["epochs"] == 1
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.usefixtures("unplotted")
def test_a_keras_file_is_a_model(tfmat: Command, model: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """For every command: its content is unpacked into the cache."""
    predictor = Predictor.load(model)
    predictor.save(tmp_path / "m.keras")
    assert tfmat("predict", "m.keras", "Li2O").out == tfmat("predict", model, "Li2O").out
    result = tfmat("evaluate", "m.keras", "--data", table, "--split", "all")
    assert result.code == 0 and "gap" in result.out and "models/keras" in result.out
    predictor.model.save(tmp_path / "plain.keras")
    result = tfmat("predict", "plain.keras", "Li2O")
    assert result.code == 2 and len(result.lines) == 1
    assert "plain.keras: it does not say what it predicts in which units (no tfmat.json). Expected a file written by" in result.err
    assert "a .keras file of Predictor.save" in " ".join(tfmat("evaluate", "--help").out.split())


def test_evaluate_another_file(tfmat: Command, model: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    rows = table.read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([rows[0], "LiO,a,1,,1,1", *rows[1:4]]) + "\n")
    result = tfmat("evaluate", "m", "--data", "new.csv")
    assert result.code == 0
    assert (tmp_path / "m" / "evaluations" / "new-all" / "scores.json").is_file()
    assert "of 4 all rows have a composition that occurs in the training rows" in result.err


@pytest.mark.usefixtures("unplotted")
def test_interrupted_process_resumes_to_the_same_weights(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = ("--data", table, *GAP, *TINY, "--epochs", "10", "--seed", "3")
    process = start(("train", "lgdcnn", *options, "--out", "a"), tmp_path)
    history, deadline = tmp_path / "a.training" / "history.csv", time.monotonic() + 60
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert not out
    line = err.splitlines()[-1]
    assert line.startswith("tfmat: interrupted after epoch ") and line.endswith(" of 10; continue with: tfmat train --resume a")
    assert all(text.startswith("tfmat: ") for text in err.splitlines()), "TensorFlow's messages must not be seen"
    assert listing(tmp_path) == {"a.training", "a.training/run.json", "a.training/checkpoint.h5", "a.training/history.csv"}

    assert tfmat("train", "--resume", "a").code == 0
    assert tfmat("train", "lgdcnn", *options, "--out", "b").code == 0
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    resumed, straight = (pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds") for name in "ab")
    np.testing.assert_allclose(resumed, straight, atol=1e-6)
    assert set(os.listdir(tmp_path)) == {"a", "b"}


@contextlib.contextmanager
def killed_at(epoch: int, step: int, signum: int) -> Iterator[None]:
    """This process gets a signal at a step of the training."""
    report = TrainingProgress.report

    def reporting(self: TrainingProgress, at: int, epochs: int, now: int, steps: int, figures: Any) -> None:
        report(self, at, epochs, now, steps, figures)
        if (at, now) == (epoch, step):
            os.kill(os.getpid(), signum)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "report", reporting)
        yield


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize(
    ("epoch", "said"),
    [
        pytest.param(1, "interrupted before the first epoch ended; continue with", marks=pytest.mark.slow),
        (2, "interrupted after epoch 1 of 3; continue with"),
    ],
)
def test_interrupted_and_resumed(
    epoch: int, said: str, tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with killed_at(epoch, 1, signal.SIGINT):
        result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, "--epochs", "3", "--out", "runs/x.y")
        assert result.code == 130 and said in result.lines[-1] and result.lines[-1].endswith("--resume runs/x.y")
        if epoch > 1:
            result = tfmat("train", "--resume", "runs/x.y.training/")
            assert result.code == 130 and said in result.lines[-1]
    listed = json.loads(tfmat("models", "--json").out)["models"]
    assert "unfinished" in listed[0]["validation"]
    assert tfmat("train", "lgdcnn", "--resume", "runs/x.y").code == 0
    assert_same_weights(tmp_path / "runs" / "x.y", model)
    assert os.listdir(tmp_path / "runs") == ["x.y"]


@pytest.mark.usefixtures("unplotted")
def test_disk_full_at_the_end_loses_nothing(
    tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All epochs are in the checkpoint, the model is not written: going on gives the weights of a run that had space."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training_module, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(predictor_module.files, "write_model", full)
        result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, "--epochs", "3", "--out", "x")
    assert result.code == 2
    assert result.lines[-1].startswith("tfmat: disk full while writing x; the run is kept up to its last checkpoint")
    assert tfmat("train", "--resume", "x").code == 0
    assert_same_weights(tmp_path / "x", model)


@pytest.mark.usefixtures("unplotted")
def test_resume_refuses_other_data(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copy(table, tmp_path / "d.csv")
    with killed_at(1, 1, signal.SIGTERM):
        assert tfmat("train", "lgdcnn", "--data", "d.csv", *GAP, *TINY, "--epochs", "3", "--out", "x").code == 143
    before = listing(tmp_path)
    (tmp_path / "d.csv").write_text(table.read_text().replace("Li1O", "Cs1O"))
    result = tfmat("train", "--resume", "x")
    assert result.code == 2 and result.err == (
        "tfmat: d.csv: the training rows have changed since the run began. Expected the same data, or a new run without --resume\n"
    )
    assert listing(tmp_path) == before
    (tmp_path / "d.csv").unlink()
    assert "d.csv: no such file" in tfmat("train", "--resume", "x").err


def test_diverged(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    wild = ("--recipe-option", "learning_rate=1e30", "--recipe-option", "schedule=constant", "--recipe-option", "ema=null")
    result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, *wild, "--epochs", "5", "--out", "x")
    assert result.code == 2 and "training diverged" in result.lines[-1] and "learning_rate=" in result.lines[-1]
    assert not listing(tmp_path)


def test_default_out(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.default_out("lgdcnn", "folder/My data.csv.gz") == pathlib.Path("runs/lgdcnn-My-data")
    (tmp_path / "runs" / "lgdcnn-x").mkdir(parents=True)
    (tmp_path / "runs" / "lgdcnn-x-2.training").mkdir()
    assert runs.default_out("lgdcnn", "x", SHOWN) == pathlib.Path("runs/lgdcnn-x-3")
    assert "tfmat train --resume runs/lgdcnn-x-2" in capsys.readouterr().err
    assert runs.stem("expt_gap/fold3") == "expt_gap-fold3"
    assert runs.stem("elasticity_log10(G_VRH)") == "elasticity_log10-G_VRH"


def test_the_default_variant_is_that_of_a_new_model_alone() -> None:
    """What a config or another model says about the network counts for more than the default."""
    given = RunConfig("lgdcnn", keywords={"elements": "onehot"})

    def keywords(given: RunConfig | None, variant: str | None, *options: str, new: bool) -> dict[str, Any]:
        found = model_settings(given, "lgdcnn", variant, [*options], "default", [], rates=[], epochs=None, batch_size=None, new=new)
        return dict(found.keywords)

    assert keywords(None, None, new=True) == {"dim": 256, "conv_dim": 256, "ties": "atomic_number"}
    assert keywords(None, None, "dim=64", new=True) == {"dim": 64, "conv_dim": 256, "ties": "atomic_number"}
    assert keywords(None, "lgdcnn", new=True) == {}
    assert keywords(None, None, new=False) == {}
    assert keywords(given, None, new=False) == {"elements": "onehot"}


def test_listings(tfmat: Command) -> None:
    architectures = {listed["name"]: listed for listed in json.loads(tfmat("models", "--json").out)["architectures"]}
    assert set(architectures) >= {"lgdcnn", "megnet", "paraisite", "crysformer", "atom_list_lstm"}
    assert "gru" in architectures["lgdcnn"]["variants"] and architectures["lgdcnn"]["default"] == "base"
    assert architectures["lgdcnn"]["parameters"] == 2_210_815
    out = tfmat("models").out
    assert "no trained models" in out and "variants: base (default), lstm" in out
    assert json.loads(tfmat("datasets", "--json").out)[0]["name"] == "exp_formation_enthalpy"
    assert "exp_formation_enthalpy" in tfmat("datasets").out
