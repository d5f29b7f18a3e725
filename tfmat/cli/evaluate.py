"""``tfmat evaluate``."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmat.cli import evaluations
from tfmat.cli.failures import tell
from tfmat.cli.fitting import SPLIT_FILE
from tfmat.cli.materials import (
    crystals_unread,
    featurize,
    is_path,
    open_dataset,
    record_cache,
    rejections_of,
    resolved,
    tell_refused,
    usable,
)
from tfmat.cli.progress import rows_done
from tfmat.cli.quiet import load_tensorflow
from tfmat.cli.settings import known
from tfmat.cli.tables import scores_table
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import Rejection
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.predictor import Predictor

SPLITS = ("train", "validation", "test", "all")


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `tfmat train`.")],
    data: Annotated[str | None, typer.Option(metavar="NAME|FILE|FOLDER", help="Default: what the model was trained on.")] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="|".join(SPLITS), help="Default: test; all of a file that is not the model's and has no column `split`."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Rows at a time.")] = 256,
    keep: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep crystals and featurized data in TFMAT_CACHE_DIR.")] = True,
) -> None:
    """Score a model on data that it has not seen.

    Scores, predictions, plots and, of crystals, the ten worst (worst.jsonl) are written to MODEL/evaluations/DATA-SPLIT, replacing an
    earlier evaluation on the same data.

    \b
    Examples:
      tfmat evaluate runs/lgdcnn-exp_formation_enthalpy
      tfmat evaluate runs/gap --data new_measurements.csv
      tfmat evaluate runs/gap --data new_cifs/
      tfmat evaluate runs/gap --split validation
    """  # noqa: D301
    if split is not None:
        known("split", split, SPLITS)
    load_tensorflow()
    from tfmat.model_directory.files import model_folder

    folder, found = score(model_folder(model), data, split, batch_size, keep)  # a preset is evaluated where it lies
    print(scores_table(f"{found['data']}, {found['split']}", found["scores"], found["units"]))
    print(f"\nwritten to {folder}")


def score(
    model: Path, data: str | None = None, split: str | None = None, batch_size: int = 256, keep: bool = True
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the model of a folder; the other arguments are the options of `evaluate`.

    Returns:
        The folder that was written, and its scores, see `tfmat.cli.evaluations.write`.
    """
    from tfmat.data.cache import RecordCache
    from tfmat.data.rejections import FILE_NAME
    from tfmat.data.table import as_crystals
    from tfmat.predictor import Predictor

    predictor = Predictor.load(model)
    cache = RecordCache() if keep else None
    opened = _open(predictor, model, data, split, cache)
    folder = evaluations.folder_of(model, opened.name, opened.split)
    if opened.rejections:
        tell(f"{opened.summary}; all are listed in {folder / FILE_NAME}")
    with record_cache(keep, "composition" if as_crystals(opened.table.materials) is None else "crystal") as records:
        opened = _featurized(opened, predictor, records, folder)
        _warn_about_training_rows(predictor, model, opened, cache)
        with rows_done("evaluating") as report:
            evaluation = predictor.evaluate(opened.table, batch_size=batch_size, cache=records, report=report)
    about = {"data": opened.name, "split": opened.split}
    return folder, evaluations.write(predictor, evaluation, opened.table, about, opened.rejections, folder)


def own_data(predictor: Predictor) -> dict[str, Any]:
    """What the model says about the data that it was trained on; empty if it was trained by other means than the command line."""
    own: dict[str, Any] = predictor.info.get("dataset") or {}
    return own


def given_or_own(predictor: Predictor, data: str | None) -> tuple[str, bool]:
    """The data that were asked for, by default the model's own, and whether they are its own."""
    own = own_data(predictor)
    if data is None and not own:
        raise InputError("the model does not say what it was trained on", expected="--data with a dataset or a file")
    chosen = str(own["name"]) if data is None else data
    return chosen, bool(own) and resolved(chosen) == resolved(str(own["name"]))


@dataclass(frozen=True)
class _Opened:
    """What is to be scored.

    Attributes:
        table: the rows.
        name: what they are called.
        split: which split they are.
        own: the model's own data, if they come from there.
        rejections: rows of the file that are left out.
        summary: one line on these.
    """

    table: Table
    name: str
    split: str
    own: Dataset | None = None
    rejections: tuple[Rejection, ...] = ()
    summary: str = ""


def _open(predictor: Predictor, model: Path, data: str | None, split: str | None, cache: RecordCache | None) -> _Opened:
    from tfmat.datasets import is_packed

    data, same = given_or_own(predictor, data)
    if not same and is_path(data) and not is_packed(data):
        return _foreign(predictor, data, split, cache)
    dataset = own_dataset(predictor, model, data, cache) if same else open_dataset(data, _targets(predictor))
    if same and dataset.splits["train"].content_hash() != own_data(predictor).get("train_sha256"):
        tell(f"warning: {data} has changed: its training rows are not those that the model was trained on")
    return _chosen(dataset, data, split or "test", same)


def _targets(predictor: Predictor) -> list[str]:
    return [target.name for target in predictor.targets]


def own_dataset(predictor: Predictor, model: Path, name: str, cache: RecordCache | None) -> Dataset:
    """The data that the model was trained on, split as they were then."""
    from tfmat.data.grouped_splits import SplitSpec

    spec = SplitSpec.from_config(predictor.info["split"]) if predictor.info.get("split") else None
    if spec is not None and spec.method == "file" and (model / SPLIT_FILE).is_file():
        spec = dataclasses.replace(spec, file=str(model / SPLIT_FILE))
    return open_dataset(name, _targets(predictor), spec, material=crystals_unread(predictor.architecture.material), cache=cache)


def _foreign(predictor: Predictor, data: str, split: str | None, cache: RecordCache | None) -> _Opened:
    """Another file or folder: all of it, unless a split is asked for or a column `split` makes one."""
    from tfmat.data.rejections import summary
    from tfmat.data.user_data import read_user_data
    from tfmat.datasets.files import split_user_data

    material = crystals_unread(predictor.architecture.material)
    with rows_done(f"reading {data}") as report:
        found = read_user_data(data, targets=_targets(predictor), material=material, cache=cache, report=report)
    if split == "all" or (split is None and "split" not in found.cells.columns):
        told = summary(found.rejections, found.read) if found.rejections else ""
        return _Opened(found.table, data, "all", None, found.rejections, told)
    return _chosen(split_user_data(found, data), data, split or "test", False)


def _chosen(dataset: Dataset, name: str, split: str, own: bool) -> _Opened:
    tables = list(dataset.splits.values()) if split == "all" else [dataset.table(split)]
    rejections = rejections_of(dataset)
    return _Opened(joined(tables), name, split, dataset if own else None, rejections, getattr(dataset, "summary", ""))


def _featurized(opened: _Opened, predictor: Predictor, cache: RecordCache | None, folder: Path) -> _Opened:
    """Featurize into the cache; crystals that cannot be are left out, counted and listed."""
    from tfmat.data.featurized import Featurized
    from tfmat.data.rejections import FILE_NAME, Rejections
    from tfmat.data.table import as_crystals
    from tfmat.data.user_data import check_material

    if isinstance(opened.table.materials, Featurized):
        return opened
    description = f"featurizing {opened.split} rows"
    if as_crystals(opened.table.materials) is None:
        check_material(predictor.architecture.material, "composition", model=predictor.architecture.name, data=opened.name)
        if cache is not None:
            featurize(opened.table, predictor.featurizer, description, cache)
        return opened
    rejections = Rejections()
    table = usable(opened.table, predictor.featurizer, description, cache, rejections)
    tell_refused(rejections.found, len(opened.table), str(folder / FILE_NAME))
    return dataclasses.replace(opened, table=table, rejections=(*opened.rejections, *rejections.found))


def joined(tables: list[Table]) -> Table:
    """The rows of all tables, one after the other."""
    import numpy as np

    from tfmat.data.featurized import Featurized

    if len(tables) == 1:
        return tables[0]
    packed = [table.materials for table in tables if isinstance(table.materials, Featurized)]
    return dataclasses.replace(
        tables[0],
        materials=Featurized.join(packed) if packed else [material for table in tables for material in table.materials],
        targets={name: np.concatenate([table.targets[name] for table in tables]) for name in tables[0].targets},
        ids=[identifier for table in tables for identifier in table.ids],
        rows=np.concatenate([table.rows for table in tables]),
    )


def _warn_about_training_rows(predictor: Predictor, model: Path, opened: _Opened, cache: RecordCache | None) -> None:
    """Scores on materials of the training split say little about new ones."""
    from tfmat.data.featurized import Featurized

    own = own_data(predictor)
    if not own:
        tell("warning: the model does not say what it was trained on, so an overlap with its training rows cannot be found")
        return
    try:
        training = (opened.own or own_dataset(predictor, model, str(own["name"]), cache)).splits["train"]
    except InputError:
        tell(f"warning: the model's own data, {own['name']}, are not here, so an overlap with its training rows cannot be found")
        return
    what, keys = "a composition", compositions
    if any(isinstance(table.materials, Featurized) for table in (training, opened.table)):
        what, keys = "an id", _ids
    learnt = set(keys(training))
    repeated = sum(key in learnt for key in keys(opened.table))
    if repeated:
        tell(f"warning: {repeated:,} of {len(opened.table):,} {opened.split} rows have {what} that occurs in the training rows")


def _ids(table: Table) -> list[bytes]:
    return [identifier.encode() for identifier in table.ids]


def compositions(table: Table) -> list[bytes]:
    """One key a row: the same for formulas of the same composition in any notation."""
    import numpy as np

    from tfmat.data.table import as_crystals
    from tfmat.featurizers.composition import CompositionFeaturizer

    crystals = as_crystals(table.materials)
    records = CompositionFeaturizer(max_elements=118).featurize(table.materials if crystals is None else crystals)
    species, fractions, offsets = records.values["species"], records.values["fractions"], records.offsets["species"]
    row = np.repeat(np.arange(len(table)), np.diff(offsets))
    order = np.lexsort((species, row))
    pairs = np.stack([species[order].astype(np.int32), np.round(fractions[order] * 1e5).astype(np.int32)], axis=1)
    return [pairs[start:end].tobytes() for start, end in itertools.pairwise(offsets)]
