"""Plain Keras on a dataset: `Dataset.to_tf` feeds every model of the zoo, and Keras' own losses, metrics and callbacks work with it."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from jax_cases import needs_jax, run_on_jax
from pymatgen.core import Lattice, Structure

import tfmat
from tfmat import architecture

BUILDERS = {
    "lgdcnn": {"recurrent": (), "attention": False, "dim": 8, "conv_dim": 8, "conv_blocks": 1, "uncertainty": False},
    "megnet": {"blocks": 1, "set2set_steps": 1, "cutoff": 5.0},
    "paraisite": {"blocks": 1, "set2set_steps": 1, "head_dims": (8,)},
    "crysformer": {"blocks": 1, "dim": 16},
    "atom_list_lstm": {"layers": 1},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """20 salts with two targets, one of which is missing for most, and one crystal without bonds."""
    folder = tmp_path_factory.mktemp("salts")
    rows, names = ["id,gap,energy"], [(metal, anion) for metal in ("Li", "Na", "K", "Rb", "Cs") for anion in ("F", "Cl", "Br", "I")]
    for index, kinds in enumerate(names):
        structure = Structure(Lattice.cubic(3.2 + 0.05 * index), kinds, [[0, 0, 0], [0.5, 0.5, 0.5]])
        structure.to(filename=str(folder / f"m{index}.cif"), fmt="cif")
        rows.append(f"m{index},{2 + 0.2 * index},{'' if index % 4 else -0.1 * index}")
    Structure(Lattice.cubic(30), ["Na"], [[0, 0, 0]]).to(filename=str(folder / "alone.cif"), fmt="cif")
    (folder / "id_prop.csv").write_text("\n".join([*rows, "alone,1,1"]) + "\n")
    (folder / "split.csv").write_text(
        "id,split\n" + "".join(f"m{i},{('train', 'train', 'train', 'val', 'test')[i % 5]}\n" for i in range(20)) + "alone,train\n"
    )
    return tfmat.load_data(folder, targets={"gap": "eV", "energy": "eV/atom"}, split=f"file:{folder / 'split.csv'}")


def build(name, targets):
    keras.utils.set_random_seed(0)
    return architecture.get(name).builder(targets, **BUILDERS[name])


@pytest.mark.parametrize("name", BUILDERS)
def test_every_model_is_fitted_by_keras(data, name, caplog):
    model = build(name, ("gap", "energy"))
    model.compile("adam", loss="mae", weighted_metrics={target: ["mae"] for target in ("gap", "energy")}, run_eagerly=True)
    fresh = dataclasses.replace(data)
    training = fresh.to_tf("train", model, seed=0)
    assert ("1 of 13 crystals cannot be featurized" in caplog.text) == (name in ("megnet", "paraisite"))
    history = model.fit(training, validation_data=fresh.to_tf("validation", model), epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite([history[key] for key in ("loss", "val_loss", "energy_mae", "val_gap_mae")]).all()
    assert len(fresh.usable("train", model.featurizer).table) == (12 if name in ("megnet", "paraisite") else 13)


def test_what_is_missing_has_no_weight_and_a_number(data):
    model = build("megnet", ("gap", "energy"))
    rows = list(data.to_tf("train", model, batch_size=5).as_numpy_iterator())
    targets, weights = ({name: np.concatenate([row[i][name] for row in rows]) for name in ("gap", "energy")} for i in (1, 2))
    table = data.usable("train", model.featurizer).table
    for target in data.targets:
        missing = np.isnan(table.targets[target.name])
        assert (weights[target.name][missing] == 0).all() and (targets[target.name][missing] == 0).all()
        known = np.asarray(target.unscale(targets[target.name]))[~missing, 0]
        np.testing.assert_allclose(known, table.targets[target.name][~missing], rtol=1e-5, atol=1e-5)
    assert missing.any() and data.targets[0].mean == pytest.approx(np.mean(data.train.targets["gap"]))
    # the weighted mean of Keras' loss is that of the values that are there
    outputs = model.predict(data.to_tf("train", model, batch_size=100), verbose=0)
    model.compile(loss="mae", run_eagerly=True)
    found = model.evaluate(data.to_tf("train", model, batch_size=100), verbose=0, return_dict=True)
    expected = sum(np.abs(outputs[name] - targets[name])[weights[name] > 0].mean() for name in outputs)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_shuffling_differs_from_epoch_to_epoch_and_repeats_with_the_seed(data):
    model = build("megnet", ("gap",))

    def epochs(seed):
        batches = data.to_tf("train", model, batch_size=5, seed=seed)
        return [np.concatenate([row[1]["gap"] for row in batches.as_numpy_iterator()]).ravel().tolist() for _ in range(2)]

    first, second = epochs(1)
    assert first != second and sorted(first) == sorted(second) and epochs(1) == [first, second] and epochs(2) != [first, second]
    plain = epochs(None)
    assert plain[0] == plain[1]


def test_the_cut_off_is_that_of_the_model_also_of_a_saved_one(data, tmp_path):
    model = build("megnet", ("gap",))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.featurizer.cutoff == model.featurizer.cutoff == 5.0 and loaded.keywords == BUILDERS["megnet"]
    sizes = [next(iter(data.to_tf("train", m))) for m in (loaded, tfmat.zoo.MEGNet(("gap",), blocks=1, cutoff=3.5).featurizer)]
    assert sizes[0][0]["distances"].shape[0] > sizes[1][0]["distances"].shape[0]
    assert set(sizes[0][1]) == {"gap"} and set(sizes[1][1]) == {"gap", "energy"}


def test_what_is_asked_wrongly(data):
    model = build("megnet", ("gap", "mass"))
    with pytest.raises(tfmat.InputError, match=r"no target 'mass', which is an output of the model. Expected one of gap, energy"):
        data.to_tf("train", model)
    with pytest.raises(tfmat.InputError, match="unknown split 'val'"):
        data.to_tf("val", build("megnet", ("gap",)))
    inputs = keras.Input((3,))
    with pytest.raises(tfmat.InputError, match=r"does not say what it reads. Expected a model of tfmat.zoo"):
        data.to_tf("train", keras.Model(inputs, keras.layers.Dense(1, name="gap")(inputs)))


def fit_with_callbacks(data, folder):
    """All of Keras' usual callbacks; the run stops early and its best model can be loaded."""
    model = build("megnet", ("gap",))
    model.compile(keras.optimizers.Adam(1e-2), loss="mae", weighted_metrics=["mae"])
    callbacks = [
        keras.callbacks.BackupAndRestore(folder / "backup"),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
        keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=1e9, factor=0.5),
        keras.callbacks.EarlyStopping(patience=3, min_delta=1e9),
        keras.callbacks.CSVLogger(folder / "epochs.csv"),
        keras.callbacks.TensorBoard(folder / "tb"),
    ]
    training, validation = data.to_tf("train", model, batch_size=5, seed=0), data.to_tf("validation", model)
    history = model.fit(training, validation_data=validation, epochs=9, shuffle=False, verbose=0, callbacks=callbacks).history
    best = keras.saving.load_model(folder / "best.keras")
    return {
        "epochs": len(history["loss"]),
        "rates": [float(rate) for rate in history["learning_rate"]],
        "logged": len((folder / "epochs.csv").read_text().splitlines()),
        "best": best.evaluate(data.to_tf("validation", best), verbose=0, return_dict=True)["mae"] - min(history["val_mae"]),
        "events": len(list((folder / "tb").rglob("events.out.tfevents*"))),
        "finite": bool(np.isfinite(history["loss"] + history["val_loss"]).all()),
    }


def check(found):
    assert found["events"] >= 2 and found["epochs"] == 4 and found["logged"] == 5 and found["finite"]
    assert found["rates"][0] == pytest.approx(1e-2) and found["rates"][3] < found["rates"][1]
    assert abs(found["best"]) < 1e-5


@pytest.mark.usefixtures("eagerly")
def test_callbacks_of_keras(data, tmp_path):
    check(fit_with_callbacks(data, tmp_path))


@pytest.mark.usefixtures("eagerly")
def test_a_run_is_restored_after_an_interruption(data, tmp_path):
    def fit(callbacks, epochs):
        model = build("megnet", ("gap",))
        model.compile("adam", loss="mae", jit_compile=False)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return model.fit(data.to_tf("train", model, seed=0), epochs=epochs, shuffle=False, verbose=0, callbacks=[backup, *callbacks])

    def stop(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([keras.callbacks.LambdaCallback(on_epoch_end=stop)], 4)
    assert fit([], 4).epoch == [2, 3]


PROGRAM = """
import json, pathlib, sys
import test_to_tf as cases
import tfmat
from tfmat import architecture
folder = pathlib.Path(sys.argv[1])
data = tfmat.load_data(folder, targets={"gap": "eV", "energy": "eV/atom"}, split=f"file:{folder / 'split.csv'}")
out = pathlib.Path(sys.argv[2])
print(json.dumps(cases.fit_with_callbacks(data, out) | {"kind": type(data.to_tf("train", cases.build("megnet", ("gap",)))).__name__}))
"""


@needs_jax
def test_the_same_on_jax(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
    found = run_on_jax(PROGRAM, data.name, tmp_path)
    assert found.pop("kind") == "BatchSequence"
    check(found)
