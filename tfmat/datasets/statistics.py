"""What the rows of a dataset are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfmat.crystal import Crystals
from tfmat.data.packed import Featurized
from tfmat.data.splits import composition_keys
from tfmat.datasets.dataset import Dataset
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.target import Task


@dataclass(frozen=True)
class TargetStatistics:
    """What the values of one target are like over all splits. All are in its unit, and NaN where there is no value.

    Attributes:
        unit: ``""`` where it is dimensionless or unknown.
        task: ``regression`` or ``binary``.
        count: values there are.
        missing: rows without.
        min: smallest value.
        max: largest value.
        mean: of all values.
        median: of all values.
        std: standard deviation.
        mad: mean absolute deviation from the mean, the error of always predicting the mean.
    """

    unit: str
    task: Task
    count: int
    missing: int
    min: float
    max: float
    mean: float
    median: float
    std: float
    mad: float


@dataclass(frozen=True)
class Statistics:
    """What the rows of a dataset are like.

    Attributes:
        name: of the dataset.
        title: one line.
        material: ``composition`` or ``crystal``.
        splits: split -> rows as loaded.
        targets: target -> what its values are like.
        elements: symbol -> number of materials with it, most frequent first.
        sites: smallest, median and largest number of sites of a crystal; `None` for compositions.
        components: smallest, median and largest number of different elements of a material.
        formulas: number of different formulas.
    """

    name: str
    title: str
    material: str
    splits: Mapping[str, int]
    targets: Mapping[str, TargetStatistics]
    elements: Mapping[str, int]
    sites: tuple[int, float, int] | None
    components: tuple[int, float, int]
    formulas: int

    @property
    def rows(self) -> int:
        """Number of rows of all splits."""
        return sum(self.splits.values())


def statistics(dataset: Dataset) -> Statistics:
    """Statistics over all splits of a loaded dataset.

    Raises:
        InputError: it is a packed one.
    """
    tables = list(dataset.splits.values())
    present, formulas, sites = np.zeros(len(SYMBOLS), np.int64), set[bytes](), []
    components: list[np.ndarray] = []
    for table in tables:
        if isinstance(table.materials, Featurized):
            raise InputError("its materials are featurized", file=table.source, expected="the dataset that it was packed from")
        if isinstance(table.materials, Crystals):
            sites.append(table.materials.sites)
        keys = composition_keys(table.materials) if len(table) else []
        # A key holds eight bytes per element, of which the first four are the atomic number.
        components.append(np.asarray([len(key) // 8 for key in keys], np.int64))
        present += np.bincount(np.frombuffer(b"".join(keys), ">i8") >> 32, minlength=len(SYMBOLS))
        formulas.update(keys)
    return Statistics(
        name=dataset.name,
        title=dataset.title,
        material=dataset.material,
        splits={split: len(table) for split, table in dataset.splits.items()},
        targets={name: _values(dataset, name) for name in dataset.units},
        elements=dict(sorted(((SYMBOLS[z], int(present[z])) for z in np.flatnonzero(present)), key=lambda item: (-item[1], item[0]))),
        sites=_range(np.concatenate(sites)) if sites else None,
        components=_range(np.concatenate(components)),
        formulas=len(formulas),
    )


def _values(dataset: Dataset, name: str) -> TargetStatistics:
    column = np.concatenate([table.targets[name] for table in dataset.splits.values()])
    known = column[~np.isnan(column)]
    summary = [float("nan")] * 6
    if known.size:
        mean = known.mean()
        summary = [float(x) for x in (known.min(), known.max(), mean, np.median(known), known.std(), np.abs(known - mean).mean())]
    return TargetStatistics(dataset.units[name], dataset.tasks[name], known.size, column.size - known.size, *summary)


def _range(values: np.ndarray) -> tuple[int, float, int]:
    return int(values.min()), float(np.median(values)), int(values.max())
