"""The composition benchmarks distributed with CrabNet: 18 sets with an official split and 13 Matbench sets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfmat.data.readers import read_table
from tfmat.data.splits import SPLITS, split_by_hash
from tfmat.data.table import Table
from tfmat.datasets.dataset import Dataset, Listing, data_dir
from tfmat.errors import InputError
from tfmat.target import Task

VERSION = "1.0.1"
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
class _Source:
    name: str
    target: str
    unit: str
    rows: int
    family: str
    title: str
    task: Task = "regression"


_BENCHMARK = (
    _Source("CritExam__Ed", "decomposition_energy_per_atom", "eV/atom", 85014, "MP", "decomposition energy (DFT)"),
    _Source("CritExam__Ef", "formation_energy_per_atom", "eV/atom", 85014, "MP", "formation energy (DFT)"),
    _Source("OQMD_Bandgap", "band_gap", "eV", 341608, "OQMD", "band gap (DFT)"),
    _Source("OQMD_Energy_per_atom", "energy_per_atom", "eV/atom", 341700, "OQMD", "total energy (DFT)"),
    _Source("OQMD_Formation_Enthalpy", "formation_enthalpy_per_atom", "eV/atom", 341700, "OQMD", "formation enthalpy (DFT)"),
    _Source("OQMD_Volume_per_atom", "volume_per_atom", "A^3/atom", 341700, "OQMD", "volume (DFT)"),
    _Source("aflow__Egap", "band_gap", "eV", 27577, "AFLOW", "band gap (DFT)"),
    _Source("aflow__ael_bulk_modulus_vrh", "bulk_modulus", "GPa", 4896, "AFLOW", "bulk modulus K_VRH (AEL)"),
    _Source("aflow__ael_debye_temperature", "debye_temperature", "K", 4896, "AFLOW", "Debye temperature (AEL)"),
    _Source("aflow__ael_shear_modulus_vrh", "shear_modulus", "GPa", 4896, "AFLOW", "shear modulus G_VRH (AEL)"),
    _Source(
        "aflow__agl_thermal_conductivity_300K",
        "thermal_conductivity",
        "W/(m K)",
        4887,
        "AFLOW",
        "lattice thermal conductivity at 300 K (AGL)",
    ),
    _Source("aflow__agl_thermal_expansion_300K", "thermal_expansion", "1/K", 4886, "AFLOW", "thermal expansion at 300 K (AGL)"),
    _Source("aflow__energy_atom", "energy_per_atom", "eV/atom", 27579, "AFLOW", "total energy (DFT)"),
    _Source("mp_bulk_modulus", "bulk_modulus", "GPa", 6307, "MP", "bulk modulus K_VRH (DFT)"),
    _Source("mp_e_hull", "energy_above_hull", "eV/atom", 56662, "MP", "energy above the convex hull (DFT)"),
    _Source("mp_elastic_anisotropy", "elastic_anisotropy", "", 6331, "MP", "elastic anisotropy (DFT)"),
    _Source("mp_mu_b", "magnetic_moment", "Bohr magneton", 56662, "MP", "magnetic moment (DFT)"),
    _Source("mp_shear_modulus", "shear_modulus", "GPa", 6184, "MP", "shear modulus G_VRH (DFT)"),
)
_MATBENCH_SETS = (
    _Source("castelli", "formation_energy_per_cell", "eV/cell", 18928, "Matbench", "formation energy of perovskites (DFT)"),
    _Source("dielectric", "refractive_index", "", 4764, "Matbench", "refractive index (DFT)"),
    _Source("elasticity_log10(G_VRH)", "log10_shear_modulus", "log10(GPa)", 10987, "Matbench", "log10 of the shear modulus G_VRH (DFT)"),
    _Source("elasticity_log10(K_VRH)", "log10_bulk_modulus", "log10(GPa)", 10987, "Matbench", "log10 of the bulk modulus K_VRH (DFT)"),
    _Source("expt_gap", "band_gap", "eV", 4604, "Matbench", "measured band gap"),
    _Source("expt_is_metal", "is_metal", "", 4921, "Matbench", "metal or not (measured)", "binary"),
    _Source("glass", "is_glass", "", 5680, "Matbench", "forms a metallic glass or not (measured)", "binary"),
    _Source("jdft2d", "exfoliation_energy", "meV/atom", 636, "Matbench", "exfoliation energy (DFT)"),
    _Source("mp_e_form", "formation_energy_per_atom", "eV/atom", 132752, "Matbench", "formation energy (DFT)"),
    _Source("mp_gap", "band_gap", "eV", 106113, "Matbench", "band gap (DFT)"),
    _Source("mp_is_metal", "is_metal", "", 106113, "Matbench", "metal or not (DFT)", "binary"),
    _Source("phonons", "last_phonon_dos_peak", "1/cm", 1265, "Matbench", "frequency of the last peak of the phonon DOS (DFT)"),
    _Source("steels_yield", "yield_strength", "MPa", 312, "Matbench", "measured yield strength of steels"),
)
_SOURCES = {source.name: source for source in (*_BENCHMARK, *_MATBENCH_SETS)}
ALIASES = {"elasticity_log10_g_vrh": "elasticity_log10(G_VRH)", "elasticity_log10_k_vrh": "elasticity_log10(K_VRH)"}
"""Other spellings that need no quoting in a shell."""


def names(*, folds: bool = False) -> list[str]:
    """Names that `load` knows; with `folds` also ``<name>/fold0`` to ``<name>/fold4`` of the Matbench sets."""
    if not folds:
        return list(_SOURCES)
    return [*_SOURCES, *(f"{source.name}/fold{k}" for source in _MATBENCH_SETS for k in range(FOLDS))]


def load(name: str) -> Dataset:
    """One set, read from the folder ``composition`` of ``TFMAT_DATA_DIR``.

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
    source = _SOURCES.get(ALIASES.get(base, base))
    if source is None or ("/" in name and not (source in _MATBENCH_SETS and fold in {str(k) for k in range(FOLDS)})):
        raise InputError(f"unknown composition benchmark {name!r}", expected="a name of tfmat.datasets.names(folds=True)")
    official = source in _BENCHMARK or bool(fold)
    if official:
        tables = {split: _read(file, source) for split, file in _split_files(source, fold).items()}
    else:
        whole = _read(_folder() / "matbench" / f"{source.name}.csv.gz", source)
        tables = {split: whole.subset(rows) for split, rows in split_by_hash(whole.materials).items()}
    tables["train"] = average_duplicates(tables["train"], binary=source.task == "binary")
    return Dataset(
        name=f"{source.name}/fold{fold}" if fold else source.name,
        version=VERSION,
        title=source.title + (f", CrabNet's fold {fold}" if fold else ""),
        units={source.target: source.unit},
        tasks={source.target: source.task},
        material="composition",
        splits=tables,
        official_split=official,
        citation=_CRABNET if source in _BENCHMARK else f"{_MATBENCH}; {_CRABNET}",
        licence=_LICENCES[source.family],
        url=URL,
    )


def listings() -> list[Listing]:
    """What is known without reading the data."""
    folder = data_dir()
    rows = []
    for source in _SOURCES.values():
        matbench = source in _MATBENCH_SETS
        if folder is None:
            files = []
        elif matbench:
            files = [folder / "composition" / "matbench" / f"{source.name}.csv.gz"]
        else:
            files = [folder / "composition" / "benchmark_data" / source.name / f"{part}.csv.gz" for part in ("train", "val", "test")]
        present = bool(files) and all(file.is_file() for file in files)
        folds = FOLDS if matbench else 0
        units = {source.target: source.unit}
        rows.append(Listing(source.name, source.title, source.rows, folds, units, _LICENCES[source.family], present, ORIGIN))
    return rows


def average_duplicates(table: Table, *, binary: bool = False) -> Table:
    """One row for each different formula text, at its first place, with the mean of every target over its rows (NaN left out).

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


def _folder() -> Path:
    folder = data_dir()
    if folder is None:
        raise InputError(
            "the composition benchmarks are not on this machine",
            expected="TFMAT_DATA_DIR set to a folder with composition/benchmark_data, composition/matbench and composition/matbench_cv; "
            "they are the folder data/ of the PyPI sdist crabnet 1.0.1 (pip download --no-deps --no-binary :all: crabnet==1.0.1)",
        )
    return folder / "composition"


def _split_files(source: _Source, fold: str) -> dict[str, Path]:
    folder = _folder() / ("matbench_cv" if fold else "benchmark_data") / source.name
    return {split: folder / f"{part}{fold}.csv.gz" for split, part in zip(SPLITS, ("train", "val", "test"), strict=True)}


def _read(path: Path, source: _Source) -> Table:
    """One file, gzipped or plain, its column ``target`` renamed."""
    plain = path.with_suffix("")
    if not path.is_file() and not plain.is_file():
        raise InputError(
            f"{source.name}: missing file {path}", expected="TFMAT_DATA_DIR to hold the whole folder data/ of crabnet 1.0.1 as composition/"
        )
    table = read_table(path if path.is_file() else plain, targets=["target"])
    return dataclasses.replace(table, targets={source.target: table.targets["target"]})
