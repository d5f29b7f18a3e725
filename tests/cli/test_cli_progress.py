"""Progress: few plain lines, rate and remaining time; numbers with the digits that matter; typed options."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from cli_cases import Command, start

from tfmat.cli import progress
from tfmat.cli.tables import aligned, duration, number, shortened
from tfmat.errors import InputError
from tfmat.runs.settings import typed
from tfmat.target import Target


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def lines_of_a_run(epochs: int, seconds: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run of four steps an epoch prints, which take `seconds` together."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    targets = [Target("gap", "eV"), Target("metal", task="binary")]
    with progress.TrainingProgress(100, targets) as shown:
        for epoch in range(1, epochs + 1):
            for step in range(1, 5):
                clock.now += seconds / 4
                figures = {"loss": 0.5, "val_gap_mae": 0.25, "val_metal_mae": 0.125} if step == 4 else {}
                shown.report(epoch, epochs, step, 4, figures)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 19, 20, 21, 40, 100, 1000])
def test_few_lines(epochs: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, *lines = lines_of_a_run(epochs, 0.01, capsys, monkeypatch)
    assert "compiled" in first
    assert min(epochs, 10) <= len(lines) <= progress.LINES + 2
    assert lines[-1].startswith(
        f"tfmat: epoch {epochs}/{epochs}: loss 0.5, validation MAE of gap 0.25 eV, validation errors of metal 12.5 %"
    )
    assert "left" not in lines[-1]


def test_a_line_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of_a_run(3, 240.0, capsys, monkeypatch)
    assert len(lines) == 1 + 3 * 4
    assert lines[6] == "tfmat: epoch 2/3, step 2/4, 0 rows/s, 6 min 00 s left"


def test_long_work_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.task("reading it"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "tfmat: reading it ...\n"
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with progress.rows_done("predicting") as report:
        time.sleep(0.1)
        for done in range(0, 501, 10):
            clock.now += 5.0
            report(done, 500)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tfmat: predicting ..."
    assert lines[2:] == [
        "tfmat: predicting: 140 of 500 rows, 2 rows/s, 3 min 00 s left",
        "tfmat: predicting: 270 of 500 rows, 2 rows/s, 1 min 55 s left",
        "tfmat: predicting: 400 of 500 rows, 2 rows/s, 50 s left",
    ]


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.TrainingProgress(100, [Target("gap", "eV")]) as shown:
        for epoch in (1, 2, 3):
            time.sleep(0.01)
            shown.report(epoch, 3, 1, 1, {"val_gap_mae": 0.25})
    last = capsys.readouterr().err
    assert "epoch 3/3" in last and "100 %" in last and "rows/s" in last and "validation MAE 0.25 eV" in last
    with progress.task("reading it"):
        time.sleep(0.05)
    assert "reading it ..." in capsys.readouterr().err
    with progress.rows_done("predicting") as report:
        for done in (0, 250, 500):
            time.sleep(0.02)
            report(done, 500)
    last = capsys.readouterr().err
    assert "predicting" in last and "100 %" in last and "rows/s" in last


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (-1.23456, 0.0432, "-1.235"),
        (212.345, 12.3, "212"),
        (212.345, 123.0, "212.3"),
        (0.000123456, None, "0.0001235"),
        (1e9, 0.1, "1e+09"),
        (float("nan"), None, "-"),
        (1.5, float("nan"), "1.5"),
    ],
)
def test_numbers(value: float, uncertainty: float | None, text: str) -> None:
    assert number(value, uncertainty) == text


def test_text() -> None:
    assert aligned(["a", "b"], [["longer", "1"], ["", "22"]], right=[1]) == "a        b\nlonger   1\n        22"
    assert [duration(s) for s in (0.4, 59.4, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert shortened("Fe2O3\n" * 100, 10) == "Fe2O3 F..."


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("32", int, 32),
        ("1e-3", float, 1e-3),
        ("1", float, 1),
        ("true", bool, True),
        ("mat2vec", Literal["mat2vec", "onehot"], "mat2vec"),
        ("lstm,gru", Sequence[Literal["lstm", "gru"]], ["lstm", "gru"]),
        ('["gru"]', Sequence[Literal["lstm", "gru"]], ["gru"]),
        ("", Sequence[str], []),
        ("null", float | None, None),
        ("64,512", tuple[int, int], (64, 512)),
        ("12", str, "12"),
    ],
)
def test_typed(text: str, annotation: Any, value: Any) -> None:
    assert typed("key", text, annotation) == value


@pytest.mark.parametrize(
    ("text", "annotation"),
    [("1.5", int), ("True", bool), ("1", bool), ("true", int), ("x", Literal["y"]), ("x", float | None), ("1,2,3", tuple[int, int])],
)
def test_not_of_that_type(text: str, annotation: Any) -> None:
    with pytest.raises(InputError, match=r"^key = .* is not "):
        typed("key", text, annotation)


_EXAMPLES = ["train", "tune", "predict", "evaluate", "report", "explain", "cecv", "export", "inspect", "serve", "models", "datasets"]


@pytest.mark.parametrize("command", _EXAMPLES)
def test_help_has_examples(command: str, tfmat: Command) -> None:
    result = tfmat(command, "--help")
    assert result.code == 0 and not result.err
    assert f"  Examples:\n    tfmat {command}" in result.out


def test_no_command_and_version(tfmat: Command) -> None:
    assert "Commands:" in tfmat().out
    assert tfmat("--version").out.startswith("tfmat 0.")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, json, tfmat.cli; tfmat.cli.run(['train', '--help']); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).parents[2])
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not modules & {"tensorflow", "keras", "numpy", "pandas", "pymatgen", "rich.progress", "h5py"}


def test_reader_that_leaves(tmp_path: pathlib.Path) -> None:
    process = start(("datasets", "--json"), tmp_path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) in (1, 141)
