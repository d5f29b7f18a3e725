"""The one way to train: from settings and data to a fitted predictor, and over any number of interruptions to a model directory."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfmat.analysis import figures
from tfmat.errors import InputError
from tfmat.runs.config import Settings
from tfmat.runs.data import featurize_split, record_cache, refused_line, rejections_of, split_of, with_values
from tfmat.runs.folder import TrainingFolder
from tfmat.runs.progress import SILENT, Progress, shortened_list

if TYPE_CHECKING:
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import Rejection
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.predictor import Predictor
    from tfmat.training.loop import Report

SPLIT_FILE = "split.csv"
"""File in a model's folder with the ids of its splits."""


def build(settings: Settings) -> Predictor:
    """Make the predictor with its initial weights, which `fit` trains.

    Raises:
        InputError: the settings do not fit each other.
    """
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


def fit(
    predictor: Predictor,
    settings: Settings,
    tables: Mapping[str, Table],
    *,
    checkpoint: Path | None = None,
    until: int | None = None,
    cache: RecordCache | None = None,
    report: Report | None = None,
) -> None:
    """Train what `build` made.

    Args:
        predictor: is changed in place.
        settings: of the run.
        tables: the rows for ``train`` and ``validation``.
        checkpoint: file for the state of the run, which goes on from it if it exists.
        until: end after this epoch, so that the run can go on later.
        cache: where featurized data is kept.
        report: progress callback.
    """
    from tfmat.training.recipe import Recipe

    predictor.fit(
        tables["train"], tables["validation"], recipe=Recipe.from_config(settings.recipe), epochs=settings.epochs, until=until,
        seed=settings.seed, checkpoint=checkpoint, resume=checkpoint is not None, precision=settings.precision,  # type: ignore[arg-type]
        cache=cache, report=report,
    )  # fmt: skip


def prepare(
    settings: Settings, dataset: Dataset, folder: TrainingFolder, *, resume: bool = False, progress: Progress = SILENT
) -> Predictor:
    """Build the predictor of a run, and make its training folder or, with `resume`, check that the run can go on there.

    Raises:
        InputError: the settings do not fit each other, the folder exists already, or the data or the initial weights have changed since
            the run began.
    """
    predictor = build(settings)
    if resume:
        _check_unchanged(settings, dataset, predictor)
        folder.write_history(folder.finished_epochs)
    else:
        settings = dataclasses.replace(settings, init_sha256=predictor.info.get("init", {}).get("weights_sha256", ""))
        for line in beginning(predictor):
            progress.tell(line)
        folder.create(settings, overwrite=settings.overwrite)
    return predictor


def run(predictor: Predictor, settings: Settings, dataset: Dataset, folder: TrainingFolder, *, progress: Progress = SILENT) -> None:
    """Train what `prepare` made and write the model directory.

    An interruption leaves the training folder, from which the run goes on; any other error does so if an epoch is in its checkpoint.

    Raises:
        InputError: a row is bad.
        Interrupted: on SIGINT or SIGTERM during the training.
        Diverged: the loss became NaN or infinite.
    """
    from tfmat.training.loop import Diverged, Interrupted

    try:
        with record_cache(settings.cache, dataset.material) as cache:
            _learn(predictor, settings, dataset, folder, cache, progress)
    except Interrupted:
        raise
    except Exception as error:
        if isinstance(error, Diverged) or not folder.checkpoint.exists():
            folder.discard()
        raise
    folder.discard()


def _learn(
    predictor: Predictor, settings: Settings, dataset: Dataset, folder: TrainingFolder, cache: RecordCache | None, progress: Progress
) -> None:
    _list_rejected(rejections_of(dataset), folder, getattr(dataset, "summary", "") + "; all are listed in", progress)
    tables, refused = featurized(predictor, settings, dataset, cache, progress)
    if rows := [rejection for several in refused.values() for rejection in several]:
        told = refused_line(rows, sum(map(len, tables.values())) + len(rows), "")
        _list_rejected([*rejections_of(dataset), *rows], folder, told.rstrip(), progress)
    with progress.training(len(tables["train"]), predictor.targets) as report:

        def told_and_kept(epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
            if figures:
                folder.append_history(figures)
            if report is not None:
                report(epoch, epochs, step, steps, figures)

        fit(predictor, settings, tables, checkpoint=folder.checkpoint, cache=cache, report=told_and_kept)
    predictor.info["dataset"] = dataset.provenance({split: len(rows) for split, rows in refused.items()})
    if settings.split is not None:
        predictor.info["split"] = settings.split
    if settings.reading:
        predictor.info["reading"] = settings.reading
    predictor.info["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()

    def extras(temporary: Path) -> None:
        write_data_files(dataset, refused, temporary)
        if figures.can_plot():
            figures.write_learning_curve(predictor, temporary)
            figures.write_parity(predictor, predictor.evaluate(tables["validation"], cache=cache), temporary, "validation")

    with progress.task(f"writing {folder.out}"):
        predictor.save(folder.out, overwrite=settings.overwrite, extras=extras)


def featurized(
    predictor: Predictor, settings: Settings, dataset: Dataset, cache: RecordCache | None, progress: Progress = SILENT
) -> tuple[dict[str, Table], dict[str, list[Rejection]]]:
    """Featurize each split into the cache: split -> the rows that are used, and split -> the rows that cannot be featurized.

    Crystals that cannot are left out unless the settings are strict; formulas that cannot are an error. A bad test row is told now, not
    when the model is evaluated.
    """
    tables = {split: table if split == "test" else with_values(table, split, progress) for split, table in dataset.splits.items()}
    refused: dict[str, list[Rejection]] = {}
    strict = settings.strict or dataset.material != "crystal"
    for split, name in (("test", "test"), ("train", "training"), ("validation", "validation")):
        if dataset.material == "crystal" or cache is not None or split == "test":  # formulas are featurized again in no time
            tables[split], refused[split] = featurize_split(
                tables[split], [predictor.featurizer], name, strict=strict, cache=cache, progress=progress
            )
    return tables, refused


def write_data_files(dataset: Dataset, refused: Mapping[str, Sequence[Rejection]], folder: Path) -> None:
    """Write ``rejected.csv`` if rows are left out, and, of a user's file, ``split.csv``, by which the split can be repeated.

    The rows that cannot be featurized stand in both: another featurizer may take them.
    """
    from tfmat.data.rejections import FILE_NAME, write_rejections
    from tfmat.data.splits import write_split_file

    if split_of(dataset) is not None:
        write_split_file(folder / SPLIT_FILE, {name: table.ids for name, table in dataset.splits.items()})
    if rejected := [*rejections_of(dataset), *(rejection for rows in refused.values() for rejection in rows)]:
        write_rejections(folder / FILE_NAME, rejected)


def _list_rejected(rejected: Sequence[Rejection], folder: TrainingFolder, told: str, progress: Progress) -> None:
    """Write what is left out to the training folder, and say where all of it is listed, before the model exists and afterwards."""
    from tfmat.data.rejections import FILE_NAME, write_rejections

    if rejected:
        path = write_rejections(folder.path / FILE_NAME, rejected)
        progress.tell(f"{told} {path}, later in {folder.out / FILE_NAME}")


def beginning(predictor: Predictor) -> list[str]:
    """Say how much of the initial weights was trained before, what is not trained, and on how many devices the rest is."""
    from tfmat.training.distribution import description, replicas

    found, init, frozen = [], predictor.info.get("init"), predictor.info.get("frozen")
    if init is not None:
        new = [*init["replaced"], *init["missing"], *init["different_shape"]]
        total = init["loaded"] + len(new)
        found.append(f"{init['loaded']} of {total} weights from {init['source']}" + (f"; new: {shortened_list(new)}" if new else ""))
    if frozen is not None:
        found.append(f"not trained: {shortened_list(frozen)}")
    if predictor.strategy is not None:
        alone = ": there is no second one, so this is slower than --strategy none" if replicas(predictor.strategy) == 1 else ""
        found.append(description(predictor.strategy) + alone)
    return found


def _check_unchanged(settings: Settings, dataset: Dataset, predictor: Predictor) -> None:
    if predictor.info.get("init", {}).get("weights_sha256", "") != settings.init_sha256:
        problem = "the model that gave the initial weights has changed since the run began"
        raise InputError(problem, expected="the same model, or a new run without --resume", file=settings.init_label)
    if dataset.splits["train"].content_hash() != settings.train_sha256:
        problem = "the training rows have changed since the run began"
        raise InputError(problem, expected="the same data, or a new run without --resume", file=dataset.name)
