"""Scoring a trained model on its own data, split as they were for its training, or on other data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.errors import InputError
from tfmat.runs import evaluations
from tfmat.runs.data import (
    crystals_unread,
    featurize_split,
    is_path,
    names_of,
    open_dataset,
    record_cache,
    refused_line,
    rejections_of,
    resolved,
)
from tfmat.runs.progress import SILENT, Progress
from tfmat.runs.train import SPLIT_FILE

if TYPE_CHECKING:
    from tfmat.data.cache import RecordCache
    from tfmat.data.read.user_data import UserData
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.predictor import Predictor


def score(
    model: Path,
    data: str | Sequence[str] | None = None,
    split: str | None = None,
    *,
    batch_size: int = 256,
    keep: bool = True,
    reading: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the model of a folder and write what is found below it, see `tfmat.runs.evaluations`.

    Args:
        model: the folder.
        data: names and paths. Default: what the model was trained on.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: ``test``; ``all`` of a file that is not the model's and has no
            column ``split``.
        batch_size: rows at a time.
        keep: keep crystals and featurized data on disk.
        reading: how files are read, see `tfmat.runs.config.Settings.reading`. Default: of the model's own data, as for its training.
        progress: follows the work.

    Returns:
        The folder that was written, and its scores, see `tfmat.runs.evaluations.write`.
    """
    from tfmat.data.cache import RecordCache
    from tfmat.data.packed import Featurized
    from tfmat.data.read.user_data import UserData, check_material
    from tfmat.data.rejections import FILE_NAME, summary
    from tfmat.data.table import as_crystals
    from tfmat.datasets import Dataset
    from tfmat.predictor import Predictor

    predictor = Predictor.load(model)
    cache = RecordCache() if keep else None
    names, own = given_or_own(predictor, data)
    source = _read(predictor, model, names, own, split, cache, reading or {}, progress)
    chosen = "all" if isinstance(source, UserData) else split or "test"
    table = source.table if isinstance(source, UserData) else rows_of(source, chosen)
    folder, rejected = evaluations.folder_of(model, names, chosen), rejections_of(source)
    if rejected:
        progress.tell(f"{summary(rejected, source.read)}; all are listed in {folder / FILE_NAME}")  # type: ignore[union-attr]
    formulas = as_crystals(table.materials) is None
    if formulas and not isinstance(table.materials, Featurized):
        check_material(predictor.architecture.material, "composition", model=predictor.architecture.name, data=" + ".join(names))
    with record_cache(keep, "composition" if formulas else "crystal") as records:
        rows = len(table)
        if records is not None:
            table, refused = featurize_split(table, [predictor.featurizer], chosen, strict=formulas, cache=records, progress=progress)
            if refused:
                progress.tell(refused_line(refused, rows, str(folder / FILE_NAME)))
            rejected = (*rejected, *refused)
        _warn_about_training_rows(predictor, model, table, chosen, source if own and isinstance(source, Dataset) else None, cache, progress)
        with progress.rows("evaluating") as report:
            evaluation = predictor.evaluate(table, batch_size=batch_size, cache=records, report=report)
    with progress.task(f"writing {folder}"):
        about = {"data": " + ".join(names), "split": chosen}
        return folder, evaluations.write(predictor, evaluation, table, about, rejected, folder)


def own_names(info: dict[str, Any]) -> list[str]:
    """Name what a model was trained on, by the `info` in its config; an empty list if it does not say that."""
    own = info.get("dataset") or {}
    return [str(name) for name in own.get("sources") or ([own["name"]] if own else [])]


def given_or_own(predictor: Predictor, data: str | Sequence[str] | None) -> tuple[list[str], bool]:
    """Choose the data that were asked for, by default the model's own, and tell whether they are its own."""
    own = own_names(predictor.info)
    if not data and not own:
        raise InputError("the model does not say what it was trained on", expected="--data with a dataset or a file")
    chosen = names_of(data) if data else own
    return chosen, bool(own) and resolved(chosen) == resolved(own)


def own_dataset(
    predictor: Predictor,
    model: Path,
    names: Sequence[str],
    cache: RecordCache | None,
    progress: Progress = SILENT,
    *,
    reading: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read the data that the model was trained on, by their `names`, split as they were then."""
    from tfmat.data.splits import SplitSpec

    spec = SplitSpec.from_config(predictor.info["split"]) if predictor.info.get("split") else None
    if spec is not None and spec.method == "file" and (model / SPLIT_FILE).is_file():
        spec = dataclasses.replace(spec, file=str(model / SPLIT_FILE))
    material = crystals_unread(predictor.architecture.material)
    options = predictor.info.get("reading", {}) | (reading or {})
    return open_dataset(names, _targets(predictor), spec, stated=True, progress=progress, material=material, cache=cache, **options)


def validation_materials(predictor: Predictor, model: Path, most: int, progress: Progress = SILENT) -> list[Any] | None:
    """Draw at most so many of the model's own validation rows, the same ones every time; None, and told, if they are not here.

    Args:
        predictor: the model.
        model: its folder.
        most: number of rows.
        progress: follows the work.
    """
    import numpy as np

    from tfmat.data.cache import RecordCache

    own, instead = own_names(predictor.info), "example materials take the place of its validation rows"
    if not own:
        progress.tell(f"the model does not say what it was trained on: {instead}")
        return None
    try:
        table = own_dataset(predictor, model, own, RecordCache(), progress).splits["validation"]
    except (InputError, KeyError):
        progress.tell(f"the model's own data, {' + '.join(own)}, are not here: {instead}")
        return None
    order = np.random.default_rng(0).permutation(len(table))[:most]
    return [table.materials[index] for index in order.tolist()]


def _read(
    predictor: Predictor,
    model: Path,
    names: list[str],
    own: bool,
    split: str | None,
    cache: RecordCache | None,
    reading: Mapping[str, Any],
    progress: Progress,
) -> Dataset | UserData:
    """Read the data; of files that are not the model's all rows, unless a split is asked for or a column `split` makes one."""
    from tfmat.datasets import is_packed, read_files
    from tfmat.datasets.files import split_user_data

    material, called = crystals_unread(predictor.architecture.material), " + ".join(names)
    if own:
        dataset = own_dataset(predictor, model, names, cache, progress, reading=reading)
        if dataset.splits["train"].content_hash() != predictor.info["dataset"].get("train_sha256"):
            progress.tell(f"warning: {called} has changed: its training rows are not those that the model was trained on")
        return dataset
    if not all(is_path(name) and not is_packed(name) for name in names):
        return open_dataset(names, _targets(predictor), stated=True, progress=progress, material=material, cache=cache, **reading)
    with progress.rows(f"reading {called}") as report:
        found = read_files(names, targets=_targets(predictor), material=material, cache=cache, report=report, **reading)
    return found if split == "all" or (split is None and "split" not in found.cells.columns) else split_user_data(found, called)


def _targets(predictor: Predictor) -> list[str]:
    return [target.name for target in predictor.targets]


def rows_of(dataset: Dataset, split: str) -> Table:
    """Take the rows of one split, or of ``all``."""
    from tfmat.data.table import Table

    return Table.join(list(dataset.splits.values())) if split == "all" else dataset.table(split)


def _warn_about_training_rows(
    predictor: Predictor, model: Path, table: Table, split: str, opened: Dataset | None, cache: RecordCache | None, progress: Progress
) -> None:
    """Warn of materials of the training split, as scores on them say little about new ones.

    Args:
        predictor: the model.
        model: its folder.
        table: the rows that are scored.
        split: which they are.
        opened: the model's own data, if they are open.
        cache: where its crystals are kept.
        progress: is told.
    """
    from tfmat.data.packed import Featurized
    from tfmat.data.splits import composition_keys

    own, unseen = own_names(predictor.info), "so an overlap with its training rows cannot be found"
    if not own:
        progress.tell(f"warning: the model does not say what it was trained on, {unseen}")
        return
    try:
        training = (opened or own_dataset(predictor, model, own, cache, progress)).splits["train"]
    except InputError:
        progress.tell(f"warning: the model's own data, {' + '.join(own)}, are not here, {unseen}")
        return
    packed = any(isinstance(rows.materials, Featurized) for rows in (training, table))
    learnt, keys = ((rows.ids if packed else composition_keys(rows.materials)) for rows in (training, table))
    what, known = "an id" if packed else "a composition", set(learnt)
    repeated = sum(key in known for key in keys)
    if repeated:
        progress.tell(f"warning: {repeated:,} of {len(table):,} {split} rows have {what} that occurs in the training rows")
