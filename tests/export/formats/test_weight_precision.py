"""LiteRT files with smaller weights, of every architecture: what they cost is measured, and too much is refused."""

import json
import types
import zipfile

import fixed_cases
import numpy as np
import pytest
from export_cases import LEAN
from fixed_cases import SIZES, batch_of, fitting, make

from tfmat.architecture import architectures
from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.formats import weight_precision
from tfmat.export.formats.litert import custom_operations
from tfmat.export.formats.weight_precision import PRECISIONS, Rows, measure, rows_of
from tfmat.export.interfaces import interface_of
from tfmat.predictor import Predictor
from tfmat.target import Target

pytest.importorskip("ai_edge_litert")


def test_every_architecture_is_here():
    assert set(fixed_cases.MODELS) == set(SIZES) == set(architectures())


@pytest.fixture(scope="module", params=fixed_cases.params("paraisite", "crysformer", "atom_list_lstm"))
def predictor(request):
    return make(request.param)


@pytest.fixture(scope="module")
def files(predictor, tmp_path_factory):
    folder, sizes = tmp_path_factory.mktemp("precision"), SIZES[predictor.architecture.name]
    chosen = fitting(predictor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_precision, "SPREADS", 0.05)  # random weights magnify rounding
        return {p: export_model(predictor, folder / f"{p}.tflite", "litert", precision=p, examples=chosen, **sizes) for p in PRECISIONS[1:]}


def opened(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    return interpreter, interpreter.get_signature_runner("serving_default")


def test_the_same_interface_and_nearly_the_same_numbers(predictor, files):
    materials = fitting(predictor)
    expected = predictor.predict(materials)["energy"].to_numpy()
    for precision, allowed in (("float16", 0.02), ("int8", 0.1)):
        report = files[precision]
        _, run = opened(report.path)
        found = np.array([run(**batch_of(predictor, [material]))["energy"][0, 0] for material in materials])
        np.testing.assert_allclose(found, expected, atol=allowed)
        assert set(run.get_input_details()) == set(interface_of(predictor).inputs) and custom_operations(report.path.read_bytes()) == []
        assert {np.dtype(detail["dtype"]).name for detail in run.get_output_details().values()} == {"float32"}
        (loss,) = report.losses
        assert (loss.target, loss.unit, loss.validation_mae) == ("energy", "eV/atom", None)
        assert loss.source == f"example {interface_of(predictor).materials}" and loss.rows == report.examples == len(materials)
        assert 0 < loss.mae <= loss.largest <= allowed


def test_weights_are_stored_with_fewer_bits(files):
    kinds = {}
    for precision, report in files.items():
        interpreter, _ = opened(report.path)
        kinds[precision] = {np.dtype(detail["dtype"]).name for detail in interpreter.get_tensor_details()}
    assert "float16" in kinds["float16"] and "int8" not in kinds["float16"]
    assert "int8" in kinds["int8"] and "float16" not in kinds["int8"]


def test_the_loss_travels(files):
    with zipfile.ZipFile(files["int8"].path) as archive:
        metadata = json.loads(archive.read("tfmat.json"))
    assert metadata["precision"] == "int8" and metadata["loss"] == [loss.to_config() for loss in files["int8"].losses]


def test_other_sizes_are_an_error_of_the_call(predictor, files):
    """More sites, elements, bonds or neighbours than fit, or another batch: never a number."""
    material = fitting(predictor)[0]
    good = batch_of(predictor, [material])
    axes = {axis for given in interface_of(predictor).inputs.values() for axis in given.axes if isinstance(axis, str)}
    for axis in sorted(axes):
        wrong = {
            name: np.pad(array, [(0, int(given == axis)) for given in interface_of(predictor).inputs[name].axes])
            for name, array in good.items()
        }
        for report in files.values():
            _, run = opened(report.path)
            with pytest.raises(RuntimeError, match=r"failed to (prepare|invoke)"):
                run(**wrong)


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_the_numbers_of_the_graph_are_not_rounded(format, tmp_path):
    """A large mean with a small spread, and amounts beyond the largest float16 number."""
    target = Target("energy", "meV", mean=-123456.75, std=0.25)
    predictor = Predictor.create("lgdcnn", [target], keywords=LEAN, seed=2)
    options = {"max_elements": 3, "examples": ["NaCl", "Fe80000O120000", "Fe2O3", "Ti0.0001O0.9999"]}
    whole = export_model(predictor, tmp_path / "whole", format, **options)
    for precision in ("float16", "int8") if format == "litert" else ("float16",):
        report = export_model(predictor, tmp_path / precision, format, precision=precision, **options)
        (loss,) = report.losses
        assert loss.rows == 4 and loss.largest < 0.02 * target.std
        assert report.size_bytes < 0.8 * whole.size_bytes


def random_weights(target, info, tmp_path, **options):
    predictor = Predictor.create("lgdcnn", [target], keywords=LEAN)
    predictor.info |= info
    return export_model(predictor, tmp_path / "model.tflite", "litert", precision="float16", max_elements=3, **options)


def test_a_loss_beyond_half_the_validation_mae_is_refused(tmp_path):
    info = {"validation": {"energy": {"MAE": 1e-6}}}
    with pytest.raises(
        ExportError, match=r"mean difference of energy .* eV/atom on \d+ example formulas, more than .* 50 % of the validation"
    ):
        random_weights(fixed_cases.ENERGY, info, tmp_path, examples=["NaCl", "Fe2O3"])
    assert not any(tmp_path.iterdir())
    loss = random_weights(
        fixed_cases.ENERGY, {"validation": {"energy": {"MAE": 0.1}}}, tmp_path, validation=["NaCl", "MgO", "Fe2O3"]
    ).losses[0]
    assert (loss.validation_mae, loss.rows, loss.source) == (0.1, 3, "validation rows")


def test_rows(predictor):
    """Of the validation rows those that fit are taken; without any, the examples."""
    name, interface = predictor.architecture.name, interface_of(predictor)
    lengths = interface.lengths(SIZES[name], name)
    materials, arrays = interface.featurize(None, lengths)
    examples = Rows("examples", materials, arrays)
    too_large = [material for material in interface.examples() if len(material) == 8 or material == "LiFePO4"]
    assert too_large
    rows = rows_of(interface, lengths, [*too_large, materials[0], "no material"], examples)
    assert rows.source == "validation rows" and list(rows.materials) == [materials[0]]
    assert rows_of(interface, lengths, too_large, examples) is examples is rows_of(interface, lengths, None, examples)


@pytest.mark.parametrize(
    ("target", "values", "shifted"),
    [
        (Target("t", "W/(m K)", transform="log10", mean=0.6, std=0.4), [1.0, 100.0], [1.0, 130.0]),
        (Target("t", "W/(m K)", transform="log10", mean=0.6, std=0.4), [1.0, 100.0], [-1.0, 100.0]),
        (Target("t", "eV", mean=5.0, std=2.0), [1.0, 2.0], [1.0, 2.3]),
        (Target("t", task="binary"), [0.2, 0.9], [0.2, 0.7]),
    ],
)
def test_limit_without_validation(target, values, shifted):
    """1 % of the spread of what is learnt, or 0.05 of a probability."""
    import pandas as pd

    predictor = types.SimpleNamespace(targets=(target,), info={}, predict=lambda materials: pd.DataFrame({"t": values}))
    rows = Rows("rows", ["A", "B"], [])
    (loss,) = measure(predictor, rows, {"t": np.array(values)[:, None]})
    assert (loss.mae, loss.largest, loss.rows) == (0, 0, 2)
    with pytest.raises(ExportError, match="mean difference of t"):
        measure(predictor, rows, {"t": np.array(shifted)[:, None]})
    with pytest.raises(ExportError, match="not finite"):
        measure(predictor, rows, {"t": np.array([[1.0], [np.nan]])})


def test_refused_requests(tmp_path):
    predictor = Predictor.create("lgdcnn", [fixed_cases.ENERGY], keywords=LEAN)
    out = tmp_path / "x"
    with pytest.raises(InputError, match=r"unknown precision 'int4'\. Expected one of float32, float16, int8"):
        export_model(predictor, out, "litert", precision="int4")
    with pytest.raises(InputError, match="a savedmodel keeps float32 weights, so `precision` has no meaning"):
        export_model(predictor, out, "savedmodel", precision="int8")
    with pytest.raises(InputError, match=r"unknown precision 'int8'\. Expected one of float32, float16"):
        export_model(predictor, out, "onnx", precision="int8")
    assert not any(tmp_path.iterdir())
