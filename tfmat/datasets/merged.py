"""Several datasets and files as one, in which every row keeps the name of the one that it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmat.crystal import Material
from tfmat.data.featurized import Featurized
from tfmat.data.grouped_splits import SplitSpec
from tfmat.data.splits import SPLITS
from tfmat.data.table import Table
from tfmat.data.user_data import UserData
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.files import FileDataset, split_user_data
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer


@dataclass(frozen=True, repr=False)
class MergedDataset(FileDataset):
    """Several datasets and files as one.

    Attributes:
        sources: their names, or paths, in order. Its tables tell by `Table.origins` which row is whose.
        split: how the files among them were split, as one file; None: there is none.
    """

    sources: tuple[str, ...] = ()

    def provenance(self, featurizer: Featurizer | None = None) -> dict[str, Any]:
        """As of any dataset, and the ``sources``."""
        return super().provenance(featurizer) | {"sources": list(self.sources)}


def merge(
    datasets: Mapping[str, Dataset],
    files: Mapping[str, UserData],
    order: Sequence[str],
    *,
    split: SplitSpec | None = None,
    seed: int = 0,
    material: Material | None = None,
    stated: bool = False,
) -> MergedDataset:
    """Merge datasets, which keep their splits, and files, which are split together, so that a formula is not on two sides of a split.

    An id that occurs in several of them gets the name of its source before it: ``a.csv:17``.

    Args:
        datasets: name -> dataset.
        files: path -> content of a user's file or folder.
        order: of both, by name.
        split: of the files, see `tfmat.datasets.files.split_user_data`.
        seed: of that split.
        material: ``composition`` turns crystals to formulas where only some have crystals.
        stated: units and tasks are stated elsewhere, so files may be merged with datasets, which have units and tasks of their own.

    Raises:
        InputError: targets, units, tasks or materials differ.
    """
    parts: dict[str, Dataset | UserData] = {name: datasets[name] if name in datasets else files[name] for name in order}
    _check_targets({name: _tables(part)[0] for name, part in parts.items()})
    units, tasks = (_agreed(kind, datasets, files, stated) for kind in ("units", "tasks"))
    kind = _check_materials(parts, material)
    renamed = _distinguished({name: [i for table in _tables(part) for i in table.ids] for name, part in parts.items()})
    tables: dict[str, list[Table]] = {part: [] for part in SPLITS}
    for name, dataset in datasets.items():
        for part, table in dataset.splits.items():
            tables[part].append(_tagged(table, name, renamed, kind))
    own = None
    if files:
        own = split_user_data(joined_files(files, renamed, kind, split), " + ".join(files), split, seed)
        for part, table in own.splits.items():
            tables[part].append(table)
    splits = {part: Table.join(several) for part, several in tables.items()}
    name, rows = " + ".join(order), sum(len(table) for table in splits.values())
    said = {field: "; ".join(dict.fromkeys(filter(None, (getattr(d, field) for d in datasets.values())))) for field in _SAID}
    version = hashlib.sha256("".join(table.content_hash() for table in splits.values()).encode()).hexdigest()[:12]
    return MergedDataset(
        name, version, f"{rows:,} {'crystals' if kind == 'crystal' else 'materials'} of {name}", units, tasks, kind, splits,
        all(dataset.official_split for dataset in datasets.values()) and not files, **said,
        rejections=() if own is None else own.rejections, read=0 if own is None else own.read, split=None if own is None else own.split,
        sources=tuple(order),
    )  # fmt: skip


_SAID = ("citation", "licence", "url")


def joined_files(
    files: Mapping[str, UserData], renamed: Mapping[str, Mapping[str, str]] | None = None, kind: Material | None = None,
    split: SplitSpec | None = None,
) -> UserData:  # fmt: skip
    """The rows of several files as those of one, tagged by file; ids that several have get the file's name before them.

    Raises:
        InputError: only some have a column ``split``, and `split` does not say how to split them instead.
    """
    named = {path: "split" in data.cells.columns for path, data in files.items()}
    if split is None and any(named.values()) and not all(named.values()):
        having, lacking = (next(path for path, has in named.items() if has is wanted) for wanted in (True, False))
        raise InputError(f"{having} has a column 'split' and {lacking} has none", expected="it in all files, or --split")
    kind = kind or _check_materials(files, None)
    _check_targets({path: data.table for path, data in files.items()})
    renamed = renamed or _distinguished({path: data.table.ids for path, data in files.items()})
    table = Table.join([_tagged(data.table, path, renamed, kind) for path, data in files.items()])
    several = list(files.values())
    common = [name for name in several[0].cells.columns if all(name in data.cells.columns for data in several)]
    columns = {name: [cell for data in several for cell in data.cells.columns[name]] for name in common}
    cells = dataclasses.replace(several[0].cells, columns=columns, rows=table.rows, source=table.source)
    rejections = tuple(rejection for data in several for rejection in data.rejections)
    return UserData(table, cells, kind, rejections, sum(data.read for data in several))


def _tables(part: Dataset | UserData) -> list[Table]:
    return list(part.splits.values()) if isinstance(part, Dataset) else [part.table]


def _check_targets(tables: Mapping[str, Table]) -> None:
    (first, expected), *others = tables.items()
    for name, table in others:
        if set(table.targets) != set(expected.targets):
            told = " and ".join(f"{source} has {', '.join(sorted(t.targets))}" for source, t in ((first, expected), (name, table)))
            raise InputError(f"the targets differ: {told}", expected="--target with what all of them have")


def _agreed(kind: str, datasets: Mapping[str, Dataset], files: Mapping[str, UserData], stated: bool) -> dict[str, Any]:
    """Units or tasks, which must be the same in all datasets; files say none."""
    if not datasets:
        (first, *_) = files.values()
        return dict.fromkeys(first.table.targets, "" if kind == "units" else "regression")
    (first_name, found), *others = ((name, getattr(dataset, kind)) for name, dataset in datasets.items())
    for target, value in found.items():
        for name, other in others:
            if other[target] != value:
                told = f"{value or 'no unit'} in {first_name}, {other[target] or 'no unit'} in {name}"
                raise InputError(f"the {kind} of {target} differ: {told}", expected="the same: values are never converted")
        implied = "" if kind == "units" else "regression"
        if files and value != implied and not stated:
            option = f"--unit {value}" if kind == "units" else f"--task {value}"
            problem = f"{first_name} gives {target} as {value}, {next(iter(files))} does not say in which unit or task"
            raise InputError(problem, expected=f"{option}, if that is so: values are never converted")
    return dict(found)


def _check_materials(parts: Mapping[str, Dataset | UserData], material: Material | None) -> Material:
    """What the merged rows are."""
    kinds = {name: part.material for name, part in parts.items()}
    packed = [any(isinstance(table.materials, Featurized) for table in _tables(part)) for part in parts.values()]
    if any(packed):
        featurizers = [t.materials.featurizer for part in parts.values() for t in _tables(part) if isinstance(t.materials, Featurized)]
        if not all(packed) or any(featurizer != featurizers[0] for featurizer in featurizers):
            raise InputError("a packed dataset can be merged with others that were packed for the same featurizer alone")
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    if material == "composition":
        return "composition"
    crystals, formulas = (next(name for name, kind in kinds.items() if kind == wanted) for wanted in ("crystal", "composition"))
    raise InputError(f"{crystals} holds crystals and {formulas} formulas", expected="the same in all, or an architecture for compositions")


def _tagged(table: Table, name: str, renamed: Mapping[str, Mapping[str, str]], kind: Material) -> Table:
    """The table with the origin of its rows, with distinguishable ids, and with formulas in place of crystals where these are merged."""
    materials = table.materials
    if kind == "composition" and not isinstance(materials, Featurized):
        materials = [str(material) for material in materials]
    ids = [renamed[name].get(identifier, identifier) for identifier in table.ids]
    return dataclasses.replace(table, materials=materials, ids=ids, origins=[name] * len(table))


def _distinguished(ids: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Source -> those of its ids that others have too -> the id with the name of the source before it."""
    counts = Counter(identifier for several in ids.values() for identifier in set(several))
    tags = _tags(list(ids))
    return {
        name: {identifier: f"{tags[name]}:{identifier}" for identifier in set(several) if counts[identifier] > 1}
        for name, several in ids.items()
    }


def _tags(names: Sequence[str]) -> dict[str, str]:
    """Short different names: of a file or folder the last parts of its path, as many as tell it from the others."""
    parts = {name: Path(name).absolute().parts if Path(name).exists() else (name,) for name in names}
    for length in range(1, max(map(len, parts.values())) + 1):
        tags = {name: "/".join(part[-length:]) for name, part in parts.items()}
        if len(set(tags.values())) == len(tags):
            return tags
    return {name: name for name in names}
