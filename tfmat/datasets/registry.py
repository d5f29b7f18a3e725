"""All datasets by name."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from tfmat.crystal import Material
from tfmat.datasets import (
    aflow_band_gap,
    composition_benchmark,
    exp_formation_enthalpy,
    jarvis_dft_3d,
    matbench_phonons,
    materials_project,
    mp_elasticity,
    thermal_conductivity,
)
from tfmat.datasets.source import Source
from tfmat.errors import InputError

FAMILIES = (
    exp_formation_enthalpy,
    composition_benchmark,
    materials_project,
    jarvis_dft_3d,
    matbench_phonons,
    mp_elasticity,
    thermal_conductivity,
    aflow_band_gap,
)
"""One module for each TFDS builder."""

SOURCES: dict[str, Source] = {source.name: source for family in FAMILIES for source in family.SOURCES}
"""Name -> dataset, in the order in which they are listed."""

_SPELLINGS = {name: name for name in SOURCES} | {source.tfds_name: name for name, source in SOURCES.items()} | composition_benchmark.ALIASES


def spellings() -> list[str]:
    """All that `find` knows, folds apart."""
    return list(_SPELLINGS)


def find(name: str) -> tuple[Source, int | None] | None:
    """The dataset called `name`, or by its TFDS name, and the fold meant by ``/fold<k>``; `None` where there is no such dataset or fold."""
    match = re.fullmatch(r"(.+)/fold([0-9])", name)
    base, fold = (match[1], int(match[2])) if match else (name, None)
    source = SOURCES.get(_SPELLINGS.get(base, ""))
    if source is None or (fold is not None and fold >= source.folds):
        return None
    return source, fold


def names(*, folds: bool = False) -> list[str]:
    """Names of the datasets; with `folds` also their published cross-validation folds, ``<name>/fold0`` and so on."""
    extra = [f"{name}/fold{fold}" for name, source in SOURCES.items() for fold in range(source.folds)] if folds else []
    return [*SOURCES, *extra]


def describe() -> list[Listing]:
    """Describe each dataset in one line, without reading any data."""
    return [listing(source) for source in SOURCES.values()]


@dataclasses.dataclass(frozen=True)
class Listing:
    """One line of the list of datasets, known without reading any data. The attributes that are not described here are those of `Source`.

    Attributes:
        present: whether it can be loaded now, without a download.
        splits: ``train``, ``validation``, ``test``, or ``fold0`` and so on -> rows as published; where a formula stands several times in a
            composition set, loading merges its training rows.
        size: of its files where they are present, else of the download [B]; `None` where that is unknown.
    """

    name: str
    title: str
    rows: int
    folds: int
    units: Mapping[str, str]
    licence: str
    present: bool
    origin: str
    material: Material
    splits: Mapping[str, int]
    official_split: bool
    size: int | None
    notes: str
    tfds_name: str


def listing(source: Source) -> Listing:
    """Tell what is known of a dataset without reading it."""
    size, present = source.size, prepared_directory(source) is not None
    try:
        files = set(source.files(None).values())
        size, present = sum(path.stat().st_size for path in files), True
    except (InputError, OSError):
        pass
    same = {one.name: getattr(source, one.name) for one in dataclasses.fields(Listing) if hasattr(source, one.name)}
    splits = {split: rows for split, rows in source.splits.items() if "_" not in split}
    return Listing(**(same | {"present": present, "splits": splits, "size": size}))


def tfds_directory() -> Path:
    """Find where TFDS keeps what it builds: ``TFDS_DATA_DIR``, else ``tensorflow_datasets`` in ``TFMAT_CACHE_DIR`` or the home folder."""
    if chosen := os.environ.get("TFDS_DATA_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("TFMAT_CACHE_DIR")
    return (Path(cache).expanduser() if cache else Path.home()) / "tensorflow_datasets"


def prepared_directory(source: Source) -> Path | None:
    """Find where TFDS has built a dataset in its present version, or `None` where it has not."""
    folder = tfds_directory() / source.builder / source.config / source.version
    return folder if (folder / "dataset_info.json").is_file() else None
