"""A model as a LiteRT (``.tflite``) file of fixed sizes, for phones, browsers and microcontrollers."""

from __future__ import annotations

import logging
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.export.contents import FILE
from tfmat.export.errors import ExportError
from tfmat.export.formats.fixed_sizes import fixed_lengths, in_batches, one_call, serve_fixed, specs
from tfmat.export.formats.weight_precision import Loss, Rows, check_precision, measure, rows_of
from tfmat.export.interfaces.base import Interface, interface_of
from tfmat.export.interfaces.signatures import SERVING
from tfmat.export.metadata import describe
from tfmat.export.outputs import output_names
from tfmat.export.results import ExportReport
from tfmat.export.verify import compare, keras_outputs, median_seconds
from tfmat.extras import require
from tfmat.model_directory.files import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

_log = logging.getLogger(__name__)


def export_litert(
    predictor: Predictor,
    file: str | Path,
    max_elements: int | None = None,
    max_sites: int | None = None,
    max_bonds: int | None = None,
    max_neighbors: int | None = None,
    batch_size: int = 1,
    examples: Sequence[Any] | None = None,
    precision: str = "float32",
    validation: Sequence[Any] | None = None,
) -> ExportReport:
    """Write a LiteRT model of built-in operations only, after running it with `ai_edge_litert` and comparing it with the Keras model.

    Its signature ``serving_default`` takes padded arrays, 0 = padding. Of compositions ``species`` int32 and ``fractions``
    float32, both (batch_size, max_elements): positive amounts in any scale and order. Of crystals ``species`` int32
    (batch_size, max_sites); with bonds within a radius ``centers`` and ``neighbors`` int32 and ``distances`` float32 [Å]
    (batch_size, max_bonds), in any order, and ``state`` where the model has one; with nearest neighbours ``neighbors`` int32
    (batch_size, max_sites, max_neighbors) and ``vectors`` float32 (batch_size, max_sites, max_neighbors, 3) [Å]; with lists of atoms
    ``elements`` int32 and ``distances`` float32 [Å] (batch_size, max_sites, n_list - 1), the nearest first, and ``lists`` int32
    (batch_size, max_sites). It gives for every target ``<target>`` float32 (batch_size, 1) in its unit, and ``<target>_uncertainty`` where
    the network predicts it. LiteRT has no assertions: a row that is no such material gives NaN. Arrays of other sizes are an error of
    the call: "failed to prepare", an exception in Python and ``kTfLiteError`` in C, after which the interpreter must be made anew.

    With ``float16`` the weights are stored in half the size and widened when they are loaded. With ``int8`` the matrices of 1,024 weights
    and more are stored as 8-bit integers with a scale each (dynamic range quantization); inputs and outputs stay float32. What either costs
    is measured, see `tfmat.export.formats.weight_precision`.

    ``tfmat.json`` and the card are packed into the file as the format's "associated files", a ZIP archive behind the model:
    ``unzip -p model.tflite tfmat.json``.

    Args:
        predictor: a model whose featurizer has an interface, see `tfmat.export.interfaces.base.INTERFACES`.
        file: path to write to, which must be free.
        max_elements: compositions: largest number of elements, 8 if None; the time of a call grows with it.
        max_sites: crystals: largest number of sites of a cell, 32 if None.
        max_bonds: crystals with bonds: largest number of bonds of a cell, 1024 if None; the time of a call grows with it.
        max_neighbors: crystals with nearest neighbours: largest number of neighbours of a site, the featurizer's if None; the time of a
            call grows with it, with its square where the model looks at angles.
        batch_size: number of materials in a call.
        examples: formulas or crystals on which the result is compared with the Keras model; the built-in ones that fit if None.
        precision: of the weights, one of `tfmat.export.formats.weight_precision.PRECISIONS`.
        validation: ``float16`` and ``int8``: formulas or crystals on which the loss is measured, those that fit; the `examples` if there
            is none.

    Raises:
        InputError: a size is out of range or not one of this model, the path is taken or cannot be written, or `ai_edge_litert` is not
            installed.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verify.LIMIT`, or with another precision by
            more than `tfmat.export.formats.weight_precision` allows, or needs operations that LiteRT has not built in; nothing is written.
    """
    start, out = time.perf_counter(), Path(file)
    check_precision(precision)
    interface = interface_of(predictor)
    sizes = {"max_elements": max_elements, "max_sites": max_sites, "max_bonds": max_bonds, "max_neighbors": max_neighbors}
    lengths = fixed_lengths(interface, predictor.architecture.name, sizes, batch_size)
    check_free(out)
    require("export", "a LiteRT export, which checks its result,", "ai_edge_litert")
    names = output_names(predictor)
    materials, prepared = interface.featurize(examples, lengths)
    _log.info("converting to LiteRT")
    with _saved(predictor, interface, lengths) as folder:
        content = _convert(folder, precision)
    run = _runner(content, interface.inputs, names)
    batch = interface.pad(prepared, lengths)
    losses: tuple[Loss, ...] = ()
    difference, compared = 0.0, len(prepared)
    if precision == "float32":
        _log.info("comparing it with the Keras model on %d %s", len(prepared), interface.materials)
        expected = keras_outputs(predictor, interface.records_of(materials))
        difference = compare(predictor, {"the LiteRT model": lambda: in_batches(run, batch, batch_size)}, expected)
    else:
        _log.info("measuring what %s weights cost", precision)
        rows = rows_of(interface, lengths, validation, Rows(f"example {interface.materials}", materials, prepared))
        losses = measure(predictor, rows, in_batches(run, interface.pad(rows.examples, lengths), batch_size))
        compared = len(rows.materials)
    with staged(out) as temporary:
        more = {"precision": precision} | ({"loss": [loss.to_config() for loss in losses]} if losses else {})
        _write(predictor, content, describe(predictor, "litert", {SERVING: interface.inputs}, lengths, more=more), temporary)
        latency = median_seconds(one_call(_runner(temporary, interface.inputs, names), batch, batch_size))
        size = temporary.stat().st_size
    return ExportReport(out, "litert", (SERVING,), difference, compared, size, latency, time.perf_counter() - start, losses)


def _write(predictor: Predictor, content: bytes, description: str, file: Path) -> None:
    """The model, and behind it a ZIP archive of what is said about it."""
    file.write_bytes(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(FILE, description)
        archive.writestr(CARD, predictor.card)


@contextmanager
def _saved(predictor: Predictor, interface: Interface, lengths: Mapping[str, int]) -> Iterator[str]:
    """Folder with a SavedModel of static shapes, from which the converter reads.

    Only then are the weights frozen and the names of inputs and outputs kept.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]

    @tf.function(autograph=False)
    def serving_default(**arrays: Any) -> dict[str, Any]:
        return serve_fixed(predictor, interface, arrays)

    function = serving_default.get_concrete_function(**specs(interface, lengths))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SERVING: function})
        yield folder


def _convert(folder: str, precision: str) -> bytes:
    """The flatbuffer of a SavedModel."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SERVING])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]  # without a representative data set: weights alone
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter has no exception type of its own
        raise ExportError(f"the model cannot be converted to LiteRT: {str(error).splitlines()[0]}") from error
    custom = custom_operations(content)
    if custom:
        raise ExportError(f"the LiteRT model would need the custom operations {', '.join(custom)}; nothing was written")
    return content


def custom_operations(content: bytes) -> list[str]:
    """Names of the operations in a LiteRT model that are not built in."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    return sorted({code.decode() for code in codes if code})


def _runner(model: bytes | Path, inputs: Iterable[str], outputs: Iterable[str]) -> Any:
    """The signature of a LiteRT model as a function of arrays, once its inputs and outputs have their right names."""
    from ai_edge_litert.interpreter import Interpreter

    given = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    run = Interpreter(**given, num_threads=1).get_signature_runner(SERVING)
    found = set(run.get_input_details()), set(run.get_output_details())
    if found != (set(inputs), set(outputs)):
        raise ExportError(f"the LiteRT model has the inputs {sorted(found[0])} and the outputs {sorted(found[1])}")
    return run
