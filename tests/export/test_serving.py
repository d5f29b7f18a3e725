"""Model repositories for TensorFlow Serving: versions, configuration, warm-up requests, requests that the server joins."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny
from export_cases import TARGETS
from exported_crystals import make
from fake_server import joined
from serving_cases import CRYSTALS, FORMULAS, crystal_model, needs_stubs

import tfmat.export.serving as serving
from tfmat.errors import InputError
from tfmat.export import ExportError
from tfmat.export.client.arrays import composition_arrays, crystal_arrays, with_empty_slot
from tfmat.export.formats.saved_model import as_module, batchable
from tfmat.export.interfaces import interface_of
from tfmat.featurizers.formula import parse_formula
from tfmat.predictor import Predictor
from tfmat.target import Target

SERVING = "serving_default"


@pytest.fixture
def tiny_predictor(monkeypatch):
    """A model of compositions that is exported in a second, with the targets of `predictor`."""
    tiny.register(monkeypatch)
    return Predictor.create("tiny", TARGETS)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_stubs
def test_repository(repository):
    assert sorted(path.name for path in repository.iterdir()) == [
        "batching.config",
        "docker-compose.yaml",
        "energy",
        "gap",
        "models.config",
    ]
    assert serving.served_models(repository) == {"energy": [1], "gap": [1]}
    text = (repository / "models.config").read_text()
    assert re.findall(r'name: "(.*)"\n    base_path: "(.*)"', text) == [("energy", "/models/energy"), ("gap", "/models/gap")]
    assert text.count("{") == text.count("}") == 3
    batching = (repository / "batching.config").read_text()
    sizes = [int(size) for size in re.findall(r"allowed_batch_sizes: (\d+)", batching)]
    assert sizes == sorted(sizes) and f"max_batch_size {{ value: {sizes[-1]} }}" in batching  # the server demands both
    assert "\npad_variable_length_inputs: true\n" in batching
    compose = (repository / "docker-compose.yaml").read_text()
    assert "- --model_config_file=/models/models.config" in compose and "- .:/models:ro" in compose
    for folder in (repository / "gap", repository / "gap" / "1", repository / "models.config"):
        assert folder.stat().st_mode & 0o044 == 0o044  # the server runs as another user


@needs_stubs
def test_configuration_is_read_by_the_servers_parser(repository):
    """By protobuf's text format; the message of the models comes with the stubs, that of batching does not."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (repository / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert [(c.name, c.base_path, c.model_platform) for c in parsed.model_config_list.config] == [
        ("energy", "/models/energy", "tensorflow"),
        ("gap", "/models/gap", "tensorflow"),
    ]


@needs_stubs
@pytest.mark.parametrize(("name", "requests"), [("gap", 2 * (len(FORMULAS) + 1)), ("energy", len(CRYSTALS) + 1)])
def test_warm_up_requests_are_accepted(repository, models, name, requests):
    from tensorflow_serving.apis import prediction_log_pb2

    file = repository / name / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    assert len(records) == requests <= 1000
    rows = 0
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == name
        outputs = models[name](request.model_spec.signature_name, {key: tf.make_ndarray(value) for key, value in request.inputs.items()})
        assert all(np.isfinite(value).all() for value in outputs.values())
        rows += len(outputs["in_domain"])
    assert rows == requests // (len(FORMULAS) + 1) * 2 * len(FORMULAS)  # each alone, and all together


@needs_stubs
def test_next_version(repository, tiny_predictor, tmp_path):
    copy = tmp_path / "repo"
    shutil.copytree(repository, copy)
    (copy / "batching.config").write_text("# mine\n")
    (copy / "gap" / "7").mkdir()
    (copy / "gap" / "1").rename(copy / "gap" / "10")
    before = tree(copy)
    report, _ = serving.export_to_repository(tiny_predictor, copy, "gap", ["NaCl"])
    assert report.path == copy / "gap" / "11" and report.format == "serving" and report.max_difference <= 1e-5
    after = tree(copy)
    assert {path: content for path, content in after.items() if path in before} == before  # old versions and users' files stay
    assert {path.split("/")[1] for path in after.keys() - before.keys()} == {"11"}


@needs_stubs
def test_versions_appear_complete_and_before_the_configuration(tiny_predictor, tmp_path, monkeypatch):
    """A server polls at any time: whatever is renamed into place is whole, and the configuration names what is there."""
    import tfmat.atomic as atomic

    seen, replace = [], atomic.os.replace

    def observed(source, target):
        replace(source, target)
        repo = tmp_path / "repo"
        numbered = sorted(str(path.relative_to(repo)) for path in repo.glob("*/*") if path.name.isdigit())
        seen.append((target.name if hasattr(target, "name") else target, numbered))
        for version in numbered:
            files = tree(repo / version)
            assert {"saved_model.pb", "assets.extra/tf_serving_warmup_requests", "assets.extra/tfmat.json"} <= files.keys()

    monkeypatch.setattr(atomic.os, "replace", observed)
    serving.export_to_repository(tiny_predictor, tmp_path / "repo", "gap", ["NaCl"])
    names = [name for name, _ in seen]
    assert names.index("models.config") > [numbered for _, numbered in seen].index(["gap/1"])
    assert sorted(path.name for path in (tmp_path / "repo" / "gap").iterdir()) == ["1"]  # nothing temporary is left


@needs_stubs
def test_nothing_is_left_after_a_failure(tiny_predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "write_warm_up", lambda *_: (_ for _ in ()).throw(ExportError("a mismatch")))
    with pytest.raises(ExportError, match="a mismatch"):
        serving.export_to_repository(tiny_predictor, tmp_path / "deep" / "repo", "gap", ["NaCl"])
    assert not any(tmp_path.iterdir())


@needs_stubs
def test_refused(repository, predictor, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("")
    copy = tmp_path / "repo"
    shutil.copytree(repository, copy)
    (copy / "mine" / "1").mkdir(parents=True)
    (copy / "mine" / "1" / "saved_model.pb").write_text("")
    before = tree(tmp_path)
    for path, name, part in [
        (tmp_path / "file", "gap", "it is no folder"),
        (tmp_path / "folder", "gap", "it is no model repository"),
        (copy, "energy", r"'energy' serves energy \[eV/atom\], metal \[1\] already, not conductivity"),
        (copy, "mine", "was not written by `tfmat export`, so 'mine' is taken"),
        (copy, "a b", "'a b' is no name for a model. Expected such as 'a_b'"),
        (copy, "../gap", "no name for a model"),
        (copy, "models.config", "is a file of the repository"),
        (copy, "", "gives no name"),
    ]:
        with pytest.raises(InputError, match=part):
            serving.export_to_repository(predictor, path, name)
    monkeypatch.setattr(predictor, "targets", (Target("energy", "eV/atom"), Target("metal", task="binary")))
    with pytest.raises(InputError, match="'energy' takes frac_coords, lattice, species already, not fractions, species"):
        serving.export_to_repository(predictor, copy, "energy")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    with pytest.raises(InputError, match=r"needs tensorflow_serving, .* Expected pip install 'tfmat\[export\]'"):
        serving.export_to_repository(predictor, tmp_path / "new", "gap")
    assert tree(tmp_path) == before


def test_model_names():
    assert serving.model_name("lgdcnn-exp formation/Enthalpy") == "lgdcnn-exp_formation_Enthalpy"
    assert serving.model_name(".gap.v1-b_2") == "gap.v1-b_2"
    with pytest.raises(InputError, match="gives no name"):
        serving.model_name("äö")


def requests_of(predictor, slot):
    """One request for each material, and one for two of them together."""
    if predictor.architecture.material == "crystal":
        parts = [crystal_arrays(CRYSTALS[i : i + n]) for i, n in ((0, 1), (1, 1), (2, 2))]
    else:
        amounts = [parse_formula(formula) for formula in FORMULAS]
        parts = [composition_arrays(amounts[i : i + n]) for i, n in ((0, 1), (1, 1), (2, 2))]
    return [with_empty_slot(part) for part in parts] if slot else parts


JOINED = [
    "lgdcnn",
    "atom_list_lstm, uncertainty",
    pytest.param("megnet, legacy Set2Set", marks=pytest.mark.slow),
    pytest.param("crysformer, strict", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", JOINED)
def test_joined_requests(case, predictor):
    """Requests of different sizes, joined and padded as the server does it, give what each gives alone."""
    model = predictor if case == "lgdcnn" else make(case)
    entries = batchable(interface_of(model).signatures())
    _, functions = as_module(model, {SERVING: entries[SERVING]})

    def call(arrays):
        outputs = functions[SERVING](**{key: tf.constant(value) for key, value in arrays.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    requests = requests_of(model, slot=True)
    alone = [call(request) for request in requests]
    together = call(joined(requests))
    for name, values in together.items():
        assert values.shape == (4, 1)
        np.testing.assert_allclose(values, np.concatenate([one[name] for one in alone]), rtol=2e-5, atol=1e-6)

    bare = requests_of(model, slot=False)
    padded = joined(bare)["species"]
    assert padded[0, -1] == padded[0, 0] > 0  # the server would make atoms of nothing
    for request in (*bare, joined(bare), joined([requests[0], bare[1]])):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must begin with an empty slot, 0; see row\] \[[01]\]"):
            call(request)


@needs_stubs
def test_metadata_tells_the_empty_slot(repository):
    told = json.loads((repository / "energy" / "1" / "assets.extra" / "tfmat.json").read_text())
    inputs = told["signatures"][SERVING]["inputs"]
    assert [name for name, given in inputs.items() if "every row begins with an empty slot" in given["meaning"]] == [
        "frac_coords",
        "species",
    ]


def test_wrong_shapes_are_refused_behind_a_server():
    """A server checks no shapes: each of these ends in a sentence, whatever the guard sees first."""
    entry = batchable(interface_of(crystal_model()).signatures())[SERVING]

    @tf.function(autograph=False, input_signature=[{name: tf.TensorSpec(None, given.dtype) for name, given in entry.inputs.items()}])
    def unshaped(arrays):
        claimed = {name: tf.identity(array) for name, array in arrays.items()}
        for name, array in claimed.items():
            array.set_shape(entry.inputs[name].spec(name, {}).shape)
        return entry.prepare(claimed)

    whole = with_empty_slot(crystal_arrays(CRYSTALS[:1]))
    assert unshaped({key: tf.constant(value) for key, value in whole.items()})["species"].shape == (2,)  # the empty slot goes
    for key, value in [
        ("species", np.int32(0)),
        ("species", whole["species"][0]),
        ("frac_coords", whole["frac_coords"][0]),
        ("lattice", whole["lattice"][0]),
        ("species", whole["species"][:, :0]),
        ("frac_coords", np.full_like(whole["frac_coords"], np.nan)),
        ("species", np.zeros((0, 3), np.int32)),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must"):
            unshaped({name: tf.constant(array) for name, array in (whole | {key: value}).items()})
