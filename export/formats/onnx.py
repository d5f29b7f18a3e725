"""A model as an ONNX file of fixed sizes, for ONNX Runtime and what else reads this format."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.export.contents import FILE
from tfmat.export.errors import ExportError
from tfmat.export.formats.fixed_sizes import Run, fixed_lengths, in_batches, one_call, serve_fixed, specs
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

OPSET = 18
"""Version of ONNX's operations."""

LIMIT = 1e-4
"""Largest relative difference from Keras: ONNX Runtime has its own kernels, and sums in another order."""

PACKAGES = ("onnx", "tf2onnx", "onnxruntime")

_log = logging.getLogger(__name__)


def export_onnx(
    predictor: Predictor,
    file: str | Path,
    max_elements: int | None = None,
    max_sites: int | None = None,
    max_bonds: int | None = None,
    max_neighbors: int | None = None,
    batch_size: int = 1,
    examples: Sequence[Any] | None = None,
) -> ExportReport:
    """Write an ONNX model, after running it with ONNX Runtime and comparing it with the Keras model.

    Inputs, outputs and sizes are those of `tfmat.export.formats.litert.export_litert`, NaN for a row that is no material included; ONNX Runtime
    refuses arrays of other sizes by itself. ``tfmat.json`` and the card are properties of the model (``metadata_props``).

    Args:
        predictor: a model whose featurizer has an interface, see `tfmat.export.interfaces.base.INTERFACES`.
        file: path to write to, which must be free.
        max_elements: compositions: largest number of elements, 8 if None.
        max_sites: crystals: largest number of sites of a cell, 32 if None.
        max_bonds: crystals with bonds: largest number of bonds of a cell, 1024 if None.
        max_neighbors: crystals with nearest neighbours: largest number of neighbours of a site, the featurizer's if None.
        batch_size: number of materials in a call.
        examples: formulas or crystals on which the result is compared with the Keras model; the built-in ones that fit if None.

    Raises:
        InputError: a size is out of range or not one of this model, the path is taken or cannot be written, or a package is not installed.
        ExportError: tf2onnx cannot convert the model, or the result differs from the Keras model by more than `LIMIT`; nothing is written.
    """
    start, out = time.perf_counter(), Path(file)
    interface = interface_of(predictor)
    sizes = {"max_elements": max_elements, "max_sites": max_sites, "max_bonds": max_bonds, "max_neighbors": max_neighbors}
    lengths = fixed_lengths(interface, predictor.architecture.name, sizes, batch_size)
    check_free(out)
    require("onnx", "an ONNX export", *PACKAGES)
    names = output_names(predictor)
    materials, prepared = interface.featurize(examples, lengths)
    _log.info("converting to ONNX")
    model = _convert(predictor, interface, lengths)
    for key, value in ((FILE, describe(predictor, "onnx", {SERVING: interface.inputs}, lengths)), (CARD, predictor.card)):
        model.metadata_props.add(key=key, value=value)
    with staged(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        _log.info("comparing it with the Keras model on %d %s", len(prepared), interface.materials)
        run = _runner(temporary, interface, names)
        batch = interface.pad(prepared, lengths)
        expected = keras_outputs(predictor, interface.records_of(materials))
        difference = compare(predictor, {"the ONNX model": lambda: in_batches(run, batch, batch_size)}, expected, limit=LIMIT)
        latency = median_seconds(one_call(run, batch, batch_size))
        size = temporary.stat().st_size
    return ExportReport(out, "onnx", (SERVING,), difference, len(prepared), size, latency, time.perf_counter() - start)


def _convert(predictor: Predictor, interface: Interface, lengths: Mapping[str, int]) -> Any:
    """The ``ModelProto``."""
    import onnx
    import tf2onnx

    quiet = logging.getLogger("tf2onnx")
    before = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        function = tf.function(lambda arrays: serve_fixed(predictor, interface, arrays), autograph=False)
        model, _ = tf2onnx.convert.from_function(function, input_signature=[specs(interface, lengths)], opset=OPSET)
        onnx.checker.check_model(model)  # tf2onnx leaves operations that it does not know as they are
    except Exception as error:  # tf2onnx has no exception type of its own
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ExportError(f"the model cannot be converted to ONNX: {reason}; nothing was written") from error
    finally:
        quiet.setLevel(before)
    return model


def _runner(file: Path, interface: Interface, outputs: Sequence[str]) -> Run:
    """The file as a function of arrays, once its inputs and outputs have their right names."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found = {node.name for node in session.get_inputs()}, [node.name for node in session.get_outputs()]
    if found[0] != set(interface.inputs) or set(found[1]) != set(outputs):
        raise ExportError(f"the ONNX model has the inputs {sorted(found[0])} and the outputs {found[1]}")

    def run(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(found[1], session.run(None, arrays), strict=True))

    return run
