"""A run in Python alone, without the command line: it prints nothing and tells a `Progress` what it does."""

import contextlib
import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiny

from tfmat.analysis import figures
from tfmat.predictor import Predictor
from tfmat.runs import evaluations
from tfmat.runs.config import model_settings
from tfmat.runs.data import open_for, split_of, targets_for
from tfmat.runs.evaluate import score
from tfmat.runs.folder import TrainingFolder
from tfmat.runs.progress import Progress
from tfmat.runs.train import prepare, run

SETTINGS = functools.partial(
    model_settings, None, "tiny", None, ["dim=4"], "default", [], rates=[], epochs=2, batch_size=8, new=True
)  # fmt: skip


class Recording(Progress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.epochs: list[int] = []

    def tell(self, message: str) -> None:
        self.told.append(message)

    @contextlib.contextmanager
    def task(self, description: str) -> Iterator[None]:
        self.told.append(description)
        yield

    @contextlib.contextmanager
    def rows(self, description: str) -> Iterator[None]:
        self.told.append(description)
        yield None

    @contextlib.contextmanager
    def training(self, rows: int, targets: Any) -> Iterator[Callable[..., None]]:
        self.told.append(f"training on {rows}")
        yield lambda epoch, epochs, step, steps, figures: self.epochs.append(epoch) if figures else None


@pytest.fixture
def file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(figures, "can_plot", lambda: False)
    monkeypatch.chdir(tmp_path)
    tiny.register(monkeypatch)
    salts = [f"{a}{n}{b}" for a, b, n in itertools.product(("Li", "Na", "K", "Mg"), ("F", "Cl", "O"), (1, 2, 3))]
    path = tmp_path / "salts.csv"
    path.write_text("formula,gap\n" + "".join(f"{salt},{0.1 * i}\n" for i, salt in enumerate(salts)) + "Xx,1\n")
    return path


def test_train_and_score(file: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen = Recording()
    settings = dataclasses.replace(SETTINGS(), data=str(file), label="salts.csv")
    dataset = open_for(settings, None, None, progress=seen)
    spec = split_of(dataset)
    assert dataset.name == "salts.csv" and spec is not None
    targets = [target.to_config() for target in targets_for(dataset, ["eV"], None, None)]
    settings = dataclasses.replace(settings, targets=targets, split=spec.to_config())
    folder = TrainingFolder(tmp_path / "m")
    predictor = prepare(settings, dataset, folder, progress=seen)
    run(predictor, settings, dataset, folder, progress=seen)
    assert seen.epochs == [1, 2] and not folder.path.exists()
    assert any("1 of 37 rejected" in line and "rejected.csv" in line for line in seen.told)
    assert [line.split(" on ")[0].split(" /")[0] for line in seen.told if "rejected" not in line] == [
        "reading salts.csv", "featurizing test rows", "featurizing training rows", "featurizing validation rows", "training", "writing",
    ]  # fmt: skip
    found, scores = score(tmp_path / "m")
    assert scores["data"] == "salts.csv" and found == evaluations.folder_of(tmp_path / "m", "salts.csv", "test")
    stored = evaluations.read(found, Predictor.load(tmp_path / "m").targets)
    assert stored.scores["scores"]["gap"]["MAE"] == pytest.approx(scores["scores"]["gap"]["MAE"])
    assert capfd.readouterr() == ("", "")


def test_an_error_before_the_first_epoch_leaves_nothing(
    file: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("an error")

    settings = dataclasses.replace(SETTINGS(), data=str(file), label=str(file), targets=[{"name": "gap", "unit": "eV"}])
    dataset, folder = open_for(settings, None, None), TrainingFolder(tmp_path / "out" / "m")
    predictor = prepare(settings, dataset, folder)
    assert folder.unfinished and folder.settings().data == str(file)
    monkeypatch.setattr(Predictor, "fit", fail)
    with pytest.raises(RuntimeError, match="an error"):
        run(predictor, settings, dataset, folder)
    assert not (tmp_path / "out").exists()
