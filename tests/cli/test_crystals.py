"""Models of crystals on the command line: what the featurizer refuses is left out or told, row by row."""

import csv
import importlib.util
import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from cli_cases import Command, listing
from crystal_cases import ARCHITECTURE, CUBE, NearestFeaturizer, caesium_chloride, crystals, poscar

from tfmat import architecture
from tfmat.analysis import figures
from tfmat.cli import run
from tfmat.predictor import Predictor

pytestmark = pytest.mark.usefixtures("eagerly")

SPARSE = (3, 8, 21)
TRAIN = ("train", "nearest", "--target", "gap", "--unit", "eV")


@pytest.fixture(scope="module", autouse=True)
def nearest() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        architecture.architectures()
        patch.setitem(architecture._REGISTRY, "nearest", ARCHITECTURE)
        yield


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path_factory.mktemp("places") / "cache"))
    monkeypatch.setattr(figures, "can_plot", lambda: False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("nearest")
    assert run([*TRAIN, "--data", str(crystals(folder / "d")), "--out", str(folder / "m"), "--no-cache"]) == 0
    return folder / "m"


def rejected(file: pathlib.Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_crystals_without_bonds_are_rejected(tfmat: Command, tmp_path: pathlib.Path, cache: str) -> None:
    crystals(tmp_path / "d", SPARSE)
    (tmp_path / "d" / "c5.vasp").write_text("nothing\n")
    result = tfmat(*TRAIN, "--data", "d", "--out", "m", cache)
    assert result.code == 0, result.err
    assert "1 of 32 rejected; the first is d/id_prop.csv, row 7: cannot be read as POSCAR" in result.err
    (told,) = [line for line in result.lines if "cannot be featurized" in line]
    assert told.startswith("tfmat: 3 of 31 crystals cannot be featurized; the first is d/id_prop.csv, row ")
    assert "has no bonds" in told and told.endswith("m.training/rejected.csv, later in m/rejected.csv")
    rows = rejected(tmp_path / "m" / "rejected.csv")
    assert set(rows) == {"c3", "c5", "c8", "c21"}
    assert rows["c3"] == {"file": "d/id_prop.csv", "row": "5", "id": "c3", "reason": "Li1Cl1 has no bonds. Expected a denser crystal"}
    data = json.loads((tmp_path / "m" / "config.json").read_text())["info"]["dataset"]
    assert sum(data["rows"].values()) == 28 and data["rejected"] == 4
    with (tmp_path / "m" / "split.csv").open(newline="") as stream:
        split = {row["id"]: row["split"] for row in csv.DictReader(stream)}
    assert len(split) == 31 and data["rows"]["train"] == list(split.values()).count("train") - sum(
        split[f"c{i}"] == "train" for i in SPARSE
    )

    result = tfmat("evaluate", "m", "--split", "all", cache)
    assert result.code == 0 and "3 of 31 crystals cannot be featurized" in result.err, result.err
    assert "has changed" not in result.err
    folder = tmp_path / "m" / "evaluations" / "d-all"
    scores = json.loads((folder / "scores.json").read_text())
    assert (scores["rows"], scores["rejected"], scores["scores"]["gap"]["n"]) == (28, 4, 28)
    assert set(rejected(folder / "rejected.csv")) == set(rows)
    result = tfmat(*TRAIN, "--data", "d", "--split", "file:m/split.csv", "--out", "n", cache)
    assert result.code == 0 and rejected(tmp_path / "n" / "rejected.csv") == rows, result.err


def test_strict(tfmat: Command, tmp_path: pathlib.Path) -> None:
    crystals(tmp_path / "d", SPARSE)
    result = tfmat(*TRAIN, "--data", "d", "--out", "m", "--strict")
    assert result.code == 2, result.err
    assert result.lines[-1].startswith("tfmat: d/id_prop.csv, row ") and "has no bonds. Expected a denser crystal" in result.lines[-1]
    assert not (tmp_path / "m").exists() and not (tmp_path / "m.training").exists()


def test_no_crystal_is_usable(tfmat: Command, tmp_path: pathlib.Path) -> None:
    crystals(tmp_path / "d", range(32))
    result = tfmat(*TRAIN, "--data", "d", "--out", "m")
    assert result.code == 2 and "has no bonds" in result.lines[-1], result.err
    assert "none of 3 rows can be used; the first because: " in result.lines[-1]
    assert listing(tmp_path) - {f"d/{path.name}" for path in (tmp_path / "d").iterdir()} == {"d"}


def test_nothing_is_featurized_twice(tfmat: Command, tmp_path: pathlib.Path) -> None:
    crystals(tmp_path / "d", SPARSE)
    NearestFeaturizer.calls.clear()
    assert tfmat(*TRAIN, "--data", "d", "--out", "m").code == 0
    assert 0 < len(NearestFeaturizer.calls) <= 2 * 32
    NearestFeaturizer.calls.clear()
    assert tfmat(*TRAIN, "--data", "d", "--out", "n", "--seed", "1").code == 0
    assert tfmat("evaluate", "m").code == 0
    assert NearestFeaturizer.calls == []
    assert rejected(tmp_path / "m" / "rejected.csv") == rejected(tmp_path / "n" / "rejected.csv")


BAD = {
    "overlap.vasp": (poscar([("Na", 0, 0, 0), ("Cl", 0, 0, 0.001)]), "are 0.006 Å apart"),
    "flat.vasp": (poscar(caesium_chloride("Na", "Cl"), 3.6, ((1, 0, 0), (0, 1, 0), (1, 1, 0))), "Å apart"),
    "sparse.vasp": (poscar([("Na", 0, 0, 0)], 9.0), "Na1 has no bonds. Expected a denser crystal"),
    "heavy.vasp": (poscar([("Am", 0, 0, 0)], 3.0), "beyond Pu"),
    "none.vasp": (poscar([]), "cannot be read as POSCAR"),
}
CIF = """data_x
_cell_length_a 3.6
_cell_length_b 3.6
_cell_length_c 3.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
CHARGED = CIF + "Na1 Na1+ 0 0 0 1\nCl1 Cl1- 0.5 0.5 0.5 1\n"
DISORDERED = CIF + "Na1 Na 0 0 0 0.5\nK1 K 0 0 0 0.5\nCl1 Cl 0.5 0.5 0.5 1\n"


def test_predict(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    salt = caesium_chloride("Na", "Cl")
    good = {
        "salt.vasp": poscar(salt, 3.6),
        "left.vasp": poscar(salt, 3.6, CUBE[::-1]),
        "charged.cif": CHARGED,
        "one.vasp": poscar([("Na", 0, 0, 0)], 3.6),
        "new.vasp": poscar(caesium_chloride("Tc", "Pm"), 3.6),
    }
    bad = {name: text for name, (text, _) in BAD.items()} | {"disordered.cif": DISORDERED}
    for name, text in (good | bad).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "t.csv").write_text("formula\nNaCl\n")
    line = {"id": "j", "formula": "NaCl", "cell": [3.6, 3.6, 3.6, 90, 90, 90], "species": ["Na", "Cl"], "frac": [[0, 0, 0], [0.5] * 3]}
    (tmp_path / "s.jsonl").write_text(json.dumps(line) + "\n")
    result = tfmat("predict", model, *bad, "NaCl", "t.csv", *good, "s.jsonl", "gone.cif", "--out", "p.csv")
    assert result.code == 2
    frame = pd.read_csv(tmp_path / "p.csv", keep_default_na=False, na_values={"gap [eV]": "", "sites": ""})
    assert list(frame) == [
        "id",
        "material",
        "gap [eV]",
        "gap_uncertainty [eV]",
        "sites",
        "in_domain",
        "unseen_elements",
        "warning",
        "error",
    ]
    assert list(frame["error"] == "") == [False] * 8 + [True] * 6 + [False]
    assert list(frame["gap [eV]"].notna()) == list(frame["error"] == "")
    for (name, (_, message)), (_, row) in zip(BAD.items(), frame.iterrows(), strict=False):
        assert message in row["error"] and not row["in_domain"], name
        assert f"tfmat: {name}: {row['error']}" in result.lines
    assert "partially occupied" in frame["error"][5] and "no such file" in frame["error"][14]
    sentence = "'NaCl' is no crystal, and nearest predicts crystals. Expected a structure file such as NaCl.cif"
    assert all(sentence in frame["error"][i] for i in (6, 7)) and "t.csv, row 2: 'NaCl' is no crystal" in result.err
    assert list(frame["sites"][8:14]) == [2, 2, 2, 1, 2, 2] and np.isnan(frame["sites"][[6, 14]]).all() and frame["sites"][3] == 1
    assert list(frame["unseen_elements"]) == [""] * 12 + ["Tc, Pm"] + [""] * 2
    assert list(frame["in_domain"][8:14]) == [True] * 4 + [False, True]
    values = frame["gap [eV]"]
    assert values[[9, 10, 13]].to_numpy() == pytest.approx(values[8], rel=1e-6)


def test_evaluate_formulas(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "f.csv").write_text("formula,gap\nNaCl,1\n")
    result = tfmat("evaluate", model, "--data", "f.csv")
    assert result.code == 2 and "f.csv holds formulas, and nearest learns from crystals" in result.lines[-1]


def test_the_printed_table(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.vasp").write_text(poscar(caesium_chloride("Na", "Cl"), 3.6))
    (tmp_path / "b.vasp").write_text(poscar(caesium_chloride("Pm", "Tc"), 3.6))
    result = tfmat("predict", model, "a.vasp")
    assert result.code == 0 and "unseen" not in result.out and "warning" not in result.err
    header, row = (line.split() for line in result.out.splitlines())
    assert (
        header == ["id", "material", "gap", "[eV]", "uncertainty", "[eV]", "sites"] and row[:2] == ["a.vasp", "Na1Cl1"] and row[-1] == "2"
    )
    result = tfmat("predict", model, "a.vasp", "b.vasp", "gone.vasp")
    header, first, second, third = result.out.splitlines()
    assert header.split()[-3:] == ["sites", "warning", "error"] and first.split()[-1] == "2"
    assert second.endswith("2  Tc, Pm unseen in training") and " -  " in third and third.endswith("no such file")
    assert "warning: 1 of 3 materials hold elements that did not occur in training: Pm1Tc1" in result.err


FRAMES = """2
Lattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3
Na 0 0 0
Cl 1.8 1.8 1.8
2
no cell
Na 0 0 0
Cl 1.8 1.8 1.8
1
Lattice="3.0 0 0 0 3.0 0 0 0 3.0" Properties=species:S:1:pos:R:3 pbc="T T T"
K 0 0 0
"""


def test_frames_of_ase_files(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("ase")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "t.extxyz").write_text(FRAMES)
    (tmp_path / "d" / "a.vasp").write_text(poscar(caesium_chloride("Na", "Cl"), 3.6))
    (tmp_path / "one.xyz").write_text("\n".join(FRAMES.splitlines()[:4]) + "\n")
    result = tfmat("predict", model, "one.xyz", "d", "--out", "p.csv")
    assert result.code == 2
    frame = pd.read_csv(tmp_path / "p.csv", keep_default_na=False, na_values={"gap [eV]": ""})
    assert list(frame["id"]) == ["one.xyz", "a.vasp", "t.extxyz#1", "t.extxyz#2", "t.extxyz#3"]
    assert list(frame["gap [eV]"].notna()) == [True, True, True, False, True]
    assert frame["gap [eV]"][0] == pytest.approx(frame["gap [eV]"][1], rel=1e-5) == frame["gap [eV]"][2]
    assert "tfmat: d/t.extxyz#2: has no cell: it is not periodic. Expected lattice vectors" in result.err


def test_without_ase(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ase" else found(name, *rest))
    (tmp_path / "t.extxyz").write_text(FRAMES)
    result = tfmat("predict", model, "t.extxyz")
    assert result.code == 2 and result.lines[-1].startswith("tfmat: t.extxyz: ")
    assert "t.extxyz: reading such files needs ase, which is not installed. Expected pip install 'tfmat[ase]'" in result.err


def test_a_frame_of_predictions(model: pathlib.Path) -> None:
    from pymatgen.core import Lattice, Structure

    from tfmat.crystal import Crystal

    predictor = Predictor.load(model)
    salt = Crystal(np.array([11, 17], np.int32), 3.6 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    frame = predictor.predict([salt, "NaCl", Crystal(np.array([43], np.int32), 3.0 * np.eye(3), np.zeros((1, 3)))])
    assert list(frame) == ["material", "gap", "gap_uncertainty", "sites", "in_domain", "unseen_elements", "warning", "error"]
    assert frame["sites"].tolist() == [2, pd.NA, 1] and frame["unseen_elements"].tolist() == ["", "", "Tc"]
    assert frame["in_domain"].tolist() == [True, False, False] and "is no crystal" in frame["error"][1]
    assert len(predictor.predict([])) == 0 and Structure(Lattice.cubic(3), ["Na"], [[0, 0, 0]]).num_sites == 1
