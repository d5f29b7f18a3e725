"""The embedded dataset, the benchmarks of the mirror, and a user's own file."""

import csv
import gzip
import json

import numpy as np
import pytest

from tfmat import datasets
from tfmat.data.splits import SPLITS
from tfmat.data.table import Table
from tfmat.datasets import composition_benchmark, exp_formation_enthalpy, fetch
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer

TARGET = exp_formation_enthalpy.TARGET


def sizes(dataset):
    return [len(table) for table in dataset.splits.values()]


def test_embedded_dataset():
    dataset = datasets.load(datasets.DEFAULT)
    assert sizes(dataset) == [1729, 203, 203]
    assert dataset.units == {TARGET: "eV/atom"}
    assert not dataset.official_split
    formulas = [formula for table in dataset.splits.values() for formula in table.materials]
    assert len(set(formulas)) == exp_formation_enthalpy.ROWS
    values = np.concatenate([table.targets[TARGET] for table in dataset.splits.values()])
    assert values.min() == pytest.approx(-4.489, abs=1e-3)
    assert values.max() == pytest.approx(0.328, abs=1e-3)
    carbonate = next(t.targets[TARGET][t.materials.index("Ag2CO3")] for t in dataset.splits.values() if "Ag2CO3" in t.materials)
    assert carbonate == pytest.approx(-5.242247592137407 / 6)
    assert len(np.unique(CompositionFeaturizer().featurize(formulas).values["species"])) == 79


def test_embedded_dataset_without_pymatgen(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(exp_formation_enthalpy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pymatgen is not installed"):
        datasets.load(datasets.DEFAULT)
    assert not datasets.describe()[0].present


@pytest.mark.parametrize("content", [b"", b"{", b'[{"formula": "Fe"}]', b'{"a": 1}', b"[1]"])
def test_damaged_embedded_file(monkeypatch, tmp_path, content):
    path = tmp_path / "exp_compounds.json.gz"
    path.write_bytes(gzip.compress(content) if content else b"")
    monkeypatch.setattr(exp_formation_enthalpy, "_find", lambda: path)
    with pytest.raises(InputError, match="cannot be read"):
        exp_formation_enthalpy.load()


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with neither mirror nor downloads, on which nothing can be downloaded."""
    for name in ("TFMAT_DATA_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch.sys, "executable", str(tmp_path / "no-python"))


def test_listing_reads_no_data(bare):
    rows = datasets.describe()
    assert [row.name for row in rows] == datasets.names()
    assert [row.name for row in rows if row.present] == [datasets.DEFAULT]
    assert len(rows) == 32 + 16
    assert len(datasets.names(folds=True)) == 32 + 16 + 14 * 5


def test_without_the_mirror_it_is_said_how_to_get_it(bare):
    for name in ("aflow__energy_atom", "castelli", "castelli/fold0"):
        with pytest.raises(InputError, match=r"TFMAT_DATA_DIR.*composition/benchmark_data.*crabnet 1\.0\.1"):
            datasets.load(name)


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    folder = tmp_path / "composition" / "benchmark_data" / "OQMD_Bandgap"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"OQMD_Bandgap: missing file .*train\.csv\.gz"):
        datasets.load("OQMD_Bandgap")
    (folder / "train.csv").write_text("formula,target\nFe,1\nNaN,2\nFe,3\n")
    (folder / "val.csv").write_text("formula,target\nCo,1\n")
    (folder / "test.csv").write_text("formula,target\nNi,1\nNi,2\n")
    dataset = datasets.load("OQMD_Bandgap")
    assert sizes(dataset) == [2, 1, 2]
    assert dataset.splits["train"].targets["band_gap"].tolist() == [2.0, 2.0]


def test_listed_rows_are_those_of_the_mirror(mirror):
    with (mirror / "peers" / "composition_datasets.csv").open(newline="") as stream:
        published = {row["dataset"]: int(row["total"]) for row in csv.DictReader(stream)}
    listed = {row.name: row for row in datasets.describe() if row.tfds_name.startswith("composition_benchmark/")}
    assert {name: row.rows for name, row in listed.items()} == {name: published[name] for name in listed}
    assert len(listed) == 31
    assert all(row.present and row.size > 0 for row in listed.values())


@pytest.fixture(scope="module")
def published(mirror):
    with (mirror / "peers" / "composition_datasets.csv").open(newline="") as stream:
        return {row["dataset"]: row for row in csv.DictReader(stream)}


SMALL = [source.name for source in composition_benchmark.SOURCES if source.official_split and source.rows < 100_000] + ["OQMD_Bandgap"]


@pytest.mark.parametrize("name", SMALL)
def test_benchmarks_have_their_published_sizes(name, published):
    dataset = datasets.load(name)
    row = published[name]
    assert sizes(dataset) == [int(row["train"]), int(row["val"]), int(row["test"])]
    assert dataset.official_split
    values = np.concatenate([next(iter(table.targets.values())) for table in dataset.splits.values()])
    assert values.min() == pytest.approx(float(row["min"]))
    assert values.max() == pytest.approx(float(row["max"]))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("name", ["castelli", "elasticity_log10(K_VRH)", "expt_is_metal", "jdft2d", "steels_yield"])
def test_folds_have_their_published_sizes(name, fold, published):
    dataset = datasets.load(f"{name}/fold{fold}")
    row = published[name]
    assert sizes(dataset) == [int(row[column].split("/")[fold]) for column in ("cv_train", "cv_val", "cv_test")]
    assert not set(dataset.splits["train"].materials) & set(dataset.splits["test"].materials)


@pytest.mark.parametrize("name", ["castelli", "expt_is_metal", "glass", "phonons", "elasticity_log10_g_vrh"])
def test_whole_matbench_sets_split_by_formula(name, published):
    dataset = datasets.load(name)
    assert not dataset.official_split
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(dataset.splits[one].materials) & set(dataset.splits[other].materials)
    (target,) = dataset.units
    row = published[composition_benchmark.ALIASES.get(name, name)]
    formulas = [formula for table in dataset.splits.values() for formula in table.materials]
    assert len(set(formulas)) == int(row["total"]) - int(row["dup_formula_total"])
    if dataset.tasks[target] == "binary":
        assert set(np.concatenate([table.targets[target] for table in dataset.splits.values()])) == {0.0, 1.0}


def test_duplicates_are_averaged():
    values = np.asarray([1.0, 5.0, 3.0, np.nan, np.nan, 0.0])
    table = Table(["Fe", "Co", "Fe", "Co", "Ni", "Fe"], {"y": values}, list("abcdef"), np.arange(2, 8), "x.csv")
    mean = composition_benchmark.average_duplicates(table)
    assert mean.materials == ["Fe", "Co", "Ni"]
    assert mean.ids == ["a", "b", "e"]
    assert mean.rows.tolist() == [2, 3, 6]
    np.testing.assert_array_equal(mean.targets["y"], [4 / 3, 5.0, np.nan])
    votes = Table(["Fe", "Co", "Fe", "Co"], {"y": np.asarray([1.0, 0.0, 0.0, 0.0])}, list("abcd"), np.arange(2, 6), "x.csv")
    assert composition_benchmark.average_duplicates(votes, binary=True).targets["y"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["castelli/fold5", "castelli/fold", "castelli/x", "aflow__Egap/fold0", "nothing"])
def test_bad_names(name):
    with pytest.raises(InputError):
        composition_benchmark.load(name)
    with pytest.raises(InputError):
        datasets.open_data(name)


@pytest.mark.parametrize(
    ("name", "close"), [("exp_formation_enthalpi", datasets.DEFAULT), ("aflow_energy_atom", "aflow__energy_atom"), ("CASTELLI", "castelli")]
)
def test_close_names_are_offered(name, close):
    for function in (datasets.load, datasets.open_data):
        with pytest.raises(InputError, match=f"did you mean .*{close}"):
            function(name)


def test_open_data_by_name():
    assert datasets.open_data(datasets.DEFAULT, targets=[TARGET]).units == {TARGET: "eV/atom"}
    with pytest.raises(InputError, match=f"has no target 'band_gap'. Expected one of {TARGET}"):
        datasets.open_data(datasets.DEFAULT, targets=["band_gap"])
    with pytest.raises(InputError, match="has a split of its own"):
        datasets.open_data(datasets.DEFAULT, split="random")


def user_file(tmp_path, n=20, extra=""):
    path = tmp_path / "mine.csv"
    lines = [f"Fe{i}O,{i},{-i}{extra and ',' + ('train', 'val', 'test')[i % 3]}" for i in range(1, n + 1)]
    path.write_text("\n".join([f"formula,gap,energy{extra and ',split'}", *lines]) + "\n")
    return path


def test_open_data_of_a_file(tmp_path):
    path = user_file(tmp_path)
    dataset = datasets.open_data(str(path), targets=["gap", "energy"], seed=1)
    assert sizes(dataset) == [16, 2, 2]
    assert dataset.units == {"gap": "", "energy": ""}
    assert dataset.splits["test"].materials != datasets.open_data(str(path), targets=["gap"], seed=2).splits["test"].materials
    assert dataset.version == datasets.open_data(str(path), targets=["gap", "energy"], seed=2).version
    assert tuple(datasets.open_data(str(user_file(tmp_path, 200)), targets="gap", split="hash").splits) == SPLITS


def test_open_data_with_a_split_column(tmp_path):
    dataset = datasets.open_data(str(user_file(tmp_path, extra="split")), targets=["gap"])
    assert dataset.splits["validation"].targets["gap"].tolist() == [1, 4, 7, 10, 13, 16, 19]
    assert sizes(datasets.open_data(str(user_file(tmp_path, extra="split")), targets=["gap"], split="random")) == [16, 2, 2]


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        ("formula,y\nFe,1\n", None, "too few rows to split: 1 cannot"),
        ("formula,y\nFe,1\nFe,2\nFe,3\n", "hash", "too few materials to split by formula"),
        ("formula,y\nFe,1\n", "column", "row 1: no column 'split'"),
        ("formula,y\nFe,1\n", "sideways", "unknown split 'sideways'"),
        ("formula,y,split\nFe,1,train\nFe,1,dev\n", None, "row 3: column 'split' holds 'dev'"),
        ("formula,y,split\nFe,1,train\nFe,1,test\n", None, "column 'split' gives no validation row"),
    ],
)
def test_bad_splits_of_a_file(tmp_path, content, split, message):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        datasets.open_data(str(path), split=split)
    assert message in str(error.value)
    assert "sideways" in message or str(error.value).startswith(str(path))


def test_a_column_may_name_no_test_row(tmp_path):
    (tmp_path / "mine.csv").write_text("formula,y,split\nFeO,1,train\nMgO,1,train\nCaO,2,val\n")
    dataset = datasets.open_data(str(tmp_path / "mine.csv"))
    assert sizes(dataset) == [2, 1, 0] and len(dataset.table("train")) == 2
    with pytest.raises(InputError, match=r"has no test rows. Expected a split that gives some; there are train and validation rows"):
        dataset.table("test")


def test_a_path_that_does_not_exist_is_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        datasets.open_data(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="structure file"):
        datasets.open_data(str(tmp_path))


def test_a_dataset_must_be_consistent():
    dataset = datasets.load(datasets.DEFAULT)
    keywords = dataset.__dict__
    with pytest.raises(ValueError, match="must have the same targets"):
        datasets.Dataset(**(keywords | {"units": {}}))
    with pytest.raises(ValueError, match="`splits` must have the keys"):
        datasets.Dataset(**(keywords | {"splits": {}}))
    assert json.dumps(dict(dataset.units))
