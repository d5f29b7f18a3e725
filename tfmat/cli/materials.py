"""Datasets and targets as the options name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tfmat.cli.failures import tell
from tfmat.cli.progress import task
from tfmat.cli.settings import known
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.target import Target


def resolved(data: str) -> str:
    """The absolute path of a file, so that another working directory does not matter; a dataset's name as it is."""
    from tfmat.datasets import names

    return data if data in names(folds=True) or not Path(data).is_file() else str(Path(data).absolute())


def open_dataset(data: str, targets: Sequence[str] | None, split: str | None, label: str | None = None) -> Dataset:
    """Read a dataset or a file; reading that takes long is told. `label` is what it is called."""
    from tfmat.datasets import open_data

    for name in targets or ():
        if list(targets or ()).count(name) > 1:
            raise InputError(f"--target {name!r} is given twice")
    with task(f"reading {label or data}"):
        dataset = open_data(data, targets=targets or None, split=split)
    if label is None or label == data:
        return dataset
    return dataclasses.replace(dataset, name=label, title=dataset.title.replace(data, label))


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


def provenance(dataset: Dataset, split: str | None) -> dict[str, Any]:
    """What a model's config says about its data; ``split`` is how a file was split."""
    return {
        "name": dataset.name,
        "version": dataset.version,
        "title": dataset.title,
        "rows": {name: len(table) for name, table in dataset.splits.items()},
        "official_split": dataset.official_split,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "url": dataset.url,
        "train_sha256": dataset.splits["train"].content_hash(),
        "split": split,
    }
