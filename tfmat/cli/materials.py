"""Datasets and targets as the options name them."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tfmat.cli.failures import tell
from tfmat.cli.progress import rows_done
from tfmat.cli.settings import known
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.crystal import Material
    from tfmat.data.cache import RecordCache
    from tfmat.data.grouped_splits import SplitSpec
    from tfmat.data.rejections import Rejection, Rejections
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.featurizers.base import Featurizer
    from tfmat.target import Target


def resolved(data: str) -> str:
    """The absolute path of a file or folder, so that another working directory does not matter; a dataset's name as it is."""
    return str(Path(data).absolute()) if is_path(data) else data


def is_path(data: str) -> bool:
    """Whether `data` is a file or folder that exists, not the name of a dataset."""
    from tfmat.datasets import names

    return data not in names(folds=True) and Path(data).exists()


def open_dataset(
    data: str,
    targets: Sequence[str] | None,
    split: SplitSpec | str | None = None,
    label: str | None = None,
    *,
    material: Material | None = None,
    strict: bool = False,
    cache: RecordCache | None = None,
) -> Dataset:
    """Read a dataset, a file or a folder; reading that takes long is told. `label` is what it is called."""
    from tfmat.datasets import open_data

    for name in targets or ():
        if list(targets or ()).count(name) > 1:
            raise InputError(f"--target {name!r} is given twice")
    with rows_done(f"reading {label or data}") as report:
        dataset = open_data(data, targets=targets or None, split=split, material=material, strict=strict, cache=cache, report=report)
    if label in (None, data) or dataset.name != data:
        return dataset
    return dataclasses.replace(dataset, name=label, title=dataset.title.replace(data, label))


def crystals_unread(material: Material) -> Material | None:
    """What a file is read as: its formulas alone where a model needs no more, else whatever it holds."""
    return "composition" if material == "composition" else None


def split_spec(split: str | None, seed: int, folds: int, fold: int | None) -> SplitSpec | None:
    """How the options want a file to be split; None leaves it to the file."""
    from tfmat.data.grouped_splits import SplitSpec

    if not folds and fold is not None:
        raise InputError("--fold without --folds", expected="for example --folds 5 --fold 0")
    if folds and fold is None:
        raise InputError("--folds without --fold", expected=f"--fold with a number from 0 to {folds - 1}")
    if split is None and not folds and not seed:
        return None
    spec = SplitSpec.parse(split or "random", seed=seed, folds=folds, fold=fold or 0)
    return dataclasses.replace(spec, file=str(Path(spec.file).absolute())) if spec.method == "file" else spec


def split_of(dataset: Dataset) -> SplitSpec | None:
    """How a user's file was split; None for a dataset, which has its own."""
    found: SplitSpec | None = getattr(dataset, "split", None)
    return found


def rejections_of(dataset: Dataset) -> tuple[Rejection, ...]:
    """Rows and files that were left out."""
    found: tuple[Rejection, ...] = getattr(dataset, "rejections", ())
    return found


def featurize(table: Table, featurizer: Featurizer, description: str, cache: RecordCache | None) -> None:
    """Featurize into the cache, with progress; work that is kept already takes no time."""
    from tfmat.data.cache import featurize_table

    if not len(table):  # no test rows
        return
    with rows_done(description) as report:
        featurize_table(table, featurizer, cache, report=report)


def usable(table: Table, featurizer: Featurizer, description: str, cache: RecordCache | None, rejections: Rejections) -> Table:
    """Featurize into the cache, with progress; the rows that cannot be featurized are rejected, the others returned."""
    from tfmat.data.usable import usable_table

    with rows_done(description) as report:
        return usable_table(table, featurizer, rejections, cache, report=report)


@contextlib.contextmanager
def record_cache(keep: bool, material: Material) -> Iterator[RecordCache | None]:
    """Where featurized data are kept; without `keep`, crystals are kept for as long as the block runs, as they take long to featurize."""
    from tfmat.data.cache import RecordCache

    if keep or material != "crystal":
        yield RecordCache() if keep else None
        return
    with tempfile.TemporaryDirectory(prefix="tfmat-", ignore_cleanup_errors=True) as folder:
        yield RecordCache(folder)


def tell_refused(refused: Sequence[Rejection], rows: int, where: str) -> None:
    """Say how many rows cannot be featurized, if any.

    Args:
        refused: these rows.
        rows: number of rows that were featurized.
        where: the file that lists them.
    """
    if refused:
        tell(f"{len(refused):,} of {rows:,} crystals cannot be featurized; the first is {refused[0]}; all are listed in {where}")


def make_targets(dataset: Dataset, units: Sequence[str], tasks: Sequence[str], transforms: Sequence[str]) -> list[Target]:
    """The dataset's targets with the units, tasks and transforms of the options: none, one for all, or one each."""
    from tfmat.target import Target, Task, Transform

    names = list(dataset.units)
    chosen_units = _each("--unit", units, names) or [dataset.units[name] for name in names]
    chosen_tasks = _each("--task", tasks, names) or [dataset.tasks[name] for name in names]
    chosen_transforms = _each("--transform", transforms, names) or ["none"] * len(names)
    found = []
    for name, unit, kind, transform in zip(names, chosen_units, chosen_tasks, chosen_transforms, strict=True):
        own = dataset.units[name]
        if own and unit != own:
            raise InputError(
                f"--unit {unit!r}: dataset {dataset.name} gives {name} in {own}", expected="no --unit: values are never converted"
            )
        known("task", kind, get_args(Task))
        known("transform", transform, get_args(Transform))
        if not name.isidentifier():
            expected = "a column name of letters, digits and _, for example band_gap, with the unit given by --unit"
            raise InputError(f"column {name!r} cannot name a target", expected=expected, file=dataset.name, row=1)
        try:
            found.append(Target(name, unit, kind, transform))  # type: ignore[arg-type]
        except ValueError as error:
            raise InputError(f"target {name!r}: {error}") from None
    return found


def _each(option: str, values: Sequence[str], names: Sequence[str]) -> list[str]:
    if len(values) in (0, len(names)):
        return list(values)
    if len(values) == 1:
        return list(values) * len(names)
    raise InputError(f"{option} is given {len(values)} times", expected=f"once for all, or once for each of {', '.join(names)}")


def with_values(table: Table, split: str) -> Table:
    """The rows with at least one target; the others are told."""
    import numpy as np

    present = np.zeros(len(table), bool)
    for values in table.targets.values():
        present |= np.isfinite(values)
    if present.all():
        return table
    missing = int((~present).sum())
    first = int(table.rows[np.argmin(present)])
    tell(f"{table.source}: {missing:,} of {len(table):,} {split} rows have no target value and are not used (the first is row {first})")
    return table.subset(np.flatnonzero(present)) if present.any() else table


def provenance(dataset: Dataset, refused: Mapping[str, Sequence[Rejection]]) -> dict[str, Any]:
    """What a model's config says about its data.

    ``split`` is the method by which a file was split, ``rows`` counts without what is rejected, and ``train_sha256`` is of the training
    rows as they are read.

    Args:
        dataset: as it was read.
        refused: split -> its rows that cannot be featurized.
    """
    spec, rejected = split_of(dataset), len(rejections_of(dataset)) + sum(len(rows) for rows in refused.values())
    rows = {name: len(table) - len(refused.get(name, ())) for name, table in dataset.splits.items()}
    about = dataset.provenance() | {"rows": rows, "split": spec.method if spec else None}
    return about | ({"rejected": rejected} if rejected else {})
