"""A small file of made-up compounds, a model trained on it, and the command line in this process."""

import pathlib

import pytest
from cli_cases import TINY, Command, Result, compounds

from tfmat.cli import run


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tfmat evaluate` keeps featurized data: not in the user's own cache."""
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return compounds(tmp_path_factory.mktemp("cli") / "compounds.csv")


@pytest.fixture(scope="session")
def model(table: pathlib.Path) -> pathlib.Path:
    """A trained model of the gap. Tests that change it copy it."""
    out = table.parent / "model"
    assert run(["train", "lgdcnn", "--data", str(table), "--target", "gap", "--unit", "eV", *TINY, "--epochs", "3", "--out", str(out)]) == 0
    return out


@pytest.fixture
def tfmat(capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, run in this process in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return call
