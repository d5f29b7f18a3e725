"""A composition model as a LiteRT (``.tflite``) file of fixed sizes, for phones, browsers and microcontrollers."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.errors import InputError
from tfmat.export.composition_graph import arrange
from tfmat.export.errors import ExportError
from tfmat.export.interface import composition_featurizer, output_names, physical_outputs
from tfmat.export.metadata import FILE, FRACTIONS, SPECIES, describe
from tfmat.export.report import ExportReport
from tfmat.export.verification import EXAMPLES, compare, featurize, keras_outputs, median_seconds, pad

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

SIGNATURE = "serving_default"

_log = logging.getLogger(__name__)


def export_litert(
    predictor: Predictor, file: str | Path, max_elements: int = 8, batch_size: int = 1, examples: Sequence[str] | None = None
) -> ExportReport:
    """Write a LiteRT model of built-in operations only, after running it with `ai_edge_litert` and comparing it with the Keras model.

    Its signature ``serving_default`` takes ``species`` int32 and ``fractions`` float32, both (batch_size, max_elements): positive amounts
    in any scale and order, 0 = no element. It gives for every target ``<target>`` float32 (batch_size, 1) in its unit, and
    ``<target>_uncertainty`` where the network predicts it. LiteRT has no assertions: a row that is no composition gives NaN.

    ``tfmat.json`` is packed into the file as the format's "associated file", a ZIP archive behind the model:
    ``unzip -p model.tflite tfmat.json``.

    Args:
        predictor: a model that takes compositions.
        file: path to write to, which must be free.
        max_elements: largest number of elements of a composition; the model is unrolled over them, so its time grows with it.
        batch_size: number of compositions in a call.
        examples: formulas on which the result is compared with the Keras model; those of `EXAMPLES` that fit if None.

    Raises:
        InputError: a size is out of range, the path is taken or cannot be written, or `ai_edge_litert` is not installed.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verification.LIMIT`, or needs operations that LiteRT
            has not built in; nothing is written.
    """
    start, out = time.perf_counter(), Path(file)
    _check_sizes(predictor, max_elements, batch_size)
    check_free(out)
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise InputError("a LiteRT export needs the package `ai_edge_litert` to check its result", expected="pip install tfmat[export]")
    names = output_names(predictor)
    if examples is None:
        prepared = [example for example in featurize(predictor, EXAMPLES) if len(example["species"]) <= max_elements]
    else:
        prepared = featurize(predictor, list(examples), max_elements)
    _log.info("converting to LiteRT")
    content = _convert(predictor, max_elements, batch_size)
    with staged(out) as temporary:
        temporary.write_bytes(content)
        arrays = {key: value | {"shape": [batch_size, max_elements]} for key, value in (("species", SPECIES), ("fractions", FRACTIONS))}
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(FILE, describe(predictor, "litert", {SIGNATURE: arrays}, batch_size))
        _log.info("comparing it with the Keras model on %d formulas", len(prepared))
        run = _runner(temporary, names)
        batch = pad(prepared, max_elements)
        difference = compare(predictor, {"the LiteRT model": lambda: _batched(run, batch, batch_size)}, keras_outputs(predictor, prepared))
        first = {key: np.repeat(value[:1], batch_size, axis=0) for key, value in batch.items()}
        latency = median_seconds(lambda: run(**first))
        size = temporary.stat().st_size
    return ExportReport(out, "litert", (SIGNATURE,), difference, len(prepared), size, latency, time.perf_counter() - start)


def _check_sizes(predictor: Predictor, max_elements: int, batch_size: int) -> None:
    limit = composition_featurizer(predictor).max_elements
    if not 1 <= max_elements <= limit:
        raise InputError(f"`max_elements` is out of range. Received: max_elements={max_elements}", expected=f"from 1 to {limit}")
    if batch_size < 1:
        raise InputError(f"`batch_size` must be positive. Received: batch_size={batch_size}")


def _convert(predictor: Predictor, max_elements: int, batch_size: int) -> bytes:
    """The flatbuffer.

    The converter reads a SavedModel with static shapes: only then are the weights frozen and the names of inputs and outputs kept.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]
    shape = (batch_size, max_elements)
    specs = [tf.TensorSpec(shape, tf.int32, "species"), tf.TensorSpec(shape, tf.float32, "fractions")]

    @tf.function(input_signature=specs, autograph=False)
    def serving_default(species: Any, fractions: Any) -> dict[str, Any]:
        # The sum of float32 fractions is rounded at every addition.
        species, fractions, sound = arrange(species, fractions, snap=(max_elements + 1) * 2.0**-24)
        outputs = physical_outputs(predictor, {"species": species, "fractions": fractions})
        return {name: tf.where(sound[:, None], value, float("nan")) for name, value in outputs.items()}

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: serving_default})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
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


def _runner(file: Path, names: Sequence[str]) -> Any:
    """The signature of a LiteRT file as a function of arrays, once its inputs and outputs have their right names."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(file), num_threads=1).get_signature_runner(SIGNATURE)
    found = set(run.get_input_details()), set(run.get_output_details())
    if found != ({"species", "fractions"}, set(names)):
        raise ExportError(f"the LiteRT model has the inputs {sorted(found[0])} and the outputs {sorted(found[1])}")
    return run


def _batched(run: Any, batch: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """All N rows, `batch_size` at a time; the last batch is filled up with its last row."""
    count = len(batch["species"])
    parts = []
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        parts.append(run(**{key: value[rows] for key, value in batch.items()}))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
