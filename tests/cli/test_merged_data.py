"""``--data A --data B``: one run on both, that goes on after an interruption, and is scored on both."""

import json
import os
import pathlib
import signal
from typing import Any

import pandas as pd
import pytest
from cli_cases import TINY, Command, compounds

from tfmat.analysis import figures
from tfmat.cli.progress import TrainingProgress

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(autouse=True)
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "can_plot", lambda: False)


def test_train_on_both_and_evaluate(tfmat: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        compounds(tmp_path / folder / "d.csv")
    both, units = ("--data", "x/d.csv", "--data", "y/d.csv"), ("--target", "gap", "--unit", "eV")
    report = TrainingProgress.report

    def stop(shown: TrainingProgress, epoch: int, epochs: int, step: int, steps: int, row: Any) -> None:
        report(shown, epoch, epochs, step, steps, row)
        if (epoch, step) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "report", stop)
        result = tfmat("train", "lgdcnn", *both, *units, *TINY, "--epochs", "2", "--split", "formula")
    assert result.code == 143 and "--resume runs/lgdcnn-d-d" in result.err, result.err
    result = tfmat("train", "--resume", "runs/lgdcnn-d-d")
    assert result.code == 0, result.err
    model = tmp_path / "runs" / "lgdcnn-d-d"
    data = json.loads((model / "config.json").read_text())["info"]["dataset"]
    assert data["sources"] == ["x/d.csv", "y/d.csv"] and sum(data["rows"].values()) == 192 and data["split"] == "formula"
    split = pd.read_csv(model / "split.csv")
    assert len(split) == split["id"].nunique() == 192 and {text.partition(":")[0] for text in split["id"]} == {"x/d.csv", "y/d.csv"}

    result = tfmat("evaluate", model)
    assert result.code == 0 and "warning" not in result.err, result.err
    frame = pd.read_csv(model / "evaluations" / "d-d-test" / "predictions.csv")
    assert list(frame)[:3] == ["id", "source", "material"] and set(frame["source"]) == {"x/d.csv", "y/d.csv"}
    assert all(identifier.startswith(source) for identifier, source in zip(frame["id"], frame["source"], strict=True))
    assert tfmat("report", model).code == 0

    result = tfmat("evaluate", model, *both, "--split", "all")
    assert result.code == 0 and "192 all rows" in result.err
    result = tfmat("evaluate", model, "--data", "x/d.csv")
    assert result.code == 0 and "source" not in pd.read_csv(model / "evaluations" / "d-all" / "predictions.csv")


def test_what_differs_is_one_line(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfmat.cli.progress.PATIENCE", 600.0)  # a slow machine is told that data are being read
    (tmp_path / "other.csv").write_text("formula,energy\nNaCl,1\nKCl,2\nLiF,3\n")
    for command in ("train", "tune"):
        result = tfmat(command, "lgdcnn", "--data", table, "--data", "other.csv", "--target", "gap", "--unit", "eV")
        lines = [line for line in result.lines if not line.startswith("tfmat: searching ")]
        assert result.code == 2 and len(lines) == 1 and "no column 'gap'" in lines[0], result.err
    other = ("--data", "exp_formation_enthalpy", "--data", tmp_path / "c.csv", "--target", "formation_enthalpy_per_atom")
    (tmp_path / "c.csv").write_text("formula,formation_enthalpy_per_atom\nNaCl,1\nKCl,2\nLiF,3\n")
    result = tfmat("train", "lgdcnn", *other)
    assert result.code == 2 and len(result.lines) == 1 and "Expected --unit eV/atom, if that is so" in result.err, result.err
    result = tfmat("train", "lgdcnn", *other, "--unit", "kJ/mol")
    assert result.code == 2 and len(result.lines) == 1 and "in eV/atom. Expected no --unit" in result.err, result.err
