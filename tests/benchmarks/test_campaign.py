"""Campaigns with a stand-in for the training: what is run, kept, refused and told."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.campaign.estimates import START, Estimates
from benchmarks.campaign.jobs import chosen, make, read
from benchmarks.campaign.lists import LISTS
from benchmarks.campaign.machine import head, snapshot
from benchmarks.campaign.runner import COLUMNS, Campaign, Work
from benchmarks.campaign.status import Status
from benchmarks.campaign.table import table
from benchmarks.rows import append, stored
from tfmat.datasets import composition_benchmark
from tfmat.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
WORKER = str(pathlib.Path(__file__).with_name("campaign_worker.py"))
NAME = "aflow__ael_debye_temperature"


def job(seed=0, **does):
    return make(NAME, epochs=4, seed=seed, keywords=does, test=False)


@pytest.fixture
def work(tmp_path, monkeypatch) -> Work:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Work(tmp_path / "work", tmp_path / "results.csv")


def campaign(jobs, work, **options) -> tuple[int, list[str]]:
    told: list[str] = []
    return Campaign(jobs, work, tell=told.append, command=(sys.executable, WORKER), **options).run(), told


def calls(work, one) -> int:
    path = work.folder / "calls" / one.key
    return len(path.read_text().splitlines()) if path.exists() else 0


def in_background(jobs, work) -> subprocess.Popen:
    """A campaign in a process of its own, once its first job has begun."""
    code = (
        "import json, pathlib, sys\n"
        "from benchmarks.campaign.jobs import Job\n"
        "from benchmarks.campaign.runner import Campaign, Work\n"
        "jobs = [Job(**one) for one in json.loads(sys.argv[1])]\n"
        "work = Work(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))\n"
        "sys.exit(Campaign(jobs, work, command=(sys.executable, sys.argv[4])).run())"
    )
    listed = json.dumps([vars(one) for one in jobs])
    process = subprocess.Popen([sys.executable, "-c", code, listed, str(work.folder), str(work.out), WORKER], cwd=ROOT)
    wait_for(lambda: work.running())
    return process


def wait_for(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_names_with_folds():
    one = make("castelli/fold0", epochs=1)
    assert one == make("castelli", fold=0, epochs=1)
    assert (one.dataset, one.fold, one.data, one.targets) == ("castelli", "0", "castelli/fold0", "formation_energy_per_cell")
    assert "/" not in make("elasticity_log10(K_VRH)/fold3", epochs=1).key
    assert make("elasticity_log10_k_vrh", epochs=1).dataset == "elasticity_log10(K_VRH)"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"dataset": "castelli/fold5"}, "unknown data set 'castelli/fold5'"),
        ({"dataset": "castle"}, "unknown data set 'castle'"),
        ({"dataset": NAME, "fold": 0}, "unknown data set"),
        ({"dataset": NAME, "targets": ["gap"]}, "no target 'gap'"),
        ({"dataset": NAME, "epochs": 0}, "`epochs` must be positive"),
        ({"dataset": NAME, "rows": -1}, "`rows` must be positive"),
        ({"dataset": "mp2018_subset", "above": 0.0}, "`above` bounds one target"),
    ],
)
def test_bad_jobs_are_refused(arguments, problem):
    with pytest.raises(InputError, match=problem):
        make(**({"epochs": 1} | arguments))


def test_files_of_jobs(tmp_path):
    wanted = [make("phonons", fold=fold, seed=seed, epochs=3, keywords={"dim": 8}, rows=50) for fold in (0, 1) for seed in (0, 1)]
    toml, text, rows = (tmp_path / name for name in ("jobs.toml", "jobs.json", "jobs.csv"))
    toml.write_text('[[job]]\ndataset = "phonons"\nfolds = [0, 1]\nseeds = [0, 1]\nepochs = 3\nkeywords = {dim = 8}\nrows = 50\n')
    entry = {"dataset": "phonons", "epochs": 3, "keywords": {"dim": 8}, "rows": 50, "seeds": [0, 1]}
    text.write_text(json.dumps([entry | {"fold": 0}, entry | {"fold": 1}]))
    lines = [f'phonons,{fold},{seed},3,"{{""dim"": 8}}",50' for fold in (0, 1) for seed in (0, 1)]
    rows.write_text("\n".join(["dataset,fold,seed,epochs,keywords,rows", *lines]))
    assert read(toml) == read(text) == read(rows) == wanted
    assert chosen(wanted, "fold1*seed=0") == [wanted[2]]
    for content in ("job = 3", '[[job]]\ndata = "phonons"', "[[job]", '[[job]]\ndataset = "x"\nepochs = 1'):
        toml.write_text(content)
        with pytest.raises(InputError, match=r"jobs\.toml"):
            read(toml)


def test_lists():
    widths, compositions = LISTS["widths"](), LISTS["compositions"]()
    assert {one.scored for one in widths} == {"validation"}
    assert {one.scored for one in compositions} == {"test"}
    assert {one.dataset for one in compositions} == {source.name for source in composition_benchmark.SOURCES}
    assert len({one.data for one in compositions}) == 18 + 13 * 5
    assert max(len({one.seed for one in compositions if one.data == name}) for name in ("OQMD_Bandgap", "mp_e_form/fold0")) == 1
    for jobs in (widths, compositions, LISTS["phonons"](), LISTS["mp2018"]()):
        assert len(set(jobs)) == len(jobs)
    assert LISTS["mp2018"]()[0].targets == "formation_energy_per_atom band_gap"


def test_results_are_kept_and_not_made_again(work):
    jobs = [job(seed) for seed in range(3)]
    assert campaign(jobs[:2], work)[0] == 0
    code, told = campaign(jobs, work, workers=2)
    assert code == 0
    assert [row["seed"] for row in work.results()] == ["0", "1", "2"]
    assert [calls(work, one) for one in jobs] == [1, 1, 1]
    assert told == [f"begun: {jobs[2]}", f"done: {jobs[2]}: debye_temperature validation MAE 1.5 K in 36 s"]
    assert work.results()[0]["test_MAE"] == "" and not work.running()
    work.out.write_text("dataset,seed\nglass,0\n")
    with pytest.raises(InputError, match="columns are not those"):
        campaign(jobs, work)


def test_a_job_that_fails_is_recorded_and_tried_once_more(work):
    jobs = [job(fails=9), job(fails=1), job(bad=True), job()]
    code, told = campaign(jobs, work)
    assert code == 1
    assert [calls(work, one) for one in jobs] == [2, 2, 1, 1]
    assert work.done() == {jobs[1], jobs[3]}
    failures = work.failures()
    assert set(failures) == {jobs[0].key, jobs[2].key}
    assert (
        failures[jobs[0].key]["attempts"] == 2 and failures[jobs[0].key]["given_up"] and failures[jobs[0].key]["error"] == "it went wrong"
    )
    assert failures[jobs[2].key]["error"] == "no such thing"
    assert told.index(f"failed, to be tried again: {jobs[0]}: it went wrong") < told.index(f"begun: {jobs[3]}")
    campaign(jobs, work)
    assert [calls(work, one) for one in jobs] == [2, 2, 1, 1]


def test_a_second_campaign_is_refused(work, monkeypatch):
    monkeypatch.setattr("benchmarks.campaign.runner.LOCK_SECONDS", 0.1)
    process = in_background([job(sleeps=30)], work)
    try:
        with pytest.raises(InputError, match="another campaign"):
            campaign([job(1)], work)
    finally:
        process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert not work.failures() and not work.results()
    assert campaign([job(1)], work)[0] == 0


def test_a_killed_campaign_goes_on(work):
    first, second = job(sleeps=0.5), job(1, sleeps=1.0)
    process = in_background([first, second], work)
    wait_for(lambda: calls(work, second))
    process.kill()
    process.wait(20)
    work.out.unlink()  # what finished jobs have left is enough
    assert campaign([first, second], work)[0] == 0
    assert work.done() == {first, second}
    assert (calls(work, first), calls(work, second)) == (1, 2)


def test_status(work):
    jobs = [job(), job(1), job(fails=9), job(sleeps=30), make("castelli/fold0", epochs=1)]
    campaign(jobs[:3], work)
    process = in_background([jobs[3]], work)
    status = Status(jobs, work)
    lines = status.lines()
    console = Console(record=True, width=200, file=open(os.devnull, "w"))
    console.print(status.view())
    process.terminate()
    process.wait(20)
    line = lines[replace(jobs[0], seed="")]
    assert (line.jobs, line.done, line.failed, line.spent, line.left) == (2, 2, 0, 72.0, 0.0)
    assert lines[replace(jobs[2], seed="")].failed == 1
    assert lines[replace(jobs[3], seed="")].left == 7200.0
    text = console.export_text()
    assert "2/5, " not in text and "2/5" in text and "1 failed" in text
    assert f"{jobs[3]}: epoch 1/4, 120 min left" in text
    assert f"failed: {jobs[2]}: it went wrong" in text


def test_estimates():
    one, other = make(NAME, epochs=10, keywords={"dim": 64}), make("castelli", epochs=10, keywords={"dim": 128})
    row = vars(one) | {"seconds": "100", "train_rows": "1000", "epochs_run": "10", "hardware": "here"}
    estimates = Estimates([row, row | {"hardware": "there", "seconds": "9999"}], "here")
    assert estimates.seconds(one) == pytest.approx(START + 0.01 * 3428 * 10)
    assert estimates.seconds(other) == pytest.approx(START + 0.01 * 4 * 15169 * 10)
    assert estimates.seconds(replace(one, rows="100")) == pytest.approx(START + 0.01 * 100 * 10)


def test_rows_are_appended_whole(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    append(path, ["a", "b"], {"a": 1, "b": "x, y"}, {"a": 2, "b": ""})
    path.write_text(path.read_text().removesuffix("\n"))
    append(path, ["a", "b"], {"a": 3, "b": "z"})
    assert stored(path) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}, {"a": "3", "b": "z"}]
    with pytest.raises(ValueError, match="has the columns a, b"):
        append(path, ["a"], {"a": 1})


def test_the_stored_results_make_a_table():
    rows = stored(ROOT / "benchmarks" / "results" / "campaign.csv")
    assert list(rows[0]) == COLUMNS
    lines = table(rows).splitlines()
    assert any("**30.25** (33.94, 30.52, 30.7, 32.08, 23.99)" in line for line in lines)
    assert any("conv_dim=512 dim=512 |  | 3,428 | 40 | - | 0 1 2 | **8.567**" in line for line in lines)
    assert "| CrabNet | |  | | | | 8.692 | | | |" in lines


@pytest.mark.skipif(not head(), reason="not a git checkout")
def test_a_snapshot_is_run_from_elsewhere(tmp_path):
    (tmp_path / "jobs.toml").write_text(f'[[job]]\ndataset = "{NAME}"\nepochs = 1\n')
    code = snapshot(tmp_path / "work")
    (code / "benchmarks" / "campaign" / "runner.py").write_text("raise SystemExit('this is the copy')\n")
    words = ["--jobs", "jobs.toml", "--work", "work", "--snapshot"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.campaign", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "this is the copy" in done.stderr
    assert (code / "COMMIT").read_text().strip() == head()
