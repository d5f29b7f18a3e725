"""LiteRT files: run without TensorFlow, NaN for what is no composition."""

import importlib.util
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from export_cases import BAD_ROWS, OUTPUTS, wrong_once

from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.formats.litert import custom_operations, export_litert
from tfmat.export.interfaces.compositions import EXAMPLES
from tfmat.target import Target

pytest.importorskip("ai_edge_litert")

ALONE = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
# Fe2O3 and Li0.5CoO2 as amounts in other orders, with padding in between.
output = run(species=np.array([[0, 26, 0, 8], [27, 8, 3, 0]], np.int32), fractions=np.array([[0, 4, 0, 6], [2, 4, 1, 0]], np.float32))
print(json.dumps([{key: value.tolist() for key, value in output.items()}, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    return export_litert(predictor, folder / "model.tflite", {"max_elements": 4}, batch_size=2)


@pytest.fixture(scope="module")
def run(exported):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(exported.path)).get_signature_runner("serving_default")


def test_report(predictor, exported):
    assert exported.format == "litert" and exported.signatures == ("serving_default",)
    assert 0 <= exported.max_difference <= 1e-5 and 10 < exported.examples < len(EXAMPLES) and exported.latency > 0
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.tflite"]
    assert exported.size_bytes == exported.path.stat().st_size
    # Every weight once, in float32, and one copy of the sine table; the rest is structure.
    weights = 4 * (predictor.model.count_params() + 2000 * 16)
    assert 0.85 * weights < exported.size_bytes < weights + 200_000


def test_fresh_process_with_litert_alone(predictor, exported):
    command = [sys.executable, "-c", ALONE, str(exported.path)]
    process = subprocess.run(command, cwd=exported.path.parent, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    output, modules = json.loads(process.stdout.splitlines()[-1])
    assert not {"tensorflow", "keras", "tfmat"} & set(modules)
    frame = predictor.predict(["Fe2O3", "Li0.5CoO2"])
    assert set(output) == set(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(np.ravel(output[name]), frame[name], rtol=1e-5, atol=1e-6)


def test_interface(exported, run):
    inputs, outputs = run.get_input_details(), run.get_output_details()
    assert {name: (tuple(detail["shape"]), detail["dtype"]) for name, detail in inputs.items()} == {
        "species": ((2, 4), np.int32),
        "fractions": ((2, 4), np.float32),
    }
    assert {name: tuple(detail["shape"]) for name, detail in outputs.items()} == dict.fromkeys(OUTPUTS, (2, 1))
    assert custom_operations(exported.path.read_bytes()) == []


def test_metadata_is_in_the_file(predictor, exported):
    with zipfile.ZipFile(exported.path) as archive:
        metadata = json.loads(archive.read("tfmat.json"))
    assert metadata["format"] == "litert" and metadata["targets"] == [target.to_config() for target in predictor.targets]
    assert metadata["signatures"]["serving_default"]["inputs"]["species"]["shape"] == [2, 4]
    assert metadata["signatures"]["serving_default"]["outputs"]["metal"]["shape"] == [2, 1]


@pytest.mark.parametrize(("species", "amounts", "reason"), BAD_ROWS)
def test_what_is_no_composition_gives_nan(run, species, amounts, reason):
    good_species, good_amounts = [26, 8, 0, 0], [2, 3, 0, 0]
    expected = run(species=np.array([good_species] * 2, np.int32), fractions=np.array([good_amounts] * 2, np.float32))
    bad_species, bad_amounts = [*species, 0, 0], [*amounts, 0, 0]
    output = run(species=np.array([good_species, bad_species], np.int32), fractions=np.array([good_amounts, bad_amounts], np.float32))
    for name in OUTPUTS:
        assert np.isnan(output[name][1, 0]), reason
        np.testing.assert_array_equal(output[name][0], expected[name][0])  # the batch mate is unharmed


@pytest.mark.parametrize(("factor", "message"), [(1.001, "the LiteRT model differs from the Keras model"), (np.nan, "not finite")])
def test_refuses_a_mismatch(lean, tmp_path, monkeypatch, factor, message):
    monkeypatch.setattr(Target, "unscale", wrong_once(Target.unscale, factor))
    with pytest.raises(ExportError, match=message):
        export_litert(lean, tmp_path / "model.tflite", {"max_elements": 2}, examples=["NaCl"])
    assert not any(tmp_path.iterdir())


def test_refuses_operations_that_are_not_built_in(lean, tmp_path, monkeypatch):
    right = Target.unscale
    monkeypatch.setattr(Target, "unscale", lambda self, output: right(self, output) + 1e-20 * tf.math.igamma(1.0, tf.exp(output[:, 0:1])))
    with pytest.raises(ExportError, match="cannot be converted to LiteRT"):
        export_litert(lean, tmp_path / "model.tflite", {"max_elements": 2}, examples=["NaCl"])
    assert not any(tmp_path.iterdir())


def test_refused_requests(lean, tmp_path, monkeypatch):
    out = tmp_path / "model.tflite"
    for options in ({"max_elements": 0}, {"max_elements": 21}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            export_model(lean, out, "litert", **options)
    with pytest.raises(InputError, match="example 'LiFePO4' holds 4 elements"):
        export_model(lean, out, "litert", max_elements=3, examples=["NaCl", "LiFePO4"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tfmat\[export\]'"):
        export_model(lean, out, "litert")
    assert not any(tmp_path.iterdir())
