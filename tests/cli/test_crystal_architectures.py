"""Every architecture that takes crystals, on the command line: a folder of structure files is learnt, evaluated and predicted."""

import json
import pathlib

import pandas as pd
import pytest
from cli_cases import Command
from crystal_cases import crystals

from tfmat.architecture import architectures
from tfmat.predictor import Predictor
from tfmat.target import Target

pytestmark = pytest.mark.usefixtures("eagerly")

NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in ("megnet", "paraisite") else ())  # trained in other tests of the command line
    for name, found in sorted(architectures().items())
    if found.material == "crystal"
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_structures(name: str, tfmat: Command, tmp_path: pathlib.Path) -> None:
    crystals(tmp_path / "d")
    options = [option for key, value in architectures()[name].small.items() for option in ("--set", f"{key}={json.dumps(value)}")]
    trained = tfmat("train", name, "--data", "d", "--target", "gap", "--unit", "eV", "--epochs", "2", *options, "--out", "m")
    assert trained.code == 0, trained.err
    evaluated = tfmat("evaluate", "m", "--split", "all")
    assert evaluated.code == 0, evaluated.err
    scores = json.loads((tmp_path / "m" / "evaluations" / "d-all" / "scores.json").read_text())["scores"]["gap"]
    files = [f"d/c{number}.vasp" for number in (1, 2)]
    predicted = tfmat("predict", "m", *files, "--out", "p.csv")
    assert predicted.code == 0, predicted.err
    frame = pd.read_csv(tmp_path / "p.csv")
    assert scores["n"] == 32 and scores["MAE"] > 0
    assert frame.filter(like="gap").iloc[:, 0].notna().all() and len(frame) == 2 and frame["sites"].tolist() == [2, 2]
    refused = tfmat("predict", "m", "NaCl")
    assert refused.code == 2 and f"is no crystal, and {name} predicts crystals" in refused.err


@pytest.mark.parametrize(
    ("name", "keywords"),
    [("atom_list_lstm", {"pooling": "lstm"}), ("atom_list_lstm", {"pooling": "mean"}), ("crysformer", {"strict": True})],
)
def test_a_prediction_that_depends_on_the_cell_says_so(name: str, keywords: dict, tfmat: Command, tmp_path: pathlib.Path) -> None:
    crystals(tmp_path / "d")
    predictor = Predictor.create(name, [Target("gap", "eV")], keywords={**architectures()[name].small, **keywords})
    predictor.save(tmp_path / "m")
    predicted = tfmat("predict", "m", "d/c1.vasp")
    invariant = keywords == {"pooling": "mean"}
    assert predicted.code == 0 and ("warning: the prediction depends" in predicted.err) != invariant
    assert ("depends on the cell" in predictor.card or "depends a little on the cell" in predictor.card) != invariant
