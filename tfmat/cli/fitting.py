"""From the settings of a run to a model directory, over any number of interruptions."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfmat.cli import figures
from tfmat.cli.failures import CommandError, Signalled, tell, writing
from tfmat.cli.materials import featurize, provenance, record_cache, rejections_of, split_of, tell_refused, usable, with_values
from tfmat.cli.progress import TrainingProgress, task
from tfmat.cli.runs import Settings, TrainingFolder
from tfmat.cli.tables import duration, scores_table, shortened_list
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import Rejection
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.predictor import Predictor


SPLIT_FILE = "split.csv"
"""In a model's folder: the ids of its splits."""


def run(settings: Settings, dataset: Dataset, folder: TrainingFolder, *, resume: bool) -> None:
    """Train, write the model directory and print its scores.

    The training folder must not exist unless `resume` is set; it is left behind only if there is something to continue.
    """
    predictor = build(settings)
    if resume:
        _check_unchanged(settings, dataset, predictor)
        folder.write_history(_finished(folder))
    else:
        settings = dataclasses.replace(settings, init_sha256=predictor.info.get("init", {}).get("weights_sha256", ""))
        _tell_transfer(predictor)
        _tell_devices(predictor)
        folder.create(settings, overwrite=settings.overwrite)
    with _continuable(settings, folder), record_cache(settings.cache, dataset.material) as cache:
        _tell_rejected(dataset, folder)
        tables, refused = featurized(predictor, settings, dataset, cache)
        _tell_refused(dataset, refused, sum(len(table) for table in tables.values()), folder)
        fit(predictor, settings, tables, folder, cache)
        predictor.info["dataset"] = provenance(dataset, refused)
        if settings.split is not None:
            predictor.info["split"] = settings.split
        predictor.info["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        _save(predictor, dataset, tables["validation"], refused, folder.out, overwrite=settings.overwrite, cache=cache)
    folder.discard()
    _summary(predictor, folder.out)


def build(settings: Settings) -> Predictor:
    """The predictor with its initial weights, which the recipe fits."""
    from tfmat.predictor import Predictor
    from tfmat.target import Target
    from tfmat.training.distribution import strategy_of
    from tfmat.training.loop import check_recipe
    from tfmat.training.recipe import Recipe

    targets = [Target(**config) for config in settings.targets]
    try:
        predictor = Predictor.create(
            settings.architecture, targets, keywords=settings.keywords, seed=settings.seed, init=settings.init, freeze=settings.freeze,
            strategy=strategy_of(settings.strategy),
        )  # fmt: skip
        check_recipe(predictor.model, targets, Recipe.from_config(settings.recipe), predictor.architecture.parts, validated=True)
        if "init" in predictor.info:
            predictor.info["init"]["source"] = settings.init_label
        return predictor
    except InputError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        chosen = ", ".join(f"{key}={value}" for key, value in settings.keywords.items())
        raise InputError(f"{settings.architecture} cannot be built with {chosen}: {error}") from None


def featurized(
    predictor: Predictor, settings: Settings, dataset: Dataset, cache: RecordCache | None
) -> tuple[dict[str, Table], dict[str, list[Rejection]]]:
    """Split -> the rows that are used, their records being in the cache, and split -> the rows that cannot be featurized.

    Crystals that cannot are left out unless the settings are strict; formulas that cannot are an error. A bad test row is told now, not
    at `evaluate`.
    """
    from tfmat.data.rejections import Rejections

    tables = {split: table if split == "test" else with_values(table, split) for split, table in dataset.splits.items()}
    refused: dict[str, list[Rejection]] = {}
    for split, name in (("test", "test"), ("train", "training"), ("validation", "validation")):
        description = f"featurizing {name} rows"
        if dataset.material == "crystal" and not settings.strict:
            rejections = Rejections()
            tables[split] = usable(tables[split], predictor.featurizer, description, cache, rejections)
            refused[split] = rejections.found
        elif cache is not None or split == "test":
            featurize(tables[split], predictor.featurizer, description, cache)
    return tables, refused


def fit(predictor: Predictor, settings: Settings, tables: Mapping[str, Table], folder: TrainingFolder, cache: RecordCache | None) -> None:
    """Train with progress; the state is kept in the folder."""
    from tfmat.training.recipe import Recipe

    training, validation = tables["train"], tables["validation"]
    with TrainingProgress(len(training), predictor.targets, folder.append_history) as progress:
        predictor.fit(
            training,
            validation,
            recipe=Recipe.from_config(settings.recipe),
            epochs=settings.epochs,
            seed=settings.seed,
            checkpoint=folder.checkpoint,
            resume=True,
            precision=settings.precision,  # type: ignore[arg-type]
            cache=cache,
            report=progress.report,
        )


def write_data_files(dataset: Dataset, refused: Mapping[str, Sequence[Rejection]], folder: Path) -> None:
    """``rejected.csv`` if there is anything to list, and, of a user's file, ``split.csv``, by which the split can be repeated.

    The rows that cannot be featurized stand in both: another featurizer may take them.
    """
    from tfmat.data.grouped_splits import write_split_file
    from tfmat.data.rejections import FILE_NAME, write_rejections

    if split_of(dataset) is not None:
        write_split_file(folder / SPLIT_FILE, {name: table.ids for name, table in dataset.splits.items()})
    if rejected := _all_rejected(dataset, refused):
        write_rejections(folder / FILE_NAME, rejected)


def _all_rejected(dataset: Dataset, refused: Mapping[str, Sequence[Rejection]]) -> list[Rejection]:
    return [*rejections_of(dataset), *(rejection for rows in refused.values() for rejection in rows)]


def _tell_rejected(dataset: Dataset, folder: TrainingFolder) -> None:
    """Say what is left out, and where all of it is listed, before the model exists and afterwards."""
    from tfmat.data.rejections import FILE_NAME, write_rejections

    if rejections_of(dataset):
        path = write_rejections(folder.path / FILE_NAME, rejections_of(dataset))
        tell(f"{getattr(dataset, 'summary', '')}; all are listed in {path}, later in {folder.out / FILE_NAME}")


def _tell_refused(dataset: Dataset, refused: Mapping[str, Sequence[Rejection]], used: int, folder: TrainingFolder) -> None:
    """The same of what cannot be featurized, beside the `used` rows that can."""
    from tfmat.data.rejections import FILE_NAME, write_rejections

    rows = [rejection for several in refused.values() for rejection in several]
    if rows:
        path = write_rejections(folder.path / FILE_NAME, _all_rejected(dataset, refused))
        tell_refused(rows, used + len(rows), f"{path}, later in {folder.out / FILE_NAME}")


@contextlib.contextmanager
def _continuable(settings: Settings, folder: TrainingFolder) -> Iterator[None]:
    """After an interruption, say how to go on; after an error, keep the folder only if it holds finished epochs."""
    from tfmat.training.loop import Diverged, Interrupted

    advice = f"continue with: tfmat train --resume {shlex.quote(str(folder.out))}"
    try:
        with writing(folder.out):
            yield
    except Interrupted as error:
        raise CommandError(_interrupted(error.epoch, settings, advice), 128 + error.signum) from None
    except (Signalled, KeyboardInterrupt) as error:
        signum = error.signum if isinstance(error, Signalled) else signal.SIGINT
        epochs = len(_finished(folder)) if folder.checkpoint.exists() else 0
        raise CommandError(_interrupted(epochs, settings, advice), 128 + signum) from None
    except Diverged as error:
        folder.discard()
        rate = settings.recipe["learning_rate"]
        raise CommandError(f"training diverged: {error}; try a lower rate: --recipe-option learning_rate={rate / 3:.2g}") from None
    except Exception as error:
        if not folder.checkpoint.exists():
            folder.discard()
            raise
        if isinstance(error, CommandError):
            raise CommandError(f"disk full while writing {folder.out}; the run is kept up to its last checkpoint: {advice}") from error
        tell(f"the run is kept up to its last checkpoint: {advice}")
        raise


def _interrupted(epochs: int, settings: Settings, advice: str) -> str:
    if epochs == 0:
        return f"interrupted before the first epoch ended; {advice}"
    return f"interrupted after epoch {epochs} of {settings.epochs}; {advice}"


def _finished(folder: TrainingFolder) -> list[dict[str, float]]:
    """The finished epochs in the checkpoint."""
    from tfmat.training.checkpoint import Checkpoint

    return Checkpoint.read(folder.checkpoint).history if folder.checkpoint.exists() else []


def _tell_transfer(predictor: Predictor) -> None:
    """How much of the initial weights was trained before, and what was not."""
    init, frozen = predictor.info.get("init"), predictor.info.get("frozen")
    if init is not None:
        new = [*init["replaced"], *init["missing"], *init["different_shape"]]
        total = init["loaded"] + len(new)
        tell(f"{init['loaded']} of {total} weights from {init['source']}" + (f"; new: {shortened_list(new)}" if new else ""))
    if frozen is not None:
        tell(f"not trained: {shortened_list(frozen)}")


def _tell_devices(predictor: Predictor) -> None:
    """On how many a strategy trains."""
    from tfmat.training.distribution import description, replicas

    if predictor.strategy is not None:
        alone = ": there is no second one, so this is slower than --strategy none" if replicas(predictor.strategy) == 1 else ""
        tell(description(predictor.strategy) + alone)


def _check_unchanged(settings: Settings, dataset: Dataset, predictor: Predictor) -> None:
    if predictor.info.get("init", {}).get("weights_sha256", "") != settings.init_sha256:
        problem = "the model that gave the initial weights has changed since the run began"
        raise InputError(problem, expected="the same model, or a new run without --resume", file=settings.init_label)
    if dataset.splits["train"].content_hash() != settings.train_sha256:
        problem = "the training rows have changed since the run began"
        raise InputError(problem, expected="the same data, or a new run without --resume", file=settings.label)


def _save(
    predictor: Predictor,
    dataset: Dataset,
    validation: Table,
    refused: Mapping[str, Sequence[Rejection]],
    out: Path,
    *,
    overwrite: bool,
    cache: RecordCache | None,
) -> None:
    def extras(temporary: Path) -> None:
        write_data_files(dataset, refused, temporary)
        if figures.can_plot():
            figures.write_learning_curve(predictor, temporary)
            figures.write_parity(predictor, predictor.evaluate(validation, cache=cache), temporary, "validation")

    with task(f"writing {out}"):
        predictor.save(out, overwrite=overwrite, extras=extras)


def _summary(predictor: Predictor, out: Path) -> None:
    units = {target.name: target.unit for target in predictor.targets}
    path = shlex.quote(str(out))
    print(scores_table("validation", predictor.info["validation"], units))
    print(f"\n{out}: {predictor.info['epochs']} epochs in {duration(predictor.info['training_seconds'])}. Next:")
    example = "NaCl.cif" if predictor.architecture.material == "crystal" else "Fe2O3"
    for line in (f"predict {path} {example}", f"evaluate {path}", f"export {path} --format savedmodel"):
        print(f"  tfmat {line}")
