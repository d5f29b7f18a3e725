"""Scoring a trained model on its own data, split as they were for its training, or on other data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.errors import InputError
from tfmat.runs import evaluations
from tfmat.runs.data import (
    crystals_unread,
    is_path,
    names_of,
    open_dataset,
    record_cache,
    refused_line,
    rejections_of,
    resolved,
    usable_rows,
)
from tfmat.runs.progress import SILENT, Progress
from tfmat.runs.train import SPLIT_FILE

if TYPE_CHECKING:
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import Rejection
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
    progress: Progress = SILENT,
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the model of a folder and write what is found below it, see `tfmat.runs.evaluations`.

    Args:
        model: the folder.
        data: names and paths. Default: what the model was trained on.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: ``test``; ``all`` of a file that is not the model's and has no column ``split``.
        batch_size: rows at a time.
        keep: keep crystals and featurized data on disk.
        progress: follows the work.

    Returns:
        The folder that was written, and its scores, see `tfmat.runs.evaluations.write`.
    """
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import FILE_NAME
    from tfmat.data.table import as_crystals
    from tfmat.predictor import Predictor

    predictor = Predictor.load(model)
    cache = RecordCache() if keep else None
    opened = _open(predictor, model, data, split, cache, progress)
    folder = evaluations.folder_of(model, opened.names, opened.split)
    if opened.rejections:
        progress.tell(f"{opened.summary}; all are listed in {folder / FILE_NAME}")
    with record_cache(keep, "composition" if as_crystals(opened.table.materials) is None else "crystal") as records:
        opened = _featurized(opened, predictor, records, folder, progress)
        _warn_about_training_rows(predictor, model, opened, cache, progress)
        with progress.rows("evaluating") as report:
            evaluation = predictor.evaluate(opened.table, batch_size=batch_size, cache=records, report=report)
    about = {"data": " + ".join(opened.names), "split": opened.split}
    with progress.task(f"writing {folder}"):
        return folder, evaluations.write(predictor, evaluation, opened.table, about, opened.rejections, folder)


def own_names(info: dict[str, Any]) -> list[str]:
    """What the model was trained on, of the `info` in its config; empty if it does not say that."""
    own = info.get("dataset") or {}
    return [str(name) for name in own.get("sources") or ([own["name"]] if own else [])]


def given_or_own(predictor: Predictor, data: str | Sequence[str] | None) -> tuple[list[str], bool]:
    """The data that were asked for, by default the model's own, and whether they are its own."""
    own = own_names(predictor.info)
    if not data and not own:
        raise InputError("the model does not say what it was trained on", expected="--data with a dataset or a file")
    chosen = names_of(data) if data else own
    return chosen, bool(own) and resolved(chosen) == resolved(own)


def own_dataset(
    predictor: Predictor, model: Path, names: Sequence[str], cache: RecordCache | None, progress: Progress = SILENT
) -> Dataset:
    """The data that the model was trained on, by their `names`, split as they were then."""
    from tfmat.data.grouped_splits import SplitSpec

    spec = SplitSpec.from_config(predictor.info["split"]) if predictor.info.get("split") else None
    if spec is not None and spec.method == "file" and (model / SPLIT_FILE).is_file():
        spec = dataclasses.replace(spec, file=str(model / SPLIT_FILE))
    material = crystals_unread(predictor.architecture.material)
    return open_dataset(names, _targets(predictor), spec, stated=True, progress=progress, material=material, cache=cache)


def validation_materials(predictor: Predictor, model: Path, most: int, progress: Progress = SILENT) -> list[Any] | None:
    """At most so many of the model's own validation rows, drawn at random, the same ones every time; None, and told, if they are not here.

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


@dataclass(frozen=True)
class _Opened:
    """What is to be scored.

    Attributes:
        table: the rows.
        names: of the data that they come from.
        split: which split they are.
        own: the model's own data, if they come from there.
        rejections: rows of the file that are left out.
        summary: one line on these.
    """

    table: Table
    names: list[str]
    split: str
    own: Dataset | None = None
    rejections: tuple[Rejection, ...] = ()
    summary: str = ""


def _open(
    predictor: Predictor,
    model: Path,
    data: str | Sequence[str] | None,
    split: str | None,
    cache: RecordCache | None,
    progress: Progress,
) -> _Opened:
    from tfmat.datasets import is_packed

    names, same = given_or_own(predictor, data)
    if not same and all(is_path(name) and not is_packed(name) for name in names):
        return _foreign(predictor, names, split, cache, progress)
    if same:
        dataset = own_dataset(predictor, model, names, cache, progress)
    else:
        material = crystals_unread(predictor.architecture.material)
        dataset = open_dataset(names, _targets(predictor), stated=True, progress=progress, material=material, cache=cache)
    if same and dataset.splits["train"].content_hash() != predictor.info["dataset"].get("train_sha256"):
        told = " + ".join(names)
        progress.tell(f"warning: {told} has changed: its training rows are not those that the model was trained on")
    return _chosen(dataset, names, split or "test", same)


def _targets(predictor: Predictor) -> list[str]:
    return [target.name for target in predictor.targets]


def _foreign(predictor: Predictor, names: list[str], split: str | None, cache: RecordCache | None, progress: Progress) -> _Opened:
    """Other files or folders: all of them, unless a split is asked for or a column `split` makes one."""
    from tfmat.data.rejections import summary
    from tfmat.datasets import read_files
    from tfmat.datasets.files import split_user_data

    material, called = crystals_unread(predictor.architecture.material), " + ".join(names)
    with progress.rows(f"reading {called}") as report:
        found = read_files(names, targets=_targets(predictor), material=material, cache=cache, report=report)
    if split == "all" or (split is None and "split" not in found.cells.columns):
        told = summary(found.rejections, found.read) if found.rejections else ""
        return _Opened(found.table, names, "all", None, found.rejections, told)
    return _chosen(split_user_data(found, called), names, split or "test", False)


def _chosen(dataset: Dataset, names: list[str], split: str, own: bool) -> _Opened:
    table = rows_of(dataset, split)
    return _Opened(table, names, split, dataset if own else None, rejections_of(dataset), getattr(dataset, "summary", ""))


def rows_of(dataset: Dataset, split: str) -> Table:
    """The rows of one split, or of ``all``."""
    from tfmat.data.table import Table

    return Table.join(list(dataset.splits.values())) if split == "all" else dataset.table(split)


def _featurized(opened: _Opened, predictor: Predictor, cache: RecordCache | None, folder: Path, progress: Progress) -> _Opened:
    """Featurize into the cache; crystals that cannot be are left out, counted and listed."""
    from tfmat.data.featurized import Featurized
    from tfmat.data.rejections import FILE_NAME
    from tfmat.data.table import as_crystals
    from tfmat.data.user_data import check_material

    if isinstance(opened.table.materials, Featurized):
        return opened
    formulas = as_crystals(opened.table.materials) is None
    if formulas:
        check_material(predictor.architecture.material, "composition", model=predictor.architecture.name, data=" + ".join(opened.names))
        if cache is None:
            return opened
    table, refused = usable_rows(
        opened.table, [predictor.featurizer], opened.split, strict=formulas, cache=cache, progress=progress
    )
    if refused:
        progress.tell(refused_line(refused, len(opened.table), str(folder / FILE_NAME)))
    return dataclasses.replace(opened, table=table, rejections=(*opened.rejections, *refused))


def _warn_about_training_rows(predictor: Predictor, model: Path, opened: _Opened, cache: RecordCache | None, progress: Progress) -> None:
    """Scores on materials of the training split say little about new ones."""
    from tfmat.data.featurized import Featurized
    from tfmat.data.grouped_splits import composition_keys

    own, unseen = own_names(predictor.info), "so an overlap with its training rows cannot be found"
    if not own:
        progress.tell(f"warning: the model does not say what it was trained on, {unseen}")
        return
    try:
        training = (opened.own or own_dataset(predictor, model, own, cache, progress)).splits["train"]
    except InputError:
        progress.tell(f"warning: the model's own data, {' + '.join(own)}, are not here, {unseen}")
        return
    packed = any(isinstance(table.materials, Featurized) for table in (training, opened.table))
    learnt, keys = ((table.ids if packed else composition_keys(table.materials)) for table in (training, opened.table))
    what, known = "an id" if packed else "a composition", set(learnt)
    repeated = sum(key in known for key in keys)
    if repeated:
        told = f"{repeated:,} of {len(opened.table):,} {opened.split} rows have {what} that occurs in the training rows"
        progress.tell(f"warning: {told}")
