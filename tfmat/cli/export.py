"""``tfmat export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.failures import writing
from tfmat.cli.progress import task
from tfmat.cli.quiet import load_tensorflow, silent_stderr
from tfmat.cli.settings import known
from tfmat.cli.tables import aligned, duration

ENDINGS = {"savedmodel": ".savedmodel", "litert": ".tflite"}
"""Format -> ending of the default output."""


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `tfmat train`.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="savedmodel|litert", help="A folder for TensorFlow Serving, or a file for small devices.")
    ] = "savedmodel",
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="New path. Default: the model's name with .savedmodel or .tflite, in the current folder."),
    ] = None,
    max_elements: Annotated[int | None, typer.Option(min=1, metavar="N", help="litert: most elements in a formula (default 8).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, metavar="N", help="litert: materials in a call (default 1).")] = None,
) -> None:
    """Write a model for serving, after running it and comparing it with the original.

    TensorFlow Serving wants a numbered folder: --out serving/NAME/1.

    \b
    Examples:
      tfmat export runs/gap --format savedmodel --out serving/gap/1
      tfmat export runs/gap --format litert --max-elements 6
    """  # noqa: D301
    known("export format", format_, ENDINGS)
    target = out or Path(model.resolve().name + ENDINGS[format_])
    load_tensorflow()
    from tfmat.export import export_model
    from tfmat.predictor import Predictor

    predictor = Predictor.load(model)
    with writing(target), task(f"writing {target} and comparing it with the original"), silent_stderr():
        report = export_model(predictor, target, format=format_, max_elements=max_elements, batch_size=batch_size)
    rows = [
        ["format", report.format],
        ["size", f"{report.size_bytes / 1e6:.1f} MB"],
        ["signatures", ", ".join(report.signatures)],
        ["checked", f"{report.examples} formulas, largest relative difference {report.max_difference:.1g}"],
        ["latency", f"{1e3 * report.latency:.2g} ms for one material on this machine"],
        ["time", duration(report.seconds)],
    ]
    print(aligned(["written", str(report.path)], rows))
