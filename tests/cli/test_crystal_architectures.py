"""Every architecture that takes crystals, on the command line: a folder of structure files is learnt, evaluated and predicted."""

import json
import pathlib

import pandas as pd
import pytest
from cli_cases import Command
from crystal_cases import crystals

from tfmat.architecture import architectures

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
