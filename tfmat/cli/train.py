"""``tfmat train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tfmat.cli.materials import make_targets, open_dataset, resolved
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.runs import Settings, TrainingFolder, default_out, opened
from tfmat.cli.settings import builder_keywords, changed_recipe, known
from tfmat.errors import InputError

_WITH_RESUME = {"architecture", "resume"}
"""What may be given beside ``--resume``; everything else is in the run already."""


# The options of `train`, as types of its parameters.
Architecture = Annotated[str | None, typer.Argument(metavar="ARCHITECTURE", help="One of `tfmat models`, e.g. lgdcnn.")]
_DATA_HELP = "A name of `tfmat datasets`, or a CSV or JSON lines file. Default: the embedded dataset."
Data = Annotated[str | None, typer.Option(metavar="NAME|FILE", help=_DATA_HELP)]
_TARGET_HELP = "What to predict; repeat for several. Default: all of a dataset, the only one of a file."
Targets = Annotated[list[str] | None, typer.Option(metavar="NAME", help=_TARGET_HELP)]
Units = Annotated[list[str] | None, typer.Option(metavar="UNIT", help="Unit of a file's target, e.g. eV; repeat in the order of --target.")]
_EACH = "one for all targets, or repeat in their order."
Tasks = Annotated[list[str] | None, typer.Option(metavar="regression|binary", help=f"Default: the dataset's; {_EACH}")]
Transforms = Annotated[list[str] | None, typer.Option(metavar="none|log10|log10_1p", help=f"Learn a logarithm; {_EACH}")]
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="A named variant of the architecture, see `tfmat models`.")]
_SET_HELP = "A keyword of the builder, e.g. dim=256; repeatable."
Keywords = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET_HELP)]
RecipeName = Annotated[str, typer.Option(metavar="NAME", help="How to train, see `tfmat models`.")]
_RECIPE_HELP = "Change the recipe, e.g. learning_rate=1e-3; repeatable."
RecipeOptions = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help=_RECIPE_HELP)]
Count = Annotated[int | None, typer.Option(min=1, metavar="N", help="Default: the recipe's.")]
_SEED_HELP = "Of weights, shuffling and noise; the split does not depend on it."
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, metavar="N", help=_SEED_HELP)]
_SPLIT_HELP = "How to split a file. Default: its column `split`, else random 80/10/10."
Split = Annotated[str | None, typer.Option(metavar="random|hash|column", help=_SPLIT_HELP)]
_OUT_HELP = "New folder for the model. Default: runs/ARCHITECTURE-DATA, with a number if that exists."
Out = Annotated[Path | None, typer.Option(metavar="DIR", help=_OUT_HELP)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out once the new model is trained.")]
Resume = Annotated[Path | None, typer.Option(metavar="OUT", help="Continue an interrupted run; all its settings stay as they were.")]
Jit = Annotated[bool, typer.Option("--jit/--no-jit", help="Compile with XLA: seconds to start, then several times faster.")]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep featurized data in TFMAT_CACHE_DIR (~/.cache/tfmat/records).")]


def train(
    ctx: typer.Context,
    architecture: Architecture = None,
    data: Data = None,
    target: Targets = None,
    unit: Units = None,
    task: Tasks = None,
    transform: Transforms = None,
    variant: Variant = None,
    set_: Keywords = None,
    recipe: RecipeName = "default",
    recipe_option: RecipeOptions = None,
    epochs: Count = None,
    batch_size: Count = None,
    seed: Seed = 0,
    split: Split = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    jit: Jit = True,
    cache: Cache = True,
) -> None:
    """Train a model and write it to a folder.

    Ctrl-C or SIGTERM leaves a run that --resume continues to the same weights.

    \b
    Examples:
      tfmat train lgdcnn
      tfmat train lgdcnn --data aflow__ael_bulk_modulus_vrh --epochs 40 --seed 1
      tfmat train lgdcnn --data my.csv --target band_gap --unit eV --out runs/gap
      tfmat train lgdcnn --data metals.csv --target is_metal --task binary
      tfmat train lgdcnn --variant gru --set dim=256 --recipe-option learning_rate=5e-4
      tfmat train --resume runs/gap
    """  # noqa: D301
    from tfmat.cli import fitting

    if resume is not None:
        _refuse_options(ctx)
        _continue(resume, architecture)
        return
    if architecture is None:
        raise InputError("no architecture", expected="one of `tfmat models`, as in: tfmat train lgdcnn")
    if out is not None:
        _check_free(out, overwrite)
    label = data or _default_data()
    dataset = open_dataset(label, target, split)
    targets = [t.to_config() for t in make_targets(dataset, unit or [], task or [], transform or [])]
    load_tensorflow()
    settings = dataclasses.replace(
        _settings(architecture, variant, set_ or [], recipe, recipe_option or [], epochs, batch_size),
        data=resolved(label), label=label, split=split, targets=targets, seed=seed, jit=jit, cache=cache, overwrite=overwrite,
        train_sha256=dataset.splits["train"].content_hash(),
    )  # fmt: skip
    fitting.run(settings, dataset, TrainingFolder(out or default_out(architecture, label)), resume=False)


def _continue(resume: Path, architecture: str | None) -> None:
    from tfmat.cli import fitting

    folder = opened(resume)
    settings = folder.settings()
    if architecture not in (None, settings.architecture):
        raise InputError(f"the run trains {settings.architecture}, not {architecture}", file=str(resume))
    dataset = open_dataset(settings.data, [config["name"] for config in settings.targets], settings.split, settings.label)
    load_tensorflow()
    fitting.run(settings, dataset, folder, resume=True)


def _settings(
    name: str, variant: str | None, keywords: list[str], recipe: str, recipe_options: list[str], epochs: int | None, batch_size: int | None
) -> Settings:
    """What the options say about the model and its recipe; the data is filled in later."""
    from tfmat import __version__
    from tfmat.architecture import architectures

    family = architectures()
    architecture = family[known("architecture", name, family)]
    base = architecture.recipes[known(f"recipe of {name}", recipe, architecture.recipes)]
    chosen = changed_recipe(base, recipe_options, batch_size=batch_size, epochs=epochs)
    chosen_keywords = builder_keywords(architecture, variant, keywords)
    return Settings(
        architecture=name, keywords=chosen_keywords, recipe=chosen.to_config(), epochs=chosen.epochs, tfmat=__version__,
        data="", label="", split=None, targets=[], seed=0, jit=True, cache=True, overwrite=False, train_sha256="",
    )  # fmt: skip


def _default_data() -> str:
    from tfmat.datasets import DEFAULT

    return DEFAULT


def _refuse_options(ctx: typer.Context) -> None:
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if name not in _WITH_RESUME and source is not None and source.name == "COMMANDLINE":
            option = "--" + name.strip("_").replace("_", "-")
            raise InputError(f"{option} cannot be changed: --resume continues a run with its own settings", expected="--resume alone")


def _check_free(out: Path, overwrite: bool) -> None:
    if overwrite:
        if out.exists() and not (out / "config.json").is_file():
            raise InputError("it is no model, so it is not overwritten", file=str(out), expected="a model's folder or a new path")
        return
    if out.exists():
        raise InputError("it exists already", file=str(out), expected="a new --out, or --overwrite")
    folder = TrainingFolder(out)
    if folder.path.exists():
        raise InputError(f"{folder.path} holds an unfinished run", expected=f"--resume {out} to continue it, or --overwrite to replace it")
