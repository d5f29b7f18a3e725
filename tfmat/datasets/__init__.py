"""Datasets by name, and a user's own files in the same form."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from tfmat.datasets import composition_benchmark, exp_formation_enthalpy
from tfmat.datasets.dataset import Dataset as Dataset
from tfmat.datasets.dataset import Listing as Listing
from tfmat.datasets.files import open_file
from tfmat.errors import InputError

DEFAULT = exp_formation_enthalpy.NAME
"""The dataset that is on every machine."""


def names(*, folds: bool = False) -> list[str]:
    """Names of the datasets; with `folds` also their published cross-validation folds, ``<name>/fold0`` and so on."""
    return [exp_formation_enthalpy.NAME, *composition_benchmark.names(folds=folds)]


def load(name: str) -> Dataset:
    """The dataset called `name`."""
    if name == exp_formation_enthalpy.NAME:
        return exp_formation_enthalpy.load()
    if _is_name(name):
        return composition_benchmark.load(name)
    raise InputError(f"unknown dataset {name!r}{_hint(name)}", expected="one that is listed by tfmat datasets")


def describe() -> list[Listing]:
    """One line for each dataset, without reading any data."""
    return [exp_formation_enthalpy.listing(), *composition_benchmark.listings()]


def open_data(data: str, *, targets: Sequence[str] | None = None, split: str | None = None, seed: int = 0) -> Dataset:
    """A dataset by name, or a user's CSV or JSON lines file.

    Args:
        data: a name, else the path of a file.
        targets: the targets wanted. Default: all of a dataset; of a file see `tfmat.data.read_table`.
        split: for files only: ``column`` (a column ``split`` of ``train``, ``validation`` or ``val``, ``test``), ``random`` (80/10/10) or
            ``hash`` (about 80/10/10 by the formula's text, so that no formula straddles the splits). Default: ``column`` if there is
            one, else ``random``.
        seed: of the random split.
    """
    targets = [targets] if isinstance(targets, str) else targets
    if _is_name(data):
        if split is not None:
            raise InputError(f"dataset {data!r} has a split of its own", expected="`split` for files only")
        return load(data).select(targets)
    if Path(data).exists() or Path(data).suffix.lower() in (".csv", ".jsonl", ".gz"):
        return open_file(data, targets=targets, split=split, seed=seed)
    raise InputError(
        f"{data!r} is neither a dataset nor a file{_hint(data)}", expected="one listed by tfmat datasets, or a CSV or JSON lines file"
    )


def _is_name(name: str) -> bool:
    return name in names(folds=True) or name.partition("/fold")[0] in composition_benchmark.ALIASES


def _hint(name: str) -> str:
    known = {known.lower(): known for known in [*names(folds=True), *composition_benchmark.ALIASES]}
    close = difflib.get_close_matches(name.lower(), known, n=3)
    return f" (did you mean {', '.join(known[match] for match in close)}?)" if close else ""
