"""What LiteRT and ONNX files have in common: one function of padded arrays of fixed sizes, without assertions."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.errors import InputError
from tfmat.export.formats.weight_precision import Rows, measure, rows_of
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.base import SERVING, Interface, specs
from tfmat.export.metadata import describe
from tfmat.export.outputs import output_names, physical_outputs
from tfmat.export.results import METADATA_FILE, ExportError, ExportReport, Loss
from tfmat.export.verify import LIMIT, compare, keras_outputs, median_seconds
from tfmat.extras import require
from tfmat.layers.tracing import static_shapes_only
from tfmat.model_directory.files import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

Run = Callable[..., Mapping[str, np.ndarray]]
"""An exported model: it takes arrays of the fixed sizes by name, and gives its outputs by name."""

_log = logging.getLogger(__name__)


class FixedSizeFormat(ABC):
    """A format whose files take arrays of fixed sizes.

    The one signature, ``serving_default``, takes the padded arrays of a SavedModel (see `export_saved_model` of
    `tfmat.export.formats.saved_model`), with B = batch_size, A = U = max_sites, K = max_neighbors, and E = max_bonds or max_elements. It
    gives ``<target>`` and ``<target>_uncertainty`` as there. A row that is no material gives NaN, and arrays of other sizes are an error.

    Attributes:
        name: the name of the format for the user.
        title: the name of the format in messages.
        needs: arguments of `tfmat.extras.require`.
        precisions: how weights can be stored.
        limit: largest relative difference from Keras.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    limit: ClassVar[float] = LIMIT

    @abstractmethod
    def convert(self, serve: Callable[..., Any], predictor: Predictor, inputs: Mapping[str, tf.TensorSpec], precision: str) -> bytes:
        """The model as a file of this format.

        Args:
            serve: makes outputs by name from arrays by name.
            predictor: the model, whose variables `serve` uses.
            inputs: what `serve` takes.
            precision: one of `precisions`.

        Raises:
            ExportError: it cannot be converted.
        """

    @abstractmethod
    def packed(self, content: bytes, documents: Mapping[str, str]) -> bytes:
        """The file `content` with the `documents` in it, text by name."""

    @abstractmethod
    def opened(self, model: bytes | Path) -> tuple[Collection[str], Collection[str], Run]:
        """The names of the inputs and of the outputs of `model`, which is a file or its content, and the model as a function."""

    def export(
        self,
        predictor: Predictor,
        file: str | Path,
        sizes: Mapping[str, int] | None = None,
        batch_size: int = 1,
        examples: Sequence[Any] | None = None,
        precision: str = "float32",
        validation: Sequence[Any] | None = None,
    ) -> ExportReport:
        """Write a file, after running it with the runtime of its format and comparing it with the Keras model.

        The arguments are those of `tfmat.export.export_model`, where `file` is ``out`` and each of the `sizes` is a keyword of its own:
        option of `Interface.sizes` -> length of its axis.

        Raises:
            InputError: a size is out of range or not one of this model, the path is taken or cannot be written, or a package is missing.
            ExportError: the model cannot be converted, or the result differs from the Keras model by more than `limit`, or with another
                precision by more than `tfmat.export.formats.weight_precision` allows; nothing is written.
        """
        start, out = time.perf_counter(), Path(file)
        if precision not in self.precisions:
            raise InputError(f"unknown precision {precision!r}", expected=f"one of {', '.join(self.precisions)}")
        interface = interface_of(predictor)
        lengths = interface.lengths(sizes or {}, predictor.architecture.name) | {"B": batch_size}
        if batch_size < 1:
            raise InputError(f"`batch_size` must be positive. Received: batch_size={batch_size}")
        check_free(out)
        require(*self.needs)
        names = output_names(predictor)
        rows = Rows(f"example {interface.materials}", *interface.featurize(examples, lengths))
        _log.info("converting to %s", self.title)
        inputs = specs(interface.inputs, lengths)
        content = self.convert(lambda arrays: _serve(predictor, interface, arrays), predictor, inputs, precision)
        if precision != "float32":
            rows = rows_of(interface, lengths, validation, rows)
        outputs = in_batches(self._runner(content, interface, names), interface.pad(rows.examples, lengths), batch_size)
        difference, losses = self._compared(predictor, interface, rows, outputs, precision)
        with staged(out) as temporary:
            more: dict[str, Any] = {"precision": precision} if len(self.precisions) > 1 else {}
            more |= {"loss": [loss.to_config() for loss in losses]} if losses else {}
            metadata = describe(predictor, self.name, {SERVING: interface.inputs}, lengths, more=more)
            temporary.write_bytes(self.packed(content, {METADATA_FILE: metadata, CARD: predictor.card}))
            run = self._runner(temporary, interface, names)
            first = {key: np.repeat(value, batch_size, axis=0) for key, value in interface.pad(rows.examples[:1], lengths).items()}
            latency = median_seconds(lambda: run(**first))
            size = temporary.stat().st_size
        return ExportReport(out, self.name, (SERVING,), difference, len(rows.examples), size, latency, time.perf_counter() - start, losses)

    def _runner(self, model: bytes | Path, interface: Interface, outputs: Sequence[str]) -> Run:
        """The model as a function of arrays, once its inputs and outputs have their right names."""
        found, given, run = self.opened(model)
        if (set(found), set(given)) != (set(interface.inputs), set(outputs)):
            raise ExportError(f"the {self.title} model has the inputs {sorted(found)} and the outputs {sorted(given)}")
        return run

    def _compared(
        self, predictor: Predictor, interface: Interface, rows: Rows, outputs: Mapping[str, np.ndarray], precision: str
    ) -> tuple[float, tuple[Loss, ...]]:
        """The largest relative difference of the outputs from the Keras model, or what fewer bits cost."""
        if precision != "float32":
            _log.info("measuring what %s weights cost", precision)
            return 0.0, measure(predictor, rows, outputs)
        _log.info("comparing it with the Keras model on %d %s", len(rows.examples), interface.materials)
        expected = keras_outputs(predictor, interface.records_of(rows.materials))
        return compare(predictor, {f"the {self.title} model": outputs}, expected, limit=self.limit), ()


def _serve(predictor: Predictor, interface: Interface, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs for arrays of fixed sizes, float32 (B, 1) each; NaN in the rows that are no material."""
    inputs, sound, grids = interface.prepare_fixed(arrays)
    with static_shapes_only(True, grids):
        outputs = physical_outputs(predictor, {name: inputs[name] for name in predictor.model.input})
    return {name: tf.where(sound[:, None], value, float("nan")) for name, value in outputs.items()}


def in_batches(run: Run, batch: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """The outputs of `run` for all N rows of a `batch`, `batch_size` at a time; the last part is filled up with its last row."""
    count = len(next(iter(batch.values())))
    parts = []
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        parts.append(run(**{key: value[rows] for key, value in batch.items()}))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
