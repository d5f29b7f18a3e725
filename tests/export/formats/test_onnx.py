"""ONNX files of every architecture, run by ONNX Runtime."""

import importlib.util
import json

import fixed_cases
import numpy as np
import pytest
from export_cases import wrong_once
from fixed_cases import SIZES, batch_of, fitting, make

from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.interfaces import interface_of
from tfmat.target import Target

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
tf2onnx = pytest.importorskip("tf2onnx")


@pytest.fixture(scope="module", params=fixed_cases.params("paraisite", "crysformer", "atom_list_lstm"))
def predictor(request):
    return make(request.param)


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    sizes = SIZES[predictor.architecture.name]
    return export_model(predictor, folder / "model.onnx", "onnx", batch_size=2, examples=fitting(predictor), **sizes)


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])


def test_same_numbers(predictor, exported, session):
    assert exported.format == "onnx" and 0 <= exported.max_difference <= 1e-4 and exported.examples > 2 and exported.latency > 0
    materials = fitting(predictor, 2)
    (energies,) = session.run(["energy"], batch_of(predictor, materials))
    frame = predictor.predict(materials)
    assert frame["energy"].nunique() == 2
    np.testing.assert_allclose(energies[:, 0], frame["energy"], rtol=1e-4, atol=1e-5)


def test_interface_and_metadata(predictor, exported, session):
    inputs = interface_of(predictor).inputs
    lengths = interface_of(predictor).lengths(SIZES[predictor.architecture.name], predictor.architecture.name) | {"B": 2}
    assert {node.name: node.shape for node in session.get_inputs()} == {name: given.shape(lengths) for name, given in inputs.items()}
    properties = session.get_modelmeta().custom_metadata_map
    metadata = json.loads(properties["tfmat.json"])
    assert metadata["format"] == "onnx" and metadata["architecture"] == predictor.architecture.name
    assert metadata["signatures"]["serving_default"]["outputs"]["energy"]["unit"] == "eV/atom"
    assert properties["README.md"] == predictor.card
    onnx.checker.check_model(onnx.load(str(exported.path)))


def test_what_is_no_material_gives_nan_and_other_sizes_an_error(predictor, session):
    batch = batch_of(predictor, fitting(predictor, 2))
    bad = {name: array.copy() for name, array in batch.items()}
    bad["species"][1] = -1
    good, wrong = session.run(["energy"], batch)[0], session.run(["energy"], bad)[0]
    assert np.isnan(wrong[1, 0]) and wrong[0, 0] == good[0, 0] and np.isfinite(good).all()
    larger = {name: np.pad(array, [(0, 0), (0, 1)] + [(0, 0)] * (array.ndim - 2)) for name, array in batch.items()}
    with pytest.raises(Exception, match="Got invalid dimensions for input"):
        session.run(None, larger)


def test_refuses_a_mismatch(lean, tmp_path, monkeypatch):
    monkeypatch.setattr(Target, "unscale", wrong_once(Target.unscale, 1.001))
    with pytest.raises(ExportError, match="the ONNX model differs from the Keras model"):
        export_model(lean, tmp_path / "model.onnx", "onnx", max_elements=2, examples=["NaCl"])
    assert not any(tmp_path.iterdir())


def test_says_why_it_cannot_be_converted(lean, tmp_path, monkeypatch):
    import tensorflow as tf

    right = Target.unscale
    monkeypatch.setattr(Target, "unscale", lambda self, output: right(self, output) + 1e-20 * tf.math.igamma(1.0, tf.exp(output[:, 0:1])))
    with pytest.raises(ExportError, match=r"cannot be converted to ONNX: .*Igamma.*nothing was written"):
        export_model(lean, tmp_path / "model.onnx", "onnx", max_elements=2, examples=["NaCl"])
    assert not any(tmp_path.iterdir())


def test_refused_requests(lean, tmp_path, monkeypatch):
    (tmp_path / "taken.onnx").touch()
    with pytest.raises(InputError, match="exists already"):
        export_model(lean, tmp_path / "taken.onnx", "onnx")
    with pytest.raises(InputError, match="`max_sites` has no meaning for lgdcnn"):
        export_model(lean, tmp_path / "x", "onnx", max_sites=3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else True)
    with pytest.raises(InputError, match=r"an ONNX export needs tf2onnx, which is not installed. Expected pip install 'tfmat\[onnx\]'"):
        export_model(lean, tmp_path / "x", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]
