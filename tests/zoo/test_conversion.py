"""Models of megnet and matgl: the numbers of the converted model, and what is refused."""

import copy
import json

import h5py
import megnet_reference as reference
import numpy as np
import pytest
from conversion_cases import (
    GAUSSIANS,
    matgl_description,
    matgl_state,
    random_weights,
    side_car,
    write_megnet,
)

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.zoo.conversion import matgl_state as matgl
from tfmat.zoo.conversion.foreign import predictor_of, write
from tfmat.zoo.conversion.matgl_state import ELEMENTS, read_matgl
from tfmat.zoo.conversion.megnet_hdf5 import read_megnet

FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
SALT = Crystal(np.array([11, 17], np.int32), FCC * 2.82, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
TRICLINIC = Crystal(
    np.array([3, 8, 26, 8, 94], np.int32),
    np.array([[4.1, 0.2, 0.0], [-0.7, 5.0, 0.3], [0.4, 0.9, 4.6]]),
    np.array([[0.02, 0.1, 0.05], [0.4, 0.55, 0.1], [0.9, 0.45, 0.6], [0.15, 0.8, 0.7], [0.55, 0.02, 0.5]]),
)
Y = Target("y", "eV")


def expected(weights, crystal, cutoff=4.0, **options):
    """The raw output by the reference."""
    bonds = reference.bonds(crystal.lattice, crystal.frac_coords, cutoff)
    return reference.megnet(weights, crystal.species, *bonds, cutoff=cutoff, target="y", **options)


@pytest.mark.parametrize("new", [False, True], ids=["old names", "new names"])
@pytest.mark.parametrize(
    ("blocks", "steps", "cutoff", "layout"),
    [(1, 1, 4.0, {}), (2, 3, 5.0, {"offset": 21, "suffix": "_11"}), (3, 2, 4.0, {"dropout": 0.25})],
    ids=["one block", "built late in its process", "dropout"],
)
def test_a_model_of_megnet_gives_the_reference_numbers(tmp_path, new, blocks, steps, cutoff, layout):
    weights = random_weights(np.random.default_rng(blocks), blocks=blocks)
    scaler = {"target_scaler": {"@class": "StandardScaler", "mean": 1.25, "std": 3.0, "is_intensive": True}}
    file = write_megnet(tmp_path / "m.hdf5", weights, blocks=blocks, steps=steps, new=new, sidecar=side_car(cutoff, **scaler), **layout)
    foreign = read_megnet(file)
    assert foreign.keywords["blocks"] == blocks and foreign.keywords["dropout"] == layout.get("dropout", 0.0)
    frame = Predictor.load(write(foreign, tmp_path / "model")).predict([SALT, TRICLINIC])
    values = [1.25 + 3.0 * expected(weights, one, cutoff, blocks=blocks, set2set_steps=steps) for one in (SALT, TRICLINIC)]
    np.testing.assert_allclose(frame["y"], values, rtol=0, atol=3e-5)
    assert frame.attrs["units"] == {"y": "eV"} and values[0] != pytest.approx(values[1], abs=1e-3)


def test_a_classifier_gives_a_probability(tmp_path):
    weights = random_weights(np.random.default_rng(7))
    foreign = read_megnet(write_megnet(tmp_path / "m.hdf5", weights, activation="sigmoid", sidecar=side_car()))
    assert foreign.target == Target("y", task="binary")
    frame = predictor_of(foreign).predict([SALT, TRICLINIC])
    values = [reference.sigmoid(expected(weights, one, blocks=2, set2set_steps=2)) for one in (SALT, TRICLINIC)]
    np.testing.assert_allclose(frame["y"], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("options", "states"), [({"fidelities": 3}, [2, 0]), ({"state": 3}, [[0.5, -1.0, 2.0], [0.0, 1.0, 0.0]])])
def test_states(tmp_path, options, states):
    weights = random_weights(np.random.default_rng(8), **options)
    fidelities = options.get("fidelities", 0)
    foreign = read_megnet(write_megnet(tmp_path / "m.hdf5", weights, sidecar=side_car(), fidelities=fidelities))
    crystals = [
        Crystal(one.species, one.lattice, one.frac_coords, np.atleast_1d(np.asarray(state, np.float64)))
        for one, state in zip((SALT, TRICLINIC), states, strict=True)
    ]
    frame = predictor_of(foreign).predict(crystals)
    values = [expected(weights, one, blocks=2, set2set_steps=2, state=s) for one, s in zip(crystals, states, strict=True)]
    np.testing.assert_allclose(frame["y"], values, rtol=0, atol=2e-5)


def test_without_a_side_car_the_defaults_of_megnet_are_assumed(tmp_path):
    weights = random_weights(np.random.default_rng(9))
    kernel = np.random.default_rng(1).normal(0, 0.4, (100, weights["bond_encoder_1/kernel"].shape[1]))
    weights["bond_encoder_1/kernel"] = kernel.astype(np.float32)
    foreign = read_megnet(write_megnet(tmp_path / "m.hdf5", weights), target=Y)
    assert (foreign.keywords["cutoff"], foreign.keywords["gaussians"], foreign.featurizer) == (4.0, 100, {"cutoff": 4.0})
    assert "no m.hdf5.json" in foreign.notes[0]
    predictor = predictor_of(foreign)
    assert foreign.notes[0] in predictor.card
    np.testing.assert_allclose(predictor.predict([SALT])["y"], expected(weights, SALT, blocks=2, set2set_steps=2), rtol=0, atol=2e-5)


def test_trained_elements_and_card(tmp_path):
    """Rows of the embedding that are where they were drawn, within 0.05, belong to elements that were never seen."""
    weights = random_weights(np.random.default_rng(10))
    table = np.clip(weights["atom_embedding/embeddings"], -0.05, 0.05)
    table[[11, 17]] = 0.3
    foreign = read_megnet(write_megnet(tmp_path / "m.hdf5", weights | {"atom_embedding/embeddings": table}, sidecar=side_car()))
    predictor = predictor_of(foreign)
    assert predictor.info["elements"] == [11, 17]
    assert predictor.predict([SALT, TRICLINIC])["in_domain"].tolist() == [True, False]
    card = predictor.card
    assert "m.hdf5" in card and foreign.info["converted"]["sha256"] in card and "2 elements: Na, Cl" in card
    assert "training rows" not in card and "None" not in card and "Licence" not in card


@pytest.mark.parametrize(("blocks", "fidelities"), [(1, 0), (2, 4)])
def test_a_model_of_matgl_gives_the_reference_numbers(tmp_path, monkeypatch, blocks, fidelities):
    rng = np.random.default_rng(11)
    weights = random_weights(rng, blocks=blocks, flavor="matgl", fidelities=fidelities)
    state = matgl_state(rng, weights, blocks=blocks, elements=list(ELEMENTS))
    (tmp_path / "state.pt").write_bytes(b"read by a function that is replaced")
    (tmp_path / "model.json").write_text(json.dumps(matgl_description(blocks)))
    monkeypatch.setattr(matgl, "_load", lambda path: state)
    predictor = predictor_of(read_matgl(tmp_path / "state.pt", target=Y))
    fidelity = 3 if fidelities else None
    raw = [expected(weights, one, flavor="matgl", blocks=blocks, set2set_steps=3, state=fidelity) for one in (SALT, TRICLINIC)]
    crystals = [Crystal(one.species, one.lattice, one.frac_coords, fidelity and np.array([3.0])) for one in (SALT, TRICLINIC)]
    np.testing.assert_allclose(predictor.predict(crystals)["y"], -1.5 + 2.25 * np.array(raw), rtol=0, atol=3e-5)
    assert len(predictor.info["elements"]) == 89 and 84 not in predictor.info["elements"]
    for change, message in (
        (lambda s: s.pop("model.node_s2s.lstm.bias_hh_l0"), "lacks the tensor 'node_s2s.lstm.bias_hh_l0'"),
        (lambda s: s.update({"model.more.weight": np.ones(3)}), "no place for 'more.weight'"),
        (lambda s: s.update({"model.embedding.layer_node_embedding.weight": np.ones((88, 5), np.float32)}), "embedding of elements"),
        (lambda s: s.update({"model.bond_expansion.rbf.centers": np.ones(GAUSSIANS)}), "not evenly spaced"),
    ):
        state = matgl_state(rng, weights, blocks=blocks, elements=list(ELEMENTS))
        change(state)
        with pytest.raises(InputError, match=message) as error:
            read_matgl(tmp_path / "state.pt", target=Y)
        one_line(error, "state.pt")


def one_line(error, name):
    assert "\n" not in str(error.value) and name in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no model.json beside it"),
        ("{", "not the description"),
        ("[]", "not the description"),
        (json.dumps({"kwargs": {"model": {"@class": "M3GNet"}}}), "no MEGNet"),
        (json.dumps(matgl_description(activation_type="swish")), "activation_type is 'swish'"),
        (json.dumps(matgl_description(is_classification=True)), "is_classification is True"),
        (json.dumps(matgl_description()).replace("Std: 2.25", "Std: 0"), "target transformer"),
    ],
)
def test_descriptions_of_matgl_that_are_refused(tmp_path, text, message):
    (tmp_path / "a_state.pt").write_bytes(b"")
    if text is None:
        (tmp_path / "state.pt").write_bytes(b"")
    else:
        (tmp_path / "a_model.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_matgl(tmp_path / ("state.pt" if text is None else "a_state.pt"))
    one_line(error, "state.pt" if text is None else "a_model.json")


def test_pytorch_reads_tensors_and_nothing_else(tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "model.json").write_text(json.dumps(matgl_description()))
    for content in (b"", b"PK\x03\x04", b"\x80\x04N."):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(InputError, match="not a state of PyTorch") as error:
            read_matgl(tmp_path / "state.pt", target=Y)
        one_line(error, "state.pt")
    torch.save({"model.a": Y}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="pickled objects"):
        read_matgl(tmp_path / "state.pt", target=Y)


GOOD = side_car()


def changed(path, value):
    """The side-car with one entry set (or removed by None)."""
    content = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    inner = content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    if value is None:
        del inner[last]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[]", "not a side-car"),
        ("{}", "lacks 'graph_converter'"),
        (changed("graph_converter/cutoff", None), "lacks 'cutoff'"),
        (changed("graph_converter/cutoff", "wide"), "not a side-car"),
        (changed("graph_converter/cutoff", -1.0), "cutoff is -1"),
        (changed("graph_converter/cutoff", 5.0), r"centres are 12 from 0 to 5 Å.*evenly spaced from 0 to 6"),
        (changed("graph_converter/bond_converter/width", 0), "width"),
        (changed("graph_converter/bond_converter/centers", [0, 1, 5]), "Gaussian centres"),
        (changed("graph_converter/bond_converter/@class", "MoorseLongRange"), "described by MoorseLongRange"),
        (changed("graph_converter/@class", "CrystalGraphDisordered"), "made by CrystalGraphDisordered"),
        (changed("graph_converter/@class", "SimpleMolGraph"), "made by SimpleMolGraph"),
        (changed("graph_converter/atom_converter/@class", "AtomNumberToTypeConverter"), "AtomNumberToTypeConverter"),
        (changed("graph_converter/nn_strategy", "VoronoiNN"), "found by VoronoiNN"),
        (changed("graph_converter/nn_strategy", {"@class": "MinimumDistanceNNAll", "cutoff": 6}), "that of its nn_strategy 6 Å"),
        (changed("target_scaler", {"@class": "StandardScaler", "mean": 0, "std": 1, "is_intensive": False}), "extensive"),
        (changed("target_scaler", {"@class": "StandardScaler", "mean": 0}), "lacks 'std'"),
        (changed("target_scaler", {"@class": "LogScaler"}), "LogScaler"),
    ],
)
def test_side_cars_that_are_refused(tmp_path, text, message):
    (tmp_path / "m.hdf5.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        read_megnet(tmp_path / "m.hdf5")
    one_line(error, "m.hdf5.json")


def _drop(file, name):
    del file[f"model_weights/{name}"]


def _replace(file, name, value):
    _drop(file, name)
    file[f"model_weights/{name}"] = value


def _configure(file, layer, **changes):
    config = json.loads(file.attrs["model_config"])
    for entry in config["config"]["layers"]:
        if entry["name"] == layer:
            for key, value in changes.items():
                (entry if key in entry else entry["config"])[key] = value
    file.attrs["model_config"] = json.dumps(config)


PHI = "meg_net_layer_2/meg_net_layer_2/meg_net_layer_2/phi_v/weight_v_1:0"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.attrs.pop("model_config"), "no Keras model"),
        (lambda f: f.attrs.modify("model_config", "{"), "not the graph of a MEGNet"),
        (lambda f: f.attrs.modify("model_config", '{"config": {"layers": [], "output_layers": [["x", 0, 0]]}}'), "not the graph"),
        (lambda f: f.pop("model_weights"), "no group 'model_weights'"),
        (lambda f: _drop(f, "dense_4"), "lacks the layer 'dense_4'"),
        (lambda f: _drop(f, "dense_4/dense_4/bias:0"), "layer 'dense_4' has 0 arrays 'bias:0'"),
        (lambda f: _drop(f, PHI), "'meg_net_layer_2' has 0 arrays 'phi_v/weight_v_1:0'"),
        (lambda f: _replace(f, PHI, np.ones((6, 7), np.float32)), r"block2/phi_v_2/kernel has shape \(6, 7\). Expected \(6, 6\)"),
        (lambda f: _replace(f, PHI, np.full((6, 6), np.nan)), "not finite"),
        (lambda f: _replace(f, PHI, np.ones((6, 6), int)), "float"),
        (lambda f: _replace(f, "embedding_1/embedding_1/embeddings:0", np.ones((9, 5))), r"\(9, 5\). Expected \(95, 5\)"),
        (lambda f: _replace(f, "dense_3/dense_3/kernel:0", np.ones((20, 6))), "reads 20 Gaussians, its side-car describes 12"),
        (lambda f: _replace(f, "dense_15/dense_15/bias:0", np.ones(2)), "its output is"),
        (lambda f: _configure(f, "dense_15", activation="tanh"), "its output is 'tanh'"),
        (lambda f: _configure(f, "dense_8", activation="relu"), "'dense_8' has activation 'relu'"),
        (lambda f: _configure(f, "meg_net_layer_1", pool_method="sum"), "pools by 'sum'"),
        (lambda f: _configure(f, "set2_set_1", T=4), "different or unknown numbers of steps"),
        (lambda f: _configure(f, "set2_set_2", recurrent_activation="sigmoid"), "recurrent_activation 'sigmoid'"),
        (lambda f: _configure(f, "embedding_1", class_name="InputLayer"), "features, not atomic numbers"),
        (lambda f: _configure(f, "dense_8", inbound_nodes=[[["dense_8", 0, 0, {}]]]), "circle"),
        (lambda f: _configure(f, "dense_8", inbound_nodes=[[["dense_2", 0, 0, {}]]]), "feeds a block, but not its residual"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_files_of_megnet_that_are_refused(tmp_path, damage, message):
    file = write_megnet(tmp_path / "m.hdf5", random_weights(np.random.default_rng(12)), sidecar=GOOD)
    with h5py.File(file, "r+") as content:
        damage(content)
    with pytest.raises(InputError, match=message) as error:
        write(read_megnet(file), tmp_path / "model")
    one_line(error, "m.hdf5")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("keep", [0, 8, 3000, 0.5, 0.999])
def test_truncated_files(tmp_path, keep):
    file = write_megnet(tmp_path / "m.hdf5", random_weights(np.random.default_rng(13)), sidecar=GOOD)
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match="not an HDF5 file, or damaged") as error:
        read_megnet(file)
    one_line(error, "m.hdf5")


def test_the_hdf5_library_may_crash(tmp_path, monkeypatch):
    """What it does on some damaged files takes another process down, not this one."""
    file = write_megnet(tmp_path / "m.hdf5", random_weights(np.random.default_rng(15)), sidecar=GOOD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nsys.modules['h5py'] = type('crash', (), {'__getattr__': lambda s, n: os.abort()})()\n"
    )
    with pytest.raises(InputError, match="the process that worked on it died") as error:
        read_megnet(file)
    one_line(error, "m.hdf5")


def test_a_target_must_be_known(tmp_path):
    weights = random_weights(np.random.default_rng(14))
    file = write_megnet(tmp_path / "m.hdf5", weights, sidecar=side_car(metadata={}))
    with pytest.raises(InputError, match=r"what it predicts.*--target") as error:
        read_megnet(file)
    one_line(error, "m.hdf5")
    write_megnet(file, weights, sidecar=side_car(metadata={"name": "log10 of bulk moduli", "unit": "log10(GPa)"}))
    assert read_megnet(file).target == Target("bulk_moduli", "GPa", transform="log10")
    with pytest.raises(InputError, match="no such file"):
        read_megnet(tmp_path / "none.hdf5")
