"""The composition benchmarks distributed with CrabNet: 18 sets with an official split and 13 Matbench sets."""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfmat.data.read.cells import read_table
from tfmat.data.splits import SPLITS, split_by_hash
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.fetch import Archive, fetch
from tfmat.datasets.source import SHORT_SPLITS, Absent, Download, Files, Source, StoredRow, data_dir
from tfmat.errors import InputError
from tfmat.target import Task

BUILDER = "composition_benchmark"
DESCRIPTION = (
    "Formulas with measured or computed properties: 18 benchmark sets in CrabNet's split and 13 sets of Matbench in CrabNet's folds."
)
VERSION = "1.0.1"
RELEASE_NOTES = {"1.0.1": "As in the sdist crabnet 1.0.1."}
FOLDS = 5
ORIGIN = "PyPI sdist crabnet 1.0.1, folder data/"
URL = "https://pypi.org/project/crabnet/1.0.1"
_CRABNET = "A. Y.-T. Wang et al., npj Comput. Mater. 7, 77 (2021), doi 10.1038/s41524-021-00545-1"
_MATBENCH = "A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi 10.1038/s41524-020-00406-3"
_LICENCES = {
    "AFLOW": "files MIT (CrabNet); AFLOW's own terms not verified",
    "OQMD": "files MIT (CrabNet); OQMD data CC BY 4.0",
    "MP": "files MIT (CrabNet); Materials Project data CC BY 4.0",
    "Matbench": "MIT (CrabNet, Matbench)",
}


@dataclass(frozen=True)
class _Set:
    """A row of ``composition_benchmark.csv``.

    Attributes:
        name: as the files are called.
        target: what the column ``target`` of the files is called here.
        unit: of the target; ``""`` where it is dimensionless.
        family: whose data it is, a key of `_LICENCES`; ``Matbench`` for the sets with folds.
        task: ``regression`` or ``binary``.
        title: one line.
        counts: stored split -> rows, of the official splits and folds as the files of crabnet 1.0.1 hold them, and of tfmat's own splits.
    """

    name: str
    target: str
    unit: str
    family: str
    task: Task
    title: str
    counts: Mapping[str, int] = field(hash=False)


def _read_sets() -> Iterator[_Set]:
    with Path(__file__).with_name("composition_benchmark.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            counts = {split: int(row[split]) for split in SPLITS}
            for split in SPLITS:
                folds = row[f"fold_{split}"].split("/") if row[f"fold_{split}"] else []
                counts |= {f"fold{fold}_{split}": int(count) for fold, count in enumerate(folds)}
            about = {name: row[name] for name in ("name", "target", "unit", "family", "task", "title")}
            yield _Set(**about, counts=counts)  # type: ignore[arg-type]


_SETS = {one.name: one for one in _read_sets()}
_BENCHMARK = tuple(one for one in _SETS.values() if one.family != "Matbench")
_MATBENCH_SETS = tuple(one for one in _SETS.values() if one.family == "Matbench")
ALIASES = {"elasticity_log10_g_vrh": "elasticity_log10(G_VRH)", "elasticity_log10_k_vrh": "elasticity_log10(K_VRH)"}
"""Other spellings that need no quoting in a shell."""


def _stored(one: _Set) -> dict[str, str]:
    """Stored split -> file below the folder ``composition``, without ``.gz``."""
    if one in _BENCHMARK:
        return {split: f"benchmark_data/{one.name}/{part}.csv" for split, part in SHORT_SPLITS.items()}
    files = dict.fromkeys(SPLITS, f"matbench/{one.name}.csv")
    for fold in range(FOLDS):
        files |= {f"fold{fold}_{split}": f"matbench_cv/{one.name}/{part}{fold}.csv" for split, part in SHORT_SPLITS.items()}
    return files


CRABNET = Archive(
    package="crabnet",
    version="1.0.1",
    filename="crabnet-1.0.1.tar.gz",
    kind="sdist",
    sha256="f9e9e4a0efec531203d8a23ab15f8a84ff10bbe7cce2b51c7047affd3bede201",
    size=46_636_286,
    folder="data",
    members=sorted({file for one in _SETS.values() for file in _stored(one).values()}),
)


def load(name: str) -> Dataset:
    """Read one set from the folder ``composition`` of ``TFMAT_DATA_DIR``, else from the sdist crabnet 1.0.1, downloaded on first use.

    - The 18 benchmark sets come with their official split.
    - ``<name>/fold<k>`` is fold k of a Matbench set as CrabNet's authors published it: repeated formulas are merged and test formulas
      that also occur in training are left out, so it has fewer rows than Matbench's own fold and scores on it cannot be compared with
      Matbench's leaderboard.
    - ``<name>`` alone is the whole Matbench set in a split of tfmat's own, about 80/10/10 by the hash of the formula, because many
      formulas occur more than once (polymorphs) and must not straddle the splits.

    In every training split the rows of the same formula text are averaged, as in the reference protocol; a binary target takes the
    majority (a tie is 1). Validation and test rows stay as they are.
    """
    base, _, fold = name.partition("/fold")
    one = _SETS.get(ALIASES.get(base, base))
    if one is None or ("/" in name and not (one in _MATBENCH_SETS and fold in {str(k) for k in range(FOLDS)})):
        raise InputError(f"unknown composition benchmark {name!r}", expected="a name of tfmat.datasets.names(folds=True)")
    folder, stored = _folder(one, download=True), _stored(one)
    if one in _BENCHMARK or fold:
        tables = {split: _read(_path(folder, stored[f"fold{fold}_{split}" if fold else split], one), one) for split in SPLITS}
    else:
        whole = _read(_path(folder, stored["train"], one), one)
        tables = {split: whole.subset(rows) for split, rows in split_by_hash(whole.materials).items()}
    tables["train"] = average_duplicates(tables["train"], binary=one.task == "binary")
    source = next(source for source in SOURCES if source.name == one.name)
    return Dataset.of(source, tables, int(fold) if fold else None, "CrabNet's fold")


def _citation(one: _Set) -> str:
    return _CRABNET if one in _BENCHMARK else f"{_MATBENCH}; {_CRABNET}"


def average_duplicates(table: Table, *, binary: bool = False) -> Table:
    """Keep one row per formula text, at its first place, with the mean of every target over its rows (NaN left out).

    With `binary`, 1 where at least half of the rows are 1, else 0.
    """
    positions: dict[str, int] = {}
    group = np.asarray([positions.setdefault(material, len(positions)) for material in table.materials], dtype=np.int64)
    if len(positions) == len(table):
        return table
    first = np.unique(group, return_index=True)[1]
    targets = {}
    for name, values in table.targets.items():
        known = ~np.isnan(values)
        counts = np.bincount(group[known], minlength=len(positions))
        sums = np.bincount(group[known], weights=values[known], minlength=len(positions))
        means = np.divide(sums, counts, out=np.full(len(positions), np.nan), where=counts > 0)
        targets[name] = np.where(np.isnan(means), means, means >= 0.5) if binary else means
    return dataclasses.replace(table.subset(first), targets=targets)


def _folder(one: _Set, *, download: bool) -> Path:
    """The folder with ``benchmark_data``, ``matbench`` and ``matbench_cv``."""
    folder = data_dir()
    if folder is not None:
        return folder / "composition"
    try:
        return fetch(CRABNET, download=download)
    except Absent as error:
        raise Absent(
            f"{one.name} is not on this machine: {error.problem}",
            expected=f"{error.expected} to a folder with composition/benchmark_data, composition/matbench and composition/matbench_cv, the "
            "folder data/ of the PyPI sdist crabnet 1.0.1",
        ) from None


def _path(folder: Path, name: str, one: _Set) -> Path:
    """Find one file, gzipped or plain."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise Absent(
        f"{one.name}: missing file {folder / name}.gz",
        expected="TFMAT_DATA_DIR to hold the whole folder data/ of crabnet 1.0.1 as composition/",
    )


def _read(path: Path, one: _Set) -> Table:
    """Read one file and rename its column ``target``."""
    table = read_table(path, targets=["target"])
    return dataclasses.replace(table, targets={one.target: table.targets["target"]})


def _files(one: _Set, download: Download | None) -> Files:
    folder = _folder(one, download=download is not None)
    return {split: _path(folder, name, one) for split, name in _stored(one).items()}


def _examples(one: _Set, files: Files, split: str) -> Iterator[StoredRow]:
    """The rows of a file as they stand there (nothing is averaged); of a whole Matbench set those of one split."""
    table = _read(files[split], one)
    whole = one in _MATBENCH_SETS and split in SPLITS
    for i in split_by_hash(table.materials)[split].tolist() if whole else range(len(table)):
        yield {"id": str(table.rows[i]), "formula": table.materials[i], one.target: float(table.targets[one.target][i])}


def _source(one: _Set) -> Source:
    return Source(
        name=one.name,
        builder=BUILDER,
        config={stored: other for other, stored in ALIASES.items()}.get(one.name, one.name),
        version=VERSION,
        title=one.title,
        material="composition",
        units={one.target: one.unit},
        tasks={one.target: one.task},
        splits=one.counts,
        folds=0 if one in _BENCHMARK else FOLDS,
        citation=_citation(one),
        licence=_LICENCES[one.family],
        url=URL,
        origin=ORIGIN,
        size=CRABNET.size,
        files=functools.partial(_files, one),
        examples=functools.partial(_examples, one),
        official_split=one in _BENCHMARK,
        notes="CrabNet's split." if one in _BENCHMARK else _NOTES,
    )


_NOTES = (
    "Train, validation and test are tfmat's own split by the hash of the formula; foldK_train, foldK_validation and foldK_test are "
    "CrabNet's fold K, which has fewer rows than Matbench's. The stored rows are those of the files: no formulas are merged."
)
SOURCES = tuple(_source(one) for one in _SETS.values())
