"""From `import tfmat` alone to a trained model of one's own: data, fit with Keras callbacks, save, predict."""

import keras
import pytest

import tfmat

ROWS = ["Fe2O3,1.0", "NaCl,2.0", "TiO2,3.0", "MgO,2.5", "ZnO,1.5", "CaO,2.2", "Al2O3,0.4", "SiO2,1.9", "KCl,2.1", "LiF,3.3"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "gaps.csv").write_text("\n".join(["formula,gap", *ROWS]) + "\n")
    return tfmat.load_data(tmp_path / "gaps.csv", targets={"gap": "eV"}, split="formula", seed=0)


def test_from_data_to_a_prediction(data, tmp_path, capsys):
    assert [(target.name, target.unit) for target in data.targets] == [("gap", "eV")]
    assert len(data.train) + len(data.validation) + len(data.test) == len(ROWS)
    predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords={"dim": 8, "conv_dim": 8})
    seen = []
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"]))]
    history = predictor.fit(data, epochs=2, callbacks=callbacks, verbose=2)
    assert len(seen) == len(history) == 2 and seen[1] == pytest.approx(history[1]["val_loss"])
    assert "Epoch 2/2" in capsys.readouterr().out
    assert predictor.info["dataset"]["rows"]["train"] == len(data.train) and "gap" in predictor.info["validation"]
    predictor.save(tmp_path / "model")
    assert tfmat.Predictor.load(tmp_path / "model").predict("CO2").equals(predictor.predict("CO2"))


def test_a_callback_can_stop_the_training(data):
    predictor = tfmat.Predictor.create("lgdcnn", data.targets, keywords={"dim": 8, "conv_dim": 8})
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
    assert presets["mp-2018.6.1/formation_energy"]["unit"] == "eV/atom"
    with pytest.raises(tfmat.InputError, match="no preset 'mp-2018'"):
        tfmat.Predictor.from_preset("mp-2018")
