"""From `import tfmat` alone to a trained model of one's own: data, fit with Keras callbacks, save, predict."""

import zipfile

import keras
import numpy as np
import pytest
from pymatgen.core import Composition

import tfmat
from tfmat.training.losses import RobustL1

SMALL = {"recurrent": [], "attention": False, "dim": 8, "conv_dim": 8, "kernel_size": 1, "conv_blocks": 1}
ROWS = ["Fe2O3,1.0", "NaCl,2.0", "TiO2,3.0", "MgO,2.5", "ZnO,1.5", "CaO,2.2", "Al2O3,0.4", "SiO2,1.9", "KCl,2.1", "LiF,3.3"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What is unpacked of a .keras file does not go into the user's own cache."""
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "gaps.csv").write_text("\n".join(["formula,gap", *ROWS]) + "\n")
    return tfmat.load_data(tmp_path / "gaps.csv", targets={"gap": "eV"}, split="formula", seed=0)


def test_from_data_to_a_prediction(data, tmp_path, capsys):
    assert [(target.name, target.unit) for target in data.targets] == [("gap", "eV")]
    assert len(data.train) + len(data.validation) + len(data.test) == len(ROWS)
    predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords=SMALL)
    seen = []
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"]))]
    history = predictor.fit(data, epochs=2, callbacks=callbacks, verbose=2)
    assert len(seen) == len(history) == 2 and seen[1] == pytest.approx(history[1]["val_loss"])
    assert "Epoch 2/2" in capsys.readouterr().out
    assert predictor.info["dataset"]["rows"]["train"] == len(data.train) and "gap" in predictor.info["validation"]
    predictor.save(tmp_path / "model")
    assert tfmat.Predictor.load(tmp_path / "model").predict("CO2").equals(predictor.predict("CO2"))


def test_a_callback_can_stop_the_training(data):
    predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords=SMALL)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9)
    assert len(predictor.fit(data, epochs=50, callbacks=[stop])) == 2


def test_a_known_unit_is_not_changed():
    with pytest.raises(tfmat.InputError, match="not in eV"):
        tfmat.load_data("exp_formation_enthalpy", targets={"formation_enthalpy_per_atom": "eV"})


def test_what_there_is():
    assert tfmat.list_models() == ["atom_list_lstm", "crysformer", "lgdcnn", "megnet", "paraisite"]
    presets = {preset["name"]: preset for preset in tfmat.list_presets()}
    known = {name for family in map(tfmat.architecture.get, tfmat.list_models()) for name in family.presets}
    assert set(presets) == known
    known = presets["mp-2018.6.1/formation_energy"]
    assert (known["unit"], known["reported_error"], known["licence"]) == ("eV/atom", "MAE 0.028 eV/atom", "BSD-3-Clause")
    assert presets["mf_2020/pbe_gllb_hse_exp/0"]["fidelity"] == "measured (of PBE, GLLB-SC, HSE, measured)"
    models = {"mp-2018.6.1/log10K": {}, "mf_2020/pbe_gllb_hse_exp/3": {"fidelities": 4}}
    models["matgl/MEGNet-MP-2018.6.1-Eform"] = {"flavor": "matgl", "set2set_steps": 2}
    for name, keywords in models.items():
        assert presets[name]["size"] == f"{tfmat.zoo.MEGNet(**keywords).count_params():,} weights"
    with pytest.raises(tfmat.InputError, match="no preset 'mp-2018'"):
        tfmat.Predictor.from_preset("mp-2018")


def test_from_a_keras_model_to_predictions_in_units(data, tmp_path):
    model = tfmat.zoo.LGDCNN(("gap",), **SMALL)
    model.compile("adam", loss={"gap": RobustL1()}, jit_compile=False)
    model.fit(data.to_tf("train", model, seed=0), epochs=1, shuffle=False, verbose=0)
    predictor = tfmat.Predictor.from_model(model, data)
    (target,) = predictor.targets
    assert (target.mean, target.std) == (data.targets[0].mean, data.targets[0].std) and target.unit == "eV"
    inputs = data.to_tf("test", model)
    expected = target.unscale(model.predict(inputs, verbose=0)["gap"])
    found = predictor.evaluate(data).predictions
    assert sorted(found["gap"]) == pytest.approx(sorted(np.asarray(expected)[:, 0]), rel=1e-4)
    known = {symbol for material in data.train.materials for symbol in Composition(material).get_el_amt_dict()}
    for formula in ("Fe2O3", "NaCl", "PuO2"):
        inside = set(Composition(formula).get_el_amt_dict()) <= known
        assert predictor.predict(formula)["in_domain"][0] == inside
    assert "gap" in predictor.info["validation"] and "Trained with Keras' own `fit`" in predictor.card
    wanted = predictor.predict("CO2")
    for path in (tmp_path / "model", tmp_path / "m.keras"):
        predictor.save(path)
        assert tfmat.Predictor.load(path).predict("CO2").equals(wanted)
    assert keras.saving.load_model(tmp_path / "m.keras").keywords == SMALL


@pytest.mark.parametrize("damage", ["no card", "no weights", "no archive", "changed"])
def test_a_keras_file_that_says_too_little_is_refused(data, tmp_path, damage):
    path = tmp_path / "m.keras"
    predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords=SMALL)
    predictor.save(path)
    content = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
    if damage == "no archive":
        path.write_bytes(b"model")
    else:
        content.pop({"no card": "tfmat.json", "no weights": "model.weights.h5"}.get(damage, ""), None)
        content["tfmat.json"] = content.get("tfmat.json", b"").replace(b'"eV"', b'"meV"' if damage == "changed" else b'"eV"')
        with zipfile.ZipFile(path, "w") as archive:
            for name, data_ in content.items():
                if data_:
                    archive.writestr(name, data_)
    told = {"no card": "does not say what it predicts", "no weights": "has no weights", "no archive": "not a .keras file"}
    with pytest.raises(tfmat.InputError, match=told.get(damage, "changed after it was written")) as caught:
        tfmat.Predictor.load(path)
    assert "m.keras" in str(caught.value) or damage == "changed"
