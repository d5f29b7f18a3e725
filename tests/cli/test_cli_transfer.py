"""``tfmat train --init --freeze --rate``: what is told, kept and refused."""

import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest
import tiny
from cli_cases import TINY, Command, listing

from tfmat.analysis import figures
from tfmat.atomic import sha256_of
from tfmat.cli.progress import TrainingProgress
from tfmat.errors import InputError
from tfmat.model_directory.files import WEIGHTS
from tfmat.predictor import Predictor
from tfmat.runs.folder import TrainingFolder
from tfmat.runs.settings import layer_rates

pytestmark = pytest.mark.usefixtures("eagerly")

GAP, ENERGY = ("--target", "gap", "--unit", "eV"), ("--target", "energy", "--unit", "eV")
STEADY = ("--recipe-option", "schedule=constant", "--recipe-option", "ema=null", "--recipe-option", "fraction_jitter=0")


@pytest.fixture(autouse=True)
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "can_plot", lambda: False)


def values(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight) for weight in Predictor.load(folder).model.weights}


def changed(first: pathlib.Path, second: pathlib.Path) -> set[str]:
    """Names of the layers that differ."""
    a, b = values(first), values(second)
    assert a.keys() == b.keys()
    return {path.split("/")[0] for path in a if not np.array_equal(a[path], b[path])}


def test_frozen_layers_and_rates(tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    layers = ("--freeze", "elements", "--freeze", "block*", "--rate", "region=0", "--rate", "*=0.5")
    result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, *STEADY, "--epochs", "1", "--init", model, *layers, "--out", "m")
    assert result.code == 0, result.err
    assert result.lines[:2] == [f"tfmat: 14 of 14 weights from {model}", "tfmat: not trained: elements, block1_conv1, block1_conv2"]
    assert changed(model, tmp_path / "m") == {"head"}
    info = Predictor.load(tmp_path / "m").info
    assert info["init"]["weights_sha256"] == sha256_of(model / WEIGHTS) and info["init"]["source"] == str(model)
    assert info["recipe"]["rates"] == [["region", 0.0], ["*", 0.5]]
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"Initial weights: 14 from `{model}`, a lgdcnn of gap" in card and "not trained: elements, block1_conv1" in card


def test_another_target_gets_a_new_output(tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(model, tmp_path / "source")
    result = tfmat("train", "lgdcnn", "--data", table, *ENERGY, *TINY, "--epochs", "1", "--init", "source", "--out", "m")
    assert result.code == 0, result.err
    assert result.lines[0] == "tfmat: 12 of 14 weights from source; new: head/kernel, head/bias"
    assert Predictor.load(tmp_path / "m").info["init"]["source"] == "source"
    result = tfmat("predict", "m", "NaCl")
    assert result.code == 0 and "energy [eV]" in result.out


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """The next run ends in an epoch's second step."""
    before = TrainingProgress.report

    def report(self: TrainingProgress, at: int, epochs: int, step: int, steps: int, row: dict[str, float]) -> None:
        before(self, at, epochs, step, steps, row)
        if (at, step) == (epoch, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingProgress, "report", report)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_beginning(
    tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "source")
    best = ("--recipe-option", "keep=best", "--recipe-option", "patience=5")
    layers = ("--init", "source", "--freeze", "elements", "--rate", "block*=0.1")
    options = ("--data", table, *GAP, *TINY, *STEADY, *best, *layers, "--epochs", "3")
    assert tfmat("train", "lgdcnn", *options, "--out", "whole").code == 0
    for epoch, out in ((1, "first"), (2, "second")):
        with monkeypatch.context() as patch:
            interrupt(patch, epoch)
            assert tfmat("train", "lgdcnn", *options, "--out", out).code == 143
        settings = json.loads((tmp_path / f"{out}.training" / "run.json").read_text())
        assert settings["init"] == str(tmp_path / "source") and settings["freeze"] == ["elements"]
        if epoch == 1:
            shutil.move(tmp_path / "source", tmp_path / "aside")
            result = tfmat("train", "--resume", out)
            assert result.code == 2 and "no such model" in result.err
            shutil.copytree(tmp_path / "whole", tmp_path / "source")
            result = tfmat("train", "--resume", out)
            assert result.code == 2 and len(result.lines) == 1
            assert "source: the model that gave the initial weights has changed since the run began" in result.err
            shutil.rmtree(tmp_path / "source")
            shutil.move(tmp_path / "aside", tmp_path / "source")
        result = tfmat("train", "--resume", out)
        assert result.code == 0, result.err
        for a, b in zip(values(tmp_path / out).values(), values(tmp_path / "whole").values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        infos = [Predictor.load(tmp_path / name).info for name in (out, "whole")]
        assert all(infos[0][key] == infos[1][key] for key in ("init", "frozen", "best_epoch", "recipe"))
    result = tfmat("train", "--resume", "first", "--freeze", "head")
    assert result.code == 2 and "--freeze cannot be changed" in result.err


def test_a_run_of_an_older_version_is_refused(tmp_path: pathlib.Path) -> None:
    """Its batches were made otherwise."""
    old = {"architecture": "lgdcnn", "keywords": {}, "data": "d", "label": "d", "split": None, "targets": [], "recipe": {}, "epochs": 1}
    old |= {"seed": 0, "jit": True, "cache": True, "overwrite": False, "train_sha256": "", "tfmat": "0.1.0", "format": 1}
    (tmp_path / "m.training").mkdir()
    (tmp_path / "m.training" / "run.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"begun by another version of tfmat. Expected that version, or a new run"):
        TrainingFolder(tmp_path / "m").settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--init", "none"), "none: no such model"),
        (("--freeze", "heads"), "'heads' matches no layer of lgdcnn. Expected a layer of elements, fractions_code,"),
        (("--freeze", "*"), "all layers of lgdcnn would be frozen"),
        (("--rate", "heads=1"), "'heads' matches no layer of lgdcnn"),
        (("--rate", "head"), "--rate 'head' sets nothing"),
        (("--rate", "head=fast"), "head = 'fast' is not a number"),
        (("--rate", "head=-1"), "--rate head=-1 is no factor"),
        (("--recipe-option", "loss=huber"), "loss = 'huber' is not laplace or mae or mse or mape or mse_physical"),
        (("--recipe-option", "patience=3"), "`patience` needs keep='best'"),
        (("--recipe-option", 'rates=[["head", -1]]'), "a factor in `rates` must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_and_exit_code_2(
    tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path, options: tuple[str, ...], message: str
) -> None:
    result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, "--epochs", "1", *options, "--out", "m")
    assert result.code == 2 and len(result.lines) == 1 and message in result.err, result.err
    assert not listing(tmp_path)


def test_an_empty_load_is_one_line(
    tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.register(monkeypatch)
    result = tfmat("train", "tiny", "--data", table, *GAP, "--no-cache", "--epochs", "1", "--init", model, "--out", "m")
    assert result.code == 2 and len(result.lines) == 1
    assert "no weight of this lgdcnn (layers elements, " in result.err and "fits the new tiny (layers embedding, hidden_1, " in result.err
    assert not listing(tmp_path)


def test_presets_are_models(
    tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "cache" / "gap")
    tiny.register(monkeypatch, tmp_path / "cache" / "gap")
    assert tfmat("predict", "tiny-1/gap", "NaCl").out == tfmat("predict", model, "NaCl").out
    assert tfmat("evaluate", "tiny-1/gap").code == 0
    assert (tmp_path / "cache" / "gap" / "evaluations").is_dir() and not (tmp_path / "tiny-1").exists()
    result = tfmat("train", "lgdcnn", "--data", table, *GAP, *TINY, "--epochs", "1", "--init", "tiny-1/gap", "--out", "m")
    assert result.code == 0 and result.lines[0] == "tfmat: 14 of 14 weights from tiny-1/gap"
    assert "a preset of `tfmat models`" in tfmat("predict", "tiny-2", "NaCl").err
    assert "presets: tiny-1/gap" in tfmat("models").out


def test_rates_of_the_command_line_go_first() -> None:
    assert layer_rates(["a=1", "b*=0.1", "c=0"]) == (("a", 1.0), ("b*", 0.1), ("c", 0.0))
    with pytest.raises(InputError, match="no factor"):
        layer_rates(["a=NaN"])
