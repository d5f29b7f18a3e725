"""``tfmat report``: after training, after an evaluation, of several runs, and what it refuses."""

import importlib.util
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from cli_cases import TINY, Command, Result, listing
from crystal_cases import ARCHITECTURE, caesium_chloride, poscar

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from browser import chromium, look

from tfmat import architecture
from tfmat.cli import run
from tfmat.cli.tables import names_of_models
from tfmat.predictor import Predictor
from tfmat.target import Target

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def evaluated(model: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The model with the evaluation of its test split. Tests that change it copy it."""
    folder = tmp_path_factory.mktemp("evaluated") / "gap"
    shutil.copytree(model, folder)
    assert run(["evaluate", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(evaluated: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(evaluated, tmp_path / "gap"))


def predictions_of(folder: pathlib.Path) -> pathlib.Path:
    (found,) = folder.glob("evaluations/*-test/predictions.csv")
    return found


def changed(folder: pathlib.Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    file = predictions_of(folder)
    change(pd.read_csv(file)).to_csv(file, index=False)


def figures(page: pathlib.Path) -> list[str]:
    return re.findall(r'<figure id="([^"]+)"', page.read_text(encoding="utf-8"))


def refused(result: Result, *parts: str) -> None:
    assert result.code == 2 and len(result.lines) == 1 and "Traceback" not in result.err, result
    assert not result.out
    for part in parts:
        assert part in result.err, result.err


def test_after_training(tfmat: Command, model: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(model, tmp_path / "m")
    result = tfmat("report", "m")
    assert result.code == 0, result.err
    assert "m has no predictions of its test split yet: evaluating" in result.err
    scores = json.loads((tmp_path / "m/evaluations/compounds-test/scores.json").read_text())
    assert f"{scores['scores']['gap']['MAE']:.4g} eV" in result.out and result.out.endswith("written to m/report.html\n")
    assert set(figures(tmp_path / "m/report.html")) >= {"parity-gap", "residuals-gap", "elements-gap", "size-gap", "learning-loss"}
    page = (tmp_path / "m/report.html").read_text(encoding="utf-8")
    frame = pd.read_csv(predictions_of(tmp_path / "m"))
    worst = frame["id"][(frame["gap [eV]"] - frame["gap_true [eV]"]).abs().idxmax()]
    assert f"id {worst}" in page[page.index("The worst 10") :][:2000]
    assert "Accuracy on the validation split" in page

    monkeypatch.setattr(Predictor, "evaluate", lambda *_: pytest.fail("the test split is scored once"))
    result = tfmat("report", "m")
    assert result.code == 0 and "evaluating" not in result.err
    assert listing(tmp_path) - listing(model) >= {"m/report.html"}
    with chromium() as browser:
        for width in (1280, 400):
            seen = look(browser, tmp_path / "m/report.html", width)
            assert seen["messages"] == [] and seen["outside"] == [] and seen["scroll"] <= width and seen["wide"] == 0
            assert all(image["natural"] > 0 and image["width"] > 300 for image in seen["figures"].values())


def test_several_targets_and_classes(tfmat: Command, table: pathlib.Path, tmp_path: pathlib.Path) -> None:
    targets = ("--target", "gap", "--unit", "eV", "--target", "metal", "--unit", "", "--task", "regression", "--task", "binary")
    result = tfmat("train", "lgdcnn", "--data", table, *targets, *TINY, "--epochs", "1", "--out", "m", "--split", "hash")
    assert result.code == 0, result.err
    result = tfmat("report", "m", "--out", "deep/page.html")
    assert result.code == 0 and "MAE" in result.out and "ROC-AUC" in result.out, result.err
    assert not (tmp_path / "m/report.html").exists()
    assert set(figures(tmp_path / "deep/page.html")) >= {"parity-gap", "coverage-gap", "roc-metal", "reliability-metal", "learning-metal"}
    refused(tfmat("report", "m", "--out", "deep/page.html"), "deep/page.html: it exists already", "--overwrite")


@pytest.fixture
def crystal_files(tmp_path: pathlib.Path) -> pathlib.Path:
    """Cells of caesium chloride, one to three in a row."""
    folder = tmp_path / "d"
    folder.mkdir()
    rows = ["id,gap"]
    for i, (metal, anion) in enumerate((m, a) for m in ("Na", "K", "Rb", "Cs") for a in ("F", "Cl", "Br", "I")):
        cells = i % 3 + 1
        sites = [(symbol, x, y, (z + k) / cells) for symbol, x, y, z in caesium_chloride(metal, anion) for k in range(cells)]
        (folder / f"c{i}.vasp").write_text(poscar(sites, 3.6, ((1, 0, 0), (0, 1, 0), (0, 0, cells))))
        rows.append(f"c{i},{0.3 * i}")
    (folder / "id_prop.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def nearest() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        architecture.architectures()
        patch.setitem(architecture._REGISTRY, "nearest", ARCHITECTURE)
        yield


@pytest.mark.usefixtures("nearest")
def test_crystals(tfmat: Command, crystal_files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = ("--target", "gap", "--unit", "eV", "--no-cache")
    assert tfmat("train", "nearest", "--data", "d", "--out", "m", *options).code == 0
    result = tfmat("report", "m")
    assert result.code == 0, result.err
    frame = pd.read_csv(predictions_of(tmp_path / "m"))
    assert frame["sites"].isin([2, 4, 6]).all()
    page = (tmp_path / "m/report.html").read_text(encoding="utf-8")
    assert "Error against the number of sites in the cell" in page
    assert page.count("<summary>crystal: ") == len(frame) and "a = 3.6000 Å" in page
    worst = predictions_of(tmp_path / "m").with_name("worst.jsonl")
    result = tfmat("predict", "m", worst, "--out", "p.csv")
    assert result.code == 0, result.err
    again = pd.read_csv(tmp_path / "p.csv").set_index("id")["gap [eV]"]
    assert again[frame["id"]].tolist() == pytest.approx(frame["gap [eV]"].tolist(), rel=1e-4)


def test_a_model_that_was_not_trained_by_the_command(tfmat: Command, crystal_files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """MEGNet with its initial weights: no data of its own, no history."""
    keywords = {"dim": 8, "hidden_dim": 8, "gaussians": 16, "blocks": 1, "uncertainty": True}
    Predictor.create("megnet", [Target("gap", "eV")], keywords=keywords).save(tmp_path / "m")
    refused(tfmat("report", "m"), "m: no predictions: the model does not say what it was trained on (evaluations: none)", "--evaluation")
    assert tfmat("evaluate", "m", "--data", "d", "--no-cache").code == 0
    refused(tfmat("report", "m", "--evaluation", "d-test"), "m: it has no evaluation 'd-test' (there: d-all)")
    result = tfmat("report", "m", "--evaluation", "d-all")
    assert result.code == 0, result.err
    page = (tmp_path / "m/report.html").read_text(encoding="utf-8")
    assert "There is no history" in page and re.search("number of sites in the cell; MAE in eV for 2: .*, 4: .*, 6: ", page)
    assert "16 rows" in page and "<summary>crystal: " in page


def _history(text: str | None) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        (folder / "history.csv").unlink()
        if text is not None:
            (folder / "history.csv").write_text(text)

    return damage


def _cell(value: object) -> Callable[[pathlib.Path], None]:
    return lambda folder: changed(
        folder, lambda frame: frame.astype({"gap [eV]": object}).assign(**{"gap [eV]": [value, *frame["gap [eV]"][1:]]})
    )


def _scores(text: str) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        predictions_of(folder).with_name("scores.json").write_text(text)

    return damage


DAMAGES: dict[str, tuple[Callable[[pathlib.Path], None], str]] = {
    "no history": (_history(None), "gap/history.csv: no history: the file is missing or empty"),
    "empty history": (_history("\n"), "gap/history.csv: no history: the file is missing or empty"),
    "history of no epoch": (_history("epoch,loss,gap_mae\n"), "gap/history.csv: no history: no epoch"),
    "history of another target": (_history("epoch,loss\n1,2\n"), "gap/history.csv: no history: no column 'gap_mae'"),
    "history without numbers": (_history("epoch,loss,gap_mae\n1,x,2\n"), "gap/history.csv: it cannot be read"),
    "no card": (lambda folder: (folder / "README.md").unlink(), "gap/README.md: no model card"),
    "no predictions": (lambda folder: predictions_of(folder).unlink(), "predictions.csv: no predictions: the file is missing"),
    "empty predictions": (lambda folder: predictions_of(folder).write_text(""), "predictions.csv: it cannot be read"),
    "other predictions": (lambda folder: changed(folder, lambda f: f.drop(columns="gap [eV]")), "row 1: no predictions of 'gap' in it"),
    "no number": (_cell("wide"), "predictions.csv, row 2: 'wide' is not a number"),
    "no scores": (_scores("{"), "scores.json: it cannot be read"),
    "other scores": (_scores("[]"), "scores.json: it cannot be read"),
    "one row": (lambda folder: changed(folder, lambda f: f[:1]), "predictions.csv: 1 row with a value and a finite prediction"),
    "no row": (lambda folder: changed(folder, lambda f: f[:0]), "predictions.csv: no rows with a value"),
    "all NaN": (lambda folder: changed(folder, lambda f: f.assign(**{"gap [eV]": float("nan")})), "(10 predictions are not finite)"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_runs(kind: str, tfmat: Command, copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damage, said = DAMAGES[kind]
    damage(copy)
    before = listing(tmp_path)
    refused(tfmat("report", "gap"), said, "Expected ")
    assert listing(tmp_path) == before


def test_some_predictions_are_nan(tfmat: Command, copy: pathlib.Path) -> None:
    _cell(float("nan"))(copy)
    assert tfmat("report", "gap").code == 0
    assert "1 predictions are not finite" in (copy / "report.html").read_text(encoding="utf-8")


def test_no_run(tfmat: Command, model: pathlib.Path, evaluated: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "x.training").mkdir()
    (tmp_path / "x.training" / "run.json").write_text("{}")
    before = listing(tmp_path)
    refused(tfmat("report", "nowhere"), "nowhere: no such model")
    refused(tfmat("report", "notes"), "notes: not a model: it has no config.json", "tfmat train")
    for name in ("x", "x.training"):
        refused(tfmat("report", name), f"{name}: the run is not finished", "tfmat train --resume x")
    refused(tfmat("report", evaluated, evaluated), "it is given twice")
    refused(tfmat("report", evaluated, "--out", "notes"), "notes: it is a folder")
    refused(tfmat("report"), "Missing argument 'MODEL")
    assert listing(tmp_path) == before and not (model / "report.html").exists()


def test_own_data_are_gone(tfmat: Command, table: pathlib.Path, model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    away = table.rename(table.with_name("away.csv"))
    try:
        result = tfmat("report", "m")
    finally:
        away.rename(table)
    assert result.code == 2 and "compounds.csv" in result.lines[-1] and "no such file" in result.lines[-1]
    assert not (tmp_path / "m/report.html").exists() and not (tmp_path / "m/evaluations").exists()


def test_without_the_extra(tfmat: Command, evaluated: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "jinja2" else find(name, *rest))
    refused(tfmat("report", evaluated), "a report needs jinja2, which is not installed. Expected pip install 'tfmat[report]'")


def test_comparison(tfmat: Command, evaluated: pathlib.Path, copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    changed(copy, lambda f: f.assign(**{"gap [eV]": f["gap_true [eV]"] + 0.01})[::-1][:8])
    copy = copy.rename(tmp_path / "better")
    result = tfmat("report", evaluated, "better")
    assert result.code == 0, result.err
    header, first, second, *_, last = result.out.splitlines()
    assert header.startswith("gap, 8 common rows") and "MAE [eV]" in header and first.split()[0] == "gap"
    frame = pd.read_csv(predictions_of(evaluated)).iloc[2:]
    errors = (frame["gap [eV]"] - frame["gap_true [eV]"]).abs()
    assert float(first.split()[1]) == pytest.approx(errors.mean(), rel=1e-3)
    assert second.split()[:2] == ["better", "0.01"] and float(second.split()[2]) == pytest.approx(0.01 - errors.mean(), rel=1e-2)
    assert last == "written to comparison.html"
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "8 common rows: 8 of 10 of A, 8 of 8 of B" in page and "B is better" in page
    refused(tfmat("report", evaluated, "better"), "comparison.html: it exists already", "--overwrite")
    assert tfmat("report", evaluated, "better", "--overwrite").code == 0
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8") == page, "seeded"


def test_runs_without_common_rows(tfmat: Command, evaluated: pathlib.Path, copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    changed(copy, lambda f: f.assign(id="x", material="CuS"))
    copy = copy.rename(tmp_path / "other")
    refused(tfmat("report", evaluated, "other"), "the runs have no common rows (rows: gap 10, other 10)")
    assert not (tmp_path / "comparison.html").exists()


def test_names_that_repeat_are_paths(tmp_path: pathlib.Path) -> None:
    for name in ("a/x", "b/x", "c/y"):
        (tmp_path / name).mkdir(parents=True)
    assert names_of_models([tmp_path / "a/x", tmp_path / "c/y"]) == ["x", "y"]
    assert names_of_models([tmp_path / "a/x", tmp_path / "b/x"]) == [str(tmp_path / "a/x"), str(tmp_path / "b/x")]
