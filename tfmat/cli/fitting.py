"""From the settings of a run to a model directory, over any number of interruptions."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfmat.cli import figures
from tfmat.cli.failures import CommandError, Signalled, tell, writing
from tfmat.cli.materials import featurize, provenance, rejections_of, split_of, with_values
from tfmat.cli.progress import TrainingProgress, task
from tfmat.cli.runs import Settings, TrainingFolder
from tfmat.cli.tables import duration, scores_table, shortened_list
from tfmat.errors import InputError

if TYPE_CHECKING:
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
        folder.create(settings, overwrite=settings.overwrite)
    with _continuable(settings, folder):
        _tell_rejected(dataset, folder)
        fit(predictor, settings, dataset, folder)
        predictor.info["dataset"] = provenance(dataset)
        if settings.split is not None:
            predictor.info["split"] = settings.split
        predictor.info["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        _save(predictor, dataset, folder.out, overwrite=settings.overwrite)
    folder.discard()
    _summary(predictor, folder.out)


def build(settings: Settings) -> Predictor:
    """The predictor with its initial weights, which the recipe fits."""
    from tfmat.predictor import Predictor
    from tfmat.recipe import Recipe
    from tfmat.target import Target
    from tfmat.training import check_recipe

    targets = [Target(**config) for config in settings.targets]
    try:
        predictor = Predictor.create(
            settings.architecture, targets, keywords=settings.keywords, seed=settings.seed, init=settings.init, freeze=settings.freeze
        )
        check_recipe(predictor.model, targets, Recipe.from_config(settings.recipe), predictor.architecture.parts, validated=True)
        if "init" in predictor.info:
            predictor.info["init"]["source"] = settings.init_label
        return predictor
    except InputError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        chosen = ", ".join(f"{key}={value}" for key, value in settings.keywords.items())
        raise InputError(f"{settings.architecture} cannot be built with {chosen}: {error}") from None


def fit(predictor: Predictor, settings: Settings, dataset: Dataset, folder: TrainingFolder) -> None:
    """Train with progress; the state is kept in the folder."""
    from tfmat.data.cache import RecordCache
    from tfmat.recipe import Recipe

    cache = RecordCache() if settings.cache else None
    training, validation = (with_values(dataset.splits[split], split) for split in ("train", "validation"))
    tables = {"training": training, "validation": validation} if cache else {}
    for name, table in {"test": dataset.splits["test"], **tables}.items():  # a bad test row is told now, not at `evaluate`
        featurize(table, predictor.featurizer, f"featurizing {name} rows", cache)
    with TrainingProgress(len(training), predictor.targets, folder.append_history) as progress:
        predictor.fit(
            training,
            validation,
            recipe=Recipe.from_config(settings.recipe),
            epochs=settings.epochs,
            seed=settings.seed,
            checkpoint=folder.checkpoint,
            resume=True,
            jit_compile=settings.jit,
            cache=cache,
            report=progress.report,
        )


def write_data_files(dataset: Dataset, folder: Path) -> None:
    """Of a user's file: ``split.csv``, by which the split can be repeated, and ``rejected.csv`` if there is anything to list."""
    from tfmat.data.grouped_splits import write_split_file
    from tfmat.data.rejections import FILE_NAME, write_rejections

    if split_of(dataset) is not None:
        write_split_file(folder / SPLIT_FILE, {name: table.ids for name, table in dataset.splits.items()})
    if rejections_of(dataset):
        write_rejections(folder / FILE_NAME, rejections_of(dataset))


def _tell_rejected(dataset: Dataset, folder: TrainingFolder) -> None:
    """Say what is left out, and where all of it is listed, before the model exists and afterwards."""
    from tfmat.data.rejections import FILE_NAME, write_rejections

    if rejections_of(dataset):
        path = write_rejections(folder.path / FILE_NAME, rejections_of(dataset))
        tell(f"{getattr(dataset, 'summary', '')}; all are listed in {path}, later in {folder.out / FILE_NAME}")


@contextlib.contextmanager
def _continuable(settings: Settings, folder: TrainingFolder) -> Iterator[None]:
    """After an interruption, say how to go on; after an error, keep the folder only if it holds finished epochs."""
    from tfmat.training import Diverged, Interrupted

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
    from tfmat.checkpoint import Checkpoint

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


def _check_unchanged(settings: Settings, dataset: Dataset, predictor: Predictor) -> None:
    if predictor.info.get("init", {}).get("weights_sha256", "") != settings.init_sha256:
        problem = "the model that gave the initial weights has changed since the run began"
        raise InputError(problem, expected="the same model, or a new run without --resume", file=settings.init_label)
    if dataset.splits["train"].content_hash() != settings.train_sha256:
        problem = "the training rows have changed since the run began"
        raise InputError(problem, expected="the same data, or a new run without --resume", file=settings.label)


def _save(predictor: Predictor, dataset: Dataset, out: Path, *, overwrite: bool) -> None:
    def extras(temporary: Path) -> None:
        write_data_files(dataset, temporary)
        if figures.can_plot():
            figures.write_learning_curve(predictor, temporary)
            evaluation = predictor.evaluate(with_values(dataset.splits["validation"], "validation"))
            figures.write_parity(predictor, evaluation, temporary, "validation")

    with task(f"writing {out}"):
        predictor.save(out, overwrite=overwrite, extras=extras)


def _summary(predictor: Predictor, out: Path) -> None:
    units = {target.name: target.unit for target in predictor.targets}
    path = shlex.quote(str(out))
    print(scores_table("validation", predictor.info["validation"], units))
    print(f"\n{out}: {predictor.info['epochs']} epochs in {duration(predictor.info['training_seconds'])}. Next:")
    for line in (f"predict {path} Fe2O3", f"evaluate {path}", f"export {path} --format savedmodel"):
        print(f"  tfmat {line}")
