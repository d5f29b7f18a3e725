"""``tfmat convert``: published weights of other packages as tfmat models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.errors import tell
from tfmat.cli.progress import load_tensorflow, silent_stderr, task
from tfmat.cli.tables import aligned, with_unit
from tfmat.errors import InputError
from tfmat.runs.folder import check_replaceable
from tfmat.runs.settings import known

if TYPE_CHECKING:
    from tfmat.target import Target
    from tfmat.zoo.conversion.foreign import ForeignModel

TRANSFORMS = ("none", "log10", "log10_1p")  # those of `tfmat.target`, which would load NumPy for `--help`

app = typer.Typer(rich_markup_mode=None, add_completion=False, invoke_without_command=True)

_Out = Annotated[Path, typer.Option(metavar="DIR", help="New folder for the model.")]
_Name = Annotated[str | None, typer.Option("--target", metavar="NAME", help="What it predicts. Default: as the files say.")]
_Unit = Annotated[str | None, typer.Option(metavar="UNIT", help="Unit of the target. Default: as the files say.")]
_Transform = Annotated[
    str | None, typer.Option(metavar="|".join(TRANSFORMS), help="What the model predicts of the target. Default: as the files say.")
]
_State = Annotated[
    list[float] | None,
    typer.Option("--state", metavar="NUMBER", help="State (a fidelity, for instance) of crystals that carry none. Repeat it for several."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing model.")]


@app.callback()
def convert(ctx: typer.Context) -> None:
    """Turn trained models of other packages into tfmat models, without running those packages.

    \b
    Examples:
      tfmat convert megnet best_model.hdf5 --out runs/gap
      tfmat convert matgl MEGNet-MP-2018.6.1-Eform/state.pt --out runs/eform
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command()
def megnet(
    file: Annotated[Path, typer.Argument(metavar="FILE.hdf5", help="Written by megnet; FILE.hdf5.json beside it is read too.")],
    out: _Out,
    target: _Name = None,
    unit: _Unit = None,
    transform: _Transform = None,
    state: _State = None,
    overwrite: _Overwrite = False,
) -> None:
    """Convert a model of the Keras package megnet, of any version.

    \b
    Examples:
      tfmat convert megnet mvl_models/mp-2019.4.1/efermi.hdf5 --out runs/efermi
      tfmat convert megnet best_model.hdf5 --target k_vrh --unit GPa --transform log10 --out runs/moduli
    """  # noqa: D301
    chosen = _checked(target, unit, transform, out, overwrite)
    load_tensorflow()
    from tfmat.zoo.conversion.megnet_hdf5 import read_megnet

    _write(read_megnet(file, target=chosen), out, overwrite, unit, transform, state)


@app.command()
def matgl(
    file: Annotated[Path, typer.Argument(metavar="STATE.pt", help="state.pt of matgl, with its model.json beside it.")],
    out: _Out,
    target: _Name = None,
    unit: _Unit = None,
    transform: _Transform = None,
    state: _State = None,
    overwrite: _Overwrite = False,
) -> None:
    """Convert a MEGNet of the PyTorch package matgl. Needs PyTorch: pip install 'tfmat[matgl]'.

    \b
    Examples:
      tfmat convert matgl MEGNet-MP-2018.6.1-Eform/state.pt --out runs/eform
      tfmat convert matgl MEGNet-MP-2019.4.1-BandGap-mfi/state.pt --state 0 --out runs/gap
    """  # noqa: D301
    chosen = _checked(target, unit, transform, out, overwrite)
    load_tensorflow()
    from tfmat.zoo.conversion.matgl_state import read_matgl

    _write(read_matgl(file, target=chosen), out, overwrite, unit, transform, state)


def _checked(name: str | None, unit: str | None, transform: str | None, out: Path, overwrite: bool) -> Target | None:
    """Check the options, and return the target that they name."""
    if transform is not None:
        known("transform", transform, TRANSFORMS)
    check_replaceable(out, overwrite)
    if name is None:
        return None
    if not name.isidentifier():
        raise InputError(f"--target {name[:60]!r} is no name", expected="letters, digits and _, such as band_gap")
    from tfmat.target import Target

    return Target(name, unit or "", transform=transform or "none")  # type: ignore[arg-type]


def _write(foreign: ForeignModel, out: Path, overwrite: bool, unit: str | None, transform: str | None, state: list[float] | None) -> None:
    import dataclasses

    from tfmat.zoo.conversion.foreign import write

    found = foreign.target
    if found.task == "binary" and (unit or transform not in (None, "none")):
        raise InputError("it is a classifier, whose target has neither unit nor transform", file=str(foreign.file))
    changes: dict[str, Any] = {key: value for key, value in (("unit", unit), ("transform", transform)) if value is not None}
    foreign = dataclasses.replace(foreign, target=dataclasses.replace(found, **changes)) if found.task != "binary" else foreign
    if state:
        foreign = dataclasses.replace(foreign, featurizer={**foreign.featurizer, "state": tuple(state)})
    for note in foreign.notes:
        tell(f"{foreign.file}: {note}")
    with task(f"writing {out}"), silent_stderr():
        write(foreign, out, overwrite=overwrite)
    target, info = foreign.target, foreign.info
    name = with_unit(target.name, target.unit)
    predicts = f"{name}, as its {target.transform}" if target.transform != "none" else name
    rows = [
        ["model", str(info["title"])],
        ["predicts", predicts + (" (probability of class 1)" if target.task == "binary" else "")],
        *([label, str(info[key])] for label, key in (("reported error", "reported_error"), ("licence", "licence")) if key in info),
        ["elements", f"{len(info['elements'])}"],
        ["weights", f"{sum(array.size for array in foreign.weights.values()):,}"],
    ]
    print(aligned(["written", str(out)], rows))
