"""``tfmat explain``: a table on stdout, the same with all digits and plots in a folder."""

import pathlib

import pandas as pd
import pytest
from cli_cases import Command, listing
from crystal_cases import caesium_chloride, poscar

from tfmat.predictor import Predictor
from tfmat.target import Target

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def megnet(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    keywords = {"dim": 8, "hidden_dim": 8, "gaussians": 16, "blocks": 1}
    targets = [Target("gap", "eV", mean=1.0, std=2.0), Target("modulus", "GPa", transform="log10", mean=1.0)]
    return Predictor.create("megnet", targets, keywords=keywords).save(tmp_path_factory.mktemp("m") / "megnet")


def sums(folder: pathlib.Path, target: str, unit: str) -> pd.Series:
    """Base, contributions and rest of each material, from the tables; and the predictions there."""
    table, totals = pd.read_csv(folder / "contributions.csv"), pd.read_csv(folder / "predictions.csv")
    totals = totals[totals["target"] == target].set_index("material")
    added = table.groupby("material")[f"{target}_contribution [{unit}]"].sum()
    assert (totals["unit"] == unit).all()
    assert (totals["base"] + added + totals["whole_crystal"] - totals["prediction"]).abs().max() < 1e-5
    return totals["prediction"]


def test_formulas(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = tfmat("explain", model, "Na2S", "Ca(OH)2", "--out", "out")
    assert result.code == 0, result.err
    assert "gap = " in result.out and "exact: the output is the mean of what the head gives" in result.out
    header = next(line for line in result.out.splitlines() if line.startswith("element"))
    assert header.split("  ")[0] == "element" and "contribution [eV]" in header and "before_mean [eV]" in header
    assert "warning: Ca(OH)2 holds elements that did not occur in training: H" in result.err
    predictions = sums(tmp_path / "out", "gap", "eV")
    expected = Predictor.load(model).predict(["Na2S", "Ca(OH)2"])["gap"]
    assert predictions[["Na2S", "Ca(OH)2"]].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert listing(tmp_path / "out") == {"contributions.csv", "predictions.csv", "Na2S-gap.png", "Ca-OH-2-gap.png"}


def test_a_crystal(tfmat: Command, megnet: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "NaCl.vasp").write_text(poscar(caesium_chloride("Na", "Cl"), 4.0))
    result = tfmat("explain", megnet, "NaCl.vasp", "--out", "out")
    assert result.code == 0, result.err
    assert result.out.startswith("NaCl.vasp (Na1Cl1)\ngap = ") and "(whole crystal)" in result.out
    assert "integrated gradients of the readout: an approximation" in result.out
    rows = [line.split()[:2] for line in result.out.splitlines()[-2:]]
    assert rows == [["1", "Na"], ["2", "Cl"]]
    for target, unit in (("gap", "eV"), ("modulus", "GPa")):
        assert sums(tmp_path / "out", target, unit).index.tolist() == ["NaCl.vasp"]
    assert {"NaCl.vasp-gap.png", "NaCl.vasp-modulus.png"} < listing(tmp_path / "out")


def test_a_large_crystal_is_summed_up(tfmat: Command, megnet: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sites = [("Na", i / 8, j / 8, 0.0) for i in range(8) for j in range(8)] + [("Cl", 0.5, 0.5, 0.5)]
    (tmp_path / "many.vasp").write_text(poscar(sites, 20.0))
    result = tfmat("explain", megnet, "many.vasp")
    assert result.code == 0, result.err
    assert [line.split()[:2] for line in result.out.splitlines()[-2:]] == [["Na", "64"], ["Cl", "1"]]


def test_what_cannot_be_read_is_told_and_the_rest_explained(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.cif").write_text("nothing\n")
    result = tfmat("explain", model, "Xx2", "NaCl", "bad.cif", "--out", "out")
    assert result.code == 2
    assert "unknown element" in result.err and any(line.startswith("tfmat: bad.cif: ") for line in result.lines)
    assert result.out.startswith("NaCl\ngap = ") and "NaCl-gap.png" in listing(tmp_path / "out")
    nothing = tfmat("explain", model, "Xx2", "--out", "other")
    assert nothing.code == 2 and not nothing.out and not (tmp_path / "other").exists()


def test_a_formula_for_a_model_of_crystals(tfmat: Command, megnet: pathlib.Path) -> None:
    result = tfmat("explain", megnet, "NaCl")
    assert result.code == 2 and not result.out.strip()
    assert result.lines[-1] == "tfmat: 'NaCl' is a formula. Expected a crystal: a CIF or POSCAR file, or a pymatgen Structure"


def test_the_folder(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert tfmat("explain", model, "NaCl", "--out", "out").code == 0
    assert "it exists already" in tfmat("explain", model, "KCl", "--out", "out").err
    assert tfmat("explain", model, "KCl", "--out", "out", "--overwrite").code == 0
    assert "KCl-gap.png" in listing(tmp_path / "out") and "NaCl-gap.png" not in listing(tmp_path / "out")
