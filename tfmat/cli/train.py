"""``tfmat train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.config_file import RunConfig, config_beside_options, was_typed
from tfmat.cli.materials import crystals_unread, make_targets, open_dataset, resolved, split_of, split_spec
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.runs import Settings, TrainingFolder, check_replaceable, default_out, opened
from tfmat.cli.settings import builder_keywords, changed_recipe, checked_recipe, known, layer_rates
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.grouped_splits import SplitSpec
    from tfmat.datasets import Dataset
    from tfmat.target import Target

_WITH_RESUME = {"architecture", "resume"}
"""What may be given beside ``--resume``; everything else is in the run already."""


# The options of `train`, as types of its parameters.
Architecture = Annotated[str | None, typer.Argument(metavar="ARCHITECTURE", help="One of `tfmat models`, e.g. lgdcnn.")]
_DATA_HELP = "A name of `tfmat datasets`, a CSV or JSON lines file, or a folder of CIF or POSCAR files with id_prop.csv."
Data = Annotated[str | None, typer.Option(metavar="NAME|FILE|FOLDER", help=f"{_DATA_HELP} Default: the embedded dataset.")]
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
_CONFIG_HELP = "JSON file of model, recipe and data, such as best.json of `tfmat tune`; other options come before it."
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)]
_INIT_HELP = "Begin with the weights of a trained model, wherever layers have the same names and shapes; new targets get a new output."
Init = Annotated[str | None, typer.Option(metavar="MODEL|PRESET", help=_INIT_HELP)]
_FREEZE_HELP = "Leave layers as they are: a name, a pattern with * or a part of the architecture; repeatable."
Freeze = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help=_FREEZE_HELP)]
_RATE_HELP = "Multiply the learning rate of layers, as in backbone=0.1; the first that matches a layer counts; repeatable."
Rates = Annotated[list[str] | None, typer.Option("--rate", metavar="PATTERN=FACTOR", help=_RATE_HELP)]
Count = Annotated[int | None, typer.Option(min=1, metavar="N", help="Default: the recipe's.")]
_SEED_HELP = "Of weights, shuffling and noise; the split has a seed of its own."
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, metavar="N", help=_SEED_HELP)]
_SPLIT_HELP = "How to split a file: by row, by formula, ..., or as a column or a CSV file of id,split says. "
_SPLIT_DEFAULT = "Default: its column `split`, else random 80/10/10."
_SPLITS = "random|hash|formula|chemical-system|column[:NAME]|file:PATH"
Split = Annotated[str | None, typer.Option(metavar=_SPLITS, help=_SPLIT_HELP + _SPLIT_DEFAULT)]
SplitSeed = Annotated[int, typer.Option(min=0, max=2**31 - 1, metavar="N", help="Of random, formula and chemical-system splits.")]
_FOLDS_HELP = "Split a file into K folds (random, formula or chemical-system); one of them is the test split."
Folds = Annotated[int, typer.Option(min=0, metavar="K", help=_FOLDS_HELP)]
Fold = Annotated[int | None, typer.Option(min=0, metavar="I", help="Which fold is the test split: 0 to K - 1.")]
_STRICT_HELP = "Refuse a file with a bad row. Default: bad rows are left out, counted, and listed in rejected.csv beside the model."
Strict = Annotated[bool, typer.Option("--strict", help=_STRICT_HELP)]
_OUT_HELP = "New folder for the model. Default: runs/ARCHITECTURE-DATA, with a number if that exists."
Out = Annotated[Path | None, typer.Option(metavar="DIR", help=_OUT_HELP)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out once the new model is trained.")]
Resume = Annotated[Path | None, typer.Option(metavar="OUT", help="Continue an interrupted run; all its settings stay as they were.")]
_STRATEGY_HELP = "Train on one device, or on all GPUs of the machine, each with its share of the rows of every batch. Default: none."
Strategy = Annotated[str, typer.Option(metavar="none|mirrored", help=_STRATEGY_HELP)]
_PRECISION_HELP = "mixed_bfloat16 does the work in bfloat16 and keeps the weights in float32: for accelerators that are faster in it."
PrecisionName = Annotated[str, typer.Option("--precision", metavar="float32|mixed_bfloat16", help=_PRECISION_HELP)]
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
    config: ConfigFile = None,
    init: Init = None,
    freeze: Freeze = None,
    rate: Rates = None,
    epochs: Count = None,
    batch_size: Count = None,
    seed: Seed = 0,
    split: Split = None,
    split_seed: SplitSeed = 0,
    folds: Folds = 0,
    fold: Fold = None,
    strict: Strict = False,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    strategy: Strategy = "none",
    precision: PrecisionName = "float32",
    cache: Cache = True,
) -> None:
    """Train a model and write it to a folder.

    Ctrl-C or SIGTERM leaves a run that --resume continues to the same weights.

    \b
    Examples:
      tfmat train lgdcnn
      tfmat train lgdcnn --data aflow__ael_bulk_modulus_vrh --epochs 40 --seed 1
      tfmat train lgdcnn --data my.csv --target band_gap --unit eV --out runs/gap
      tfmat train lgdcnn --data my_cifs/ --target band_gap --unit eV --split formula
      tfmat train lgdcnn --data metals.csv --target is_metal --task binary
      tfmat train lgdcnn --variant gru --set dim=256 --recipe-option learning_rate=5e-4
      tfmat train lgdcnn --data my.csv --target band_gap --unit eV --init runs/gap --freeze "bi*" --rate "block*=0.1"
      tfmat train megnet --data mp2018_subset --target band_gap --strategy mirrored
      tfmat train --config runs/tune-lgdcnn-my/best.json
      tfmat train --resume runs/gap
    """  # noqa: D301
    from tfmat.cli import fitting

    if resume is not None:
        return _continue(ctx, resume, architecture)
    if architecture is None and config is None:
        raise InputError("no architecture", expected="one of `tfmat models`, as in: tfmat train lgdcnn")
    _check_free(out, overwrite)
    given = RunConfig("") if config is None else config_beside_options(ctx, config, architecture)
    label, spec = data or given.data or default_data(), split_spec(split, split_seed, folds, fold)
    check_data(label)
    load_tensorflow()
    _check_precision(precision)
    _check_strategy(strategy)
    settings = model_settings(
        given, architecture, variant, set_ or [], recipe, recipe_option or [], rates=rate or [], epochs=epochs, batch_size=batch_size,
        new=config is None and init is None,
    )  # fmt: skip
    names = target or [t.name for t in given.targets] or None
    dataset = open_for(dataclasses.replace(settings, data=label, label=label, strict=strict, cache=cache), names, spec or given.split)
    chosen = split_of(dataset)
    settings = dataclasses.replace(
        settings, data=resolved(label), label=label, split=chosen.to_config() if chosen else None, strict=strict,
        targets=[t.to_config() for t in targets_for(dataset, unit, task, transform, given.targets)],
        init=None if init is None else str(Path(init).absolute()) if Path(init).is_dir() else init, init_label=init or "",
        freeze=freeze or [], seed=seed if given.seed is None else given.seed, precision=precision, cache=cache,
        overwrite=overwrite, train_sha256=dataset.splits["train"].content_hash(), strategy=strategy,
    )  # fmt: skip
    fitting.run(settings, dataset, TrainingFolder(out or default_out(settings.architecture, label)), resume=False)


def open_for(settings: Settings, targets: list[str] | None, spec: SplitSpec | None) -> Dataset:
    """The data of a run, which must be what its architecture learns from."""
    from tfmat import architecture
    from tfmat.data.cache import RecordCache
    from tfmat.data.user_data import check_material

    needed, cache = architecture.get(settings.architecture).material, RecordCache() if settings.cache else None
    dataset = open_dataset(
        settings.data, targets, spec, settings.label, material=crystals_unread(needed), strict=settings.strict, cache=cache
    )
    check_material(needed, dataset.material, model=settings.architecture, data=settings.label)
    return dataset


def check_data(label: str) -> None:
    """Before TensorFlow is loaded, which takes seconds."""
    from tfmat.datasets import check_name

    check_name(label)


def _check_strategy(name: str) -> None:
    """Before the data is read, which may take long."""
    from tfmat.training.distribution import strategy_of

    strategy_of(name)


def _check_precision(precision: str) -> None:
    from tfmat.training.precision import PRECISIONS

    known("precision", precision, PRECISIONS)


def _continue(ctx: typer.Context, resume: Path, architecture: str | None) -> None:
    from tfmat.cli import fitting
    from tfmat.data.grouped_splits import SplitSpec

    _refuse_options(ctx)
    folder = opened(resume)
    settings = folder.settings()
    if architecture not in (None, settings.architecture):
        raise InputError(f"the run trains {settings.architecture}, not {architecture}", file=str(resume))
    load_tensorflow()
    spec = SplitSpec.from_config(settings.split) if settings.split else None
    dataset = open_for(settings, [config["name"] for config in settings.targets], spec)
    fitting.run(settings, dataset, folder, resume=True)


def model_settings(
    given: RunConfig | None,
    name: str | None,
    variant: str | None,
    keywords: list[str],
    recipe: str,
    recipe_options: list[str],
    *,
    rates: list[str],
    epochs: int | None,
    batch_size: int | None,
    new: bool,
) -> Settings:
    """What the options, and where these are silent a config, say about the model and its recipe; the data is filled in later.

    Where no variant is named, a `new` model, which neither a config nor the model that it begins with describes, is the default one.
    """
    from tfmat import __version__
    from tfmat.architecture import architectures

    given = given or RunConfig("")
    family = architectures()
    architecture = family[known("architecture", name or given.architecture, family)]
    base = architecture.recipes[known(f"recipe of {architecture.name}", recipe, architecture.recipes)]
    chosen = changed_recipe(checked_recipe(base, given.recipe), recipe_options, batch_size=batch_size, epochs=epochs)
    if rates:
        chosen = dataclasses.replace(chosen, rates=(*layer_rates(rates), *chosen.rates))
    chosen_keywords = given.keywords | builder_keywords(architecture, variant or (architecture.default if new else None), keywords)
    return Settings(
        architecture=architecture.name, keywords=chosen_keywords, recipe=chosen.to_config(), epochs=chosen.epochs, tfmat=__version__,
        data="", label="", split=None, targets=[], seed=0, cache=True, overwrite=False, train_sha256="",
    )  # fmt: skip


def targets_for(
    dataset: Dataset, unit: list[str] | None, task: list[str] | None, transform: list[str] | None, known_targets: Sequence[Target] = ()
) -> list[Target]:
    """The targets with the units, tasks and transforms of the options, or else those of a config."""
    return make_targets(
        dataset,
        unit or [t.unit for t in known_targets],
        task or [t.task for t in known_targets],
        transform or [t.transform for t in known_targets],
    )


def default_data() -> str:
    """The embedded dataset."""
    from tfmat.datasets import DEFAULT

    return DEFAULT


def _refuse_options(ctx: typer.Context) -> None:
    for name in ctx.params:
        if name not in _WITH_RESUME and was_typed(ctx, name):
            option = "--" + name.strip("_").replace("_", "-")
            raise InputError(f"{option} cannot be changed: --resume continues a run with its own settings", expected="--resume alone")


def _check_free(out: Path | None, overwrite: bool) -> None:
    if out is None:
        return
    check_replaceable(out, overwrite)
    if overwrite:
        return
    folder = TrainingFolder(out)
    if folder.path.exists():
        raise InputError(f"{folder.path} holds an unfinished run", expected=f"--resume {out} to continue it, or --overwrite to replace it")
