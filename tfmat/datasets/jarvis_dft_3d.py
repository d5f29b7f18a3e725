"""Crystals of JARVIS-DFT (dft_3d of 18 August 2021) in the official splits of the JARVIS leaderboard."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from tfmat.datasets.crystal_files import jarvis_crystal, read_array, read_json, read_lines
from tfmat.datasets.fetch import Archive, fetch
from tfmat.datasets.source import SHORT_SPLITS, Absent, Download, Files, Source, StoredRow, data_dir, mirrored, only_mirrored
from tfmat.errors import InputError

BUILDER = "jarvis_dft_3d"
DESCRIPTION = "Crystals of JARVIS-DFT (OptB88vdW and TBmBJ) with the tasks and official splits of the JARVIS leaderboard."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "dft_3d of 2021-08-18, splits of jarvis_leaderboard 2024.10.30."}
URL = "https://pages.nist.gov/jarvis_leaderboard"
DOWNLOAD = "https://ndownloader.figshare.com/files/29204826"
CITATION = "K. Choudhary et al., npj Comput. Mater. 6, 173 (2020), doi 10.1038/s41524-020-00440-1; npj Comput. Mater. 10, 93 (2024)"
LICENCE = "splits MIT (jarvis_leaderboard); the terms of the data not verified"
# No checksum of this file is published: its rows are checked against the ids of the official splits instead.
_STRUCTURES = ("jdft_3d-8-18-2021.json", "jdft_3d-8-18-2021.json.zip", "jdft_3d-8-18-2021.json.gz")

# task of the leaderboard: target, unit, what it is, rows of the three splits
_TASKS = {
    "formation_energy_peratom": ("formation_energy_per_atom", "eV/atom", "formation energy (OptB88vdW)", (44_569, 5_572, 5_572)),
    "optb88vdw_bandgap": ("band_gap", "eV", "band gap (OptB88vdW)", (44_569, 5_572, 5_572)),
    "optb88vdw_total_energy": ("total_energy_per_atom", "eV/atom", "total energy (OptB88vdW)", (44_569, 5_572, 5_572)),
    "ehull": ("energy_above_hull", "eV/atom", "energy above the convex hull (OptB88vdW)", (44_290, 5_537, 5_537)),
    "mbj_bandgap": ("band_gap", "eV", "band gap (TBmBJ)", (14_535, 1_817, 1_815)),
}
_SUBSET = {
    "formation_energy_per_atom": "formation_energy_peratom",
    "band_gap": "optb88vdw_bandgap",
    "band_gap_mbj": "mbj_bandgap",
    "energy_above_hull": "ehull",
}
"""Target of the subset -> task."""

LEADERBOARD = Archive(
    package="jarvis_leaderboard",
    version="2024.10.30",
    filename="jarvis_leaderboard-2024.10.30-py2.py3-none-any.whl",
    kind="wheel",
    sha256="62cd3012987e83880583801a5ed46c0b999781505f246d91554cde6fd62d81ff",
    size=72_100_374,
    folder="jarvis_leaderboard/benchmarks/AI/SinglePropertyPrediction",
    members=tuple(f"dft_3d_{task}.json.zip" for task in _TASKS),
)


def _files(task: str, download: Download | None) -> Files:
    name = f"dft_3d_{task}.json.zip"
    if data_dir() is not None:
        splits = mirrored(f"structures/{name}")
        structures = next(filter(None, (mirrored(f"structures/{stored}") for stored in _STRUCTURES)), None)
        if splits is None or structures is None:
            missing = f"structures/{name}" if splits is None else f"structures/{_STRUCTURES[0]}, from {DOWNLOAD}"
            raise Absent(f"{BUILDER}/{task} is not complete in TFMAT_DATA_DIR", expected=f"{missing}, or {BUILDER}/subset")
        return {"splits": splits, "structures": structures}
    if download is None:
        raise Absent(f"{BUILDER}/{task} has not been downloaded", expected=f"tfmat datasets build {BUILDER}/{task}")
    return {"structures": download(DOWNLOAD), "splits": fetch(LEADERBOARD) / name}


def _examples(task: str, files: Files, split: str) -> Iterator[StoredRow]:
    target = _TASKS[task][0]
    try:
        values = dict(read_json(files["splits"])[SHORT_SPLITS[split]])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"is not a list of splits ({error!r})", file=str(files["splits"])) from None
    for number, record in enumerate(read_array(files["structures"]), start=1):
        try:
            name = str(record["jid"])
            if name in values:  # a few ids stand twice in the file: the first entry is taken
                yield {"id": name, **jarvis_crystal(record["atoms"]), target: float(values.pop(name))}
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"entry {number} is not a crystal ({error!r})", file=str(files["structures"])) from None


def _subset_files(download: Download | None) -> Files:
    return {"all": only_mirrored("structures/jarvis_dft3d_subset.jsonl.gz", f"{BUILDER}/subset", f"another configuration of {BUILDER}")}


def _subset_examples(files: Files, split: str) -> Iterator[StoredRow]:
    return (row for row, record in read_lines(files["all"], _SUBSET) if record.get("official_split") == SHORT_SPLITS[split])


_COMMON: dict[str, Any] = dict(
    builder=BUILDER, version=VERSION, material="crystal", citation=CITATION, licence=LICENCE, url=URL, official_split=True
)


def _task(task: str) -> Source:
    target, unit, title, rows = _TASKS[task]
    return Source(
        name=f"{BUILDER}/{task}",
        title=title,
        units={target: unit},
        splits=dict(zip(SHORT_SPLITS, rows, strict=True)),
        origin="figshare file 29204826; splits: PyPI wheel jarvis_leaderboard 2024.10.30",
        files=functools.partial(_files, task),
        examples=functools.partial(_examples, task),
        **_COMMON,
    )


SUBSET = Source(
    name=f"{BUILDER}/subset",
    title="940 crystals of JARVIS-DFT, 1.7 % of it",
    units={target: _TASKS[task][1] for target, task in _SUBSET.items()},
    meanings={target: _TASKS[task][2] for target, task in _SUBSET.items()},
    splits={"train": 739, "validation": 105, "test": 96},
    origin="TFMAT_DATA_DIR only",
    files=_subset_files,
    examples=_subset_examples,
    notes="For trying things out: each id keeps its official split, but scores cannot be compared with the leaderboard's.",
    **_COMMON,
)
SOURCES = (*(_task(task) for task in _TASKS), SUBSET)
