"""Packed datasets: what comes back, what is refused, and training from them where only keras, JAX, NumPy and h5py are installed."""

import os
import pathlib
import subprocess
import venv

import h5py
import numpy as np
import pytest
from jax_cases import needs_jax, run_on_jax

from tfmat import datasets
from tfmat.architecture import get
from tfmat.batching.pipeline import Batches
from tfmat.cli import run
from tfmat.crystal import Crystal, Crystals
from tfmat.data.featurize import featurize_table
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.packed_file import BLOCK, MAGIC, read_packed
from tfmat.elements import element_table
from tfmat.errors import InputError
from tfmat.featurizers import BondFeaturizer, NeighborFeaturizer
from tfmat.predictor import Predictor
from tfmat.runs.packed_training import pack, train
from tfmat.target import Target

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"recurrent": [], "attention": False, "dim": 8, "conv_dim": 8, "conv_blocks": 1, "kernel_size": 1}
TRAIN = """
import json, sys
refused = ("tensorflow", "pymatgen", "pandas", "typer", "matplotlib", "CBFV", "ase", "sklearn", "torch")
sys.modules |= dict.fromkeys(refused)  # each import of them fails
import keras
assert keras.backend.backend() == "jax"
from tfmat.datasets import read_packed
from tfmat.runs.packed_training import train
from tfmat.training.recipe import Recipe
recipe = Recipe(learning_rate=1e-2, epochs=6, ema=0.9, fraction_jitter=0.02)
predictor = train(sys.argv[1], "lgdcnn", sys.argv[2], keywords=json.loads(sys.argv[3]), recipe=recipe, batch_size=8)
test = read_packed(sys.argv[1]).splits["test"]
outputs = predictor.outputs(test.materials.records)["gap"].tolist()
loaded = [name for name, module in sys.modules.items() if module is not None and name.split(".")[0] in refused]
print(json.dumps([outputs, predictor.score(test), [row["loss"] for row in predictor.history], loaded]))
"""


def dataset(materials, kind="composition", missing=()):
    values = np.arange(len(materials), dtype=np.float64) % 4 + 1
    values[list(missing)] = np.nan
    ids = [f"é{i}" for i in range(len(materials))]
    table = Table(materials, {"gap": values, "flag": values % 2}, ids, np.arange(len(materials)) + 2, "made.csv")
    third = len(materials) // 3
    parts = (range(third), range(third, 2 * third), range(2 * third, len(materials)))
    splits = dict(zip(("train", "validation", "test"), (table.subset(part) for part in parts), strict=True))
    units, tasks = {"gap": "eV", "flag": ""}, {"gap": "regression", "flag": "binary"}
    return Dataset("made", "1.0", "made up", units, tasks, kind, splits, True, citation="nobody", licence="none")


def formulas():
    return dataset(
        [f"{a}{1 + i % 3}{b}" for i, (a, b) in enumerate([(a, b) for a in ("Li", "Na", "K", "Cs") for b in "F Cl Br I O S".split()])]
    )


def crystals(lonely=()):
    """CsCl's structure with growing cells; those of `lonely` are so large that there is no bond."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(9):
        species = np.array([3 + 8 * (index % 3), 9 + 8 * (index % 4)], np.int32)
        edge = 30.0 if index in lonely else 3.0 + 0.3 * rng.random()
        made.append(Crystal(species, np.eye(3) * edge, np.array([[0, 0, 0], [0.5, 0.5, 0.5]])))
    return dataset(Crystals.of(made), "crystal", missing=[1])


@pytest.mark.parametrize(("floats", "error"), [("float16", 1e-3), ("float32", 0.0)])
def test_what_comes_back(tmp_path, floats, error):
    data = crystals()
    assert pack(data, "crysformer", tmp_path / "p.h5", keywords={"k": 8, "elements": "magpie"}, floats=floats) == []
    back = datasets.open_data(str(tmp_path / "p.h5"))
    assert (back.name, back.title) == (str(tmp_path / "p.h5"), "made up (made), featurized")
    for name in ("version", "units", "tasks", "material", "official_split", "citation", "licence"):
        assert getattr(back, name) == getattr(data, name)
    featurizer = NeighborFeaturizer(k=8)
    for split, table in data.splits.items():
        found, whole = featurize_table(back.splits[split], featurizer), featurize_table(table, featurizer)
        assert back.splits[split].ids == table.ids
        for target in table.targets:
            np.testing.assert_array_equal(back.splits[split].targets[target], table.targets[target])
        assert found.values["pair_senders"].dtype == np.uint8
        assert found.values["distances"].dtype == floats
        assert found.values["cosines"].dtype == np.float32
        for key in whole.values:
            np.testing.assert_array_equal(found.offsets[key], whole.offsets[key])
            np.testing.assert_allclose(found.values[key], whole.values[key], rtol=0, atol=error)
    with h5py.File(tmp_path / "p.h5", "r") as file:
        np.testing.assert_array_equal(file["element_tables/magpie"], element_table("magpie"))
        assert file["train/targets/gap"].attrs["unit"] == "eV"
    assert str(back.splits["train"].materials[0]) == "F-Li"


def test_batches_are_those_of_the_dataset_itself(tmp_path):
    """What is kept narrow is widened, so that training is the same."""
    data = crystals()
    pack(data, "megnet", tmp_path / "p.h5", floats="float32")
    epochs = []
    for source in (data, read_packed(tmp_path / "p.h5")):
        records = featurize_table(source.splits["train"], BondFeaturizer())
        targets = {"gap": source.splits["train"].targets["gap"].astype(np.float32)}
        epochs.append(list(Batches.of(records, targets, 2, seed=1).epoch(0)))
    for one, other in zip(*epochs, strict=True):
        for arrays, like in zip(one, other, strict=True):
            assert set(arrays) == set(like)
            for key, array in arrays.items():
                assert array.dtype == like[key].dtype
                np.testing.assert_array_equal(array, like[key])


def test_packed_materials_are_predicted(tmp_path):
    data = formulas()
    pack(data, "lgdcnn", tmp_path / "p.h5", keywords=SMALL)
    predictor = Predictor.create("lgdcnn", [Target("gap", "eV")], keywords=SMALL)
    frame = predictor.predict(read_packed(tmp_path / "p.h5").splits["test"].materials)
    np.testing.assert_array_equal(frame["gap"], predictor.predict(data.splits["test"].materials)["gap"])


def test_crystals_that_cannot_be_featurized_are_left_out(tmp_path):
    refused = pack(crystals(lonely=[1, 7]), "megnet", tmp_path / "p.h5")
    assert [rejection.id for rejection in refused] == ["é1", "é7"]
    assert [len(table) for table in read_packed(tmp_path / "p.h5").splits.values()] == [2, 3, 2]


def test_another_featurizer_is_refused(tmp_path):
    pack(crystals(), "megnet", tmp_path / "p.h5", keywords={"cutoff": 5.0})
    table = read_packed(tmp_path / "p.h5").splits["train"]
    assert len(featurize_table(table, BondFeaturizer(cutoff=5.0))) == 3
    with pytest.raises(InputError, match=r"made by BondFeaturizer\(cutoff=5\.0, .*needs BondFeaturizer\(cutoff=4\.0"):
        featurize_table(table, BondFeaturizer())
    with pytest.raises(InputError, match="needs NeighborFeaturizer"):
        train(tmp_path / "p.h5", "crysformer", tmp_path / "model", keywords={"dim": 8, "blocks": 1, "heads": 2}, targets=["gap"])
    with pytest.raises(InputError, match="needs CompositionFeaturizer"):
        train(tmp_path / "p.h5", "lgdcnn", tmp_path / "model")
    assert os.listdir(tmp_path) == ["p.h5"]


def test_damage_is_found_before_hdf5_reads_it(tmp_path):
    pack(formulas(), "lgdcnn", tmp_path / "p.h5")
    good = (tmp_path / "p.h5").read_bytes()
    assert good.startswith(MAGIC)
    for name, content, problem in (
        ("cut", good[: len(good) // 2], "its checksum does not match"),
        ("flipped", good[: BLOCK + 40] + bytes([good[BLOCK + 40] ^ 1]) + good[BLOCK + 41 :], "its checksum does not match"),
        ("other", b"id,formula\n", "no packed dataset"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=problem):
            read_packed(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_packed(tmp_path / "missing")
    with pytest.raises(InputError, match="exists already"):
        pack(formulas(), "lgdcnn", tmp_path / "p.h5")
    with pytest.raises(InputError, match="float8"):
        pack(formulas(), "lgdcnn", tmp_path / "q.h5", floats="float8")
    assert not (tmp_path / "q.h5").exists()


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{name},{index % 4}" for index, name in enumerate(formulas().splits["train"].materials * 3)]
    (tmp_path / "my.csv").write_text("\n".join(["formula,gap", *rows]) + "\n")
    assert run(["datasets", "pack", "my.csv", "--for", "lgdcnn", "--no-cache"]) == 0
    assert capsys.readouterr().out.startswith("my-lgdcnn.h5: ")
    sets = [text for key, value in SMALL.items() for text in ("--set", f"{key}={str(value).lower()}")]
    assert run(["train", "lgdcnn", "--data", "my-lgdcnn.h5", *sets, "--epochs", "1", "--out", "model"]) == 0
    assert run(["evaluate", "model", "--data", "my-lgdcnn.h5", "--split", "all"]) == 0
    assert "24" in capsys.readouterr().out
    assert run(["evaluate", "model"]) == 0
    told = capsys.readouterr()
    assert "my-lgdcnn.h5, test" in told.out and "changed" not in told.err
    for command, problem in (
        (["datasets", "info", "my-lgdcnn.h5"], "its materials are featurized"),
        (["datasets", "pack", "my-lgdcnn.h5", "--for", "lgdcnn"], "packed already"),
        (["datasets", "pack", "my.csv", "--for", "lgdcnn"], "exists already"),
        (["datasets", "pack", "my.csv", "--for", "megnet", "--out", "b.h5"], "learns from crystals"),
        (["train", "lgdcnn", "--data", "my-lgdcnn.h5", "--split", "hash"], "a split of its own"),
        (["train", "lgdcnn", "--data", "my.csv", "--precision", "half"], "unknown precision 'half'"),
    ):
        assert run(command) == 2
        assert problem in capsys.readouterr().err


def trained_without_tensorflow(tmp_path, execute):
    """Train by `execute`; the model must load here and give the outputs of there."""
    data = formulas()
    pack(data, "lgdcnn", tmp_path / "p.h5", keywords=SMALL)
    outputs, scores, losses, loaded = execute(tmp_path / "p.h5", tmp_path / "model")
    assert loaded == []
    assert losses[-1] < losses[0]
    predictor = Predictor.load(tmp_path / "model")
    assert [target.unit for target in predictor.targets] == ["eV", ""]
    assert predictor.info["dataset"]["name"] == str(tmp_path / "p.h5")
    assert "tensorflow" not in predictor.info["versions"]
    records = get("lgdcnn").default_featurizer({}).featurize(data.splits["test"].materials)
    np.testing.assert_allclose(predictor.outputs(records)["gap"], outputs, rtol=1e-4, atol=1e-6)
    assert predictor.evaluate(data.splits["test"]).scores["gap"]["MAE"] == pytest.approx(scores["gap"]["MAE"], rel=1e-4)


@needs_jax
def test_training_where_other_packages_cannot_be_imported(tmp_path):
    import json

    trained_without_tensorflow(tmp_path, lambda *paths: run_on_jax(TRAIN, *paths, json.dumps(SMALL)))


@pytest.mark.slow
def test_training_in_an_environment_with_nothing_else(tmp_path):
    """keras, jax, numpy, h5py and tfmat, the last without what it depends on; needs the package index."""
    import json

    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for what in (["keras", "jax", "numpy", "h5py"], ["--no-deps", str(ROOT)]):
        done = subprocess.run([*install, *what], env=clean, capture_output=True, text=True)
        if done.returncode and "No matching distribution" in done.stderr + done.stdout:
            pytest.skip("no package index")
        assert done.returncode == 0, done.stderr
    installed = subprocess.run([python, "-m", "pip", "list"], env=clean, capture_output=True, text=True).stdout.lower()
    assert not [name for name in ("tensorflow", "pymatgen", "pandas", "typer", "cbfv") if f"\n{name} " in installed]

    def execute(*paths):
        command = [python, "-c", TRAIN, *map(str, paths), json.dumps(SMALL)]
        done = subprocess.run(command, env=clean | {"KERAS_BACKEND": "jax"}, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    trained_without_tensorflow(tmp_path, execute)


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.xfail(reason="as lists of pairs it takes about 105 MB, most of it cosines", strict=True)
def test_the_largest_set_fits_in_60_megabytes(mirror, tmp_path):
    """On a twentieth of mp2018_subset, with Crysformer's neighbours."""
    whole = datasets.load("mp2018_subset")
    rng = np.random.default_rng(0)
    part = {split: table.subset(rng.permutation(len(table))[: len(table) // 20]) for split, table in whole.splits.items()}
    share = sum(map(len, part.values())) / sum(map(len, whole.splits.values()))
    import dataclasses

    pack(dataclasses.replace(whole, splits=part), "crysformer", tmp_path / "p.h5")
    assert (tmp_path / "p.h5").stat().st_size / share < 60e6
