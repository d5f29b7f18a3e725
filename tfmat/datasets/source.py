"""How a dataset is known before any of it is read: what it holds, where its files come from, and how they are read row by row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tfmat.crystal import Material
from tfmat.errors import InputError
from tfmat.target import Task

StoredRow = dict[str, Any]
"""``id``, the targets, and ``formula`` or ``species`` (A,), ``lattice`` (3, 3) [Å] and ``frac_coords`` (A, 3)."""
Files = Mapping[str, Path]
SHORT_SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Split -> what many publishers call it."""


def data_dir() -> Path | None:
    """The folder of ``TFMAT_DATA_DIR``, or `None` where it is unset or empty."""
    chosen = os.environ.get("TFMAT_DATA_DIR")
    return Path(chosen).expanduser() if chosen else None


def mirrored(name: str) -> Path | None:
    """The file `name` (``structures/a.csv``) below the folder of ``TFMAT_DATA_DIR``, or `None` where there is no such file."""
    folder = data_dir()
    return folder / name if folder is not None and (folder / name).is_file() else None


RowsWritten = Callable[[str, int, int], None]
"""Is called with a split, the number of its rows that are written, and of all its rows, at most ten times a second."""


class Download(Protocol):
    """Gets a file from a URL and, where its SHA-256 is known, checks it."""

    def __call__(self, url: str, sha256: str | None = None) -> Path:
        """Path of the downloaded file."""


class Absent(InputError):
    """The files of a dataset are not on this machine, and were not to be downloaded or cannot be."""


def only_mirrored(name: str, dataset: str, instead: str) -> Path:
    """The file `name` of a dataset that is not distributed, as `mirrored` finds it; `instead` says what else there is."""
    path = mirrored(name)
    if path is None:
        expected = f"TFMAT_DATA_DIR set to a folder with {name}, or {instead}"
        raise Absent(f"{dataset} is not on this machine and is not distributed", expected=expected)
    return path


@dataclass(frozen=True)
class Source:
    """One dataset.

    Attributes:
        name: as passed to `tfmat.datasets.load`.
        builder: name of the TFDS builder.
        version: of the rows, values and splits.
        title: one line.
        material: what the materials are.
        units: target -> unit; ``""`` where it is dimensionless.
        splits: stored split -> number of rows as published.
        citation: whom to cite.
        licence: of the data.
        url: where it is described.
        origin: where a user gets it.
        files: the files, from ``TFMAT_DATA_DIR`` if that is set, else downloaded by the function passed; `Absent` if that is `None`.
        examples: the rows of one stored split, read one after the other.
        meanings: target -> one line; default: the title.
        tasks: target -> task; default: regression.
        official_split: whether train, validation and test, or the folds, are published ones.
        folds: number of published cross-validation folds.
        notes: what a user should know before quoting a score.
        config: of the builder; default: what follows the last slash of the name.
        size: of the download [B]; `None` where it is unknown or the set is not distributed.
    """

    name: str
    builder: str
    version: str
    title: str
    material: Material
    units: Mapping[str, str]
    splits: Mapping[str, int]
    citation: str
    licence: str
    url: str
    origin: str
    files: Callable[[Download | None], Files]
    examples: Callable[[Files, str], Iterator[StoredRow]]
    meanings: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    official_split: bool = False
    folds: int = 0
    notes: str = ""
    config: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.config or self.name.rpartition("/")[2])

    @property
    def rows(self) -> int:
        """Number of different rows; each is in one of the three splits, or in one fold."""
        return sum(count for split, count in self.splits.items() if "_" not in split)

    @property
    def tfds_name(self) -> str:
        """The name that ``tfds.load`` takes."""
        return f"{self.builder}/{self.config}"

    def task(self, target: str) -> Task:
        """``regression`` or ``binary``."""
        return self.tasks.get(target, "regression")

    def meaning(self, target: str) -> str:
        """Describe a target in one line."""
        return self.meanings.get(target, self.title)

    def checked(self, files: Files, split: str) -> Iterator[StoredRow]:
        """The rows of a stored split; an `InputError` at the end where they are not as many as published."""
        count = 0
        for example in self.examples(files, split):
            count += 1
            yield example
        if count != self.splits[split]:
            raise InputError(
                f"{self.name}: split {split} holds {count:,} of {self.splits[split]:,} rows",
                expected="the complete files",
                file=", ".join(str(path) for path in files.values()) if len(files) < 4 else None,
            )
