"""What ``tfmat tune`` shows of its trials: lines, a live table, plots."""

import importlib
import importlib.util
import pathlib
import time
from typing import Any

import pytest

pytest.importorskip("keras_tuner")

from tfmat.cli.trials import TrialsProgress
from tfmat.tuning.results import TrialResult


def trial(number: int, objective: float | None, **options: Any) -> TrialResult:
    status: Any = "completed" if objective is not None else "failed" if options.get("error") else "running"
    return TrialResult(str(number), status, {"dim": 4, "learning_rate": 0.00123456}, objective, 2, 5.0, **options)


def shown() -> None:
    with TrialsProgress([2, 2, 2, 2], "validation MAE of gap", "eV") as shown:
        shown.opened([trial(0, 0.5)])
        shown.began(trial(1, None))
        time.sleep(0.01)
        shown.report(1, 2, 1, 4, {})
        shown.ended(trial(1, 0.25))
        shown.began(trial(2, None))
        shown.ended(trial(2, None, error="it went wrong"))


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfmat.cli.trials.SILENCE", 0.0)
    shown()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tfmat: going on with 1 finished trials" and len(lines) == 4
    assert lines[1].startswith("tfmat: trial 1: epoch 1/2, ") and lines[1].endswith(" left")
    assert lines[2].startswith("tfmat: trial 1 (2 of 4): validation MAE of gap 0.25 eV, the best so far, 2 epochs, 5 s, dim=4, ")
    assert lines[3] == "tfmat: trial 2 (3 of 4) failed: it went wrong (dim=4, learning_rate=0.00123)"


def test_live_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tfmat.cli.trials.on_terminal", "tfmat.cli.progress.on_terminal"):
        monkeypatch.setattr(name, lambda: True)
    for name, value in (("COLUMNS", "160"), ("TERM", "xterm"), ("FORCE_COLOR", "1")):
        monkeypatch.setenv(name, value)
    shown()
    last = capsys.readouterr().err
    parts = ("validation MAE of gap [eV]", "learning rate", "0.00123", "0.25", "trial 2 failed: it went wrong", "75 %", "3 of 4", "left")
    for part in parts:
        assert part in last


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_plots(tmp_path: pathlib.Path) -> None:
    from matplotlib.image import imread

    from tfmat.tuning import SearchResult
    from tfmat.tuning.plots import write_plots

    results = []
    for number, (objective, epochs, kind) in enumerate([(0.5, 2, "lstm"), (None, 0, "gru"), (0.3, 6, "gru"), (4.0, 6, "lstm")]):
        values = {"learning_rate": 0.001 * 3**number, "recurrent": kind, "attention": bool(number % 2), "dim": 2**number}
        results.append(TrialResult(str(number), "failed" if objective is None else "completed", values, objective, epochs))
    write_plots(SearchResult(results, results[2], None, "validation MAE of gap", "eV", tmp_path, ("learning_rate",)))  # type: ignore[arg-type]
    names = {"objective.png", *(f"objective-{name}.png" for name in results[0].values)}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        assert imread(tmp_path / name)[..., :3].std() > 0.01
