"""Exporters: a fitted `Predictor` becomes a file or folder that needs neither tfmat nor Keras.

    tfmat.export.export_model(predictor, "serving/1", format="savedmodel")

Every exporter runs what it has made and compares it with the Keras model; on a mismatch it raises `ExportError` and writes nothing.
TensorFlow is imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.errors import InputError
from tfmat.export.errors import ExportError as ExportError
from tfmat.export.results import ExportReport as ExportReport

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

FORMATS: dict[str, str] = {
    "savedmodel": "tfmat.export.formats.saved_model:export_saved_model",
    "litert": "tfmat.export.formats.litert:export_litert",
    "onnx": "tfmat.export.formats.onnx:export_onnx",
}
"""Name of a format -> ``module:function`` of its exporter."""

FIXED = ("litert", "onnx")
"""Formats of fixed sizes."""

__all__ = ["FIXED", "FORMATS", "ExportError", "ExportReport", "export_model"]


def export_model(
    predictor: Predictor,
    out: str | Path,
    format: str = "savedmodel",
    *,
    examples: Sequence[Any] | None = None,
    max_elements: int | None = None,
    max_sites: int | None = None,
    max_bonds: int | None = None,
    max_neighbors: int | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    validation: Sequence[Any] | None = None,
) -> ExportReport:
    """Write a model in one of the `FORMATS`.

    Args:
        predictor: the model.
        out: path to write to, which must be free.
        format: ``savedmodel`` (a folder), ``litert`` or ``onnx`` (files).
        examples: formulas or crystals on which the result is compared with the Keras model; built-in ones if None.
        max_elements: `FIXED` formats, models of compositions: largest number of elements, 8 if None.
        max_sites: `FIXED` formats, models of crystals: largest number of sites of a cell, 32 if None.
        max_bonds: `FIXED` formats, models that read bonds within a radius: largest number of bonds of a cell, 1024 if None.
        max_neighbors: `FIXED` formats, models that read nearest neighbours: largest number of neighbours of a site, the featurizer's
            if None.
        batch_size: `FIXED` formats: number of materials in a call, 1 if None.
        precision: ``litert`` only: of the weights, ``float32`` (if None), ``float16`` or ``int8``, see `tfmat.export.formats.weight_precision`.
        validation: ``litert`` only: formulas or crystals on which the loss of the last two is measured; the examples if None.

    Raises:
        InputError: what is asked for cannot be done.
        ExportError: the result differs from the Keras model; nothing is written.
    """
    if format not in FORMATS:
        raise InputError(f"unknown export format {format!r}", expected=f"one of {', '.join(FORMATS)}")
    asked = {"max_elements": max_elements, "max_sites": max_sites, "max_bonds": max_bonds, "max_neighbors": max_neighbors}
    sizes = {name: size for name, size in (asked | {"batch_size": batch_size}).items() if size is not None}
    if sizes and format not in FIXED:
        raise InputError(f"a {format} takes any number of materials of any size, so `{next(iter(sizes))}` has no meaning")
    stored = {name: value for name, value in {"precision": precision, "validation": validation}.items() if value is not None}
    if stored and format != "litert":
        raise InputError(f"a {format} keeps float32 weights, so `{next(iter(stored))}` has no meaning", expected="the format litert")
    module, function = FORMATS[format].split(":")
    exporter: Any = getattr(importlib.import_module(module), function)
    report: ExportReport = exporter(predictor, out, examples=examples, **sizes, **stored)
    return report
