"""SavedModels: what they say, alone, and when they are refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from export_cases import LEAN, OUTPUTS, wrong_once

from tfmat.errors import InputError
from tfmat.export import FORMATS, ExportError, export_model
from tfmat.export.formats.saved_model import export_saved_model
from tfmat.export.interfaces.compositions import EXAMPLES
from tfmat.export.verify import largest_difference
from tfmat.predictor import Predictor
from tfmat.target import Target

FORMULAS = ["Fe2O3", "Li0.5CoO2", "Si", "SrTiO3"]

# TensorFlow imports Keras where it is installed, so it is hidden.
ALONE = """
import json, sys
sys.modules["keras"] = sys.modules["tfmat"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
formula = loaded.signatures["from_formula"](formula=tf.constant(json.loads(sys.argv[2])))
# Fe2O3, Li0.5CoO2, Si, SrTiO3 as amounts, in other orders and scales, with padding in between.
species = np.array([[26, 0, 8, 0], [27, 8, 3, 0], [0, 0, 14, 0], [0, 38, 22, 8]], np.int32)
amounts = np.array([[4, 0, 6, 0], [2, 4, 1, 0], [0, 0, 7, 0], [0, 1, 1, 3]], np.float32)
amount = loaded.signatures["serving_default"](species=tf.constant(species), fractions=tf.constant(amounts))
errors = []
for name, inputs in [
    ("from_formula", {"formula": tf.constant(["Fe2O3", "Xx"])}),
    ("serving_default", {"species": tf.constant([[8], [0]]), "fractions": tf.constant([[1.0], [0.0]])}),
    ("serving_default", {"species": tf.constant([[8], [200]]), "fractions": tf.constant([[1.0], [1.0]])}),
]:
    try:
        errors.append(repr(loaded.signatures[name](**inputs)))
    except tf.errors.InvalidArgumentError as error:
        errors.append(str(error))
values = [{key: value.numpy().tolist() for key, value in output.items()} for output in (formula, amount)]
loaded_modules = [name for name, module in sys.modules.items() if module is not None]
print(json.dumps([values, loaded_modules, errors]))
"""


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return folder, export_saved_model(predictor, folder / "new" / "1")


def test_report(exported):
    folder, report = exported
    assert report.path == folder / "new" / "1" and report.format == "savedmodel"
    assert report.signatures == ("serving_default", "from_formula")
    assert 0 <= report.max_difference <= 1e-5 and report.examples == len(EXAMPLES) and report.latency > 0
    assert [path.name for path in (folder / "new").iterdir()] == ["1"]  # nothing temporary is left
    assert report.size_bytes == sum(path.stat().st_size for path in report.path.rglob("*") if path.is_file())
    assert report.path.stat().st_mode & 0o055 == 0o055  # a server may run as another user


def test_weights_are_written_once(predictor, exported):
    variables = exported[1].path / "variables" / "variables.data-00000-of-00001"
    weights = 4 * predictor.model.count_params()
    assert weights <= variables.stat().st_size < 1.05 * weights + 20_000
    # the graph itself holds one copy of the sine table and no weight
    assert (exported[1].path / "saved_model.pb").stat().st_size < 4 * 2000 * 16 + 800_000


def test_fresh_process_with_tensorflow_alone(predictor, exported):
    command = [sys.executable, "-c", ALONE, str(exported[1].path), json.dumps(FORMULAS)]
    run = subprocess.run(command, cwd=exported[0], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    values, modules, errors = json.loads(run.stdout.splitlines()[-1])
    assert "tensorflow" in modules and not [name for name in modules if name.split(".")[0] in ("keras", "tfmat")]
    frame = predictor.predict(FORMULAS)
    for output in values:
        assert set(output) == {*OUTPUTS, "in_domain"} and np.shape(output["in_domain"]) == (4, 1)
        for name in OUTPUTS:
            assert np.shape(output[name]) == (4, 1)
            np.testing.assert_allclose(np.ravel(output[name]), frame[name], rtol=1e-5)
    assert "unknown element:] [Xx]" in errors[0] and "at least one element" in errors[1] and "atomic numbers from 1 to 118" in errors[2]


def test_batches(predictor, exported):
    """Any number of compositions; batch mates change nothing."""
    parse = tf.saved_model.load(str(exported[1].path)).signatures["from_formula"]
    together = parse(formula=tf.constant(EXAMPLES))
    frame = predictor.predict(EXAMPLES)
    for row in (0, 7, 23):
        alone = parse(formula=tf.constant([EXAMPLES[row]]))
        for name in OUTPUTS:
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(alone[name][0, 0], frame[name][row], rtol=1e-5, atol=1e-6)
    assert parse(formula=tf.zeros((0,), tf.string))["metal"].shape == (0, 1)


def test_metadata(predictor, exported):
    extra = exported[1].path / "assets.extra"
    assert sorted(path.name for path in extra.iterdir()) == ["README.md", "tfmat.json"]
    assert (extra / "README.md").read_text(encoding="utf-8") == predictor.card
    metadata = json.loads((extra / "tfmat.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert metadata["format"] == "savedmodel" and metadata["architecture"] == "lgdcnn"
    assert metadata["featurizer"] == predictor.to_config()["featurizer"]
    assert metadata["targets"] == [target.to_config() for target in predictor.targets]
    assert {"tfmat", "tensorflow", "keras"} <= set(metadata["exported_with"])
    signatures = metadata["signatures"]
    assert signatures["from_formula"]["inputs"]["formula"]["shape"] == ["B"]
    assert signatures["serving_default"]["inputs"]["species"]["dtype"] == "int32"
    for signature in signatures.values():
        assert tuple(signature["outputs"]) == (*OUTPUTS, "in_domain")
        assert signature["outputs"]["formation_enthalpy_uncertainty"]["unit"] == "eV/atom"


def test_metadata_is_strict_json(predictor, monkeypatch):
    from tfmat.export.metadata import describe

    monkeypatch.setattr(predictor, "info", {"validation": {"metal": {"ROC-AUC": float("nan")}}, "list": [1.0, float("inf")]})
    metadata = json.loads(describe(predictor, "savedmodel", {}), parse_constant=pytest.fail)
    assert metadata["info"] == {"validation": {"metal": {"ROC-AUC": None}}, "list": [1.0, None]}


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1.001, "from_formula differs from the Keras model by 1.0e-03 relative"), (np.nan, "met a value that is not finite")],
)
def test_refuses_a_mismatch(lean, tmp_path, monkeypatch, factor, message):
    monkeypatch.setattr(Target, "unscale", wrong_once(Target.unscale, factor))
    with pytest.raises(ExportError, match=message):
        export_saved_model(lean, tmp_path / "parent" / "model", examples=["Fe2O3"])
    assert not any(tmp_path.iterdir())


def test_refuses_a_model_that_sees_padding(tmp_path):
    """Published padding: a prediction depends on the longest formula of the batch, so a server's numbers would not be the predictor's."""
    legacy = Predictor.create("lgdcnn", [Target("t")], keywords=LEAN | {"kernel_size": 3, "legacy_padding": True})
    with pytest.raises(ExportError, match="differs from the Keras model"):
        export_saved_model(legacy, tmp_path / "model", examples=["Fe", "Fe2O3", "LiFePO4"])
    assert not any(tmp_path.iterdir())


def test_user_examples(lean, tmp_path):
    with pytest.raises(InputError, match="unknown element"):
        export_saved_model(lean, tmp_path / "a", examples=["Xx"])
    with pytest.raises(InputError, match="no example"):
        export_saved_model(lean, tmp_path / "a", examples=[])
    assert export_saved_model(lean, tmp_path / "a", examples=["Ca(OH)2", "KAl(SO4)2(H2O)12"]).examples == 2


def test_refused_requests(predictor, tmp_path, monkeypatch):
    taken = tmp_path / "taken"
    taken.mkdir()
    for format in FORMATS:
        with pytest.raises(InputError, match="exists already"):
            export_model(predictor, taken, format)
    with pytest.raises(InputError, match=r"unknown export format 'pickle'\. Expected one of savedmodel, litert, onnx"):
        export_model(predictor, tmp_path / "x", "pickle")
    with pytest.raises(InputError, match="`max_elements` has no meaning"):
        export_model(predictor, tmp_path / "x", max_elements=4)
    with pytest.raises(InputError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        export_model(predictor, tmp_path / "file" / "x", examples=["Fe"])
    crystal = SimpleNamespace(architecture=SimpleNamespace(name="megnet", material="crystal"), featurizer=None)
    for format in FORMATS:
        with pytest.raises(InputError, match="megnet takes a crystal: its export is not yet supported"):
            export_model(crystal, tmp_path / "x", format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"] and not any(taken.iterdir())


def test_refuses_output_names_that_meet(tmp_path):
    model = Predictor.create("lgdcnn", [Target("t"), Target("t_uncertainty")], keywords={"dim": 32, "conv_dim": 32})
    with pytest.raises(InputError, match="two outputs would be called 't_uncertainty'"):
        export_model(model, tmp_path / "x")


def test_differences_are_relative(predictor):
    def outputs(value):
        return {name: np.full((1, 1), value, np.float32) for name in OUTPUTS}

    expected = outputs(0.5)
    assert largest_difference(predictor, outputs(0.5), expected) == 0
    # An enthalpy is compared with its spread of 1.1 eV/atom, a probability with 1, what is always positive with itself.
    for name, floor in (("formation_enthalpy", 1.1), ("metal", 1.0), ("conductivity", 0.5), ("conductivity_uncertainty", 0.5)):
        found = outputs(0.5) | {name: np.full((1, 1), 0.75, np.float32)}
        assert largest_difference(predictor, found, expected) == pytest.approx(0.25 / floor)
    assert np.isnan(largest_difference(predictor, outputs(np.nan), expected))
    assert np.isnan(largest_difference(predictor, outputs(np.inf), outputs(np.inf)))
    with pytest.raises(ExportError, match="shape"):
        largest_difference(predictor, {name: np.zeros((2, 1)) for name in OUTPUTS}, expected)
    with pytest.raises(ExportError, match="gives"):
        largest_difference(predictor, {}, expected)
