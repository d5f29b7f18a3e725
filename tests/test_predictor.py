"""The predictor: rows in, rows out, and a model directory that can be trusted."""

import json
import os

import numpy as np
import pytest

from tfmat.data.table import Table
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers import CompositionFeaturizer
from tfmat.model_directory.files import CONFIG, WEIGHTS
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.recipe import Recipe
from tfmat.zoo.lgdcnn import VARIANTS

SMALL = VARIANTS["dcnn_k1"] | {"dim": 16, "conv_dim": 16, "conv_blocks": 1}
FORMULAS = ["Fe2O3", "NaCl", "Li0.5CoO2", "Si", "SrTiO3", "KCl", "MgO", "CaF2"]


def table(**targets):
    rows = len(FORMULAS)
    return Table(
        FORMULAS, {k: np.array(v, float) for k, v in targets.items()}, [f"id{i}" for i in range(rows)], np.arange(rows) + 2, "made.csv"
    )


@pytest.fixture(scope="module")
def predictor():
    """One regression and one binary target, trained for an epoch on eight rows."""
    data = table(gap=[2.2, 8.5, 1, 1.1, 3.2, 8.4, 7.8, 11.8], ionic=[0, 1, 0, 0, 0, 1, 1, 1])
    predictor = Predictor.create("lgdcnn", [Target("gap", "eV", transform="log10"), Target("ionic", task="binary")], keywords=SMALL)
    predictor.fit(data, data, recipe=Recipe(epochs=1, batch_size=8))
    return predictor


@pytest.fixture
def saved(predictor, tmp_path):
    return predictor.save(tmp_path / "model")


def test_prediction_has_a_row_for_every_material(predictor):
    frame = predictor.predict(["NaCl", "Xx2", "UO2", "Fe2O3"])
    assert list(frame.columns) == ["material", "gap", "gap_uncertainty", "ionic", "in_domain", "unseen_elements", "error"]
    assert list(frame["material"]) == ["NaCl", "Xx2", "UO2", "Fe2O3"]
    assert frame.loc[[0, 2, 3], ["gap", "gap_uncertainty", "ionic"]].notna().all(axis=None)
    assert frame.loc[1, ["gap", "gap_uncertainty", "ionic"]].isna().all()
    assert "unknown element 'Xx'" in frame.loc[1, "error"]
    assert list(frame["in_domain"]) == [True, False, False, True]
    assert list(frame["unseen_elements"]) == ["", "", "U", ""]
    assert frame.attrs["units"] == {"gap": "eV", "ionic": ""}
    assert frame["ionic"].dropna().between(0, 1).all()
    assert (frame["gap"].dropna() > 0).all()


def test_rows_do_not_depend_on_order_or_batch(predictor):
    frame = predictor.predict(FORMULAS).set_index("material")
    for size in (1, 3):
        other = predictor.predict(FORMULAS[::-1], batch_size=size).set_index("material").loc[FORMULAS]
        np.testing.assert_allclose(other[["gap", "ionic"]], frame[["gap", "ionic"]], rtol=1e-5)


def test_pymatgen_objects_are_materials(predictor):
    from pymatgen.core import Composition

    assert predictor.predict([Composition("NaCl")])["gap"][0] == predictor.predict(["NaCl"])["gap"][0]


@pytest.mark.parametrize("materials", [[], ["Xx"]])
def test_nothing_readable(predictor, materials):
    frame = predictor.predict(materials)
    assert len(frame) == len(materials)
    assert frame["gap"].isna().all()


def test_evaluation_scores_in_physical_units(predictor):
    data = table(gap=[2.2, 8.5, 1, 1.1, 3.2, 8.4, 7.8, np.nan], ionic=[0, 1, 0, 0, 0, 1, 1, 1])
    evaluation = predictor.evaluate(data)
    predicted = predictor.predict(FORMULAS)["gap"].to_numpy()
    assert evaluation.scores["gap"]["MAE"] == pytest.approx(np.abs(predicted - data.targets["gap"])[:7].mean(), rel=1e-5)
    assert evaluation.scores["gap"]["n"] == 7
    assert 0 <= evaluation.scores["gap"]["coverage"] <= 1
    assert 0 <= evaluation.scores["ionic"]["ROC-AUC"] <= 1
    assert list(evaluation.predictions["id"]) == data.ids


def test_the_model_directory_is_complete(predictor, saved):
    assert sorted(os.listdir(saved)) == ["README.md", "config.json", "history.csv", "model.weights.h5"]
    config = json.loads((saved / CONFIG).read_text())
    assert config["architecture"] == "lgdcnn"
    assert config["featurizer"] == {"name": "CompositionFeaturizer", "version": 1, "config": {"max_elements": 20, "ties": "as_written"}}
    assert [t["unit"] for t in config["targets"]] == ["eV", ""]
    assert config["info"]["seed"] == 0
    assert config["info"]["versions"]["keras"]
    assert (saved / WEIGHTS).stat().st_size < 4 * predictor.model.count_params() + 100_000, "the optimizer's state is in it"
    loaded = Predictor.load(saved)
    assert loaded.history == [{k: pytest.approx(v) for k, v in row.items()} for row in predictor.history]
    assert loaded.info == json.loads(json.dumps(predictor.info))


def test_the_card_tells_units_and_coverage(predictor):
    card = predictor.card
    assert "gap [eV]" in card
    assert "| gap | coverage |" in card
    assert "| ionic | ROC-AUC |" in card
    assert "8 training rows" in card


def test_a_model_carries_its_element_table(tmp_path, monkeypatch):
    """A table of one's own is needed for training only."""
    folder = tmp_path / "mirror" / "element_embeddings"
    folder.mkdir(parents=True)
    rows = [f"{symbol},{z},{z * z}" for z, symbol in enumerate(SYMBOLS) if z]
    (folder / "matscholar.csv").write_text("\n".join(["element,a,b", *rows]) + "\n")
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path / "mirror"))
    trained = Predictor.create("lgdcnn", [Target("gap")], keywords=SMALL | {"elements": "matscholar"})
    saved = trained.save(tmp_path / "model")
    monkeypatch.delenv("TFMAT_DATA_DIR")
    with pytest.raises(InputError, match="matscholar"):
        Predictor.create("lgdcnn", [Target("gap")], keywords=SMALL | {"elements": "matscholar"})
    assert Predictor.load(saved).predict(FORMULAS).equals(trained.predict(FORMULAS))


def damage(saved, how):
    if how == "truncated weights":
        os.truncate(saved / WEIGHTS, 1000)
    elif how == "no weights":
        (saved / WEIGHTS).unlink()
    elif how == "edited config":
        text = (saved / CONFIG).read_text()
        assert '"unit": "eV"' in text
        (saved / CONFIG).write_text(text.replace('"unit": "eV"', '"unit": "meV"'))
    elif how == "config not JSON":
        (saved / CONFIG).write_text("{")
    elif how == "another JSON":
        (saved / CONFIG).write_text("[1]")
    elif how == "no config":
        (saved / CONFIG).unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated weights", "model.weights.h5: truncated or changed"),
        ("no weights", "it has no model.weights.h5"),
        ("edited config", "config.json: it was changed after it was written"),
        ("config not JSON", "config.json: not valid JSON"),
        ("another JSON", "not the config of a tfmat model"),
        ("no config", "not a model: it has no config.json"),
    ],
)
def test_a_damaged_directory_is_refused(saved, how, message):
    damage(saved, how)
    with pytest.raises(InputError, match=message):
        Predictor.load(saved)


def test_another_featurizer_version_is_refused(saved, monkeypatch):
    monkeypatch.setattr(CompositionFeaturizer, "version", 2)
    with pytest.raises(
        InputError, match=r"trained with CompositionFeaturizer version 1; .* version 2 is installed. Expected the tfmat that"
    ):
        Predictor.load(saved)


def test_no_such_model(tmp_path):
    with pytest.raises(InputError, match="no such model"):
        Predictor.load(tmp_path / "none")


def test_large_batches_compile_and_agree(predictor):
    records = predictor.featurizer.featurize(FORMULAS * 40)
    compiled, plain = (predictor.outputs(records, batch_size=64)["gap"] for jit in (True, False))
    np.testing.assert_allclose(compiled, plain, atol=1e-5)


def test_unknown_recipe(predictor):
    with pytest.raises(InputError, match=r"no recipe 'fast'. Expected one of default, paper"):
        predictor.recipe("fast")
