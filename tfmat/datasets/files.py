"""A user's own file as a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmat.data.readers import Cells, build_table, read_cells
from tfmat.data.splits import SPLITS, split_by_hash, split_random
from tfmat.datasets.dataset import Dataset
from tfmat.errors import InputError

_SPELLINGS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def open_file(path: str, *, targets: Sequence[str] | None = None, split: str | None = None, seed: int = 0) -> Dataset:
    """Read and split a CSV or JSON lines file; see `tfmat.datasets.open_data`. Units are unknown, all targets are regression."""
    if split not in (None, "column", "random", "hash"):
        raise InputError(f"unknown split {split!r}", expected="column, random or hash")
    cells = read_cells(path)
    table = build_table(cells, targets=targets)
    if split is None:
        split = "column" if "split" in cells.columns else "random"
    try:
        if split == "column":
            rows = _by_column(cells)
        else:
            rows = split_by_hash(table.materials) if split == "hash" else split_random(len(table), seed=seed)
    except InputError as error:
        raise error.located(file=cells.source) from None
    return Dataset(
        name=path,
        version=table.content_hash()[:12],
        title=f"{len(table):,} materials of {path}",
        units=dict.fromkeys(table.targets, ""),
        tasks=dict.fromkeys(table.targets, "regression"),
        material="composition",
        splits={name: table.subset(chosen) for name, chosen in rows.items()},
        official_split=False,
    )


def _by_column(cells: Cells) -> dict[str, np.ndarray]:
    if "split" not in cells.columns:
        raise InputError("no column 'split'", expected="a column of train, validation and test", row=1)
    assigned = []
    for cell, row in zip(cells.columns["split"], cells.rows, strict=True):
        name = _SPELLINGS.get(str(cell).lower())
        if name is None:
            raise InputError(f"column 'split' holds {str(cell)[:60]!r}", expected="train, validation (or val) or test", row=int(row))
        assigned.append(name)
    rows = {name: np.flatnonzero(np.asarray(assigned) == name) for name in SPLITS}
    for name, chosen in rows.items():
        if not chosen.size:
            raise InputError(f"column 'split' gives no {name} row", expected="at least one row for train, validation and test each", row=1)
    return rows
