"""Bad input: one line that says where and what, exit code 2, nothing left behind."""

import errno
import json
import pathlib
import resource
import shutil
import time
from typing import Any

import pandas as pd
import pytest
from cli_cases import SMALL, TINY, Command, Result, listing, start

import tfmat.predictor as tfmat_predictor
from tfmat.model_directory.files import _config_sha256

pytestmark = pytest.mark.usefixtures("eagerly")


def refused(result: Result, *parts: str) -> str:
    """The only line on stderr."""
    assert result.code == 2, result
    assert len(result.lines) == 1, result.err
    assert result.err.startswith("tfmat: ") and "Traceback" not in result.err
    for part in parts:
        assert part in result.err, result.err
    return result.err


@pytest.mark.parametrize(
    ("rows", "options", "parts"),
    [
        (["NaCl,1", "Xx2O3,2", "KF,3", "KCl,4"], (), ["d.csv, row 3", "unknown element 'Xx'"]),
        (["NaCl,1", ",2", "KF,3", "KCl,4"], (), ["d.csv, row 3", "empty"]),
        (["NaCl,1", "Fe-2O3,2", "KF,3", "KCl,4"], (), ["d.csv, row 3", "a negative amount, or an alloy"]),
        (["NaCl,1", "Fe0O3,2", "KF,3", "KCl,4"], (), ["d.csv, row 3", "negative or zero amount"]),
        (["NaCl,1", "KBr,inf", "KF,3"], ("--target", "gap"), ["d.csv, row 3", "'gap' holds 'inf'"]),
        (["NaCl,1", "KBr,wide", "KF,3"], ("--target", "gap"), ["d.csv, row 3", "'gap' holds 'wide'"]),
        (["NaCl,low", "KBr,wide", "KF,high"], (), ["d.csv, row 2", "'gap' holds 'low'"]),
        (["NaCl,1", "KBr,2"], ("--target", "band_gap"), ["d.csv, row 1", "no column 'band_gap'", "'gap'"]),
        (["NaCl,1", "KBr,2,7"], (), ["d.csv, row 3", "3 cells"]),
        (["NaCl,1"], (), ["d.csv", "1 cannot give training, validation and test"]),
        ([], (), ["d.csv", "no row below the header"]),
        (["NaCl,0", "KBr,2", "KF,1", "KCl,1"], ("--task", "binary"), ["d.csv, row 3", "is 2", "0 or 1"]),
        (["NaCl,3", "KBr,-2", "KF,1", "KCl,1"], ("--transform", "log10"), ["d.csv, row 3", "is -2", "log10"]),
        (["A" * 100_000 + ",1", "KBr,2", "KF,3", "KCl,4"], (), ["d.csv, row 2", "100,000 characters"]),
        (["A" * 1_000_000 + ",1", "KBr,2", "KF,3", "KCl,4"], (), ["d.csv, row 2", "1,000,000 characters"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, (list, tuple)) else None,
)
def test_rows(rows: list[str], options: tuple[str, ...], parts: list[str], tfmat: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "d.csv").write_text("\n".join(["formula,gap", *rows]) + "\n")
    began = time.monotonic()
    line = refused(tfmat("train", "lgdcnn", "--data", "d.csv", "--strict", *options, *TINY, "--epochs", "1", "--out", "deep/m"), *parts)
    assert time.monotonic() - began < 5
    assert len(line) < 400
    assert listing(tmp_path) == {"d.csv"}


def test_no_csv(tfmat: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "d.csv").write_bytes(bytes(range(256)) * 10)
    refused(tfmat("train", "lgdcnn", "--data", "d.csv"), "d.csv, row 1", "holds a NUL character")
    (tmp_path / "d.xlsx").write_bytes(b"PK")
    refused(tfmat("train", "lgdcnn", "--data", "d.xlsx"), "d.xlsx", "unknown kind of file")
    (tmp_path / "e.csv").write_text("a,b\n1,2\n")
    refused(tfmat("train", "lgdcnn", "--data", "e.csv"), "e.csv, row 1", "no column 'formula'")
    assert listing(tmp_path) == {"d.csv", "d.xlsx", "e.csv"}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("lgdcn",), ["unknown architecture 'lgdcn'", "did you mean lgdcnn"]),
        ((), ["no architecture", "tfmat train lgdcnn"]),
        (("lgdcnn", "--variant", "grru"), ["unknown variant of lgdcnn 'grru'", "gru"]),
        (("lgdcnn", "--recipe", "papr"), ["unknown recipe of lgdcnn 'papr'", "did you mean paper"]),
        (("lgdcnn", "--set", "dims=3"), ["unknown keyword of lgdcnn 'dims'", "dim"]),
        (("lgdcnn", "--set", "dim"), ["--set 'dim' sets nothing", "KEY=VALUE"]),
        (("lgdcnn", "--set", "dim=wide"), ["'wide' is not a whole number"]),
        (("lgdcnn", "--set", "attention=False"), ["'False' is not true or false"]),
        (("lgdcnn", "--set", "recurrent=lstm,rnn"), ["'lstm,rnn' is not a list of lstm or gru"]),
        (("lgdcnn", "--set", "dim=30"), ["lgdcnn cannot be built with dim=30", "multiple of 4"]),
        (("lgdcnn", "--set", "dim=-4"), ["lgdcnn cannot be built with dim=-4"]),
        (("lgdcnn", "--recipe-option", "learning_rat=1"), ["unknown recipe option 'learning_rat'", "learning_rate"]),
        (("lgdcnn", "--recipe-option", "learning_rate=-1"), ["`learning_rate` must be positive"]),
        (("lgdcnn", "--data", "exp_formation_enthalpi"), ["exp_formation_enthalpi", "did you mean exp_formation_enthalpy"]),
        (("lgdcnn", "--target", "gap"), ["no target 'gap'", "formation_enthalpy_per_atom"]),
        (("lgdcnn", "--unit", "kJ/mol"), ["gives formation_enthalpy_per_atom in eV/atom"]),
        (("lgdcnn", "--task", "ranking"), ["unknown task 'ranking'"]),
        (("lgdcnn", "--transform", "log"), ["unknown transform 'log'", "log10"]),
        (("lgdcnn", "--split", "hash"), ["has a split of its own"]),
        (("lgdcnn", "--folds", "5", "--fold", "1"), ["has a split of its own"]),
        (("lgdcnn", "--folds", "5"), ["--folds without --fold"]),
        (("lgdcnn", "--fold", "1"), ["--fold without --folds"]),
        (("lgdcnn", "--folds", "5", "--fold", "5"), ["fold 5 of 5 folds"]),
        (("lgdcnn", "--split", "sideways"), ["unknown split 'sideways'"]),
        (("lgdcnn", "--epochs", "0"), ["--epochs", "tfmat train --help"]),
        (("lgdcnn", "--batch-size", "-1"), ["--batch-size"]),
        (("lgdcnn", "--epoch", "1"), ["No such option", "--epochs"]),
        (("--resume", "."), ["no unfinished run"]),
        (("--resume", "nowhere"), ["nowhere", "no unfinished run"]),
        (("--resume", "x", "--epochs", "3"), ["--epochs cannot be changed"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_train_options(options: tuple[str, ...], parts: list[str], tfmat: Command, tmp_path: pathlib.Path) -> None:
    refused(tfmat("train", *options), *parts)
    assert not listing(tmp_path)


def test_unreadable_run(tfmat: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.training").mkdir()
    for text in ("{", "[]", "{}", '{"format": 2, "seed": 0}'):
        (tmp_path / "x.training" / "run.json").write_text(text)
        refused(tfmat("train", "--resume", "x"), "x.training/run.json", "cannot be read")


def test_existing_paths(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes").mkdir()
    refused(tfmat("train", "lgdcnn", "--out", model), str(model), "exists already", "--overwrite")
    refused(tfmat("train", "lgdcnn", "--out", "notes", "--overwrite"), "notes: it is no model")
    (tmp_path / "y.training").mkdir()
    refused(tfmat("train", "lgdcnn", "--out", "y"), "y.training holds an unfinished run", "--resume y", "--overwrite")
    (tmp_path / "p.csv").write_text("mine")
    refused(tfmat("predict", model, "NaCl", "--out", "p.csv"), "p.csv: it exists already")
    refused(tfmat("predict", model, "NaCl", "--out", "p.csv/q.csv"), "p.csv/q.csv: it cannot be written")
    assert (tmp_path / "p.csv").read_text() == "mine"
    assert listing(tmp_path) == {"notes", "y.training", "p.csv"}


@pytest.mark.parametrize("formula", ["Xx2O3", "", "Fe-2O3", "Fe0O3", "NaCl.csv", "A" * 1_000_000])
def test_predict_one(formula: str, tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    began = time.monotonic()
    result = tfmat("predict", model, formula)
    assert len(refused(result)) < 300
    assert len(result.out) < 1000
    assert time.monotonic() - began < 5
    assert not listing(tmp_path)


def test_predict_goes_on_after_bad_rows(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.csv").write_text("formula,id\nNaCl,good\nXx,bad\n")
    result = tfmat("predict", model, "c.csv", "K2O", "--out", "p.csv")
    assert result.code == 2
    assert "c.csv, row 3: " in result.lines[0] and "unknown element" in result.lines[0]
    frame = pd.read_csv(tmp_path / "p.csv", keep_default_na=False, na_values={"gap [eV]": ""})
    assert list(frame["id"]) == ["good", "bad", ""]
    assert list(frame["gap [eV]"].notna()) == [True, False, True]
    assert "unknown element" in frame["error"][1]


def test_predict_without_materials(tfmat: Command, model: pathlib.Path) -> None:
    refused(tfmat("predict", model), "no material to predict")
    refused(tfmat("predict", model, "--input", "none.csv"), "none.csv: no such file")


def _truncate(folder: pathlib.Path) -> None:
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _edit(folder: pathlib.Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"eV"', '"meV"'))


def _newer(folder: pathlib.Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["featurizer"]["version"] += 1
    (folder / "config.json").write_text(json.dumps(config | {"config_sha256": _config_sha256(config)}))


DAMAGES: dict[str, Any] = {
    "truncated or changed": _truncate,
    "it was changed": _edit,
    "it has no config.json": lambda folder: (folder / "config.json").unlink(),
    "it has no model.weights.h5": lambda folder: (folder / "model.weights.h5").unlink(),
    "not valid JSON": lambda folder: (folder / "config.json").write_text("{"),
    "not the config of a tfmat model": lambda folder: (folder / "config.json").write_text("[]"),
    "is installed": _newer,
}


@pytest.mark.parametrize("part", DAMAGES)
def test_damaged_model(part: str, tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    DAMAGES[part](copy)
    before = listing(tmp_path)
    refused(tfmat("predict", "copy", "NaCl"), "copy", part)
    refused(tfmat("evaluate", "copy"), "copy", part)
    refused(tfmat("export", "copy"), "copy", part)
    assert listing(tmp_path) == before


def test_evaluate_and_export_options(tfmat: Command, model: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = listing(model)
    refused(tfmat("evaluate", model, "--data", "nothing"), "neither a dataset nor a file")
    refused(tfmat("evaluate", model, "--split", "tests"), "unknown split 'tests'", "did you mean test")
    refused(tfmat("evaluate", model, "--data", "exp_formation_enthalpy"), "no target 'gap'")
    refused(tfmat("export", model, "--format", "coreml"), "unknown export format 'coreml'")
    refused(tfmat("export", model, "--format", "litert", "--precision", "int4"), "unknown precision 'int4'", "float16")
    refused(tfmat("export", model, "--precision", "int8"), "a savedmodel keeps float32 weights")
    refused(tfmat("export", model, "--max-elements", "3"), "max_elements")
    refused(tfmat("export", model, "--out", table), "exists already")
    assert listing(model) == before
    assert not listing(tmp_path)


def test_usage(tfmat: Command) -> None:
    refused(tfmat("trian"), "No such command 'trian'")
    refused(tfmat("--log-level", "loud", "datasets"), "unknown log level 'loud'")
    refused(tfmat("predict"), "Missing argument 'MODEL'")


def full(*arguments: object, **keywords: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_full_while_saving(
    tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        result = tfmat("predict", model, "NaCl", "--out", "p.csv")  # a slow machine tells its progress before
        assert result.code == 2 and result.lines[-1] == "tfmat: disk full while writing p.csv; nothing was written"
        result = tfmat("evaluate", model)
        assert result.code == 2 and "disk full while writing" in result.lines[-1]
        patch.setattr(tfmat_predictor.files, "write_model", full)
        result = tfmat("train", "lgdcnn", "--data", table, "--target", "gap", *TINY, "--epochs", "1", "--out", "deep/m")
    assert result.code == 2
    assert result.lines[-1] == "tfmat: disk full while writing deep/m; nothing was written"
    assert "Traceback" not in result.err
    assert not listing(tmp_path) and not (model / "evaluations").exists()


@pytest.mark.slow
def test_no_space_for_weights_in_a_process_of_its_own(table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The kernel refuses to let a file grow beyond 30 kB: HDF5 then fails while it writes the weights."""
    arguments = ("train", "lgdcnn", "--data", table, "--target", "gap", *SMALL, "--batch-size", "96", "--epochs", "1", "--out", "m")
    process = start(arguments, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2, err
    assert err.splitlines()[-1] == "tfmat: disk full while writing m; nothing was written"
    assert "Traceback" not in err
    assert not listing(tmp_path)


def test_unexpected_errors_have_no_traceback(tfmat: Command, model: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(tfmat_predictor.Predictor, "predict", fail)
    result = tfmat("predict", model, "NaCl")
    assert result.code == 1 and len(result.lines) == 1 and "internal error" in result.err
    assert "Traceback" in tfmat("--log-level", "debug", "predict", model, "NaCl").err


def test_out_of_memory(tfmat: Command, model: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tfmat_predictor.Predictor, "predict", fail)
    refused(tfmat("predict", model, "NaCl"), "out of memory")
