"""What a dataset is, independent of where it comes from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.crystal import Material
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import Usable, featurize_usable
from tfmat.data.rejections import Rejections
from tfmat.data.splits import SPLITS
from tfmat.data.table import Table
from tfmat.datasets.source import Source
from tfmat.errors import InputError
from tfmat.target import Target, Task

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfmat.featurizers.base import Featurizer

_LOGGER = logging.getLogger("tfmat")


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

    def table(self, split: str) -> Table:
        """The rows of ``train``, ``validation`` or ``test``; an `InputError` where there are none."""
        if split not in self.splits:
            raise InputError(f"unknown split {split!r}", expected=f"one of {', '.join(SPLITS)}")
        if not len(self.splits[split]):
            there = " and ".join(name for name, table in self.splits.items() if len(table))
            raise InputError(f"dataset {self.name!r} has no {split} rows", expected=f"a split that gives some; there are {there} rows")
        return self.splits[split]

    @classmethod
    def of(cls, source: Source, splits: Mapping[str, Table], fold: int | None = None, fold_name: str = "fold") -> Dataset:
        """The dataset that `source` describes.

        Args:
            source: its name, units and so on.
            splits: ``train``, ``validation`` and ``test`` -> table.
            fold: number of the published fold that these are; None for the whole dataset.
            fold_name: what the title calls the fold.
        """
        same = {name: getattr(source, name) for name in ("version", "units", "material", "citation", "licence", "url")}
        return cls(
            name=source.name if fold is None else f"{source.name}/fold{fold}",
            title=source.title if fold is None else f"{source.title}, {fold_name} {fold}",
            tasks={target: source.task(target) for target in source.units},
            splits={split: splits[split] for split in SPLITS},
            official_split=source.official_split or fold is not None,
            **same,
        )

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

    @cached_property
    def _usable(self) -> dict[tuple[str, str], Usable]:
        """Split and featurizer -> what `usable` has found."""
        return {}

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """What can be predicted, with units and the scales of the training rows, in which `to_tf` gives the values."""
        targets = [Target(name, unit, self.tasks[name]) for name, unit in self.units.items()]
        known = {name: values for name, values in self.train.targets.items() if np.isfinite(values).any()}
        return tuple(target.fit(known[target.name]) if target.name in known else target for target in targets)

    def targets_named(self, names: Iterable[str]) -> tuple[Target, ...]:
        """Those of `targets` that a model with outputs of these names predicts."""
        targets = {target.name: target for target in self.targets}
        for name in names:
            if name not in targets:
                problem = f"dataset {self.name!r} has no target {name!r}, which is an output of the model"
                raise InputError(problem, expected=f"one of {', '.join(targets)}")
        return tuple(targets[name] for name in names)

    def usable(self, split: str, featurizer: Featurizer, cache: RecordCache | None = None) -> Usable:
        """The rows of a split that `featurizer` accepts; a warning tells how many others there are. Featurized once and kept in memory.

        Args:
            split: ``train``, ``validation`` or ``test``.
            featurizer: what a model reads materials through.
            cache: keeps the arrays on disk too.

        Raises:
            InputError: there is no row, or none that is accepted.
        """
        table, key = self.table(split), (split, repr(featurizer))
        if key not in self._usable:
            rejections = Rejections()
            self._usable[key] = featurize_usable(table, featurizer, rejections, cache)
            if refused := rejections.found:
                told = f"{len(refused):,} of {len(table):,} {self.material}s cannot be featurized and are left out"
                _LOGGER.warning("%s: %s; the first is %s", self.name, told, refused[0])
        return self._usable[key]

    def to_tf(
        self, split: str, model: keras.Model | Featurizer, *, batch_size: int = 32, seed: int | None = None
    ) -> tf.data.Dataset | keras.utils.PyDataset:
        """A split as ``fit`` and ``evaluate`` of Keras take it: batches of (inputs, targets, weights), each a dictionary by name.

        Targets (B, 1) are in scaled units, which ``unscale`` of `targets` turns into physical ones. Where a value is missing, and in rows
        that only fill up a batch, it is 0 with the weight 0: losses and ``weighted_metrics`` leave it out, ``metrics`` count it. The other
        weights make up for it, so that the mean loss is that of the values that are there.

        Args:
            split: ``train``, ``validation`` or ``test``. Materials that cannot be featurized are left out, see `usable`.
            model: of `tfmat.zoo`; its inputs and targets are given, as its own keywords (``cutoff``) want them. Or a featurizer: then
                all its arrays and all targets are given.
            batch_size: most rows per batch; large crystals come in smaller ones.
            seed: of the shuffling, which differs from epoch to epoch. None keeps the order.

        Returns:
            A `tf.data.Dataset` under TensorFlow, elsewhere a `keras.utils.PyDataset`.
        """
        import keras

        from tfmat.batching.pipeline import Batches

        featurizer: Any = getattr(model, "featurizer", model)
        if isinstance(featurizer, keras.Model):
            raise InputError(f"the model {featurizer.name!r} does not say what it reads", expected="a model of tfmat.zoo, or a featurizer")
        names = list(getattr(model, "output_names", self.units))
        found = self.usable(split, featurizer)
        scaled = {target.name: target.scale(found.table.targets[target.name]) for target in self.targets_named(names)}
        inputs = getattr(model, "input", None)
        return Batches.of(found.records, scaled, batch_size, inputs=inputs, seed=seed, missing=0.0).feed()

    def with_units(self, units: Mapping[str, str]) -> Dataset:
        """The dataset with these units: target -> unit. Values are never converted, so a unit that is known must be the same."""
        for name, unit in units.items():
            if name in self.units and self.units[name] not in ("", unit):
                raise InputError(
                    f"dataset {self.name!r} gives {name} in {self.units[name]}, not in {unit}",
                    expected="its own unit: values are not converted",
                )
        return replace(self, units={name: units.get(name, unit) for name, unit in self.units.items()})

    def provenance(self, refused: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Describe the data for the config of a model, JSON-able: ``train_sha256`` is of the training rows.

        Args:
            refused: split -> how many of its rows the model's featurizer refuses; they are not counted.
        """
        refused = refused or {}
        about = {name: getattr(self, name) for name in ("name", "version", "title")}
        about["rows"] = {name: len(table) - refused.get(name, 0) for name, table in self.splits.items()}
        about |= {name: getattr(self, name) for name in ("official_split", "licence", "citation", "url")}
        about |= {"train_sha256": self.splits["train"].content_hash(), "split": None}
        rejected = self.rejected + sum(refused.values())
        return about | ({"rejected": rejected} if rejected else {})

    def about(self, featurizer: Featurizer) -> dict[str, Any]:
        """Describe the data for `tfmat.Predictor.info` of a model that reads materials through `featurizer`."""
        used = {split: len(rows.table) for (split, key), rows in self._usable.items() if key == repr(featurizer)}
        return {"dataset": self.provenance({split: len(self.splits[split]) - rows for split, rows in used.items()})}

    @property
    def rejected(self) -> int:
        """How many rows of a file are left out because they cannot be read."""
        return 0

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
