"""What a dataset is, independent of where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfmat.data.splits import SPLITS
from tfmat.data.table import Table
from tfmat.datasets.source import Material
from tfmat.errors import InputError
from tfmat.target import Target, Task


@dataclass(frozen=True)
class Dataset:
    """Tables for training, validation and test, and what is to be said about them.

    Attributes:
        name: as passed to `tfmat.datasets.load`, or the path of a file.
        version: changes when the rows, values or splits do.
        title: one line.
        units: target -> unit; ``""`` where it is dimensionless or, for a user's file, unknown.
        tasks: target -> ``regression`` or ``binary``.
        material: what the materials are: formulas, or crystals (`tfmat.crystal.Crystals`).
        splits: ``train``, ``validation`` and ``test`` -> table.
        official_split: whether the split is a published one (see the dataset's ``load`` for whose), not tfmat's own.
        citation: whom to cite.
        licence: of the data.
        url: where it comes from.
    """

    name: str
    version: str
    title: str
    units: Mapping[str, str]
    tasks: Mapping[str, Task]
    material: Material
    splits: Mapping[str, Table]
    official_split: bool
    citation: str = ""
    licence: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        if tuple(self.splits) != SPLITS:
            raise ValueError(f"`splits` must have the keys {SPLITS}. Received: {tuple(self.splits)}")
        for split, table in self.splits.items():
            if not set(table.targets) == set(self.units) == set(self.tasks):
                names = f"{sorted(table.targets)}, {sorted(self.units)}, {sorted(self.tasks)}"
                raise ValueError(f"split {split!r}, `units` and `tasks` must have the same targets. Received: {names}")

    def __repr__(self) -> str:
        targets = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in self.units.items())
        rows = ", ".join(f"{len(table):,} {name}" for name, table in self.splits.items())
        return f"{type(self).__name__}({self.name}: {self.material}s, {rows}; targets: {targets})"

    @property
    def train(self) -> Table:
        """The rows to learn."""
        return self.splits["train"]

    @property
    def validation(self) -> Table:
        """The rows by which models are chosen."""
        return self.splits["validation"]

    @property
    def test(self) -> Table:
        """The rows for the final score."""
        return self.splits["test"]

    @property
    def targets(self) -> tuple[Target, ...]:
        """What can be predicted, with units; `tfmat.Predictor.fit` fits the scales."""
        return tuple(Target(name, unit, self.tasks[name]) for name, unit in self.units.items())

    def with_units(self, units: Mapping[str, str]) -> Dataset:
        """The dataset with these units: target -> unit. Values are never converted, so a unit that is known must be the same."""
        for name, unit in units.items():
            if name in self.units and self.units[name] not in ("", unit):
                raise InputError(
                    f"dataset {self.name!r} gives {name} in {self.units[name]}, not in {unit}",
                    expected="its own unit: values are not converted",
                )
        return replace(self, units={name: units.get(name, unit) for name, unit in self.units.items()})

    def provenance(self) -> dict[str, Any]:
        """What the config of a model says about its data, JSON-able: ``train_sha256`` is of the training rows."""
        about = {name: getattr(self, name) for name in ("name", "version", "title")}
        about["rows"] = {name: len(table) for name, table in self.splits.items()}
        about |= {name: getattr(self, name) for name in ("official_split", "licence", "citation", "url")}
        return about | {"train_sha256": self.splits["train"].content_hash(), "split": None}

    def select(self, targets: Sequence[str] | None) -> Dataset:
        """The dataset with these `targets` alone; `None` keeps all."""
        if targets is None:
            return self
        for name in targets:
            if name not in self.units:
                raise InputError(f"dataset {self.name!r} has no target {name!r}", expected=f"one of {', '.join(self.units)}")
        return replace(
            self,
            units={name: self.units[name] for name in targets},
            tasks={name: self.tasks[name] for name in targets},
            splits={split: replace(table, targets={name: table.targets[name] for name in targets}) for split, table in self.splits.items()},
        )


@dataclass(frozen=True)
class Listing:
    """One line of the list of datasets, known without reading any data.

    Attributes:
        name: as passed to `tfmat.datasets.load`.
        title: one line.
        rows: number of rows as published.
        folds: number of published cross-validation folds, loaded as ``<name>/fold0`` and so on.
        units: target -> unit.
        licence: of the data.
        present: whether it can be loaded now, without a download.
        origin: where it comes from.
        material: ``composition`` or ``crystal``.
        splits: ``train``, ``validation``, ``test``, or ``fold0`` and so on -> rows as published; where a formula stands several times in a
            composition set, loading merges its training rows.
        official_split: whether these are published ones.
        size: of its files where they are present, else of the download [B]; `None` where that is unknown.
        notes: what to know before quoting a score.
        tfds_name: as passed to ``tfds.load``.
    """

    name: str
    title: str
    rows: int
    folds: int
    units: Mapping[str, str]
    licence: str
    present: bool
    origin: str
    material: Material = "composition"
    splits: Mapping[str, int] = field(default_factory=dict)
    official_split: bool = False
    size: int | None = None
    notes: str = ""
    tfds_name: str = ""


def data_dir() -> Path | None:
    """The folder of ``TFMAT_DATA_DIR``, or `None` where it is unset or empty."""
    chosen = os.environ.get("TFMAT_DATA_DIR")
    return Path(chosen).expanduser() if chosen else None
