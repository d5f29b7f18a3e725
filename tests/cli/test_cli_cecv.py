"""``tfmat cecv``: numbers on stdout, tables and plots in a folder, one line for what is wrong."""

import pathlib

import pandas as pd
import pytest
from cli_cases import Command, listing

from tfmat.analysis.cecv import TOLERANCES, cecv
from tfmat.predictor import Predictor
from tfmat.target import Target

TERNARIES = [f"{a}{n}{b}{m}O{3 + n}" for a in ("Li", "Na", "K") for b in ("S", "Al", "Mg", "Ca") for n, m in ((1, 1), (2, 1), (1, 2))]


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "t.csv").write_text("formula\n" + "\n".join([*TERNARIES, "Xx2O3", "LiAlSO4", "Fe2O3"]) + "\n")
    return tmp_path / "t.csv"


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    keywords = {"dim": 16, "recurrent": ("lstm",), "attention": False, "conv_blocks": 0}
    return Predictor.create("lgdcnn", [Target("gap", "eV")], keywords=keywords).save(tmp_path_factory.mktemp("m") / "lstm")


def test_two_models(tfmat: Command, model: pathlib.Path, lstm: pathlib.Path, data: pathlib.Path) -> None:
    result = tfmat("cecv", model, lstm, "--data", "t.csv", "--element", "O", "--out", "out/c", "--compound", "LiAlSO4")
    assert result.code == 0, result.err
    assert "t.csv: 37 compounds with O (36 of 3 elements, 1 of 4 elements)" in result.out
    assert "1 of 39 rows cannot be read and are left out" in result.err and "Xx2O3" in result.err
    expected = cecv(Predictor.load(model), [*TERNARIES, "LiAlSO4"], "O")
    (line,) = [line.split() for line in result.out.splitlines() if line.startswith("model (local)") and "." not in line]
    assert line[2:] == [str(number) for number in expected.vector]
    folder = data.parent / "out" / "c"
    frame = pd.read_csv(folder / "cecv.csv")
    own = frame[frame["model"] == "model"]
    assert own["tolerance"].tolist() == list(TOLERANCES) and own["clusters"].tolist() == expected.vector.tolist()
    assert frame.groupby("model")["reference"].first().to_dict() == {"model": "local", "lstm": "global"}
    assert own["retention_rate"].tolist() == pytest.approx(expected.retention.tolist(), rel=1e-6)
    parts = pd.read_csv(folder / "cecv_by_elements.csv")
    assert parts[parts["model"] == "model"].groupby("tolerance")["clusters"].sum().tolist() == expected.vector.tolist()
    square = pd.read_csv(folder / "environment-LiAlSO4-lstm.csv", index_col="element")
    assert square.index.tolist() == square.columns.tolist() == ["O", "Li", "Al", "S"]
    assert {"cecv.png", "retention.png", "environment-LiAlSO4.png"} <= listing(folder)


def test_its_own_test_split_and_no_folder(tfmat: Command, lstm: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rows = "".join(f"{formula},{i % 5}\n" for i, formula in enumerate(TERNARIES))
    (tmp_path / "own.csv").write_text("formula,gap\n" + rows)
    options = ("--set", "dim=16", "--set", "conv_dim=16", "--epochs", "1", "--split", "file:own-split.csv")
    splits = "".join(f"{i},{'test' if i % 2 else 'train' if i % 4 else 'validation'}\n" for i in range(2, len(TERNARIES) + 2))
    (tmp_path / "own-split.csv").write_text("id,split\n" + splits)
    trained = tfmat("train", "lgdcnn", "--variant", "dcnn_k1", "--data", "own.csv", "--target", "gap", *options, "--out", "own")
    assert trained.code == 0, trained.err
    before = listing(tmp_path)
    result = tfmat("cecv", "own", "--element", "O", "--clustering", "legacy", "--layer", "region")
    assert result.code == 0, result.err
    assert "own.csv, test: 18 compounds with O" in result.out and "layer region, clustering legacy" in result.out
    assert "own.csv, all: 36 compounds" in tfmat("cecv", "own", "--element", "O", "--split", "all").out
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--element", "U"), "none of the 38 compounds holds U. Expected an element that some of them hold"),
        (("--element", "Fe"), "none of the 1 compounds that hold Fe has 3 to 7 elements"),
        (("--element", "Xx"), "unknown element 'Xx'"),
        (("--element", "O", "--layer", "head"), "no layer 'head' with features of each element. Expected one of readout, elements,"),
        (("--element", "O", "--clustering", "some"), "unknown clustering 'some'"),
        (("--element", "O", "--split", "test"), "has no split that the models know"),
        (("--element", "O", "--compound", "Si"), "Si has one element, and a correlation needs two"),
        (("--element", "O", "--compound", "Xx2"), "unknown element 'Xx'"),
    ],
)
def test_bad_input(tfmat: Command, model: pathlib.Path, data: pathlib.Path, options: tuple[str, ...], message: str) -> None:
    result = tfmat("cecv", model, "--data", data, *options, "--out", "out/c")
    assert result.code == 2 and not result.out
    assert message in result.lines[-1] and "Traceback" not in result.err
    assert listing(data.parent) == {"t.csv"}


def test_a_model_of_crystals(tfmat: Command, model: pathlib.Path, data: pathlib.Path) -> None:
    keywords = {"dim": 8, "hidden_dim": 8, "gaussians": 16, "blocks": 1}
    Predictor.create("megnet", [Target("gap", "eV")], keywords=keywords).save(data.parent / "megnet")
    result = tfmat("cecv", model, "megnet", "--data", data, "--element", "O")
    assert result.code == 2 and not result.out
    problem = "megnet predicts crystals, and CECV compares the elements of a formula"
    assert result.lines[-1] == f"tfmat: {problem}. Expected a model of compositions"


def test_a_model_twice_and_a_folder_that_is_taken(tfmat: Command, model: pathlib.Path, data: pathlib.Path) -> None:
    result = tfmat("cecv", model, model, "--data", data, "--element", "O")
    assert result.code == 2 and "is given twice" in result.lines[-1]
    (data.parent / "mine").mkdir()
    (data.parent / "mine" / "thesis.txt").write_text("x")
    assert "it exists already" in tfmat("cecv", model, "--data", data, "--element", "O", "--out", "mine").err
    result = tfmat("cecv", model, "--data", data, "--element", "O", "--out", "mine", "--overwrite")
    assert result.code == 2 and "it holds no cecv.csv, so it is not overwritten" in result.err
    assert listing(data.parent) == {"t.csv", "mine", "mine/thesis.txt"}
