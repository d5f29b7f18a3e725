"""``tfmat export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.errors import CommandError, writing
from tfmat.cli.progress import SHOWN, load_tensorflow, silent_stderr, task
from tfmat.cli.tables import MODEL_HELP, aligned, duration
from tfmat.runs.settings import known

if TYPE_CHECKING:
    from tfmat.export.results import Loss

ENDINGS = {"savedmodel": ".savedmodel", "litert": ".tflite", "onnx": ".onnx"}
"""Format -> ending of the default output."""

REPOSITORY = "serving"
"""The format of several models, and the default folder for it."""

CHECKED = {"composition": "formulas", "crystal": "crystals"}
"""Material -> what the export was checked on."""


Models = Annotated[list[Path], typer.Argument(metavar="MODEL...", help=f"{MODEL_HELP} Several for serving.")]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="savedmodel|serving|litert|onnx",
        help="A folder, a repository for TensorFlow Serving, or a file for small devices or other runtimes.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="New path. Default: the model's name and .savedmodel, .tflite or .onnx, in this folder; serving/."),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="serving: name on the server (default: the model's).")]
Elements = Annotated[int | None, typer.Option(min=1, metavar="N", help="litert, onnx: most elements in a formula (default 8).")]
Sites = Annotated[int | None, typer.Option(min=1, metavar="N", help="litert, onnx: most sites in a cell (default 32).")]
Bonds = Annotated[int | None, typer.Option(min=1, metavar="N", help="litert, onnx: most bonds in a cell (default 1024).")]
Neighbors = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="litert, onnx: most neighbours of a site (default: the model's own limit).")
]
BatchSize = Annotated[int | None, typer.Option(min=1, metavar="N", help="litert, onnx: materials in a call (default 1).")]
Precision = Annotated[
    str | None,
    typer.Option(metavar="float32|float16|int8", help="litert, onnx (no int8): of weights (default float32); what it costs is measured."),
]


def export(
    models: Models,
    format_: Format = "savedmodel",
    out: Out = None,
    name: Name = None,
    max_elements: Elements = None,
    max_sites: Sites = None,
    max_bonds: Bonds = None,
    max_neighbors: Neighbors = None,
    batch_size: BatchSize = None,
    precision: Precision = None,
) -> None:
    """Write a model for serving, after running it and comparing it with the original.

    A model of crystals takes lattice, coordinates and species; as litert or onnx it takes sites and bonds or neighbours,
    as tfmat.json in it tells. serving adds the next version of each model to a repository, which `tfmat serve` serves.

    Weights of float16 take half the space, of int8 a quarter. The mean difference from the original is measured on 200
    validation rows (examples where there are none), and refused above half the validation MAE, or 1 % of the target's
    spread where that is unknown (so int8 for MEGNet's published formation energies). More sites than --max-sites are an
    error of the call.

    \b
    Examples:
      tfmat export runs/gap --format savedmodel --out gap.savedmodel
      tfmat export runs/gap runs/megnet --format serving --out serving/
      tfmat export runs/gap --format litert --max-elements 6
      tfmat export mp-2018.6.1/formation_energy --format serving --name energy
      tfmat export runs/megnet --format litert --max-sites 64 --max-bonds 2048
      tfmat export runs/crysformer --format litert --max-sites 64 --max-neighbors 16
      tfmat export runs/megnet --format litert --max-sites 64 --precision float16 --out megnet.tflite
      tfmat export runs/gap --format onnx --batch-size 32
    """  # noqa: D301
    known("export format", format_, (*ENDINGS, REPOSITORY))
    sizes: dict[str, int | None] = {
        "max_elements": max_elements,
        "max_sites": max_sites,
        "max_bonds": max_bonds,
        "max_neighbors": max_neighbors,
        "batch_size": batch_size,
    }
    if format_ == REPOSITORY:
        if any(option is not None for option in [*sizes.values(), precision]):
            raise CommandError("a serving repository takes materials of any size, in float32: sizes and --precision have no meaning")
        print(export_to_repository(models, out or Path(REPOSITORY), name))
    elif len(models) > 1 or name is not None:
        raise CommandError(f"several models, or --name, need --format {REPOSITORY}")
    else:
        print(_export_one(models[0], format_, out or Path(models[0].resolve().name + ENDINGS[format_]), sizes, precision))


def _export_one(model: Path, format_: str, target: Path, sizes: dict[str, Any], precision: str | None) -> str:
    """Write one model and compare it with the original; a table of what was written.

    Args:
        model: model directory or name of a preset.
        format_: a key of `ENDINGS`.
        target: where it is written.
        sizes: of what takes no others, as the options name them.
        precision: of the weights.
    """
    load_tensorflow()
    from tfmat.atomic import check_free
    from tfmat.export import FIXED, export_model
    from tfmat.export.formats.weight_precision import MOST, PRECISIONS
    from tfmat.predictor import Predictor
    from tfmat.runs.evaluate import validation_materials

    predictor = Predictor.load(model)
    check_free(target)
    smaller = format_ in FIXED and precision is not None and known("precision", precision, PRECISIONS) != "float32"
    validation = validation_materials(predictor, model, 4 * MOST, SHOWN) if smaller else None
    with writing(target), task(f"writing {target} and comparing it with the original"), silent_stderr():
        report = export_model(predictor, target, format=format_, precision=precision, validation=validation, **sizes)
    checked = f"{report.examples} {CHECKED[predictor.architecture.material]}"
    if not report.losses:
        checked += f", largest relative difference {report.max_difference:.1g}"
    called = "one material" if sizes["batch_size"] in (None, 1) else f"{sizes['batch_size']} materials"
    rows = [
        ["format", report.format],
        ["size", f"{report.size_bytes / 1e6:.1f} MB"],
        ["signatures", ", ".join(report.signatures)],
        ["checked", checked],
        *_losses(report.losses),
        ["latency", f"{1e3 * report.latency:.2g} ms for {called} on this machine"],
        ["time", duration(report.seconds)],
    ]
    return aligned(["written", str(report.path)], rows)


def _losses(losses: Sequence[Loss]) -> list[list[str]]:
    """Say for each target what storing the weights with fewer bits costs."""
    rows = []
    for loss in losses:
        beside = "" if loss.validation_mae is None else f"; validation MAE {loss.validation_mae:.3g} {loss.unit}".rstrip()
        mean, largest = (f"{value:.2g} {loss.unit}".rstrip() for value in (loss.mae, loss.largest))
        rows.append(["loss", f"{loss.target}: mean {mean}, largest {largest} on {loss.rows} {loss.source}{beside}"])
    return rows


def export_to_repository(models: Sequence[Path], out: Path, name: str | None) -> str:
    """Add the next version of each model to a repository.

    Args:
        models: model directories, or names of presets.
        out: the repository.
        name: of the one model; the models' own if None.

    Returns:
        A table of what was written.

    Raises:
        InputError, CommandError: two models have one name, or see `tfmat.export.serving.export_to_repository`.
    """
    if name is not None and len(models) > 1:
        raise CommandError(f"--name {name} cannot name {len(models)} models: export them one by one")
    load_tensorflow()
    from tfmat.export import serving
    from tfmat.predictor import Predictor

    names = [serving.model_name(name or model.resolve().name) for model in models]
    for index, doubled in enumerate(names):
        if doubled in names[:index]:
            first = models[names.index(doubled)]
            raise CommandError(f"{first} and {models[index]} would both be called {doubled!r}: export them one by one, with --name")
    serving.check_repository(out)
    predictors = [Predictor.load(model) for model in models]
    rows = []
    for predictor, called in zip(predictors, names, strict=True):
        with writing(out / called / "1"), task(f"writing {called} to {out} and comparing it with the original"), silent_stderr():
            report, requests = serving.export_to_repository(predictor, out, called)
        size = f"{report.size_bytes / 1e6:.1f} MB"
        rows.append([called, report.path.name, size, str(requests), f"{report.max_difference:.1g}", f"{1e3 * report.latency:.2g}"])
    header = ["model", "version", "size", "warm-up requests", "largest relative difference", "latency [ms]"]
    return f"written {out}\n" + aligned(header, rows)
