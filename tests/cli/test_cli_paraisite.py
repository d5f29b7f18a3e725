"""``tfmat train paraisite``: from files to a prediction, on the backbone of a MEGNet."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from cli_cases import Command
from crystal_cases import caesium_chloride, crystals, poscar
from megnet_cases import SMALL as BACKBONE
from megnet_cases import randomise, values

from tfmat.analysis import figures
from tfmat.predictor import Predictor
from tfmat.target import Target

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = (*(f"--set={key}={value}" for key, value in BACKBONE.items()), "--set=head_dims=6,5,0", "--no-cache", "--epochs", "1")


@pytest.fixture(autouse=True)
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "can_plot", lambda: False)


def jsonl(folder: pathlib.Path, file: pathlib.Path) -> pathlib.Path:
    """The crystals of a folder in one file, with their conductivities: positive, of several decades."""
    rows = []
    for path in sorted(folder.glob("*.vasp")):
        _, length, *_, symbols, _, _, first, second = path.read_text().splitlines()
        cell, frac = [float(length)] * 3 + [90.0] * 3, [[float(x) for x in line.split()] for line in (first, second)]
        kappa = 10 ** (0.1 * len(rows) - 1)
        rows.append({"id": path.stem, "formula": symbols.replace(" ", ""), "cell": cell, "species": symbols.split(), "frac": frac})
        rows[-1]["kappa"] = kappa
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def test_the_second_step(tfmat: Command, tmp_path: pathlib.Path) -> None:
    """A frozen backbone, a head that learns, and a conductivity."""
    energy = Target("energy", "eV/atom")
    before = Predictor.create("megnet", [energy], keywords=BACKBONE | {"flavor": "matgl", "set2set_steps": 2}, seed=4)
    randomise(before.model)
    before.save(tmp_path / "energies")
    data = crystals(tmp_path / "d")
    file = jsonl(data, tmp_path / "k.jsonl")
    options = ("--data", file, "--target", "kappa", "--unit", "W/(m K)", "--transform", "log10_1p", *SMALL)
    result = tfmat("train", "paraisite", *options, "--init", "energies", "--freeze", "backbone", "--out", "kappa")
    assert result.code == 0, result.err
    new = "head_1/kernel, head_1/bias, head_2/kernel, head_2/bias"
    assert "99 of 105 weights from energies; new: " in result.err and new in result.err and "kappa/kernel, kappa/bias" in result.err
    assert "not trained: atom_embedding, " in result.err
    source, trained = values(before.model), values(Predictor.load(tmp_path / "kappa").model)
    backbone = source.keys() & trained.keys()
    assert len(backbone) == 99 and all(np.array_equal(source[path], trained[path]) for path in backbone)
    assert all(trained[f"{name}/bias"].any() for name in ("head_1", "head_2", "kappa")), "the head has learnt"
    config = json.loads((tmp_path / "kappa" / "config.json").read_text())
    assert config["keywords"]["head_dims"] == [6, 5, 0] and config["targets"][0]["transform"] == "log10_1p"
    assert config["info"]["recipe"]["loss"] == "mape" and config["info"]["best_epoch"] == 1
    assert "Initial weights: 99 from `energies`, a megnet of energy" in (tmp_path / "kappa" / "README.md").read_text()

    (tmp_path / "salt.vasp").write_text(poscar(caesium_chloride("Na", "Cl"), 3.7))
    result = tfmat("predict", "kappa", "salt.vasp", data / "c3.vasp", "--out", "p.csv")
    assert result.code == 0, result.err
    kappa = pd.read_csv(tmp_path / "p.csv")["kappa [W/(m K)]"]
    assert len(kappa) == 2 and np.isfinite(kappa).all() and (kappa > -1).all()


def test_a_composition_is_refused(tfmat: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "f.csv").write_text("formula,kappa\n" + "".join(f"Na{k}Cl,{k}\n" for k in range(1, 20)))
    result = tfmat("train", "paraisite", "--data", "f.csv", "--target", "kappa", *SMALL, "--out", "m")
    assert result.code == 2 and "f.csv holds formulas, and paraisite learns from crystals" in result.lines[-1]
    assert not (tmp_path / "m").exists()
