"""``tfmat train``."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli.errors import CommandError, tell, writing
from tfmat.cli.progress import SHOWN, load_tensorflow
from tfmat.cli.tables import duration, scores_table
from tfmat.errors import InputError
from tfmat.runs.config import RunConfig, Settings, model_settings, read_run_config
from tfmat.runs.data import check_data, open_for, resolved, split_of, split_spec, targets_for
from tfmat.runs.folder import TrainingFolder, check_replaceable, default_out, opened
from tfmat.runs.settings import known, stated
from tfmat.signals import Signalled, exit_code

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

_WITH_RESUME = {"architecture", "resume"}
"""What may be given beside ``--resume``; everything else is in the run already."""


# The options of `train`, as types of its parameters.
Architecture = Annotated[str | None, typer.Argument(metavar="ARCHITECTURE", help="One of `tfmat models`, e.g. lgdcnn.")]
_DATA_HELP = "A name of `tfmat datasets`, a CSV or JSON lines file, or a folder of CIF or POSCAR files with id_prop.csv. "
_DATA_HELP += "Repeat it to merge several. Default: the embedded dataset."
Data = Annotated[list[str] | None, typer.Option(metavar="NAME|FILE|FOLDER", help=_DATA_HELP)]
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
_INIT_HELP = "Begin with the weights of a model, wherever layers have the same names and shapes; new targets get a new output."
Init = Annotated[str | None, typer.Option(metavar="MODEL", help=_INIT_HELP)]
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
_FORMULA_HELP = "A file's column of formulas. Default: formula, else composition."
FormulaColumn = Annotated[str | None, typer.Option(metavar="NAME", help=_FORMULA_HELP)]
_STRUCTURE_HELP = "A file's column of crystals. Default: structure, else atoms or cif."
StructureColumn = Annotated[str | None, typer.Option(metavar="NAME", help=_STRUCTURE_HELP)]
_SITES_HELP = "Most sites of a crystal in a file. Default: 1000; for a model of compositions as many as there are."
MaxSites = Annotated[int | None, typer.Option(min=1, metavar="N", help=_SITES_HELP)]
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
    formula_column: FormulaColumn = None,
    structure_column: StructureColumn = None,
    max_sites: MaxSites = None,
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
    if resume is not None:
        return _continue(ctx, resume, architecture)
    if architecture is None and config is None:
        raise InputError("no architecture", expected="one of `tfmat models`, as in: tfmat train lgdcnn")
    _check_free(out, overwrite)
    given = RunConfig("") if config is None else _config_beside_options(ctx, config, architecture)
    label, spec = data or given.data or default_data(), split_spec(split, split_seed, folds, fold)
    check_data(label)
    load_tensorflow()
    _check_names(precision, strategy)
    settings = model_settings(
        given, architecture, variant, set_ or [], recipe, recipe_option or [], rates=rate or [], epochs=epochs, batch_size=batch_size,
        new=config is None and init is None,
    )  # fmt: skip
    names = target or [t.name for t in given.targets] or None
    reading = given.reading | stated(formula_column=formula_column, structure_column=structure_column, max_sites=max_sites)
    opening = dataclasses.replace(settings, data=label, label=label, strict=strict, cache=cache, **reading)
    dataset = open_for(opening, names, spec or given.split, stated=bool(unit or given.targets), progress=SHOWN)
    chosen = split_of(dataset)
    settings = dataclasses.replace(
        opening, data=resolved(label), split=chosen.to_config() if chosen else None,
        targets=[t.to_config() for t in targets_for(dataset, unit, task, transform, given.targets)],
        init=None if init is None else str(Path(init).absolute()) if Path(init).is_dir() else init, init_label=init or "",
        freeze=freeze or [], seed=seed if given.seed is None else given.seed, precision=precision,
        overwrite=overwrite, train_sha256=dataset.splits["train"].content_hash(), strategy=strategy,
    )  # fmt: skip
    _run(settings, dataset, TrainingFolder(out or default_out(settings.architecture, label, SHOWN)), resume=False)


def default_data() -> str:
    """Name the embedded dataset."""
    from tfmat.datasets import DEFAULT

    return DEFAULT


def _check_names(precision: str, strategy: str) -> None:
    """Refuse unknown names before the data is read, which may take long."""
    from tfmat.training.distribution import strategy_of
    from tfmat.training.precision import PRECISIONS

    known("precision", precision, PRECISIONS)
    strategy_of(strategy)


def _check_free(out: Path | None, overwrite: bool) -> None:
    if out is None:
        return
    check_replaceable(out, overwrite)
    folder = TrainingFolder(out)
    if folder.path.exists() and not overwrite:
        raise InputError(f"{folder.path} holds an unfinished run", expected=f"--resume {out} to continue it, or --overwrite to replace it")


def _was_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _config_beside_options(ctx: typer.Context, path: Path, architecture: str | None) -> RunConfig:
    """Read a config, and leave out what the options that were typed replace."""
    load_tensorflow()
    empty: dict[str, dict[str, Any]] = {
        "recipe": {"recipe": {}},
        "data": {"data": None, "targets": (), "split": None, "reading": {}},
        "target": {"targets": ()},
        "seed": {"seed": None},
    }
    given = read_run_config(path, architecture)
    for name, changes in empty.items():
        given = dataclasses.replace(given, **changes) if _was_typed(ctx, name) else given
    return given


def _continue(ctx: typer.Context, resume: Path, architecture: str | None) -> None:
    """Continue a run with its own settings and data."""
    for name in ctx.params:
        if name not in _WITH_RESUME and _was_typed(ctx, name):
            option = "--" + name.strip("_").replace("_", "-")
            raise InputError(f"{option} cannot be changed: --resume continues a run with its own settings", expected="--resume alone")
    folder = opened(resume)
    settings = folder.settings()
    if architecture not in (None, settings.architecture):
        raise InputError(f"the run trains {settings.architecture}, not {architecture}", file=str(resume))
    load_tensorflow()
    from tfmat.data.splits import SplitSpec

    spec = SplitSpec.from_config(settings.split) if settings.split else None
    dataset = open_for(settings, [config["name"] for config in settings.targets], spec, stated=True, progress=SHOWN)
    _run(settings, dataset, folder, resume=True)


def _run(settings: Settings, dataset: Any, folder: TrainingFolder, *, resume: bool) -> None:
    from tfmat.runs import train as runs

    predictor = runs.prepare(settings, dataset, folder, resume=resume, progress=SHOWN)
    with _continuable(settings, folder):
        runs.run(predictor, settings, dataset, folder, progress=SHOWN)
    _summary(predictor, folder.out)


@contextlib.contextmanager
def _continuable(settings: Settings, folder: TrainingFolder) -> Iterator[None]:
    """After an interruption or an error, say how to go on."""
    from tfmat.training.loop import Diverged, Interrupted

    advice = f"continue with: tfmat train --resume {shlex.quote(str(folder.out))}"
    try:
        with writing(folder.out):
            yield
    except (Interrupted, Signalled, KeyboardInterrupt) as error:
        epochs = error.epoch if isinstance(error, Interrupted) else len(folder.finished_epochs)
        when = f"after epoch {epochs} of {settings.epochs}" if epochs else "before the first epoch ended"
        raise CommandError(f"interrupted {when}; {advice}", exit_code(error)) from None
    except Diverged as error:
        rate = settings.recipe["learning_rate"]
        raise CommandError(f"training diverged: {error}; try a lower rate: --recipe-option learning_rate={rate / 3:.2g}") from None
    except Exception as error:
        if not folder.checkpoint.exists():
            raise
        if isinstance(error, CommandError):
            raise CommandError(f"disk full while writing {folder.out}; the run is kept up to its last checkpoint: {advice}") from error
        tell(f"the run is kept up to its last checkpoint: {advice}")
        raise


def _summary(predictor: Predictor, out: Path) -> None:
    units = {target.name: target.unit for target in predictor.targets}
    path = shlex.quote(str(out))
    print(scores_table("validation", predictor.info["validation"], units))
    print(f"\n{out}: {predictor.info['epochs']} epochs in {duration(predictor.info['training_seconds'])}. Next:")
    example = "NaCl.cif" if predictor.architecture.material == "crystal" else "Fe2O3"
    for line in (f"predict {path} {example}", f"evaluate {path}", f"export {path} --format savedmodel"):
        print(f"  tfmat {line}")
