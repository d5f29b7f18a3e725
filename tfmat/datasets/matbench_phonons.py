"""Matbench's task of phonons on crystals, with its five official folds."""

from __future__ import annotations

from collections.abc import Iterator

from tfmat.datasets.crystal_files import pymatgen_crystal, read_json, read_lines
from tfmat.datasets.fetch import Archive, fetch
from tfmat.datasets.source import Absent, Download, Files, Source, StoredRow, data_dir
from tfmat.errors import InputError

BUILDER = "matbench_phonons"
DESCRIPTION = (
    "1,265 crystals with the frequency of the last peak of the phonon density of states (DFPT), in the five folds of Matbench v0.1."
)
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "Matbench v0.1."}
DOWNLOAD = "https://ml.materialsproject.org/projects/matbench_phonons.json.gz"
SHA256 = "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3"  # as matminer's list of datasets gives it
TARGET = "last_phonon_dos_peak"
FOLDS = 5
_FOLD_FILE = "matbench_v0.1_validation.json"


MATBENCH = Archive(
    package="matbench",
    version="0.6",
    filename="matbench-0.6-py3-none-any.whl",
    kind="wheel",
    sha256="90b131032c3c2afe37c57b8891efefca05efe2d14296ae1f22445f7ddfb14c01",
    size=9_855_934,
    folder="matbench",
    members=(_FOLD_FILE,),
)


def _files(download: Download | None) -> Files:
    folder = data_dir()
    if folder is not None:
        files = {key: folder / "structures" / f"matbench_phonons{end}" for key, end in (("all", ".jsonl.gz"), ("folds", "_folds.json.gz"))}
        missing = [path for path in files.values() if not path.is_file()]
        if missing:
            raise Absent(f"{BUILDER} is not in TFMAT_DATA_DIR", expected=f"{missing[0]}")
        return files
    if download is None:
        raise Absent(f"{BUILDER} has not been downloaded", expected=f"tfmat datasets build {BUILDER}")
    return {"matbench": download(DOWNLOAD, SHA256), "folds": fetch(MATBENCH) / _FOLD_FILE}


def _examples(files: Files, split: str) -> Iterator[StoredRow]:
    wanted = _ids(files, f"fold_{split.removeprefix('fold')}")
    if "all" in files:
        yield from (row for row, _ in read_lines(files["all"], {TARGET: "last_phdos_peak"}) if row["id"] in wanted)
        return
    try:
        table = read_json(files["matbench"])
        structure, value = table["columns"].index("structure"), table["columns"].index("last phdos peak")
        for number, row in enumerate(table["data"], start=1):
            name = f"mb-phonons-{number:04d}"
            if name in wanted:
                yield {"id": name, **pymatgen_crystal(row[structure]), TARGET: float(row[value])}
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"is not Matbench's file ({error!r})", file=str(files["matbench"])) from None


def _ids(files: Files, fold: str) -> frozenset[str]:
    """Ids of the test part of a fold."""
    content = read_json(files["folds"])
    try:
        return frozenset(content[fold] if "all" in files else content["splits"][BUILDER][fold]["test"])
    except (KeyError, TypeError) as error:
        raise InputError(f"is not a list of folds ({error!r})", file=str(files["folds"])) from None


SOURCES = (
    Source(
        name=BUILDER,
        builder=BUILDER,
        version=VERSION,
        title="frequency of the last peak of the phonon DOS (DFPT)",
        material="crystal",
        units={TARGET: "1/cm"},
        splits={f"fold{fold}": 253 for fold in range(FOLDS)},
        folds=FOLDS,
        citation="A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi 10.1038/s41524-020-00406-3; "
        "G. Petretto et al., Sci. Data 5, 180065 (2018)",
        licence="MIT (Matbench)",
        url="https://matbench.materialsproject.org",
        origin="Matbench v0.1; folds: PyPI wheel matbench 0.6",
        files=_files,
        examples=_examples,
        notes="A stored split `foldK` is the test part of Matbench's fold K; the other four are what it is trained and validated on.",
    ),
)
