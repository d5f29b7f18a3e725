"""Crystal datasets in memory, read from their files or from what TFDS has built."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from tfmat.crystal import Crystals
from tfmat.data.splits import split_by_hash
from tfmat.data.table import Table
from tfmat.datasets.crystal_files import join, reduced_formula, table_of
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.registry import prepared_directory
from tfmat.datasets.source import Absent, Files, Source

VALIDATION = 0.1
"""Share of the rows outside a test fold that are held out for validation."""


def load(source: Source, fold: int | None = None) -> Dataset:
    """A crystal dataset.

    Files that are at hand, of ``TFMAT_DATA_DIR`` above all, are read directly, which is quicker than by way of TFDS. Otherwise what TFDS
    has built is read; if there is none, it is downloaded and built first.

    Of a set with published folds, ``fold`` k tests on fold k; of the other rows a tenth, by the hash of the reduced formula, is for
    validation. Without ``fold`` the split is tfmat's own, about 80/10/10 by the same hash.
    """
    tables = _tables(source)
    if source.folds:
        tables = _of_folds(tables, fold)
    return Dataset.of(source, tables, fold)


def _tables(source: Source) -> dict[str, Table]:
    """Stored split -> table."""
    files = _at_hand(source)
    if files is not None:
        return {split: table_of(source.checked(files, split), source.units, source.name) for split in source.splits}
    from tfmat.datasets.tfds import build, read

    build(source)
    return {split: read(source, split) for split in source.splits}


def _at_hand(source: Source) -> Files | None:
    """The files where they are on this machine or in an archive of PyPI; `None` where TFDS has built the set, or is to download it."""
    with contextlib.suppress(Absent):
        return source.files(None)
    if prepared_directory(source) is not None:
        return None
    with contextlib.suppress(_NotAnArchive):
        return source.files(_refuse)
    return None


class _NotAnArchive(Absent):
    """The set is downloaded from a URL."""


def _refuse(url: str, sha256: str | None = None) -> Path:
    raise _NotAnArchive(f"{url} has not been downloaded")


def _of_folds(tables: dict[str, Table], fold: int | None) -> dict[str, Table]:
    if fold is None:
        whole = join(list(tables.values()))
        return {split: whole.subset(rows) for split, rows in split_by_hash(_formulas(whole)).items()}
    rest = join([table for split, table in tables.items() if split != f"fold{fold}"])
    # the first part of the hash's range is validation, so that no formula is on both sides
    parts = split_by_hash(_formulas(rest), (VALIDATION, 0.45, 0.45))
    train = np.sort(np.concatenate([parts["validation"], parts["test"]]))
    return {"train": rest.subset(train), "validation": rest.subset(parts["train"]), "test": tables[f"fold{fold}"]}


def _formulas(table: Table) -> list[str]:
    if not isinstance(table.materials, Crystals):
        raise TypeError(f"expected crystals. Received: {type(table.materials).__name__}")
    species = table.materials.records
    return [reduced_formula(species[i]["species"]) for i in range(len(species))]
