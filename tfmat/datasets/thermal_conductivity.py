"""Lattice thermal conductivity of crystals at 300 K: the sets of ParAIsite, and AFLOW's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmat.datasets.crystal_files import hash_part, read_lines
from tfmat.datasets.source import SHORT_SPLITS, Absent, Download, Files, Source, StoredRow, mirrored

BUILDER = "thermal_conductivity"
DESCRIPTION = "Crystals with their lattice thermal conductivity at 300 K."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "ParAIsite's Dataset1, Dataset2 and their union, and 3,269 crystals of AFLOW."}
TARGET = "thermal_conductivity"
UNIT = "W/(m K)"
URL = "https://github.com/liudakl/ParAIsite"
PARAISITE = "L. Klochko and M. d'Aquin, Phys. Chem. Chem. Phys. (2026), doi 10.1039/D5CP04401D; arXiv 2411.18259"
_FILES = {"dataset1": ("Dataset1",), "dataset2": ("Dataset2",), "mix": ("Dataset1", "Dataset2"), "aflow": ("AFLOW_icsd_5578",)}


def paraisite_file(stem: str, name: str) -> Path:
    """A file of the folder ``paraisite`` of ``TFMAT_DATA_DIR``, the only place these sets are read from."""
    path = mirrored(f"paraisite/{stem}.jsonl.gz")
    if path is None:
        raise Absent(
            f"{name} is not on this machine, and tfmat cannot fetch it: it is published without a licence, and as pickles, which can run "
            "any program when they are read",
            expected=f"TFMAT_DATA_DIR set to a folder with paraisite/{stem}.jsonl.gz, converted from ParAIsite's repository: a JSON object "
            "a line with id, cell [a, b, c, alpha, beta, gamma], species, frac and thermal_conductivity",
        )
    return path


def _files(config: str, download: Download | None) -> Files:
    return {stem: paraisite_file(stem, f"{BUILDER}/{config}") for stem in _FILES[config]}


def _examples(files: Files, split: str) -> Iterator[StoredRow]:
    rows = [row for path in files.values() for row, _ in read_lines(path, {TARGET: "thermal_conductivity"})]
    return hash_part(rows, split)


def _aflow_examples(files: Files, split: str) -> Iterator[StoredRow]:
    for row, record in read_lines(files["AFLOW_icsd_5578"], {TARGET: "kappa_agl_300K"}):
        if record.get("kappa_agl_300K") is not None and record.get("crabnet_split") == SHORT_SPLITS[split]:
            yield row


_COMMON: dict[str, Any] = dict(
    builder=BUILDER,
    version=VERSION,
    material="crystal",
    units={TARGET: UNIT},
    url=URL,
    origin="TFMAT_DATA_DIR only (ParAIsite's repository, converted)",
)


def _own(config: str, title: str, splits: tuple[int, int, int]) -> Source:
    return Source(
        name=f"{BUILDER}/{config}",
        title=title,
        splits=dict(zip(SHORT_SPLITS, splits, strict=True)),
        citation=PARAISITE,
        licence="none given (ParAIsite)",
        files=functools.partial(_files, config),
        examples=_examples,
        notes="There is no official split: tfmat's own, about 80/10/10 by the hash of the reduced formula.",
        **_COMMON,
    )


SOURCES = (
    _own("dataset1", "lattice thermal conductivity at 300 K, 95 crystals of one source", (73, 13, 9)),
    _own("dataset2", "lattice thermal conductivity at 300 K, 143 crystals of another source", (109, 11, 23)),
    _own("mix", "lattice thermal conductivity at 300 K, dataset1 and dataset2", (182, 24, 32)),
    Source(
        name=f"{BUILDER}/aflow",
        title="lattice thermal conductivity at 300 K (AFLOW, AGL)",
        splits={"train": 2_284, "validation": 494, "test": 491},
        citation="S. Curtarolo et al., Comput. Mater. Sci. 58, 218 (2012), doi 10.1016/j.commatsci.2012.02.005; " + PARAISITE,
        licence="AFLOW's terms not verified; none given (ParAIsite)",
        files=functools.partial(_files, "aflow"),
        examples=_aflow_examples,
        official_split=True,
        notes="Values were paired with structures by exact value (at most 0.3 % wrong). The split is CrabNet's of the same formulas.",
        **_COMMON,
    ),
)
