"""What an export results in: a report or an error, and what lies in the model beside the network. Nothing here needs TensorFlow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METADATA_FILE = "tfmat.json"
"""What goes in, what comes out and where the model is from: a file in `EXTRA_FOLDER` or in the ZIP archive behind a LiteRT model, or a
property of an ONNX file."""

EXTRA_FOLDER = "assets.extra"
"""Folder of a SavedModel that TensorFlow leaves alone."""


class ExportError(RuntimeError):
    """The exported model does not reproduce the Keras model, or could not be made at all; nothing was written."""


@dataclass(frozen=True)
class Loss:
    """What a target loses where weights are stored with fewer bits.

    Attributes:
        target: name of the target.
        unit: unit of the target; empty for a probability.
        mae: mean absolute difference between the exported and the Keras model [unit].
        largest: largest absolute difference [unit].
        validation_mae: error of the Keras model on its validation split [unit], if it is known.
        rows: number of materials that were compared.
        source: what they are, such as ``validation rows``.
    """

    target: str
    unit: str
    mae: float
    largest: float
    validation_mae: float | None
    rows: int
    source: str

    def to_config(self) -> dict[str, Any]:
        """A dictionary that can be written as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: what was written.
        format: ``savedmodel``, ``serving``, ``litert`` or ``onnx``.
        signatures: names of the functions it offers.
        max_difference: largest relative difference from the Keras model over the examples, see `tfmat.export.verify`; 0 where `losses` were
            measured instead.
        examples: number of materials that were compared.
        size_bytes: size of all files together.
        latency: median time of one call with one material (LiteRT, ONNX: one batch of the exported size) on this machine [s].
        seconds: time of the whole export, comparison included [s].
        losses: what storing the weights with fewer bits costs, by target; empty for float32.
    """

    path: Path
    format: str
    signatures: tuple[str, ...]
    max_difference: float
    examples: int
    size_bytes: int
    latency: float
    seconds: float
    losses: tuple[Loss, ...] = ()
