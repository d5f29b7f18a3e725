"""`tfmat inspect`: signatures, units and provenance of whatever was exported; signatures of what tfmat has not made."""

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from fixed_cases import MODELS

from tfmat.cli import run
from tfmat.errors import InputError
from tfmat.export import export_model
from tfmat.export.inspect import inspect, saved_model_signatures
from tfmat.predictor import Predictor
from tfmat.target import Target

INFO = {
    "dataset": {
        "name": "gaps",
        "version": "1.2.0",
        "title": "Gaps",
        "rows": {"train": 1000, "validation": 100, "test": 100},
        "official_split": True,
        "licence": "CC-BY-4.0",
        "citation": "Someone, J. Gaps 2020",
        "url": "https://example.org",
        "train_sha256": "0" * 64,
        "split": None,
    },
    "validation": {"band_gap": {"MAE": 0.25, "RMSE": 0.5, "n": 100}},
    "elements": [1, 8, 11, 17, 26],
    "epochs": 3,
    "seed": 7,
    "date": "2026-11-21",
    "hardware": "an abacus",
    "versions": {"tfmat": "0.1.0"},
}


@pytest.fixture(scope="module")
def predictor():
    result = Predictor.create("lgdcnn", [Target("band_gap", "eV"), Target("metal", task="binary")], keywords=MODELS["lgdcnn"])
    result.info |= INFO
    return result


@pytest.fixture(scope="module")
def folder(predictor, tmp_path_factory):
    """All formats of one model."""
    folder = tmp_path_factory.mktemp("inspected")
    predictor.save(folder / "run")
    export_model(predictor, folder / "serving" / "1")
    if _installed("ai_edge_litert"):
        export_model(predictor, folder / "model.tflite", "litert", precision="int8", max_elements=3)
    if all(map(_installed, ("onnx", "tf2onnx", "onnxruntime"))):
        export_model(predictor, folder / "model.onnx", "onnx", max_elements=3)
    return folder


def _installed(package):
    return importlib.util.find_spec(package) is not None


def needs(name):
    packages = {"model.tflite": ("ai_edge_litert",), "model.onnx": ("onnx", "tf2onnx", "onnxruntime")}
    for package in packages.get(name, ()):
        pytest.importorskip(package)


@pytest.mark.parametrize(
    ("name", "kind"), [("serving/1", "SavedModel"), ("model.tflite", "LiteRT file"), ("model.onnx", "ONNX file"), ("run", "model folder")]
)
def test_page(name, kind, folder, predictor, capsys):
    needs(name)
    assert run(["inspect", str(folder / name)]) == 0
    page = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in page.splitlines()]
    assert lines[0].startswith(f"{folder / name}: {kind}, ") and " MB" in lines[0]
    assert any("band_gap [eV]" in line and "predicted value" in line for line in lines)
    assert any("metal" in line and "probability of class 1" in line for line in lines)
    for expected in (
        "architecture lgdcnn, dim=32, conv_dim=32, conv_blocks=1",
        "featurizer CompositionFeaturizer, version 1",
        "data gaps, version 1.2.0, 1,000 train / 100 validation / 100 test rows",
        "licence CC-BY-4.0",
        "cite Someone, J. Gaps 2020",
        "source https://example.org",
        "elements 5: H, O, Na, Cl, Fe",
        "trained 2026-11-21, 3 epochs, seed 7, on an abacus",
        "validation band_gap: MAE 0.25 eV, RMSE 0.5 eV, rows 100",
        "trained with tfmat 0.1.0",
    ):
        assert expected in lines
    if name == "serving/1":
        assert "signature serving_default" in lines and "signature from_formula" in lines
        assert any(line.startswith("takes ") and "int32 (B, E)" in line for line in lines)
    if name == "model.tflite":
        assert "weights int8" in lines and any(line.startswith("loss band_gap: mean") for line in lines)
        assert any("species int32 (1, 3)" in line for line in lines)


def test_json_and_agreement_with_the_file(folder, capsys):
    assert run(["inspect", "--json", str(folder / "serving" / "1")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["kind"] == "SavedModel" and content["model"]["info"] == INFO
    real = saved_model_signatures(folder / "serving" / "1")
    told = content["signatures"]
    assert set(told) == set(real) == {"serving_default", "from_formula"}
    for name in told:
        for side in ("inputs", "outputs"):
            assert {key: value["dtype"] for key, value in told[name][side].items()} == {
                key: value["dtype"] for key, value in real[name][side].items()
            }
    assert content["size_bytes"] == sum(file.stat().st_size for file in (folder / "serving" / "1").rglob("*") if file.is_file())


def test_what_travels_in_a_saved_model(folder, predictor):
    """The card, and in ``tfmat.json`` the config, the licence of the data and the units."""
    extra = folder / "serving" / "1" / "assets.extra"
    assert (extra / "README.md").read_text() == predictor.card and "CC-BY-4.0" in predictor.card
    content = json.loads((extra / "tfmat.json").read_text())
    config = json.loads(json.dumps(predictor.to_config()))
    assert {key: content[key] for key in config} == config
    outputs = content["signatures"]["serving_default"]["outputs"]
    assert outputs["band_gap"]["unit"] == outputs["band_gap_uncertainty"]["unit"] == "eV"


def test_without_tensorflow(folder):
    """What tfmat has exported is read from its metadata."""
    code = "import sys; from tfmat.cli import run; code = run(['inspect', sys.argv[1]]); sys.exit(code or 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(folder / "serving" / "1")], capture_output=True, text=True)
    assert done.returncode == 0 and "licence" in done.stdout and not done.stderr


def test_preset(folder, monkeypatch, capsys):
    from tfmat import architecture

    architecture.architectures()
    presets = architecture._REGISTRY["lgdcnn"].presets
    monkeypatch.setitem(presets, "gaps-1/gap", lambda: folder / "run")
    assert run(["inspect", "gaps-1/gap"]) == 0
    assert "CC-BY-4.0" in capsys.readouterr().out


def foreign_module():
    module = tf.Module()
    spec = {"x": tf.TensorSpec((None, 3), tf.float32, "x")}
    function = tf.function(lambda x: {"twice": 2 * x}).get_concrete_function(**spec)
    return module, function


def test_foreign_saved_model(tmp_path, capsys):
    module, function = foreign_module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"double": function})
    found = inspect(tmp_path / "m")
    assert found.model is None and found.kind == "SavedModel"
    assert found.signatures["double"] == {
        "inputs": {"x": {"dtype": "float32", "shape": ["?", 3]}},
        "outputs": {"twice": {"dtype": "float32", "shape": ["?", 3]}},
    }
    assert run(["inspect", str(tmp_path / "m")]) == 0
    page = capsys.readouterr().out
    assert "not made by tfmat" in page and "signature double" in page and "(?, 3)" in page and "provenance" not in page


def test_foreign_litert(tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    module, function = foreign_module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"double": function})
    with_signature = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "m"), signature_keys=["double"]).convert()
    without = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
    for name, content in (("with.tflite", with_signature), ("without.bin", without)):
        (tmp_path / name).write_bytes(content)
        found = inspect(tmp_path / name)
        assert found.model is None and found.kind == "LiteRT file"
        (signature,) = found.signatures.values()
        assert [tensor for tensor in signature["inputs"].values()] == [{"dtype": "float32", "shape": ["?", 3]}]
    assert set(inspect(tmp_path / "with.tflite").signatures) == {"double"}
    with zipfile.ZipFile(tmp_path / "with.tflite", "a") as archive:
        archive.writestr("labels.txt", "a\nb")
    assert inspect(tmp_path / "with.tflite").model is None
    assert run(["inspect", str(tmp_path / "with.tflite")]) == 0 and "not made by tfmat" in capsys.readouterr().out


def test_foreign_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    x, y = helper.make_tensor_value_info("x", kind, ["N", 3]), helper.make_tensor_value_info("y", kind, ["N", 3])
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    found = inspect(tmp_path / "m.onnx")
    tensor = {"dtype": "float", "shape": ["?", 3]}
    assert found.model is None and found.signatures == {"serving_default": {"inputs": {"x": tensor}, "outputs": {"y": tensor}}}


def refused(argument, capfd, *parts):
    capfd.readouterr()
    assert run(["inspect", str(argument)]) == 2
    out, err = capfd.readouterr()
    assert not out and len(err.splitlines()) == 1, err
    for part in parts:
        assert part in err


def test_bad_input(folder, tmp_path, capfd):
    refused(tmp_path / "nothing", capfd, "no such file, folder or preset")
    (tmp_path / "note.txt").write_text("hello")
    refused(tmp_path / "note.txt", capfd, "is no exported model", ".tflite")
    (tmp_path / "empty.tflite").touch()
    refused(tmp_path / "empty.tflite", capfd, "is no exported model")
    (tmp_path / "short.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 40)
    refused(tmp_path / "short.tflite", capfd, "no LiteRT file, or a truncated one")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", capfd, "is a folder without a model")
    refused(folder / "serving", capfd, "is a folder without a model", f"such as {folder / 'serving' / '1'}")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    refused(tmp_path / "torn", capfd, "no SavedModel")


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"architecture": 1}', '{"architecture": 1, "targets": 2, "info": 3, "signatures": {"a": 4}}']
)
def test_damaged_metadata(text, folder, tmp_path, capfd):
    copy = shutil.copytree(folder / "serving" / "1", tmp_path / "copy")
    (copy / "assets.extra" / "tfmat.json").write_text(text)
    refused(copy, capfd, "copy")


def test_damaged_onnx(tmp_path, capfd):
    pytest.importorskip("onnx")
    (tmp_path / "torn.onnx").write_bytes(b"\xff\xff\xff\xff")
    refused(tmp_path / "torn.onnx", capfd, "no ONNX file")
    with pytest.raises(InputError, match="no graph in it"):
        (tmp_path / "empty.onnx").touch()
        inspect(tmp_path / "empty.onnx")


def test_damaged_run(folder, tmp_path, capfd):
    copy = shutil.copytree(folder / "run", tmp_path / "copy")
    (copy / "model.weights.h5").write_bytes(b"short")
    refused(copy, capfd, "truncated or changed")
