"""The data of a run: datasets, files and targets as options name them, and the rows of them that are used."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tfmat.errors import InputError
from tfmat.runs.config import Settings
from tfmat.runs.progress import SILENT, Progress
from tfmat.runs.settings import known

if TYPE_CHECKING:
    from tfmat.crystal import Material
    from tfmat.data.cache import RecordCache
    from tfmat.data.read.user_data import UserData
    from tfmat.data.rejections import Rejection
    from tfmat.data.splits import SplitSpec
    from tfmat.data.table import Table
    from tfmat.datasets import Dataset
    from tfmat.featurizers.base import Featurizer
    from tfmat.target import Target


def names_of(data: str | Sequence[str]) -> list[str]:
    """List the names and paths that are meant: those of a list, or a single one."""
    return [data] if isinstance(data, str) else list(data)


def resolved(data: str | Sequence[str]) -> str | list[str]:
    """Make paths absolute, so that another working directory does not matter; names of datasets stay as they are."""
    found = [str(Path(name).absolute()) if is_path(name) else name for name in names_of(data)]
    return found[0] if len(found) == 1 else found


def is_path(data: str) -> bool:
    """Tell whether `data` is a file or folder that exists, not the name of a dataset."""
    from tfmat.datasets import names

    return data not in names(folds=True) and Path(data).exists()


def check_data(data: str | Sequence[str]) -> None:
    """Refuse names and paths that do not exist. This takes no time, so do it before what does."""
    from tfmat.datasets import check_name

    for name in names_of(data):
        check_name(name)


def open_dataset(
    data: str | Sequence[str],
    targets: Sequence[str] | None,
    split: SplitSpec | str | None = None,
    label: str | Sequence[str] | None = None,
    *,
    stated: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> Dataset:
    """Read a dataset, a file or a folder, or several of them as one.

    Args:
        data: names and paths.
        targets: the targets wanted, None: see `tfmat.datasets.open_data`.
        split: of files.
        label: what each is called where that is not its path.
        stated: units are stated elsewhere.
        progress: follows reading that takes long.
        options: further ones of `tfmat.datasets.open_data`.
    """
    from tfmat.datasets import open_data

    for name in targets or ():
        if list(targets or ()).count(name) > 1:
            raise InputError(f"--target {name!r} is given twice")
    paths, labels = names_of(data), names_of(label or data)
    with progress.rows(f"reading {' + '.join(labels)}") as report:
        dataset = open_data(paths, targets=targets or None, split=split, report=report, stated=stated, **options)
    if paths == labels or dataset.name != " + ".join(paths):
        return dataset
    name = " + ".join(labels)
    changes: dict[str, Any] = {"sources": tuple(labels)} if len(labels) > 1 else {}
    return dataclasses.replace(dataset, name=name, title=dataset.title.replace(dataset.name, name), **changes)


def open_for(
    settings: Settings, targets: list[str] | None, spec: SplitSpec | None, *, stated: bool = False, progress: Progress = SILENT
) -> Dataset:
    """Read the data of a run, which must be what its architecture learns from; see `open_dataset`."""
    from tfmat import architecture
    from tfmat.data.cache import RecordCache
    from tfmat.data.read.user_data import check_material

    needed, cache = architecture.get(settings.architecture).material, RecordCache() if settings.cache else None
    dataset = open_dataset(
        settings.data, targets, spec, settings.label, stated=stated, progress=progress, material=crystals_unread(needed),
        strict=settings.strict, cache=cache, **settings.reading,
    )  # fmt: skip
    check_material(needed, dataset.material, model=settings.architecture, data=dataset.name)
    return dataset


def crystals_unread(material: Material) -> Material | None:
    """Choose what a file is read as: its formulas alone where a model needs no more (crystals take long), else whatever it holds."""
    return "composition" if material == "composition" else None


def split_spec(split: str | None, seed: int, folds: int, fold: int | None) -> SplitSpec | None:
    """Tell how the options want a file to be split; None leaves it to the file."""
    from tfmat.data.splits import SplitSpec

    if not folds and fold is not None:
        raise InputError("--fold without --folds", expected="for example --folds 5 --fold 0")
    if folds and fold is None:
        raise InputError("--folds without --fold", expected=f"--fold with a number from 0 to {folds - 1}")
    if split is None and not folds and not seed:
        return None
    spec = SplitSpec.parse(split or "random", seed=seed, folds=folds, fold=fold or 0)
    return dataclasses.replace(spec, file=str(Path(spec.file).absolute())) if spec.method == "file" else spec


def split_of(dataset: Dataset) -> SplitSpec | None:
    """Tell how a user's file was split; a dataset has its own split: None."""
    found: SplitSpec | None = getattr(dataset, "split", None)
    return found


def rejections_of(dataset: Dataset | UserData) -> tuple[Rejection, ...]:
    """List the rows and files that were left out."""
    found: tuple[Rejection, ...] = getattr(dataset, "rejections", ())
    return found


def targets_for(
    dataset: Dataset,
    units: Sequence[str] | None,
    tasks: Sequence[str] | None,
    transforms: Sequence[str] | None,
    known_targets: Sequence[Target] = (),
) -> list[Target]:
    """Make the dataset's targets with the units, tasks and transforms of the options, each given for none, for all or for each.

    Where an option is silent, `known_targets` (of a config) count.
    """
    from tfmat.target import Target, Task, Transform

    names = list(dataset.units)
    chosen_units = _each("--unit", units or [t.unit for t in known_targets], names) or [dataset.units[name] for name in names]
    chosen_tasks = _each("--task", tasks or [t.task for t in known_targets], names) or [dataset.tasks[name] for name in names]
    chosen_transforms = _each("--transform", transforms or [t.transform for t in known_targets], names) or ["none"] * len(names)
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


@contextlib.contextmanager
def record_cache(keep: bool, material: Material) -> Iterator[RecordCache | None]:
    """Give the cache for featurized data; without `keep`, crystals are kept for as long as the block runs, as they take long."""
    from tfmat.data.cache import RecordCache

    if keep or material != "crystal":
        yield RecordCache() if keep else None
        return
    with tempfile.TemporaryDirectory(prefix="tfmat-", ignore_cleanup_errors=True) as folder:
        yield RecordCache(folder)


def with_values(table: Table, split: str, progress: Progress = SILENT) -> Table:
    """Keep the rows with at least one target; the others are told."""
    import numpy as np

    present = np.zeros(len(table), bool)
    for values in table.targets.values():
        present |= np.isfinite(values)
    if present.all():
        return table
    missing, first = int((~present).sum()), table.place(int(np.argmin(present)))
    told = f"{missing:,} of {len(table):,} {split} rows have no target value and are not used (the first is row {first['row']})"
    progress.tell(f"{first['file']}: {told}")
    return table.subset(np.flatnonzero(present)) if present.any() else table


def featurize_split(
    table: Table,
    featurizers: Sequence[Featurizer],
    name: str,
    *,
    strict: bool = False,
    cache: RecordCache | None = None,
    progress: Progress = SILENT,
) -> tuple[Table, list[Rejection]]:
    """Featurize rows into the cache; those of which that is not possible are left out.

    Args:
        table: the rows.
        featurizers: a row must suit all of them.
        name: of the rows, in what is told.
        strict: a row of which it is not possible is an error.
        cache: where the result is kept.
        progress: follows the work.

    Returns:
        The rows that can be featurized, and the others.
    """
    from tfmat.data.featurize import usable_table
    from tfmat.data.rejections import Rejections

    rejections = Rejections(strict)
    for featurizer in featurizers:
        with progress.rows(f"featurizing {name} rows") as report:
            table = usable_table(table, featurizer, rejections, cache, report=report)
    return table, rejections.found


def refused_line(refused: Sequence[Rejection], rows: int, where: str) -> str:
    """Say how many of so many rows cannot be featurized, and which file lists them."""
    return f"{len(refused):,} of {rows:,} crystals cannot be featurized; the first is {refused[0]}; all are listed in {where}"
