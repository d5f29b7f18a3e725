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
from tfmat.export.results import ExportError as ExportError
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

    The sizes are those of the `FIXED` formats, whose calls take longer the larger they are; larger materials are an error of the call.

    Args:
        predictor: the model.
        out: path to write to, which must be free.
        format: ``savedmodel`` (a folder), ``litert`` or ``onnx`` (files).
        examples: formulas or crystals on which the result is compared with the Keras model; built-in ones (that fit) if None.
        max_elements: largest number of elements, for models of compositions; 8 if None.
        max_sites: largest number of sites of a cell, for models of crystals; 32 if None.
        max_bonds: largest number of bonds of a cell, for models that read bonds within a radius; 1024 if None.
        max_neighbors: largest number of neighbours of a site, for models that read nearest neighbours; the featurizer's if None. Where the
            model looks at angles, the time of a call grows with its square.
        batch_size: number of materials in a call of a `FIXED` format; 1 if None.
        precision: how weights are stored: ``float32`` (if None), by the `FIXED` formats also ``float16``, by ``litert`` also ``int8``.
        validation: formulas or crystals on which the loss of the last two is measured, those that fit; the examples if None.

    Raises:
        InputError: what is asked for cannot be done.
        ExportError: the result differs from the Keras model; nothing is written.
    """
    if format not in FORMATS:
        raise InputError(f"unknown export format {format!r}", expected=f"one of {', '.join(FORMATS)}")
    given = {"max_elements": max_elements, "max_sites": max_sites, "max_bonds": max_bonds, "max_neighbors": max_neighbors}
    sizes = {name: size for name, size in given.items() if size is not None}
    fixed: dict[str, Any] = ({"sizes": sizes} if sizes else {}) | ({} if batch_size is None else {"batch_size": batch_size})
    if fixed and format not in FIXED:
        name = next(iter(sizes), "batch_size")
        raise InputError(f"a {format} takes any number of materials of any size, so `{name}` has no meaning")
    weights = {name: value for name, value in {"precision": precision, "validation": validation}.items() if value is not None}
    if weights and format not in FIXED:
        meaningless = next(iter(weights))
        raise InputError(f"a {format} keeps float32 weights, so `{meaningless}` has no meaning", expected="the format litert or onnx")
    module, function = FORMATS[format].split(":")
    exporter: Any = getattr(importlib.import_module(module), function)
    report: ExportReport = exporter(predictor, out, examples=examples, **fixed, **weights)
    return report
