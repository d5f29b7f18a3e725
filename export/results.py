"""What an exporter tells about the file or folder that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfmat.export.formats.weight_precision import Loss


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: what was written.
        format: ``savedmodel``, ``serving``, ``litert`` or ``onnx``.
        signatures: names of the functions it offers.
        max_difference: largest relative difference from the Keras model over the examples, see `tfmat.export.verify`; 0 where
            `losses` were measured instead.
        examples: number of materials that were compared.
        size_bytes: of all files together.
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


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
