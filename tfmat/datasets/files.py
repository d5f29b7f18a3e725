"""A user's own file or folder as a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfmat.data.grouped_splits import SplitSpec
from tfmat.data.rejections import Rejection, summary
from tfmat.data.user_data import UserData
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
    split: SplitSpec | None = field(default_factory=SplitSpec)

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
        return super().provenance(featurizer) | {"split": None if self.split is None else self.split.method}

    def about(self, featurizer: Featurizer) -> dict[str, Any]:
        """See `Dataset.about`; ``split`` is how `tfmat evaluate` splits the file again."""
        return super().about(featurizer) | ({} if self.split is None else {"split": self.split.to_config()})

    def ids(self) -> dict[str, list[str]]:
        """Ids of each split, for `tfmat.data.write_split_file`."""
        return {name: list(table.ids) for name, table in self.splits.items()}


def split_user_data(data: UserData, name: str, spec: SplitSpec | None = None, seed: int = 0) -> FileDataset:
    """Split what `read_user_data` returned; its units are unknown, and all targets are regression.

    Args:
        data: the rows.
        name: path of the file or folder.
        spec: how. Default: ``column`` if there is a column ``split``, else ``random``.
        seed: of that random split.
    """
    table, columns = data.table, data.cells.columns
    spec = spec or SplitSpec("column" if "split" in columns else "random", seed=seed)
    try:
        rows = spec.rows(table.materials, table.ids, columns.get(spec.column))
    except InputError as error:
        place = {"file": table.source, "row": error.row} if error.index is None else table.place(error.index)
        told = f" ({summary(data.rejections, data.read)})" if data.rejections else ""
        raise InputError(error.problem + told, expected=error.expected, **place | ({"file": error.file} if error.file else {})) from None
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
