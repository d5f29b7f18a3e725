"""A user's own file or folder as a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tfmat.crystal import Material
from tfmat.data.bounded import LIMITS, Limits
from tfmat.data.cache import RecordCache
from tfmat.data.grouped_splits import SplitSpec
from tfmat.data.rejections import Rejection, summary
from tfmat.data.structures import Report
from tfmat.data.user_data import UserData, read_user_data
from tfmat.datasets.dataset import Dataset
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer


@dataclass(frozen=True, repr=False)
class FileDataset(Dataset):
    """A dataset from a user's file or folder.

    Attributes:
        rejections: the rows and files that are left out, for `tfmat.data.write_rejections`.
        read: how many rows and files were looked at.
        split: how it was split.
    """

    rejections: tuple[Rejection, ...] = ()
    read: int = 0
    split: SplitSpec = field(default_factory=SplitSpec)

    @property
    def summary(self) -> str:
        """One line on what is left out, empty where nothing is."""
        return summary(self.rejections, self.read) if self.rejections else ""

    @property
    def rejected(self) -> int:
        """How many rows and files are left out because they cannot be read."""
        return len(self.rejections)

    def provenance(self, featurizer: Featurizer | None = None) -> dict[str, Any]:
        """See `Dataset.provenance`; ``split`` is the method by which the file was split."""
        return super().provenance(featurizer) | {"split": self.split.method}

    def about(self, featurizer: Featurizer) -> dict[str, Any]:
        """See `Dataset.about`; ``split`` is how `tfmat evaluate` splits the file again."""
        return super().about(featurizer) | {"split": self.split.to_config()}

    def ids(self) -> dict[str, list[str]]:
        """Ids of each split, for `tfmat.data.write_split_file`."""
        return {name: list(table.ids) for name, table in self.splits.items()}


def open_file(
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] | str | None = None,
    split: str | SplitSpec | None = None,
    seed: int = 0,
    material: Material | None = None,
    strict: bool = False,
    limits: Limits = LIMITS,
    processes: int | None = None,
    cache: RecordCache | None = None,
    report: Report | None = None,
) -> FileDataset:
    """Read and split a user's file or folder. Units are unknown, all targets are regression.

    Args:
        path: a CSV or JSON lines file of formulas or crystals, or a folder of CIF and POSCAR files with ``id_prop.csv``.
        targets: the targets wanted; see `tfmat.data.read_user_data`.
        split: see `SplitSpec` and `SplitSpec.parse`. Default: ``column`` if there is a column ``split``, else ``random``.
        seed: of a split that is given by name.
        material: see `tfmat.data.read_user_data`.
        strict: the first bad row is an error.
        limits: what is still read.
        processes: how many parse structure files.
        cache: keeps crystals that were parsed; a file with the same content is then not parsed again.
        report: progress callback.
    """
    spec = SplitSpec.parse(split, seed=seed) if isinstance(split, str) else split
    data = read_user_data(
        path, targets=targets, material=material, strict=strict, limits=limits, processes=processes, cache=cache, report=report
    )
    return split_user_data(data, str(path), spec, seed)


def split_user_data(data: UserData, name: str, spec: SplitSpec | None = None, seed: int = 0) -> FileDataset:
    """Split what `read_user_data` returned."""
    table, columns = data.table, data.cells.columns
    spec = spec or SplitSpec("column" if "split" in columns else "random", seed=seed)
    try:
        rows = spec.rows(table.materials, table.ids, columns.get(spec.column))
    except InputError as error:
        row = error.row if error.index is None else int(data.cells.rows[error.index])
        told = f" ({summary(data.rejections, data.read)})" if data.rejections else ""
        raise InputError(error.problem + told, expected=error.expected, file=error.file or data.cells.source, row=row) from None
    return FileDataset(
        name=name,
        version=table.content_hash()[:12],
        title=f"{len(table):,} {'crystals' if data.material == 'crystal' else 'materials'} of {name}",
        units=dict.fromkeys(table.targets, ""),
        tasks=dict.fromkeys(table.targets, "regression"),
        material=data.material,
        splits={part: table.subset(chosen) for part, chosen in rows.items()},
        official_split=False,
        rejections=data.rejections,
        read=data.read,
        split=spec,
    )
