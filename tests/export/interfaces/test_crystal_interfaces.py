"""Exported models of crystals: Keras' numbers in both formats, alone, and a sentence (or NaN) for what is no crystal."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from exported_crystals import ALONE, CASES, arrays, bad_batches, crystals, family_of, lengths, make, names, same, shapes

from tfmat.architecture import architectures
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export import export_model
from tfmat.export.client.arrays import crystal_arrays
from tfmat.export.formats.litert import custom_operations
from tfmat.export.interfaces import INTERFACES, interface_of
from tfmat.export.interfaces.bonds import BondInterface
from tfmat.export.interfaces.crystals import EXAMPLES
from tfmat.featurizers import BondFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target

pytest.importorskip("ai_edge_litert")

RAW_INPUTS = {
    "lattice": ("float32", ["B", 3, 3], "Å"),
    "frac_coords": ("float32", ["B", "A", 3], None),
    "species": ("int32", ["B", "A"], None),
}


FAST = ("atom_list_lstm, uncertainty", "megnet, fidelities", "crysformer, uncertainty")
"""One for each interface: the network behind it makes no difference."""


@pytest.fixture(scope="module", params=[pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in CASES])
def predictor(request):
    return make(request.param, blocks=None if "atom_list" in request.param else 1)


@pytest.fixture(scope="module")
def family(predictor):
    return family_of(predictor)


@pytest.fixture(scope="module")
def saved(predictor, tmp_path_factory):
    return export_model(predictor, tmp_path_factory.mktemp("saved") / "1")


@pytest.fixture(scope="module")
def lite(predictor, family, tmp_path_factory):
    return export_model(predictor, tmp_path_factory.mktemp("lite") / "model.tflite", "litert", batch_size=2, **family.SIZES)


@pytest.fixture(scope="module")
def signatures(saved):
    return tf.saved_model.load(str(saved.path)).signatures


@pytest.fixture(scope="module")
def serve(signatures):
    return signatures["featurized"]


@pytest.fixture(scope="module")
def run(lite):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(lite.path)).get_signature_runner("serving_default")


def test_every_architecture_of_crystals_is_exported():
    """One whose featurizer has no interface yet is named by the error, see `test_refused_requests` of SavedModels."""
    supported = {
        name
        for name, architecture in architectures().items()
        if architecture.material == "crystal" and architecture.featurizer.__name__ in INTERFACES
    }
    assert {name for name, _ in CASES.values()} == supported


def test_saved_model(predictor, family, saved, signatures, serve):
    assert saved.format == "savedmodel" and saved.signatures == ("serving_default", "featurized")
    assert 0 <= saved.max_difference <= 1e-5 and saved.examples == len(EXAMPLES) and saved.latency > 0
    materials = crystals(predictor)
    frame = predictor.predict(materials)
    assert not frame["error"].any() and frame["energy"].nunique() == len(frame)
    batch = arrays(predictor, materials)
    outputs = serve(**{key: tf.constant(value) for key, value in batch.items()})
    assert set(outputs) == names(predictor) | {"in_domain"}
    same(outputs, frame)
    same(serve(**{key: tf.constant(value) for key, value in family.shuffled(batch).items()}), frame)

    raw = interface_of(predictor).entries()["serving_default"].encode(materials)
    outputs = signatures["serving_default"](**{key: tf.constant(value) for key, value in raw.items()})
    assert set(outputs) == names(predictor) | {"in_domain", "n_sites"}
    same(outputs, frame)

    empty = {key: tf.constant(value[:0, : 0 if key != "state" else None]) for key, value in batch.items()}
    assert serve(**empty)["metal"].shape == (0, 1)


def test_litert(predictor, lite, run):
    assert lite.format == "litert" and lite.signatures == ("serving_default",)
    assert 0 <= lite.max_difference <= 1e-5 and lite.examples == len(EXAMPLES) and lite.latency > 0
    assert [path.name for path in lite.path.parent.iterdir()] == ["model.tflite"] and lite.size_bytes == lite.path.stat().st_size
    assert custom_operations(lite.path.read_bytes()) == []
    details = run.get_input_details()
    assert {name: list(detail["shape"]) for name, detail in details.items()} == shapes(predictor, lengths(predictor) | {"B": 2})
    assert {name: np.dtype(detail["dtype"]).name for name, detail in details.items()} == {
        name: given.dtype for name, given in interface_of(predictor).inputs.items()
    }
    materials = crystals(predictor)
    frame = predictor.predict(materials)
    for first in range(0, len(materials), 2):
        outputs = run(**arrays(predictor, materials[first : first + 2]))
        assert set(outputs) == names(predictor)
        same(outputs, frame, slice(first, first + 2))


def test_saved_model_refuses_bad_rows(predictor, serve):
    for _, batch, sentence in bad_batches(predictor):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            serve(**{key: tf.constant(value) for key, value in batch.items()})
        assert sentence in str(error.value) and "row] [1]" in str(error.value)


def test_litert_gives_nan_for_bad_rows(predictor, run):
    for good, batch, sentence in bad_batches(predictor):
        expected, outputs = run(**good), run(**batch)
        for name in names(predictor):
            assert np.isnan(outputs[name][1, 0]), sentence
            np.testing.assert_array_equal(outputs[name][0], expected[name][0])  # the batch mate is unharmed
            assert np.isfinite(expected[name]).all()


def test_saved_model_refuses_shapes(predictor, family, serve):
    for batch, sentence in family.bad_shapes(arrays(predictor, crystals(predictor)[:2])):
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            serve(**{key: tf.constant(value) for key, value in batch.items()})


def test_metadata(predictor, family, saved, lite):
    extra = saved.path / "assets.extra"
    with zipfile.ZipFile(lite.path) as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert packed["README.md"] == (extra / "README.md").read_text(encoding="utf-8") == predictor.card
    for text, name, fixed, told in (
        ((extra / "tfmat.json").read_text("utf-8"), "featurized", {}, {"in_domain"}),
        (packed["tfmat.json"], "serving_default", lengths(predictor) | {"B": 2}, set()),
    ):
        metadata = json.loads(text, parse_constant=pytest.fail)
        signature = metadata["signatures"][name]
        assert set(signature["inputs"]) == set(interface_of(predictor).inputs) and set(signature["outputs"]) == names(predictor) | told
        assert {name: given["shape"] for name, given in signature["inputs"].items()} == shapes(predictor, fixed)
        assert {given.get("unit") for given in signature["inputs"].values()} == {None, "Å"}
        assert signature["outputs"]["energy"]["unit"] == "eV/atom"
        if told:
            raw = metadata["signatures"]["serving_default"]
            given = {name: (given["dtype"], given["shape"], given.get("unit")) for name, given in raw["inputs"].items() if name != "state"}
            assert given == RAW_INPUTS and set(raw["outputs"]) == names(predictor) | {"in_domain", "n_sites"}
            assert ("state" in raw["inputs"]) == ("state" in predictor.featurizer.spec)
        key, values, definition = family.NOTE
        assert values.items() <= metadata[key].items() and definition in metadata[key]["definition"]


@pytest.mark.parametrize(
    "predictor", ["megnet, fidelities", pytest.param("crysformer, uncertainty", marks=pytest.mark.slow)], indirect=True
)
def test_fresh_processes(predictor, saved, lite, tmp_path):
    """TensorFlow alone; LiteRT alone."""
    materials = crystals(predictor)[:2]
    frame = predictor.predict(materials)
    raw = interface_of(predictor).entries()["serving_default"].encode(materials)
    for report, absent in ((saved, {"keras", "tfmat", "pymatgen"}), (lite, {"keras", "tfmat", "pymatgen", "tensorflow"})):
        featurized = arrays(predictor, materials)
        batches = {"serving_default": featurized} if report is lite else {"serving_default": raw, "featurized": featurized}
        for name, batch in batches.items():
            np.savez(tmp_path / f"{name}.npz", **batch)
        files = [str(tmp_path / f"{name}.npz") for name in batches]
        command = [sys.executable, "-c", ALONE, str(report.path), report.format, *files]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        values, modules, errors = json.loads(process.stdout.splitlines()[-1])
        assert not absent & {name.split(".")[0] for name in modules}
        assert set(values) == set(batches)
        for outputs in values.values():
            same({key: np.array(value, dtype) for key, (value, dtype) in outputs.items()}, frame)
        assert len(errors) == (0 if report is lite else 2) and all("must be atomic numbers" in error for error in errors)


@pytest.mark.parametrize("predictor", ["megnet, legacy Set2Set"], indirect=True)
def test_refused_requests(predictor, tmp_path):
    out = tmp_path / "x"
    with pytest.raises(
        InputError, match=r"`max_elements` has no meaning for megnet, which takes crystals\. Expected `max_sites` or `max_bonds`"
    ):
        export_model(predictor, out, "litert", max_elements=4)
    with pytest.raises(InputError, match=r"a savedmodel takes any number of materials of any size, so `max_bonds` has no meaning"):
        export_model(predictor, out, max_bonds=4)
    for options in ({"max_sites": 0}, {"max_bonds": 2_000_000}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            export_model(predictor, out, "litert", **options)
    with pytest.raises(InputError, match=r"example Ti2O4 holds 140 bonds\. Expected at most 139"):
        export_model(predictor, out, "litert", max_bonds=139, examples=[EXAMPLES[0], EXAMPLES[5]])
    with pytest.raises(InputError, match="none of the built-in crystals suits"):
        export_model(predictor, out, "litert", max_bonds=3)
    with pytest.raises(InputError, match="'NaCl' is a formula"):
        export_model(predictor, out, examples=["NaCl"])
    formulas = Predictor.create("lgdcnn", [Target("t")], keywords={"dim": 16, "conv_dim": 16})
    with pytest.raises(InputError, match=r"`max_sites` has no meaning for lgdcnn, which takes formulas\. Expected `max_elements`"):
        export_model(formulas, out, "litert", max_sites=4)
    assert not any(tmp_path.iterdir())


def test_built_in_examples_that_the_featurizer_refuses_are_left_out():
    interface = BondInterface(BondFeaturizer(2.0))
    materials, _ = interface.featurize(None, {})
    assert [material.formula for material in materials] == ["C2", "Ti2O4", "Sr1Ti1O3"]
    interface = BondInterface(BondFeaturizer(4.0, fidelities=4))
    assert [int(example["state"][0]) for example in interface.featurize(None, {"A": 3})[1]] == [0, 2, 3, 0, 3]


def test_states_are_numbers():
    """What tells bad rows apart, without the graph around it, for a state that is no fidelity."""
    interface = BondInterface(BondFeaturizer(4.0, state_dim=2))
    salt = Crystal(EXAMPLES[0].species, EXAMPLES[0].lattice, EXAMPLES[0].frac_coords, np.array([0.3, -0.2]))
    example = {key: tf.constant(value[None]) for key, value in interface.arrays_of(salt).items()}
    for state, expected in (
        ([0.3, -0.2], []),
        ([np.nan, 0], ["`state` must be finite numbers"]),
        ([0, np.inf], ["`state` must be finite numbers"]),
    ):
        checks = interface.row_checks(example | {"state": tf.constant([state], tf.float32)})
        unsound = [sentence for sentence, holds in checks.items() if not holds.numpy().all()]
        assert [sentence.split(";")[0] for sentence in unsound] == expected


@pytest.mark.parametrize("cutoff", [3.3, 4.0, 4.1, 5.7])
def test_bonds_at_the_cut_off_are_sound(cutoff):
    """What the featurizer keeps is never refused, however float32 rounds it."""
    featurizer = BondFeaturizer(cutoff)
    cubic = Crystal(np.array([84], np.int32), cutoff * np.eye(3), np.zeros((1, 3)))
    example = BondInterface(featurizer).arrays_of(cubic)
    assert len(example["distances"]) == 6
    checks = BondInterface(featurizer).row_checks({key: tf.constant(value[None]) for key, value in example.items()})
    assert all(bool(holds.numpy().all()) for holds in checks.values())


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["paraisite, uncertainty"], indirect=True)
def test_command(predictor, tmp_path, monkeypatch, capfd):
    """As that of `test_neighbor_interface`, with bonds."""
    from tfmat import cli

    monkeypatch.chdir(tmp_path)
    predictor.save("model")
    assert cli.run(["export", "model", "--format", "litert", "--max-sites", "3", "--max-bonds", "64"]) == 0
    assert "4 crystals, largest relative difference" in capfd.readouterr().out and (tmp_path / "model.tflite").is_file()
    assert cli.run(["export", "model", "--format", "litert", "--max-elements", "4", "--out", "other"]) == 2
    assert "`max_elements` has no meaning for paraisite" in capfd.readouterr().err and not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.usefixtures("mirror")
def test_preset(tmp_path, monkeypatch, capfd):
    """A published model is exported by its name."""
    from tfmat import cli

    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    out = tmp_path / "serving" / "1"
    assert cli.run(["export", "mp-2018.6.1/formation_energy", "--out", str(out)]) == 0, capfd.readouterr().err
    signatures = tf.saved_model.load(str(out)).signatures
    example = BondInterface(BondFeaturizer()).arrays_of(EXAMPLES[0])
    raw = crystal_arrays([EXAMPLES[0]])
    for name, batch in (("featurized", {key: value[None] for key, value in example.items()}), ("serving_default", raw)):
        outputs = signatures[name](**{key: tf.constant(value) for key, value in batch.items()})
        assert float(outputs["formation_energy_per_atom"][0, 0]) == pytest.approx(-2.02706, abs=2e-5) and bool(outputs["in_domain"][0, 0])
