"""Bulk and shear moduli of crystals of the Materials Project."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfmat.datasets.crystal_files import crystal, hash_part, read_lines
from tfmat.datasets.fetch import Archive, fetch
from tfmat.datasets.source import Download, Files, Source, StoredRow, only_mirrored
from tfmat.errors import InputError

BUILDER = "mp_elasticity"
DESCRIPTION = "Crystals with bulk and shear modulus (Voigt-Reuss-Hill averages, PBE)."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "Union of three published subsets; elastic_tensor_2015 alone."}
UNITS = {"k_vrh": "GPa", "g_vrh": "GPa"}
_KEYS = {name: name for name in UNITS}
_TABLE = "elastic_tensor.csv"


MATMINER = Archive(
    package="matminer",
    version="0.4.0",
    filename="matminer-0.4.0.tar.gz",
    kind="sdist",
    sha256="1a6bdfb198b36d836bab4fbcdffb2dc4fda8a740c3dc08cbb21ea43b817fec86",
    size=8_370_663,
    folder="matminer/datasets",
    members=(_TABLE,),
)


def _union_files(download: Download | None) -> Files:
    return {"all": only_mirrored("structures/mp_elasticity_union.jsonl.gz", BUILDER, f"{BUILDER}/elastic_tensor_2015")}


def _union_examples(files: Files, split: str) -> Iterator[StoredRow]:
    return hash_part([row for row, _ in read_lines(files["all"], _KEYS)], split)


def _table_files(download: Download | None) -> Files:
    return {"all": fetch(MATMINER, download=download is not None) / _TABLE}


def _table_examples(files: Files, split: str) -> Iterator[StoredRow]:
    rows, number = [], 0
    try:
        with files["all"].open(encoding="utf-8", newline="") as stream:
            lines = (line for line in stream if not line.startswith("# ref"))
            for row in csv.DictReader(lines):
                number += 1
                rows.append({"id": row["material_id"], **_poscar(row["poscar"])})
                rows[-1].update(k_vrh=float(row["K_VRH"]), g_vrh=float(row["G_VRH"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"entry {number} is not a crystal with its moduli ({error!r})", file=str(files["all"])) from None
    return hash_part(rows, split)


def _poscar(text: str) -> StoredRow:
    """Read a POSCAR of VASP 5 in fractional coordinates."""
    lines = text.split("\n")
    scale, lattice = float(lines[1]), np.asarray([[float(cell) for cell in line.split()] for line in lines[2:5]])
    counts = [int(cell) for cell in lines[6].split()]
    symbols = [symbol for symbol, count in zip(lines[5].split(), counts, strict=True) for _ in range(count)]
    if not lines[7].lower().startswith("d") or scale <= 0:
        raise ValueError(f"coordinates {lines[7]!r} with scale {scale}")
    return crystal(symbols, scale * lattice, [[float(cell) for cell in line.split()[:3]] for line in lines[8 : 8 + len(symbols)]])


_COMMON: dict[str, Any] = dict(
    builder=BUILDER,
    version=VERSION,
    material="crystal",
    units=UNITS,
    meanings={"k_vrh": "bulk modulus K_VRH", "g_vrh": "shear modulus G_VRH"},
    url="https://materialsproject.org",
    notes="There is no official split: tfmat's own, about 80/10/10 by the hash of the reduced formula.",
)
SOURCES = (
    Source(
        name=BUILDER,
        config="union",
        title="bulk and shear modulus of Materials Project crystals (DFT)",
        splits={"train": 4_572, "validation": 607, "test": 622},
        citation="M. de Jong et al., Sci. Data 2, 150009 (2015), doi 10.1038/sdata.2015.9",
        licence="CC BY 4.0 (Materials Project)",
        origin="TFMAT_DATA_DIR only",
        files=_union_files,
        examples=_union_examples,
        **_COMMON,
    ),
    Source(
        name=f"{BUILDER}/elastic_tensor_2015",
        title="bulk and shear modulus of the first 1,181 crystals (DFT)",
        splits={"train": 922, "validation": 138, "test": 121},
        citation="M. de Jong et al., Sci. Data 2, 150009 (2015), doi 10.1038/sdata.2015.9",
        licence="files BSD-3 (matminer); data CC BY 4.0 (Materials Project)",
        origin="PyPI sdist matminer 0.4.0",
        size=MATMINER.size,
        files=_table_files,
        examples=_table_examples,
        **_COMMON,
    ),
)
