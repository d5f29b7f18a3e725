"""Crystals of the Materials Project as of June 2018 (MP-2018.6.1), the benchmark of MEGNet."""

from __future__ import annotations

import csv
import functools
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmat.datasets.crystal_files import crystal, jarvis_crystal, read_array, read_lines
from tfmat.datasets.source import SHORT_SPLITS, Absent, Download, Files, Source, StoredRow, data_dir, mirrored
from tfmat.errors import InputError

BUILDER = "materials_project"
DESCRIPTION = "Crystals of the Materials Project (MP-2018.6.1) with formation energy and band gap (PBE)."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "MP-2018.6.1 in the split of the MEGNet paper, and its 56 % subset."}
URL = "https://doi.org/10.6084/m9.figshare.7451351"
DOWNLOAD = "https://ndownloader.figshare.com/files/26724977"
CITATION = "C. Chen et al., Chem. Mater. 31, 3564 (2019), doi 10.1021/acs.chemmater.9b01294; A. Jain et al., APL Mater. 1, 011002 (2013)"
LICENCE = "CC BY 4.0 (Materials Project)"
UNITS = {"formation_energy_per_atom": "eV/atom", "band_gap": "eV"}
MEANINGS = {"formation_energy_per_atom": "formation energy (PBE, corrected as in MP-2018.6.1)", "band_gap": "band gap (PBE)"}
_KEYS = {name: name for name in UNITS}
_IDS = Path(__file__).with_name("mp2018_ids.csv.gz")
# No checksum of this file is published: its rows are checked against the ids of the official split instead.
_MEGNET = ("megnet.json", "megnet.json.zip", "megnet.json.gz")


def split_ids(*, subset: bool) -> dict[str, str]:
    """Materials Project id -> ``train``, ``validation`` or ``test`` of the official split.

    The split is that of the MEGNet paper: ``random.seed(7)``, a shuffle of the 69,239 rows, and 60,000 / 5,000 / 4,239 of them. The list of
    ids is part of tfmat, so that no order of rows in a file matters.
    """
    spelled = {stored: split for split, stored in SHORT_SPLITS.items()}
    with gzip.open(_IDS, "rt", encoding="utf-8", newline="") as stream:
        return {row["id"]: spelled[row["split"]] for row in csv.DictReader(stream) if not subset or row["in_subset"] == "1"}


def _megnet_file(name: str, download: Download | None) -> Files:
    if found := [path for path in map(mirrored, (f"mp2018/{stored}" for stored in _MEGNET)) if path is not None]:
        return {"all": found[0]}
    if data_dir() is not None:
        raise Absent(f"{name} is not in TFMAT_DATA_DIR", expected=f"mp2018/{_MEGNET[0]} in that folder, from {DOWNLOAD}")
    if download is None:
        raise Absent(f"{name} has not been downloaded", expected=f"tfmat datasets build {name}")
    return {"all": download(DOWNLOAD)}


def _subset_files(download: Download | None) -> Files:
    files = {split: path for split, stored in SHORT_SPLITS.items() if (path := mirrored(f"mp2018/{stored}.jsonl.gz")) is not None}
    return files if len(files) == len(SHORT_SPLITS) else _megnet_file("mp2018_subset", download)


def _examples(subset: bool, files: Files, split: str) -> Iterator[StoredRow]:
    return _from_megnet(files["all"], split, subset=subset) if "all" in files else (row for row, _ in read_lines(files[split], _KEYS))


def _from_megnet(path: Path, split: str, *, subset: bool) -> Iterator[StoredRow]:
    assigned = split_ids(subset=subset)
    for number, record in enumerate(read_array(path), start=1):
        try:
            name = str(record["id"] if "id" in record else record["material_id"])
            if assigned.get(name) == split:
                yield {"id": name, **_crystal(record), **{target: float(record[key]) for target, key in _names(record).items()}}
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"entry {number} is not a crystal with its targets ({error!r})", file=str(path)) from None


def _names(record: dict[str, Any]) -> dict[str, str]:
    """The keys of the targets, as the file of jarvis-tools and that of MEGNet's authors spell them."""
    return {"formation_energy_per_atom": "e_form", "band_gap": "gap pbe"} if "e_form" in record else _KEYS


def _crystal(record: dict[str, Any]) -> StoredRow:
    if "atoms" in record:
        return jarvis_crystal(record["atoms"])
    from pymatgen.core import Structure

    structure = Structure.from_str(record["structure"], fmt="cif")
    return crystal([site.specie.symbol for site in structure], structure.lattice.matrix, structure.frac_coords)


_COMMON: dict[str, Any] = dict(
    builder=BUILDER,
    version=VERSION,
    material="crystal",
    units=UNITS,
    meanings=MEANINGS,
    citation=CITATION,
    licence=LICENCE,
    url=URL,
    official_split=True,
)
MP2018 = Source(
    name="mp2018",
    title="crystals of MP-2018.6.1 (DFT)",
    splits={"train": 60_000, "validation": 5_000, "test": 4_239},
    origin="figshare file 26724977 (megnet.json)",
    files=functools.partial(_megnet_file, "mp2018"),
    examples=functools.partial(_examples, False),
    notes="The official split of the MEGNet paper.",
    **_COMMON,
)
SUBSET = Source(
    name="mp2018_subset",
    title="56 % subset of MP-2018.6.1 (DFT)",
    splits={"train": 33_720, "validation": 2_795, "test": 2_370},
    origin="figshare file 26724977 (megnet.json), the rows that tfmat lists",
    files=_subset_files,
    examples=functools.partial(_examples, True),
    notes="56 % subset of MP-2018.6.1; each id keeps its official split. Scores cannot be compared with those of the full set.",
    **_COMMON,
)
SOURCES = (MP2018, SUBSET)
