"""``tfmat tune``, and ``tfmat train --config`` with what it found."""

import csv
import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
from collections.abc import Sequence
from typing import Any

import pytest
import tiny
from cli_cases import Command, Result, listing, start
from crystal_cases import ARCHITECTURE, NearestFeaturizer, crystals, nearest_model

pytest.importorskip("keras_tuner")

import tfmat.data.featurize as featurize_module
import tfmat.predictor as predictor_module
from tfmat import architecture
from tfmat.analysis import figures
from tfmat.data.table import Table
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.tuning import SPACES

pytestmark = pytest.mark.usefixtures("eagerly")

GAP = ("--target", "gap", "--unit", "eV")
QUICK = ("--no-cache", "--epochs", "1")
RANDOM = (*QUICK, "--tuner", "random", "--trials", "2", "--vary", "dim")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture ``tiny`` with a space; no plots, which take longer than the trials."""
    tiny.register(monkeypatch)
    monkeypatch.setitem(SPACES, "tiny", space)
    monkeypatch.setattr(figures, "can_plot", lambda: False)
    for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT"):
        monkeypatch.delenv(f"KERASTUNER_{name}", raising=False)


BEGINNING = re.compile(r"tfmat: (searching |[\d,]+ trials of at most )")


@pytest.fixture
def tfmat(tfmat: Command) -> Command:
    """`tfmat` without the lines by which a search says what it is going to do; see `test_a_search_says_what_it_is_going_to_do`."""

    def call(*arguments: object) -> Result:
        result = tfmat(*arguments)
        lines = [line for line in result.err.splitlines(keepends=True) if not BEGINNING.match(line)]
        return dataclasses.replace(result, err="".join(lines))

    return call


def space(hp: Any) -> Any:
    rate = hp.Float("learning_rate", 1e-3, 0.1, sampling="log", default=1e-3)
    return {"keywords": {"dim": hp.Choice("dim", [4, 8, 16], default=8)}, "recipe": {"learning_rate": rate}}


def trials(folder: pathlib.Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def refused(result: Result, *parts: str) -> None:
    """One line on stderr with `parts`, and exit code 2."""
    assert result.code == 2 and not result.out and len(result.lines) == 1, result.err
    for part in parts:
        assert part in result.err


@pytest.mark.slow
def test_round_trip(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--seed", "4")
    assert result.code == 0, result.err
    out = tmp_path / "runs" / "tune-tiny-compounds"
    first, second = trials(out)
    assert [row["status"] for row in (first, second)] == ["completed"] * 2
    best = min((first, second), key=lambda row: float(row["validation MAE of gap [eV]"]))
    assert f"trial {best['trial']}" in result.out and "tfmat train --config runs/tune-tiny-compounds/best.json" in result.out
    assert all(line.startswith("tfmat: trial ") for line in result.lines) and len(result.lines) == 2
    assert "(1 of 2): validation MAE of gap " in result.lines[0] and "the best so far" in result.lines[0] and " left" in result.lines[0]

    again = tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--seed", "4", "--trials", "3")
    assert again.code == 0 and again.lines[0] == "tfmat: going on with 2 finished trials" and len(again.lines) == 2
    assert trials(out)[:2] == [first, second] and len(trials(out)) == 3
    refused(tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--seed", "5"), "another seed (4, not 5)", "another --out")

    config = json.loads((out / "best.json").read_text())
    result = tfmat("train", "--config", out / "best.json", "--no-cache", "--out", "best")
    assert result.code == 0, result.err
    trained = Predictor.load(tmp_path / "best")
    assert trained.architecture.name == "tiny" and trained.keywords == config["keywords"] and trained.info["seed"] == 4
    assert (trained.targets[0].name, trained.targets[0].unit) == ("gap", "eV") and trained.info["dataset"]["name"] == str(table)
    assert trained.info["validation"]["gap"]["MAE"] == pytest.approx(config["search"]["value"], rel=1e-6)


def test_columns_of_other_names_are_kept(tfmat: Command, tmp_path: pathlib.Path) -> None:
    """A search is told of them, a config tells `train`, a model `evaluate`; of another file they are to be told."""
    rows = "\n".join(f"{metal}{n}O,{n}" for metal in ("Li", "Na", "K") for n in range(1, 11))
    for name, header in {"a.csv": "mine,gap", "b.csv": "yours,gap"}.items():
        (tmp_path / name).write_text(f"{header}\n{rows}\n")
    result = tfmat("tune", "tiny", "--data", "a.csv", "--formula-column", "mine", *GAP, *RANDOM, "--trials", "1", "--out", "s")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "s" / "best.json").read_text())["data"]["reading"] == {"formula_column": "mine"}
    result = tfmat("train", "--config", "s/best.json", "--no-cache", "--out", "m")
    assert result.code == 0, result.err
    result = tfmat("evaluate", "m", "--no-cache")
    assert result.code == 0 and "has changed" not in result.err, result.err
    refused(tfmat("evaluate", "m", "--data", "b.csv", "--no-cache"), "b.csv, row 1: no column 'formula'")
    result = tfmat("evaluate", "m", "--data", "b.csv", "--formula-column", "yours", "--no-cache")
    assert result.code == 0 and "30" in result.out, result.err


def test_options_come_before_the_config(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    recipe = {"learning_rate": 0.01, "epochs": 2, "batch_size": 24}
    content = {"architecture": "tiny", "keywords": {"dim": 4, "depth": 1}, "recipe": recipe, "seed": 3}
    (tmp_path / "c.json").write_text(json.dumps(content))
    options = ("--set", "dim=12", "--recipe-option", "learning_rate=0.02", "--epochs", "1", "--seed", "0", "--data", table, *GAP)
    result = tfmat("train", "tiny", "--config", "c.json", *options, "--no-cache", "--out", "m")
    assert result.code == 0, result.err
    trained = Predictor.load(tmp_path / "m")
    assert trained.keywords == {"dim": 12, "depth": 1} and trained.info["seed"] == 0
    assert [trained.info["recipe"][key] for key in ("learning_rate", "batch_size", "epochs")] == [0.02, 24, 1]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"architecture": "tiny", "keyword": {}}, ("c.json: unknown key 'keyword' (did you mean keywords?)",)),
        ({"architecture": "tiny", "keywords": {"dims": 4}}, ("unknown keyword of tiny 'dims' (did you mean dim?)",)),
        ({"architecture": "tiny", "keywords": {"dim": "wide"}}, ("dim = ", "is not a whole number")),
        ({"architecture": "tiny", "recipe": {"lr": 1}}, ("unknown recipe option 'lr'",)),
        ({"architecture": "tiny", "recipe": {"learning_rate": -1}}, ("`learning_rate` must be positive",)),
        ({"architecture": "tiny", "seed": "one"}, ("seed is 'one'",)),
        ({"architecture": "tiny", "data": {"name": "x"}}, ("its data cannot be read",)),
        ({"architecture": "tiny", "data": {"path": "x"}}, ("unknown key of data 'path'",)),
        ({"architecture": "tiny", "data": {"name": "x", "targets": [], "reading": {"column": "x"}}}, ("unknown option 'column'",)),
        ({"architecture": "tyny"}, ("unknown architecture 'tyny' (did you mean tiny?)",)),
        ({"architecture": "megnet"}, ("it is a config of megnet, not of tiny",)),
        ({}, ("it names no architecture",)),
        ([], ("a config is no JSON object",)),
        ({"architecture": "tiny", "keywords": []}, ("keywords is no JSON object",)),
    ],
)
def test_bad_configs(content: Any, parts: Sequence[str], tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(content))
    refused(tfmat("train", "tiny", "--config", "c.json", "--data", table, *GAP), "c.json", *parts)
    assert listing(tmp_path) == {"c.json"}


def test_unreadable_configs(tfmat: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.json").write_text("{")
    refused(tfmat("train", "tiny", "--config", "c.json"), "c.json: not valid JSON")
    refused(tfmat("train", "tiny", "--config", "d.json"), "d.json: no such file")
    refused(tfmat("train", "tiny", "--config", "."), "is a folder")


def split_file(path: pathlib.Path, table: pathlib.Path, factor: float, formula: str = "") -> pathlib.Path:
    """The table with a column `split`, its test rows changed."""
    rows = list(csv.DictReader(table.read_text().splitlines()))
    lines = ["formula,id,gap,split"]
    for i, row in enumerate(rows):
        split = ("test", "validation", "train", "train")[i % 4]
        gap = float(row["gap"]) * (factor if split == "test" else 1)
        lines.append(f"{formula or row['formula'] if split == 'test' else row['formula']},{row['id']},{gap},{split}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_test_split_has_no_influence(
    tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its values nor its materials: other ones give the same search, and no call for features or a fit gets any of them."""
    seen: set[str] = set()

    def spied(function: Any) -> Any:
        def spy(*arguments: Any, **keywords: Any) -> Any:
            seen.update(str(m) for table in arguments if isinstance(table, Table) for m in table.materials)
            return function(*arguments, **keywords)

        return spy

    found = []
    for name, factor, formula in (("a", 1.0, ""), ("b", -1e9, "PuOg7")):
        data = split_file(tmp_path / f"{name}.csv", table, factor, formula)
        with monkeypatch.context() as patch:
            patch.setattr(featurize_module, "featurize_parts", spied(featurize_module.featurize_parts))
            patch.setattr(predictor_module, "featurize_table", spied(predictor_module.featurize_table))
            patch.setattr(Predictor, "fit", spied(Predictor.fit))
            assert tfmat("tune", "tiny", "--data", data, *GAP, *RANDOM, "--out", name).code == 0
        found.append([{key: value for key, value in row.items() if key != "seconds"} for row in trials(tmp_path / name)])
    assert found[0] == found[1] and len(found[0]) == 2
    assert len(seen) == 72 and "PuOg7" not in seen


def test_bad_input(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = ("--data", table, *GAP)
    refused(tfmat("tune", "tiny", *data, "--tuner", "sobol"), "unknown tuner 'sobol'", "hyperband, bayesian, random, grid")
    refused(tfmat("tune", "tiny", *data, "--strategy", "sharded"), "unknown strategy 'sharded'")
    refused(tfmat("tune", "tyny", *data), "unknown architecture 'tyny' (did you mean tiny?)")
    refused(tfmat("tune", "tiny", *data, "--vary", "width"), "'width' is not in the search space of tiny", "learning_rate, dim")
    refused(tfmat("tune", "tiny", *data, "--vary", "dim", "--set", "dim=4"), "'dim' cannot be both set and varied")
    refused(tfmat("tune", "tiny", *data, "--set", "wide=4"), "unknown keyword of tiny 'wide'")
    refused(tfmat("tune", "tiny", *data, "--set", "columns=0"), "tiny cannot be built with the defaults of its search space")
    refused(tfmat("tune", "tiny", *data, "--recipe-option", "loss=laplace"), "the loss laplace needs")
    refused(tfmat("tune", "tiny", "--data", "nothing"), "neither a dataset nor a file")
    refused(tfmat("tune", "tiny", *data, "--split", "column:gap"), "gap")
    refused(tfmat("tune", "tiny", *data, "--out", table), "it holds no search")
    refused(tfmat("tune"), "Missing argument")
    assert not listing(tmp_path)


def test_missing_extra(tfmat: Command, table: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    for package in ("keras_tuner", "tensorboard", "sklearn"):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda name, missing=package: None if name == missing else find(name))
            refused(
                tfmat("tune", "tiny", "--data", table, *GAP),
                f"a search needs {package}, which is not installed",
                "pip install 'tfmat[tuning]'",
            )


def test_a_search_says_what_it_is_going_to_do(
    table: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, before Keras is loaded, and again when the number of trials is known; whether there are several devices, too."""
    from tfmat.cli import run

    monkeypatch.chdir(tmp_path)
    began: list[str] = []
    monkeypatch.setattr(importlib.import_module("tfmat.cli.tune"), "load_tensorflow", lambda: began.append(capfd.readouterr().err))
    source = Predictor.create("tiny", [Target("gap", "eV")], keywords={"dim": 4}).save(tmp_path / "source")
    options = (*QUICK, "--tuner", "random", "--trials", "2", "--vary", "learning_rate", "--strategy", "mirrored", "--out", "s")
    transfer = ("--init", str(source), "--freeze", "hidden_1", "--rate", "hidden_2=0.1")
    assert run(["tune", "tiny", "--data", str(table), *GAP, *options, *transfer]) == 0
    told = capfd.readouterr()
    assert began == [f"tfmat: searching tiny on {table}: random, 2 trials; loading Keras\n"]
    lines = told.err.splitlines()
    assert any("weights from" in line for line in lines) and any("not trained: hidden_1" in line for line in lines)
    assert any("mirrored on 1 device: there is no second one" in line for line in lines)
    assert "tfmat: 2 trials of at most 1 epochs; compiling the first model" in lines
    assert "--init" in told.out and "--freeze hidden_1" in told.out
    best = json.loads((tmp_path / "s" / "best.json").read_text())
    assert best["recipe"]["rates"] == [["hidden_2", 0.1]] and best["keywords"]["dim"] == 4
    assert best["search"]["values"].keys() == {"learning_rate"}


def test_all_trials_fail(tfmat: Command, table: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise ValueError("it does not work")

    monkeypatch.setattr(Predictor, "fit", fail)
    result = tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--out", "s")
    assert result.code == 2 and not result.out and "Traceback" not in result.err
    assert [" failed: ValueError: it does not work (dim=" in line for line in result.lines] == [True, True, False]
    assert "s: all 2 trials failed; the first: ValueError: it does not work" in result.lines[-1]


def test_interrupted(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second trial: the first is kept, and the second one taken up again."""
    fit, calls = Predictor.fit, []

    def counted(self: Predictor, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            keywords["report"] = lambda *_: os.kill(os.getpid(), signal.SIGINT)
        return fit(self, *arguments, **keywords)

    monkeypatch.setattr(Predictor, "fit", counted)
    command = ("tune", "tiny", "--data", table, *GAP, *RANDOM, "--epochs", "2", "--out", "s")
    result = tfmat(*command)
    assert result.code == 130 and "interrupted; finished trials are kept, the same command goes on with them" in result.lines[-1]
    assert [row["status"] for row in trials(tmp_path / "s")] == ["completed"]
    first = trials(tmp_path / "s")[0]
    result = tfmat(*command)
    assert result.code == 0 and result.lines[0] == "tfmat: going on with 1 finished trials"
    assert trials(tmp_path / "s")[0] == first and len(calls) == 3


@pytest.mark.slow
def test_disk_full(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfmat.tuning import folder

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_trials", full)
        result = tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--out", "s")
    assert result.code == 2 and result.lines[-1].startswith("tfmat: disk full while writing s; finished trials are kept")
    result = tfmat("tune", "tiny", "--data", table, *GAP, *RANDOM, "--out", "s")
    assert result.code == 0 and "going on with 1 finished trials" in result.lines[0] and len(trials(tmp_path / "s")) == 2


@dataclasses.dataclass(frozen=True)
class Counting(NearestFeaturizer):
    """Counts the crystals that it featurizes with each cut-off."""

    def featurize(self, materials: Sequence[Any]) -> Any:
        COUNTS[self.cutoff] = COUNTS.get(self.cutoff, 0) + len(materials)
        return super().featurize(materials)


COUNTS: dict[float, int] = {}


def model(targets: Sequence[str] = ("target",), *, cutoff: float = 4.0, dim: int = 4, name: str = "nearest") -> Any:
    return nearest_model(targets, dim=dim, name=name)


def cutoffs(hp: Any) -> Any:
    return {"keywords": {"cutoff": hp.Choice("cutoff", [4.0, 6.0], default=4.0), "dim": hp.Choice("dim", [4, 8])}, "recipe": {}}


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["--cache", "--no-cache"])
def test_featurizer_settings_are_searched(cache: str, tfmat: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut-off is featurized once, whatever the number of trials, and all trials have the rows that both accept."""
    nearest = dataclasses.replace(ARCHITECTURE, name="nearest", builder=model, featurizer=Counting)
    architecture.architectures()
    monkeypatch.setitem(architecture._REGISTRY, "nearest", nearest)
    monkeypatch.setitem(SPACES, "nearest", cutoffs)
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tfmat.data.featurize.cores", lambda: 1, raising=False)
    COUNTS.clear()
    sizes, later = [], []
    fit = Predictor.fit

    def spy(self: Predictor, training: Any, validation: Any, **keywords: Any) -> Any:
        sizes.append((self.featurizer.cutoff, len(training) + len(validation)))
        before = dict(COUNTS)
        history = fit(self, training, validation, **keywords)
        later.append(COUNTS == before)
        return history

    monkeypatch.setattr(Predictor, "fit", spy)
    folder = crystals(tmp_path / "crystals", sparse=range(0, 32, 5))
    result = tfmat("tune", "nearest", "--data", folder, *GAP, "--tuner", "grid", "--epochs", "1", cache, "--out", "s")
    assert result.code == 0, result.err
    assert [cutoff for cutoff, _ in sizes] == [4.0, 4.0, 6.0, 6.0] and len({rows for _, rows in sizes}) == 1
    rows = sizes[0][1]
    assert f"{29 - rows} of 29 crystals cannot be featurized" in result.err and rows < 29
    assert COUNTS[6.0] == rows and later == [True] * 4


@pytest.mark.slow
def test_a_chief_and_two_workers_share_the_trials(table: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes on loopback, each started by the same command; the chief ends by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    fixed = ("--variant", "dcnn_k1", "--set", "dim=16", "--set", "conv_dim=16", "--vary", "learning_rate", "--epochs", "1")
    command = ("tune", "lgdcnn", "--data", table, *GAP, *fixed, "--tuner", "random", "--trials", "8", "--out", "s")
    processes = {}
    for name in ("chief", "worker0", "worker1"):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        processes[name] = start(command, tmp_path)
    told = {name: process.communicate(timeout=900) for name, process in processes.items()}
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(processes, 0), told
    rows = trials(tmp_path / "s")
    assert [row["status"] for row in rows] == ["completed"] * 8 and {row["worker"] for row in rows} == {"worker0", "worker1"}
    state = json.loads((tmp_path / "s" / "trials" / "oracle.json").read_text())
    assert set(state["run_times"].values()) == {1} and len(state["end_order"]) == len(set(state["end_order"])) == 8
    ran = {
        name: {line.split()[2].rstrip(":") for line in told[name][1].splitlines() if line.startswith("tfmat: trial ")} for name in processes
    }
    assert not ran["worker0"] & ran["worker1"] and ran["worker0"] | ran["worker1"] == ran["chief"] == {str(i) for i in range(8)}
    assert "best.json" in told["chief"][0] and not told["worker0"][0]
    assert all(line.startswith("tfmat: ") for _, err in told.values() for line in err.splitlines())
