"""Datasets by name, and a user's own files in the same form.

After ``import tfmat.datasets`` (which imports neither TensorFlow nor TFDS) the datasets are also builders of TensorFlow Datasets:
``tfds.load("composition_benchmark/aflow__Egap")``. See `tfmat.datasets.builders`.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmat.crystal import Material
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import RowsDone
from tfmat.data.read.user_data import UserData, read_user_data
from tfmat.data.splits import SplitSpec
from tfmat.datasets import composition_benchmark, crystal_sets, exp_formation_enthalpy
from tfmat.datasets.dataset import Dataset as Dataset
from tfmat.datasets.files import merge, merge_files, split_user_data
from tfmat.datasets.packed_file import is_packed as is_packed
from tfmat.datasets.packed_file import read_packed as read_packed
from tfmat.datasets.registry import Listing as Listing
from tfmat.datasets.registry import describe as describe
from tfmat.datasets.registry import find, spellings
from tfmat.datasets.registry import names as names
from tfmat.datasets.source import RowsWritten, Source
from tfmat.datasets.statistics import Statistics as Statistics
from tfmat.datasets.statistics import statistics
from tfmat.errors import InputError
from tfmat.on_import import after_import

after_import("tensorflow_datasets", lambda: importlib.import_module("tfmat.datasets.builders"))

DEFAULT = exp_formation_enthalpy.NAME
"""The dataset that is on every machine."""


def load(name: str) -> Dataset:
    """The dataset called `name`, downloaded (and, where reading its files would take long, built) on first use."""
    source, fold = _find(name)
    if source.name == exp_formation_enthalpy.NAME:
        return exp_formation_enthalpy.load()
    if source.builder == composition_benchmark.BUILDER:
        return composition_benchmark.load(source.name if fold is None else f"{source.name}/fold{fold}")
    return crystal_sets.load(source, fold)


def info(name: str) -> Statistics:
    """Count and measure the rows of a dataset, or of a user's file."""
    return statistics(open_data(name))


def build(name: str, *, overwrite: bool = False, progress: RowsWritten | None = None) -> Path:
    """Download a dataset and build it with TFDS, with progress on stderr. Needs the extra ``datasets``.

    Args:
        name: of a dataset; a fold means the whole dataset.
        overwrite: build it again where it has been built.
        progress: is told split, rows written so far, and rows of the split; default: TFDS's bars where stderr is a terminal.

    Returns:
        Its folder, for ``tfds.builder_from_directory``.
    """
    from tfmat.datasets import tfds

    return tfds.build(_find(name)[0], overwrite=overwrite, progress=progress)


def open_data(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    targets: Sequence[str] | None = None,
    split: str | SplitSpec | None = None,
    seed: int = 0,
    material: Material | None = None,
    formula_column: str | None = None,
    structure_column: str | None = None,
    max_sites: int | None = None,
    strict: bool = False,
    cache: RecordCache | None = None,
    report: RowsDone | None = None,
    stated: bool = False,
) -> Dataset:
    """A dataset by name, a user's file or folder, or several of these as one.

    Args:
        data: a name, else the path of a CSV or JSON lines file, of a folder of structure files, or of a packed dataset. Several are merged,
            see `tfmat.datasets.files.merge`.
        targets: the targets wanted. Default: all of a dataset; of a file see `tfmat.data.read_user_data`.
        split: for files only, see `SplitSpec` and `SplitSpec.parse`. Default: ``column`` if there is a column ``split``, else ``random``.
        seed: of a split that is given by name.
        material: for files only, see `tfmat.data.read_user_data`.
        formula_column: for files only, see `tfmat.data.read_user_data`.
        structure_column: for files only, see there.
        max_sites: for files only, see there.
        strict: for files only: the first bad row is an error.
        cache: for files only: keeps crystals that were parsed.
        report: for files only: progress callback.
        stated: for several: units are stated elsewhere, see `tfmat.datasets.files.merge`.
    """
    wanted = [targets] if isinstance(targets, str) else targets
    names = [os.fspath(path) for path in ([data] if isinstance(data, (str, os.PathLike)) else data)]
    if not names:
        raise InputError("no data", expected="the name of a dataset, or a file or folder")
    parts: dict[str, Dataset | UserData] = {}
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name!r} is given twice", expected="each dataset or file once")
        check_name(name)
        known = find(name) is not None
        if not known and not is_packed(name):
            parts[name] = read_user_data(
                name, targets=wanted, material=material, formula_column=formula_column, structure_column=structure_column,
                max_sites=max_sites, strict=strict, cache=cache, report=report,
            )  # fmt: skip
        elif split is not None:
            raise InputError(f"dataset {name!r} has a split of its own", expected="`split` for files only")
        else:
            parts[name] = (load(name) if known else read_packed(name)).select(wanted)
    spec = SplitSpec.parse(split, seed=seed) if isinstance(split, str) else split
    if len(names) > 1:
        return merge(parts, split=spec, seed=seed, material=material, stated=stated)
    found = parts[names[0]]
    return found if isinstance(found, Dataset) else split_user_data(found, names[0], spec, seed)


def load_data(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    targets: Mapping[str, str] | Sequence[str] | None = None,
    split: str | SplitSpec | None = None,
    seed: int = 0,
    strict: bool = False,
) -> Dataset:
    """Read what ``tfmat train --data`` takes, ready for `tfmat.Predictor.fit`.

    Its tables are ``data.train``, ``data.validation`` and ``data.test``; ``data.targets`` goes to `tfmat.Predictor.create`.

    Args:
        data: name of a dataset, a CSV or JSON lines file, a folder of structure files with ``id_prop.csv``, or a packed dataset; several
            of them are merged.
        targets: target -> unit, as in ``{"band_gap": "eV"}``, or their names alone. Default: all of a dataset, the only one of a file.
        split: how to split a file: ``random``, ``hash``, ``formula``, ``chemical_system``, ``column:NAME`` or ``file:PATH``. Default: its
            column ``split``, else ``random`` (80/10/10).
        seed: of that split.
        strict: the first bad row of a file is an error. Default: bad rows are left out, see ``data.rejections``.
    """
    names = None if targets is None else [targets] if isinstance(targets, str) else list(targets)
    found = open_data(data, targets=names, split=split, seed=seed, strict=strict, stated=isinstance(targets, Mapping))
    return found.with_units(targets) if isinstance(targets, Mapping) else found


def read_files(paths: Sequence[str], **options: Any) -> UserData:
    """Read one file or folder, or several as one, with the `options` of `tfmat.data.read_user_data`."""
    found = {path: read_user_data(path, **options) for path in paths}
    return found[paths[0]] if len(paths) == 1 else merge_files(found)


def check_name(data: str) -> None:
    """Refuse what is neither the name of a dataset nor the path of a file or folder, without reading anything."""
    if (
        find(data) is None
        and not Path(data).exists()
        and Path(data).suffix.lower() not in (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".gz")
    ):
        expected = "one listed by tfmat datasets, a CSV or JSON lines file, or a folder of CIF or POSCAR files"
        raise InputError(f"{data!r} is neither a dataset nor a file or folder{_hint(data)}", expected=expected)


def _find(name: str) -> tuple[Source, int | None]:
    found = find(name)
    if found is None:
        raise InputError(f"unknown dataset {name!r}{_hint(name)}", expected="one that is listed by tfmat datasets")
    return found


def _hint(name: str) -> str:
    known = {known.lower(): known for known in [*names(folds=True), *spellings()]}
    close = difflib.get_close_matches(name.lower(), known, n=3)
    return f" (did you mean {', '.join(known[match] for match in close)}?)" if close else ""
