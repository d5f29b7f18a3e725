"""Measured formation enthalpies that are package data of pymatgen: the dataset that needs no download."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfmat.data.splits import split_by_hash
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.source import Absent, Download, Files, Source, StoredRow
from tfmat.errors import InputError
from tfmat.featurizers.formula import parse_formula

NAME = BUILDER = "exp_formation_enthalpy"
DESCRIPTION = "Measured formation enthalpies of 2,135 inorganic compounds at 298 K, as published with pymatgen."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "exp_compounds.json.gz of pymatgen."}
TARGET = "formation_enthalpy_per_atom"
ROWS = 2135
_LOCATIONS = (("analysis", "compatibility", "exp_compounds.json.gz"), ("entries", "exp_compounds.json.gz"))


def load() -> Dataset:
    """2,135 different formulas; values converted from eV per formula unit to eV/atom.

    The split is fixed: about 80/10/10 by the hash of the formula. It is tfmat's own, there is no official one. A row's id is its Materials
    Project id where pymatgen gives one, else ``exp-`` and its position.
    """
    path = _files(None)["all"]
    try:
        entries = json.loads(gzip.decompress(path.read_bytes()))
        formulas = [str(entry["formula"]) for entry in entries]
        enthalpies = np.asarray([float(entry["exp energy"]) for entry in entries])
        ids = [str(entry.get("mpid") or f"exp-{i}") for i, entry in enumerate(entries)]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot be read ({error})", expected="pymatgen's list of measured compounds", file=str(path)) from None
    atoms = np.asarray([sum(parse_formula(formula).values()) for formula in formulas])
    table = Table(formulas, {TARGET: enthalpies / atoms}, ids, np.arange(1, len(formulas) + 1), NAME)
    return Dataset.of(SOURCES[0], {split: table.subset(rows) for split, rows in split_by_hash(table.materials).items()})


def _files(download: Download | None) -> Files:
    path = _find()
    if path is None:
        raise Absent(f"{NAME}: pymatgen is not installed or comes without exp_compounds.json.gz", expected="pip install pymatgen")
    return {"all": path}


def _examples(files: Files, split: str) -> Iterator[StoredRow]:
    table = load().splits[split]
    for formula, name, value in zip(table.materials, table.ids, table.targets[TARGET], strict=True):
        yield {"id": name, "formula": formula, TARGET: float(value)}


def _find() -> Path | None:
    """The file in the installed pymatgen, which is not imported for it."""
    package = importlib.util.find_spec("pymatgen")
    for folder in list(package.submodule_search_locations or []) if package else []:
        for parts in _LOCATIONS:
            if Path(folder, *parts).is_file():
                return Path(folder, *parts)
    return None


SOURCES = (
    Source(
        name=NAME,
        builder=BUILDER,
        version=VERSION,
        title="measured formation enthalpies of inorganic compounds at 298 K",
        material="composition",
        units={TARGET: "eV/atom"},
        splits={"train": 1_729, "validation": 203, "test": 203},
        citation="A. Wang et al., Sci. Rep. 11, 15496 (2021), doi 10.1038/s41598-021-94550-5",
        licence="MIT (pymatgen)",
        url="https://pymatgen.org",
        origin="package data of pymatgen",
        size=0,
        files=_files,
        examples=_examples,
        notes="There is no official split: tfmat's own, about 80/10/10 by the hash of the formula.",
    ),
)
