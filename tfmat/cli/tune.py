"""``tfmat tune``."""

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
from tfmat.cli.train import (
    Cache,
    Data,
    Fold,
    Folds,
    FormulaColumn,
    Freeze,
    Init,
    MaxSites,
    Rates,
    Split,
    SplitSeed,
    StructureColumn,
    Targets,
    Tasks,
    Transforms,
    Units,
    Variant,
    default_data,
)
from tfmat.runs.config import Settings, model_settings
from tfmat.runs.data import (
    check_data,
    names_of,
    open_for,
    record_cache,
    refused_line,
    resolved,
    split_of,
    split_spec,
    targets_for,
    with_values,
)
from tfmat.runs.folder import stem
from tfmat.runs.settings import known, pairs, stated
from tfmat.signals import Signalled, exit_code

if TYPE_CHECKING:
    from tfmat.datasets import Dataset
    from tfmat.tuning import Search, SearchResult

STRATEGIES = ("none", "mirrored")

Name = Annotated[str, typer.Argument(metavar="ARCHITECTURE", help="One of `tfmat models`, e.g. lgdcnn.")]
_TUNER_HELP = "How values are chosen: many short trials of which the best go on, a Gaussian process, at random, or all combinations."
Tuner = Annotated[str, typer.Option(metavar="hyperband|bayesian|random|grid", help=_TUNER_HELP)]
_TRIALS_HELP = "Most trials. Default: 20; hyperband: its brackets once; grid: all combinations. A finished search goes on with more."
Trials = Annotated[int | None, typer.Option(min=1, metavar="N", help=_TRIALS_HELP)]
Epochs = Annotated[int | None, typer.Option(min=1, metavar="M", help="Of the longest trial. Default: the recipe's.")]
_STRATEGY_HELP = "Train each trial on one device, or on all GPUs of this machine."
Strategy = Annotated[str, typer.Option(metavar="none|mirrored", help=_STRATEGY_HELP)]
_VARY_HELP = "Search this hyper-parameter alone, the others keep their default; repeatable. Default: the architecture's whole space."
Vary = Annotated[list[str] | None, typer.Option(metavar="NAME", help=_VARY_HELP)]
_SET_HELP = "A keyword of the builder that is not searched, e.g. dim=256; repeatable."
Keywords = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET_HELP)]
_RECIPE_HELP = "An entry of the recipe that is not searched, e.g. batch_size=64; repeatable."
RecipeOptions = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help=_RECIPE_HELP)]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 2, metavar="N", help="Of the values that are tried, and of all trials' weights.")]
_OUT_HELP = "Results folder; one that is there goes on where it was. Default: runs/tune-ARCHITECTURE-DATA."
Out = Annotated[Path | None, typer.Option(metavar="DIR", help=_OUT_HELP)]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a file with a bad row. Default: bad rows are left out and counted.")]


def tune(
    architecture: Name,
    data: Data = None,
    target: Targets = None,
    unit: Units = None,
    task: Tasks = None,
    transform: Transforms = None,
    tuner: Tuner = "hyperband",
    trials: Trials = None,
    epochs: Epochs = None,
    strategy: Strategy = "none",
    seed: Seed = 0,
    vary: Vary = None,
    variant: Variant = None,
    set_: Keywords = None,
    recipe_option: RecipeOptions = None,
    init: Init = None,
    freeze: Freeze = None,
    rate: Rates = None,
    split: Split = None,
    split_seed: SplitSeed = 0,
    folds: Folds = 0,
    fold: Fold = None,
    strict: Strict = False,
    formula_column: FormulaColumn = None,
    structure_column: StructureColumn = None,
    max_sites: MaxSites = None,
    out: Out = None,
    cache: Cache = True,
) -> None:
    """Search hyper-parameters with KerasTuner for the lowest validation error, and write the best ones to a file.

    What is searched stands in tfmat/tuning/spaces.py. The test split is never looked at. The same command goes on after Ctrl-C, SIGTERM or
    a crash, with more --trials also after the end. Started in several processes with the environment variables KERASTUNER_TUNER_ID (chief,
    and a name for each worker), KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT, these share the trials and the folder --out.

    \b
    Examples:
      tfmat tune lgdcnn --data aflow__ael_bulk_modulus_vrh --tuner hyperband --epochs 40
      tfmat tune lgdcnn --data my.csv --target band_gap --unit eV --tuner random --trials 30 --epochs 20 --out runs/tune-gap
      tfmat tune crysformer --data my_cifs/ --target band_gap --unit eV --tuner bayesian --trials 40 --strategy mirrored
      tfmat tune megnet --data my_cifs/ --target band_gap --tuner grid --vary cutoff --vary learning_rate --set dim=64
      tfmat tune megnet --data my_cifs/ --target bulk_modulus --init mp-2019.4.1/log10K --freeze embedding --rate blocks=0.1
      tfmat train --config runs/tune-gap/best.json
    """  # noqa: D301
    from tfmat.tuning import check_installed
    from tfmat.tuning.search import TUNERS

    known("strategy", strategy, STRATEGIES)
    known("tuner", tuner, TUNERS)
    check_installed()
    label, spec = data or default_data(), split_spec(split, split_seed, folds, fold)
    check_data(label)
    tell(f"searching {architecture} on {' + '.join(names_of(label))}: {tuner}, {_trials(tuner, trials)}; loading Keras")
    load_tensorflow()
    settings = model_settings(
        None, architecture, variant, set_ or [], "default", recipe_option or [], rates=rate or [], epochs=epochs, batch_size=None, new=False
    )
    reading = stated(formula_column=formula_column, structure_column=structure_column, max_sites=max_sites)
    settings = dataclasses.replace(settings, data=label, label=label, strict=strict, cache=cache, seed=seed, **reading)
    dataset = open_for(settings, target, spec, stated=bool(unit), progress=SHOWN)
    chosen = {"tuner": tuner, "trials": trials, "strategy": strategy, "vary": vary or [], "init": init, "freeze": freeze or []}
    fields = [*pairs(recipe_option or [], "--recipe-option"), *(["rates"] if rate else [])]
    targets = targets_for(dataset, unit, task, transform)
    search = _search(settings, dataset, targets, fields, chosen)
    _run(search, settings, dataset, out or Path("runs", f"tune-{architecture}-{stem(label)}"))


def _trials(tuner: str, trials: int | None) -> str:
    """Say how many trials there will be, as far as that is known before Keras is loaded."""
    from tfmat.tuning.search import DEFAULT_TRIALS

    every = {"hyperband": "its brackets once", "grid": "all combinations"}
    return every[tuner] if trials is None and tuner in every else f"{trials or DEFAULT_TRIALS} trials"


def _search(settings: Settings, dataset: Dataset, targets: list[Any], fields: list[str], chosen: dict[str, Any]) -> Search:
    """The search, which gets the rows for training and validation and no others."""
    from tfmat.runs.train import beginning
    from tfmat.tuning import prepare

    training, validation = (with_values(dataset.splits[split], split, SHOWN) for split in ("train", "validation"))
    recipe = {name: settings.recipe[name] for name in fields}
    search = prepare(
        settings.architecture, targets, training, validation, epochs=settings.epochs, seed=settings.seed, keywords=settings.keywords,
        recipe=recipe, **chosen,
    )  # fmt: skip
    for line in beginning(search.check()):
        tell(line)
    return search


def _run(search: Search, settings: Settings, dataset: Dataset, out: Path) -> None:
    from tfmat.cli.trials import TrialsProgress
    from tfmat.tuning import cluster
    from tfmat.tuning.oracles import planned_epochs
    from tfmat.tuning.running import run
    from tfmat.tuning.search import usable_tables

    spec, role = split_of(dataset), cluster.role()
    targets = [target.to_config() for target in search.objective.targets]
    data = {"name": resolved(settings.data), "targets": targets, "split": spec.to_config() if spec else None}
    data |= {"reading": settings.reading} if settings.reading else {}
    plan = [] if role == "worker" else planned_epochs(search.tuner, search.trials, search.epochs, search.combinations)
    with _continuable(out, role), record_cache(settings.cache, dataset.material) as cache:
        tables = (search.training, search.validation)
        if role != "chief":
            tables, refused = usable_tables(search, strict=settings.strict, cache=cache, progress=SHOWN)
            if refused:
                rows = len(search.training) + len(search.validation)
                tell(refused_line(refused, rows, "rejected.csv of a model that is trained"))
        if role != "alone":
            tell(f"{role} at {cluster.address()}")
        if plan:
            tell(f"{len(plan):,} trials of at most {search.epochs} epochs; compiling the first model")
        with TrialsProgress(plan, search.objective.name, search.objective.unit) as progress:
            result = run(search, tables, out, cache=cache, watcher=progress, about={"data": data}, waiting=_waiting)
    if result is None:
        tell(f"no trials are left; the chief has the results in {out}")
    else:
        _summary(result)


def _waiting(trials: list[str]) -> None:
    tell(f"no other trials are left; waiting for {', '.join(trials)}")


@contextlib.contextmanager
def _continuable(out: Path, role: str) -> Iterator[None]:
    """After an interruption, say how to go on."""
    from tfmat.training.loop import Interrupted

    kept = "finished trials are kept, the same command goes on with them"
    advice = "the same command with the same KERASTUNER_TUNER_ID takes its trial up again" if role == "worker" else kept
    try:
        with writing(out, kept):
            yield
    except (Interrupted, Signalled, KeyboardInterrupt) as error:
        raise CommandError(f"interrupted; {advice}", exit_code(error)) from None


def _summary(result: SearchResult) -> None:
    """The best trial, and what to do with it, on stdout; plots where matplotlib is installed."""
    from tfmat.analysis import figures
    from tfmat.cli.tables import aligned, number
    from tfmat.tuning.plots import write_plots

    if figures.can_plot():
        write_plots(result)
    best, failed = result.best, sum(trial.status == "failed" for trial in result.trials)
    rows = [[result.objective, f"{number(best.objective or 0.0)} {result.unit}".rstrip()]]
    rows += [[name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value)] for name, value in best.values.items()]
    print(aligned([f"trial {best.name}", "best"], rows))
    told = f"{len(result.trials)} trials" + (f", {failed} of them failed" if failed else "")
    print(f"\n{result.folder}: {told}. Next:")
    begun = [] if result.fitting.search.init is None else ["--init", result.fitting.search.init]
    begun += [word for pattern in result.fitting.search.freeze for word in ("--freeze", pattern)]
    print(f"  tfmat train {shlex.join(['--config', str(result.folder / 'best.json'), *begun])}")
    print(f"  tensorboard --logdir {shlex.quote(str(result.folder / 'logs'))}")
