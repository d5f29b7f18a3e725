"""Jobs of a campaign that really train, and ensembles of what they leave."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import tiny

from benchmarks.campaign import train
from benchmarks.campaign.ensembles import append_ensembles, mean
from benchmarks.campaign.jobs import make
from benchmarks.campaign.runner import COLUMNS, Work
from benchmarks.rows import stored
from tfmat import Predictor
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset

ROOT = pathlib.Path(__file__).parents[2]
FORMULAS = [f"{a}{n}{b}" for a in ("Li", "Na", "K", "Mg", "Ca") for b in ("F", "Cl", "O", "S") for n in (1, 2, 3)]
ROWS = {"train": 30, "validation": 14, "test": 16}


def small_set(name, values, tasks) -> Dataset:
    """Of the formulas, in an order that mixes them, with made-up values."""
    order, splits, first = np.random.default_rng(0).permutation(len(FORMULAS)), {}, 0
    for split, count in ROWS.items():
        rows = order[first : first + count]
        targets = {target: np.asarray(column, float)[rows] for target, column in values.items()}
        splits[split] = Table([FORMULAS[i] for i in rows], targets, [str(i) for i in rows], rows + 2, split)
        first += count
    return Dataset(name, "1", name, dict.fromkeys(values, "eV"), tasks, "composition", splits, official_split=True)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains a job on a small set with the small architecture; returns its folder."""
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    tiny.register(monkeypatch)
    numbers = np.linspace(-1.0, 2.0, len(FORMULAS))
    sets = {
        "glass/fold1": small_set("glass/fold1", {"is_glass": numbers > 0.3}, {"is_glass": "binary"}),
        "expt_gap": small_set("expt_gap", {"band_gap": numbers}, {"band_gap": "regression"}),
    }
    energies = {"formation_energy_per_atom": numbers, "band_gap": numbers[::-1]}
    sets["mp2018_subset"] = small_set("mp2018_subset", energies, dict.fromkeys(energies, "regression"))
    monkeypatch.setattr(train, "_load", lambda job: sets[job.data].select(job.targets.split()))

    def run(name, **options):
        job = make(name, architecture="tiny", epochs=3, **options)
        return job, train.run(job, tmp_path, threads=0)

    return run


def rows_of(folder) -> list[dict]:
    return json.loads((folder / "rows.json").read_text(encoding="utf-8"))


def test_a_binary_target_of_a_fold(trained, tmp_path):
    _, folder = trained("glass/fold1")
    (row,) = rows_of(folder)
    assert set(row) == set(COLUMNS)
    assert (row["dataset"], row["fold"], row["task"], row["test_rows"], row["test_MAE"]) == ("glass", "1", "binary", 16, "")
    for split in ("validation", "test"):
        assert 0 <= float(row[f"{split}_ROC-AUC"]) <= 1 and 0 <= float(row[f"{split}_accuracy"]) <= 1
    predictions = pd.read_csv(folder / "test.csv.gz")
    again = Predictor.load(folder / "model").predict(list(predictions["material"]))
    np.testing.assert_allclose(again["is_glass"], predictions["is_glass"], atol=1e-6)
    assert not list(tmp_path.glob("checkpoints/*")) and not list(tmp_path.glob("running/*"))


def test_a_study_does_not_look_at_the_test_split(trained, monkeypatch):
    seen = []
    evaluate = Predictor.evaluate
    monkeypatch.setattr(
        Predictor, "evaluate", lambda self, table, **options: (seen.append(table.source), evaluate(self, table, **options))[1]
    )
    _, folder = trained("expt_gap", test=False, rows=20)
    (row,) = rows_of(folder)
    assert seen == ["validation"]
    assert [row[name] for name in COLUMNS if name.startswith("test_")] == [""] * 8
    assert float(row["validation_MAE"]) > 0 and row["validation_rows"] == 14 and row["train_rows"] == 20
    assert not (folder / "test.csv.gz").exists()


def test_one_model_of_two_targets(trained, tmp_path):
    job, folder = trained("mp2018_subset", targets=["formation_energy_per_atom", "band_gap"])
    rows = rows_of(folder)
    assert [row["target"] for row in rows] == ["formation_energy_per_atom", "band_gap"]
    assert rows[0]["validation_MAE"] != rows[1]["validation_MAE"]
    work = Work(tmp_path, tmp_path / "results.csv")
    work.collect([job])
    work.collect([job])
    assert work.done() == {job} and len(work.results()) == 2


def test_an_ensemble_is_the_mean_of_its_members(trained, tmp_path):
    work = Work(tmp_path, tmp_path / "results.csv")
    folders = {}
    for seed in (0, 1):
        job, folders[seed] = trained("expt_gap", seed=seed)
        work.collect([job])
    append_ensembles(work)
    assert append_ensembles(work) == []
    members, ensemble = [float(row["test_MAE"]) for row in stored(work.out)[:2]], stored(work.out)[2]
    frames = [pd.read_csv(folder / "test.csv.gz") for folder in folders.values()]
    errors = sum(frame["band_gap"] for frame in frames) / 2 - frames[0]["band_gap_true"]
    assert float(ensemble["test_MAE"]) == pytest.approx(errors.abs().mean(), rel=1e-4)
    assert float(ensemble["test_MAE"]) <= np.mean(members) + 1e-6
    assert (ensemble["seed"], ensemble["test_rows"]) == ("0 1", "16")
    job, _ = trained("expt_gap", seed=2)
    work.collect([job])
    assert [row["seed"] for row in append_ensembles(work)] == ["0 1 2"]


def test_uncertainties_of_an_ensemble():
    frames = [pd.DataFrame({"id": [1], "gap_true": [1.0], "gap": [gap], "gap_uncertainty": [0.3]}) for gap in (1.0, 1.8)]
    found = mean(frames)
    assert found["gap"][0] == pytest.approx(1.4)
    assert found["gap_uncertainty"][0] == pytest.approx(0.5)  # 0.3² within the members, 0.4² between them
    with pytest.raises(ValueError, match="same rows"):
        mean([frames[0], frames[1].assign(id=2)])


@pytest.mark.slow
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    jobs = tmp_path / "jobs.json"
    keywords = {"dim": 8, "conv_dim": 8, "conv_blocks": 1, "recurrent": ["lstm"], "attention": False}
    jobs.write_text(json.dumps([{"dataset": "exp_formation_enthalpy", "epochs": 12, "rows": 256, "keywords": keywords}]))
    environment = os.environ | {"TFMAT_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}

    def command(name):
        words = ["--jobs", jobs, "--work", tmp_path / name, "--out", tmp_path / f"{name}.csv", "--checkpoint-seconds", "0"]
        return [sys.executable, "-m", "benchmarks.campaign", *map(str, words)]

    subprocess.run(command("whole"), cwd=ROOT, env=environment, check=True)
    process = subprocess.Popen(command("killed"), cwd=ROOT, env=environment)
    until = time.monotonic() + 300
    while not list((tmp_path / "killed").glob("checkpoints/[!.]*")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    (state,) = (tmp_path / "killed").glob("running/*.json")
    process.send_signal(signal.SIGKILL)
    os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.csv").exists()
    subprocess.run(command("killed"), cwd=ROOT, env=environment, check=True)
    (whole,), (killed,) = stored(tmp_path / "whole.csv"), stored(tmp_path / "killed.csv")
    assert {name for name in COLUMNS if whole[name] != killed[name]} <= {"seconds", "cpu_seconds"}
    (first,), (second,) = ((tmp_path / name).glob("finished/*/test.csv.gz") for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(pd.read_csv(first), pd.read_csv(second), rtol=1e-6)
