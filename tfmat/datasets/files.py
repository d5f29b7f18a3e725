"""Users' files and folders as datasets, alone or merged with others; every merged row keeps the name of the one that it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfmat.crystal import Material
from tfmat.data.packed import Featurized
from tfmat.data.read.user_data import UserData
from tfmat.data.rejections import Rejection, summary
from tfmat.data.splits import SPLITS, SplitSpec
from tfmat.data.table import Table
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

    def provenance(self, refused: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Give what `Dataset.provenance` gives; ``split`` is the method by which the file was split."""
        return super().provenance(refused) | {"split": None if self.split is None else self.split.method}

    def about(self, featurizer: Featurizer) -> dict[str, Any]:
        """Give what `Dataset.about` gives; ``split`` is how `tfmat evaluate` splits the file again."""
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


@dataclass(frozen=True, repr=False)
class MergedDataset(FileDataset):
    """Several datasets and files as one.

    Attributes:
        sources: their names, or paths, in order. Its tables tell by `Table.origins` which row is whose.
        split: how the files among them were split, as one file; None: there is none.
    """

    sources: tuple[str, ...] = ()

    def provenance(self, refused: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Give what any dataset gives, and the ``sources``."""
        return super().provenance(refused) | {"sources": list(self.sources)}


def merge(
    parts: Mapping[str, Dataset | UserData],
    *,
    split: SplitSpec | None = None,
    seed: int = 0,
    material: Material | None = None,
    stated: bool = False,
) -> MergedDataset:
    """Merge datasets, which keep their splits, and files, which are split together, so that a formula is not on two sides of a split.

    An id that occurs in several of them gets the name of its source before it: ``a.csv:17``.

    Args:
        parts: name -> dataset, and path -> content of a user's file or folder.
        split: of the files, see `tfmat.datasets.files.split_user_data`.
        seed: of that split.
        material: ``composition`` turns crystals to formulas where only some of the parts have crystals.
        stated: units are stated elsewhere, so files, which do not tell theirs, may be merged with datasets, which do. A file may hold
            classes where a dataset does: other values than 0 and 1 are refused when they are learnt.

    Raises:
        InputError: targets, units, tasks or materials differ.
    """
    datasets = {name: part for name, part in parts.items() if isinstance(part, Dataset)}
    files = {name: part for name, part in parts.items() if isinstance(part, UserData)}
    tagged = _tagged(parts, material)
    tables = {part: [tagged[name][i] for name in datasets] for i, part in enumerate(SPLITS)}
    own = None
    if files:
        own = split_user_data(_joined(files, tagged, split), " + ".join(files), split, seed)
        for part, table in own.splits.items():
            tables[part].append(table)
    if datasets and files and not stated:
        _check_units(*next(iter(datasets.items())), next(iter(files)))
    splits = {part: Table.join(several) for part, several in tables.items()}
    name, kind = " + ".join(parts), _kind(parts, material)
    known = next(iter(datasets.values()), own)
    assert known is not None
    said = {
        key: "; ".join(dict.fromkeys(filter(None, (getattr(d, key) for d in datasets.values())))) for key in ("citation", "licence", "url")
    }
    return MergedDataset(
        name=name,
        version=hashlib.sha256("".join(table.content_hash() for table in splits.values()).encode()).hexdigest()[:12],
        title=f"{sum(map(len, splits.values())):,} {'crystals' if kind == 'crystal' else 'materials'} of {name}",
        units=known.units,
        tasks=known.tasks,
        material=kind,
        splits=splits,
        official_split=not files and all(dataset.official_split for dataset in datasets.values()),
        rejections=() if own is None else own.rejections,
        read=0 if own is None else own.read,
        split=None if own is None else own.split,
        sources=tuple(parts),
        **said,
    )


def _check_units(name: str, dataset: Dataset, file: str) -> None:
    """Refuse a file, of which no unit is known, beside a dataset with units."""
    if any(dataset.units.values()):
        options = " ".join(f"--unit {unit}" if unit else "--unit ''" for unit in dataset.units.values())
        problem = f"{name} has {_described(dataset)}, {file} does not tell its own units"
        raise InputError(problem, expected=f"{options}, if that is so: values are never converted")


def merge_files(files: Mapping[str, UserData]) -> UserData:
    """The rows of several files as those of one, see `merge`."""
    return _joined(files, _tagged(files, None), None)


def _joined(files: Mapping[str, UserData], tagged: Mapping[str, list[Table]], split: SplitSpec | None) -> UserData:
    marked = [path for path, data in files.items() if "split" in data.cells.columns]
    if split is None and 0 < len(marked) < len(files):
        other = next(path for path in files if path not in marked)
        raise InputError(f"{marked[0]} has a column 'split' and {other} has none", expected="it in all files, or --split")
    several, table = list(files.values()), Table.join([tagged[path][0] for path in files])
    common = [name for name in several[0].cells.columns if all(name in data.cells.columns for data in several)]
    columns = {name: [cell for data in several for cell in data.cells.columns[name]] for name in common}
    cells = dataclasses.replace(several[0].cells, columns=columns, rows=table.rows, source=table.source)
    rejections = tuple(rejection for data in several for rejection in data.rejections)
    return UserData(table, cells, several[0].material, rejections, sum(data.read for data in several))


def _tagged(parts: Mapping[str, Dataset | UserData], material: Material | None) -> dict[str, list[Table]]:
    """The tables of all parts, once these fit together, with the origin of their rows and distinguishable ids."""
    for (first, known), (name, part) in itertools.combinations(parts.items(), 2):
        mixed = isinstance(part, UserData) != isinstance(known, UserData)
        if set(_tables(part)[0].targets) != set(_tables(known)[0].targets) or not (mixed or _described(part) == _described(known)):
            problem = f"{first} has {_described(known)} and {name} has {_described(part)}"
            raise InputError(f"the targets differ: {problem}", expected="the same in all, chosen by --target: values are never converted")
    formulas = _kind(parts, material) == "composition"
    ids = {name: [identifier for table in _tables(part) for identifier in table.ids] for name, part in parts.items()}
    counts = Counter(identifier for several in ids.values() for identifier in set(several))
    tags, found = _tags(list(parts)), {}
    for name, part in parts.items():
        found[name] = [
            dataclasses.replace(
                table,
                materials=list(map(str, table.materials)) if formulas and part.material == "crystal" else table.materials,
                ids=[f"{tags[name]}:{identifier}" if counts[identifier] > 1 else identifier for identifier in table.ids],
                origins=[name] * len(table),
            )
            for table in _tables(part)
        ]
    return found


def _tables(part: Dataset | UserData) -> list[Table]:
    return list(part.splits.values()) if isinstance(part, Dataset) else [part.table]


def _described(part: Dataset | UserData) -> str:
    """Targets, with units and tasks where they are known."""
    if isinstance(part, UserData):
        return ", ".join(sorted(part.table.targets))
    tasks = {name: "" if task == "regression" else f" ({task})" for name, task in part.tasks.items()}
    return ", ".join(f"{name}{f' [{unit}]' if unit else ''}{tasks[name]}" for name, unit in sorted(part.units.items()))


def _kind(parts: Mapping[str, Dataset | UserData], material: Material | None) -> Material:
    """Tell what the merged rows are, compositions or crystals."""
    packed = [table.materials for part in parts.values() for table in _tables(part) if isinstance(table.materials, Featurized)]
    if packed and (
        len(packed) < sum(len(_tables(part)) for part in parts.values()) or any(m.featurizer != packed[0].featurizer for m in packed)
    ):
        raise InputError("a packed dataset can only be merged with others that were packed for the same featurizer")
    kinds = {part.material: name for name, part in parts.items()}
    if len(kinds) > 1 and material != "composition":
        problem = f"{kinds['crystal']} holds crystals and {kinds['composition']} formulas"
        raise InputError(problem, expected="the same in all, or an architecture for compositions")
    return "composition" if len(kinds) > 1 else next(iter(kinds))


def _tags(names: Sequence[str]) -> dict[str, str]:
    """Short different names: of a file or folder the last parts of its path, as many as tell it from the others."""
    parts = {name: Path(name).absolute().parts if Path(name).exists() else (name,) for name in names}
    for length in range(1, max(map(len, parts.values())) + 1):
        tags = {name: "/".join(part[-length:]) for name, part in parts.items()}
        if len(set(tags.values())) == len(tags):
            return tags
    return {name: name for name in names}
