"""A user's own files and folders on the command line, and the lists of datasets and of the cache."""

import csv
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import signal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cli_cases import ANIONS, METALS, TINY, Command, listing

from tfmat import architecture
from tfmat.analysis import figures
from tfmat.cli import run
from tfmat.cli.progress import TrainingProgress
from tfmat.datasets import open_data
from tfmat.predictor import Predictor
from tfmat.target import Target

pytestmark = pytest.mark.usefixtures("eagerly")

GAP = ("--target", "gap", "--unit", "eV", "--epochs", "1")
STEPS = (*TINY, "--batch-size", "8")
NO_HEADER = "data_x\n_cell_length_a 5\n"


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A cache and a folder of TFDS of its own for each test; plots take longer than the training."""
    folder = tmp_path_factory.mktemp("places")
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
    monkeypatch.setattr(figures, "can_plot", lambda: False)
    return folder


def cif(metal: str, anion: str, length: float) -> str:
    """Rock salt."""
    cell = [f"_cell_length_{axis} {length}" for axis in "abc"] + [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    loop = ["loop_", "_atom_site_label", "_atom_site_type_symbol", *(f"_atom_site_fract_{axis}" for axis in "xyz")]
    corners = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    sites = [f"{metal}{i} {metal} {x} {y} {z}" for i, (x, y, z) in enumerate(corners)]
    sites += [f"{anion}{i} {anion} {0.5 - x} {0.5 - y} {0.5 - z}" for i, (x, y, z) in enumerate(corners)]
    return "\n".join(["data_x", *cell, *loop, *sites]) + "\n"


@pytest.fixture(scope="session")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """40 CIFs, two of them bad, an id without file, and a file without row."""
    folder = tmp_path_factory.mktemp("data") / "my_cifs"
    folder.mkdir()
    rows = ["id,gap"]
    for i, (metal, anion, length) in enumerate(itertools.product(METALS[:5], ANIONS, (5.5, 5.9))):
        (folder / f"c{i}.cif").write_text(cif(metal, anion, length))
        rows.append(f"c{i},{0.3 * METALS.index(metal) + 0.2 * ANIONS.index(anion)}")
    (folder / "c7.cif").write_text(NO_HEADER)
    (folder / "c9.cif").write_text(cif("Xx", "O", 5.0))
    (folder / "id_prop.csv").write_text("\n".join([*rows, "lost,1"]) + "\n")
    (folder / "extra.cif").write_text(cif("Na", "Cl", 5.6))
    return folder


@pytest.fixture(scope="session")
def crystal_model(crystals: pathlib.Path) -> pathlib.Path:
    out = crystals.parent / "model"
    assert run(["train", "lgdcnn", "--data", str(crystals), "--split", "formula", *GAP, *STEPS, "--out", str(out)]) == 0
    return out


def splits(file: pathlib.Path) -> dict[str, str]:
    with file.open(newline="") as stream:
        return {row["id"]: row["split"] for row in csv.DictReader(stream)}


def formulas(file: pathlib.Path, bad: bool = True) -> pathlib.Path:
    """60 rows of 20 formulas, and two bad ones."""
    pairs = list(itertools.product(METALS[:5], ANIONS))
    rows = [f"{metal}{n}{anion}{n},r{i}-{n},{i / 10 + n / 100}" for n in (1, 2, 3) for i, (metal, anion) in enumerate(pairs)]
    file.write_text("\n".join(["formula,id,gap", *rows, *(["Xx,bad,1", "KF,worse,high"] if bad else [])]) + "\n")
    return file


def interrupted(tfmat: Command, *arguments: object) -> Any:
    """What a run says that gets SIGTERM at its first step."""
    report = TrainingProgress.report

    def reporting(self: TrainingProgress, *now: Any) -> None:
        report(self, *now)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "report", reporting)
        return tfmat(*arguments)


def test_a_folder_of_cifs(tfmat: Command, crystals: pathlib.Path, crystal_model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = ("--data", crystals, "--split", "formula", *GAP, *STEPS, "--out", "m")
    result = interrupted(tfmat, "train", "lgdcnn", *options)
    assert result.code == 143, result
    assert listing(tmp_path) == {"m.training", "m.training/run.json", "m.training/rejected.csv"}
    assert "4 of 42 rejected; the first is " in result.err and "m.training/rejected.csv, later in m/rejected.csv" in result.err
    before = (tmp_path / "m.training" / "rejected.csv").read_text()
    shutil.copy(tmp_path / "m.training" / "run.json", tmp_path / "run.json")
    result = tfmat("train", "--resume", "m")
    assert result.code == 0, result.err
    assert (tmp_path / "m" / "rejected.csv").read_text() == before
    with (tmp_path / "m" / "rejected.csv").open(newline="") as stream:
        rejected = {row["id"]: row for row in csv.DictReader(stream)}
    assert set(rejected) == {"c7", "c9", "lost", "extra"}
    assert rejected["c7"]["row"] == "9" and "no structure file" in rejected["lost"]["reason"]

    chosen = splits(tmp_path / "m" / "split.csv")
    assert chosen == splits(crystal_model / "split.csv") and len(chosen) == 38
    config = json.loads((tmp_path / "m" / "config.json").read_text())["info"]
    assert config["split"]["method"] == "formula" and config["dataset"]["rejected"] == 4
    assert json.loads((tmp_path / "run.json").read_text())["split"] == config["split"]
    for first, second in zip(
        Predictor.load(tmp_path / "m").model.get_weights(), Predictor.load(crystal_model).model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)

    result = tfmat("train", "lgdcnn", "--data", crystals, "--split", "file:m/split.csv", *GAP, *TINY, "--out", "n")
    assert result.code == 0, result.err
    assert splits(tmp_path / "n" / "split.csv") == chosen
    (tmp_path / "m" / "split.csv").unlink()
    assert "warning: " not in tfmat("evaluate", "n", "--no-cache").err


def test_evaluate_crystals(tfmat: Command, crystals: pathlib.Path, crystal_model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(crystal_model, tmp_path / "m")
    result = tfmat("evaluate", "m")
    assert result.code == 0 and "warning" not in result.err, result.err
    folder = tmp_path / "m" / "evaluations" / "my_cifs-test"
    assert {"scores.json", "predictions.csv", "rejected.csv"} <= listing(folder)
    assert f"4 of 42 rejected; the first is {crystals}" in result.err and f"{'m/evaluations/my_cifs-test/rejected.csv'}" in result.err
    frame = pd.read_csv(folder / "predictions.csv")
    assert set(frame["id"]) == {name for name, split in splits(crystal_model / "split.csv").items() if split == "test"}

    (tmp_path / "new").mkdir()
    for name, text in (("a", cif("Na", "Cl", 5.6)), ("b", NO_HEADER)):
        (tmp_path / "new" / f"{name}.cif").write_text(text)
    (tmp_path / "new" / "id_prop.csv").write_text("id,gap\na,1\nb,2\n")
    result = tfmat("evaluate", "m", "--data", "new")
    assert result.code == 0, result.err
    assert "1 of 2 rejected" in result.err
    assert json.loads((tmp_path / "m" / "evaluations" / "new-all" / "scores.json").read_text())["rejected"] == 1
    line = json.dumps({"id": "j", "gap": 1.0, "structure": cif("K", "F", 5.3)})
    (tmp_path / "new.jsonl").write_text(line + "\n")
    assert tfmat("evaluate", "m", "--data", "new.jsonl").code == 0
    entries = json.loads(tfmat("cache", "list", "--json").out)
    assert {entry["featurizer"] for entry in entries} == {"CompositionFeaturizer"}


def test_predict_structures(tfmat: Command, crystals: pathlib.Path, crystal_model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "NaCl.cif").write_text(cif("Na", "Cl", 5.6))
    (tmp_path / "POSCAR").write_text("salt\n1\n4 0 0\n0 4 0\n0 0 4\nK F\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n")
    (tmp_path / "bad.cif").write_text(NO_HEADER)
    (tmp_path / "more.csv").write_text("formula,id\nLiF,x\nLiF,y,z\nXx,w\n")
    line = json.dumps({"id": "j", "structure": cif("K", "F", 5.3)})
    (tmp_path / "s.jsonl").write_text(f"{line}\n{{\n")
    arguments = ("NaCl.cif", "NaCl", "POSCAR", "bad.cif", "none.cif", "more.csv", "s.jsonl", crystals, "KF")
    result = tfmat("predict", crystal_model, *arguments, "--out", "p.csv")
    assert result.code == 2
    frame = pd.read_csv(tmp_path / "p.csv", keep_default_na=False, na_values={"gap [eV]": ""})
    assert list(frame["id"][:10]) == ["NaCl.cif", "", "POSCAR", "bad.cif", "none.cif", "x", "y", "w", "j", ""]
    assert list(frame["material"][:9]) == ["Na4Cl4", "NaCl", "K1F1", "bad.cif", "none.cif", "LiF", "more.csv, row 3", "Xx", "K4F4"]
    good = [True, True, True, False, False, True, False, False, True, False]
    assert list(frame["gap [eV]"].notna()[:10]) == good and list(frame["error"][:10] == "") == good
    assert frame["gap [eV]"][0] == pytest.approx(frame["gap [eV]"][1], rel=1e-5)
    assert len(frame) == 10 + 41 + 1 and frame["gap [eV]"].notna()[10:].sum() == 39 + 1
    assert "bad.cif: the CIF has no atom sites" in result.err and "none.cif: no such file" in result.err
    assert "more.csv, row 3: 3 cells under 2 columns" in result.err and "more.csv, row 4: formula 'Xx'" in result.err
    assert not any(name.endswith("_true") for name in frame)

    result = tfmat("predict", crystal_model, "bad.cif")
    assert result.code == 2 and len(result.lines) == 1 and "bad.cif" in result.out
    result = tfmat("predict", crystal_model, "NaCl.cif", "POSCAR")
    assert result.code == 0 and not result.err and len(result.out.splitlines()) == 3
    (tmp_path / "empty").mkdir()
    assert "empty: is a folder with no structure file" in tfmat("predict", crystal_model, "empty").err


def test_bad_rows_of_formulas(tfmat: Command, tmp_path: pathlib.Path) -> None:
    formulas(tmp_path / "d.csv")
    result = tfmat("train", "lgdcnn", "--data", "d.csv", "--strict", *GAP, *TINY, "--out", "m")
    assert result.code == 2 and len(result.lines) == 1 and "d.csv, row 63: column 'gap' holds 'high'" in result.err
    assert listing(tmp_path) == {"d.csv"}
    result = tfmat("train", "lgdcnn", "--data", "d.csv", "--split", "formula", *GAP, *TINY, "--out", "m")
    assert result.code == 0 and "2 of 62 rejected" in result.err
    assert len((tmp_path / "m" / "rejected.csv").read_text().splitlines()) == 3
    chosen = splits(tmp_path / "m" / "split.csv")
    assert len({(name.split("-")[0], split) for name, split in chosen.items()}) == 20, "no formula in two splits"
    (tmp_path / "few.csv").write_text("formula,gap\nNaCl,1\nXx,2\nKF,3\n")
    result = tfmat("train", "lgdcnn", "--data", "few.csv", *TINY)
    assert result.code == 2 and len(result.lines) == 1 and "few.csv" in result.err and "1 of 3 rejected" in result.err
    (tmp_path / "none.csv").write_text("formula,gap\nXx,1\nYy,2\n")
    result = tfmat("train", "lgdcnn", "--data", "none.csv", *TINY)
    assert result.code == 2 and len(result.lines) == 1 and "none of 2 rows can be used" in result.err


def test_a_split_column_may_name_no_test_row(tfmat: Command, tmp_path: pathlib.Path) -> None:
    rows = "".join(f"Fe{i}O,{i},{'val' if i % 3 == 0 else 'train'}\n" for i in range(1, 13))
    (tmp_path / "d.csv").write_text(f"formula,gap,split\n{rows}")
    assert tfmat("train", "lgdcnn", "--data", "d.csv", *GAP, *TINY, "--epochs", "1", "--out", "m").code == 0
    result = tfmat("evaluate", "m")
    assert result.code == 2 and "has no test rows. Expected a split that gives some; there are train and validation rows" in result.err
    assert tfmat("evaluate", "m", "--split", "validation").code == 0


def test_folds(tfmat: Command, tmp_path: pathlib.Path) -> None:
    formulas(tmp_path / "d.csv", bad=False)
    tests = []
    for fold in (0, 1):
        options = ("--split", "formula", "--folds", "2", "--fold", fold, "--split-seed", 4)
        assert tfmat("train", "lgdcnn", "--data", "d.csv", *options, *GAP, *TINY, "--out", f"m{fold}").code == 0
        tests.append({name for name, split in splits(tmp_path / f"m{fold}" / "split.csv").items() if split == "test"})
        assert "rejected.csv" not in listing(tmp_path / f"m{fold}")
    assert not tests[0] & tests[1] and len(tests[0] | tests[1]) == 60
    spec = Predictor.load(tmp_path / "m1").info["split"]
    assert (spec["method"], spec["folds"], spec["fold"], spec["seed"]) == ("formula", 2, 1, 4)


def test_formulas_for_crystals(tfmat: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:

    formulas(tmp_path / "d.csv", bad=False)
    family = architecture.get("lgdcnn")
    monkeypatch.setitem(architecture._REGISTRY, "lgdcnn", dataclasses.replace(family, material="crystal"))
    result = tfmat("train", "lgdcnn", "--data", "d.csv", *GAP, *TINY)
    sentence = "d.csv holds formulas, and lgdcnn learns from crystals. Expected a dataset of crystals"
    assert result.code == 2 and len(result.lines) == 1 and sentence in result.err
    with pytest.raises(ValueError, match="holds formulas, and lgdcnn learns from crystals"):
        Predictor.create("lgdcnn", [Target("gap")], keywords={"dim": 16, "conv_dim": 16}).fit(open_data("d.csv").splits["train"])


def test_info(tfmat: Command, crystals: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tfmat("datasets", "info", crystals, "--no-plot")
    assert result.code == 0 and "4 of 42 rejected" in result.err
    for part in ("crystal", "38", "8 to 8, median 8", "9, most often", "MAD", "gap"):
        assert part in result.out
    found = json.loads(tfmat("datasets", "info", "exp_formation_enthalpy", "--json").out)
    assert found["rows"] == 2135 and found["targets"]["formation_enthalpy_per_atom"]["unit"] == "eV/atom"
    assert not listing(tmp_path)
    result = tfmat("datasets", "info", "exp_formation_enthalpi")
    assert result.code == 2 and "did you mean exp_formation_enthalpy" in result.err
    assert tfmat("datasets", "info", "exp_formation_enthalpy", "--plot", "x.pdf").code == 2
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "can_plot", lambda: True)
    result = tfmat("datasets", "info", "exp_formation_enthalpy")
    assert "histogram written to exp_formation_enthalpy-histogram.png" in result.out
    assert (tmp_path / "exp_formation_enthalpy-histogram.png").read_bytes()[:4] == b"\x89PNG"


def test_build(tfmat: Command, places: pathlib.Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    result = tfmat("datasets", "build", "exp_formation_enthalpy")
    assert result.code == 0, result.err
    assert "2,135 rows built in" in result.out and 'tfds.load("exp_formation_enthalpy' in result.out
    assert all(line.startswith(("tfmat: ", "Building exp_formation_enthalpy (2,135 rows) in ")) for line in result.lines), result.err
    assert list((places / "tfds").rglob("dataset_info.json"))
    assert "were built already" in tfmat("datasets", "build", "exp_formation_enthalpy").out
    result = tfmat("datasets", "build", "nothing")
    assert result.code == 2 and "neither a dataset nor a file" in result.err


def test_list(tfmat: Command) -> None:
    lines = tfmat("datasets").out.splitlines()
    assert lines[0].split() == ["dataset", "material", "rows", "train/validation/test", "targets", "size", "here", "licence"]
    assert "crystal" in next(line for line in lines if line.startswith("mp2018 "))
    listed = {entry["name"]: entry for entry in json.loads(tfmat("datasets", "--json").out)}
    assert listed["aflow__Egap"]["splits"] == {"train": 19330, "validation": 4125, "test": 4122}


def test_cache(tfmat: Command, tmp_path: pathlib.Path, places: pathlib.Path) -> None:
    formulas(tmp_path / "d.csv")
    options = [option for option in (*GAP, *TINY) if option != "--no-cache"]
    assert tfmat("train", "lgdcnn", "--data", "d.csv", *options, "--out", "m").code == 0
    result = tfmat("cache", "list")
    assert "CompositionFeaturizer" in result.out and "d.csv" in result.out and "3 entries, " in result.out
    key = result.out.splitlines()[1].split()[0]
    assert "no entry 'zzz'" in tfmat("cache", "clear", "zzz").err
    assert f"1 entry removed from {places / 'cache'}" in tfmat("cache", "clear", key).out
    assert "2 entries removed" in tfmat("cache", "clear").out
    assert json.loads(tfmat("cache", "list", "--json").out) == []
    assert "Commands:" in tfmat("cache").out
