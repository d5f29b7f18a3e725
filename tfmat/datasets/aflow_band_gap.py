"""Band gaps of AFLOW, known per formula only, on the crystals of ParAIsite's list."""

from __future__ import annotations

from collections.abc import Iterator

from tfmat.datasets.crystal_files import hash_part, read_lines
from tfmat.datasets.source import Download, Files, Source, StoredRow
from tfmat.datasets.thermal_conductivity import paraisite_file

BUILDER = "aflow_band_gap"
DESCRIPTION = "Crystals of AFLOW's ICSD catalogue with a band gap that is known per formula only: it may be that of another polymorph."
VERSION = "1.0.0"
RELEASE_NOTES = {"1.0.0": "5,512 crystals, 1,569 of them with a gap."}
TARGET = "band_gap"
_STEM = "AFLOW_icsd_5578"


def _files(download: Download | None) -> Files:
    return {"all": paraisite_file(_STEM, BUILDER)}


def _examples(files: Files, split: str) -> Iterator[StoredRow]:
    rows = [row for row, record in read_lines(files["all"], {TARGET: "egap_formula_level"}) if record.get("egap_formula_level") is not None]
    return hash_part(rows, split)


SOURCES = (
    Source(
        name=BUILDER,
        builder=BUILDER,
        version=VERSION,
        title="band gap (DFT), known per formula only",
        material="crystal",
        units={TARGET: "eV"},
        meanings={TARGET: "band gap (DFT) of the formula; it may belong to another polymorph than the crystal given"},
        splits={"train": 4_336, "validation": 583, "test": 593},
        citation="S. Curtarolo et al., Comput. Mater. Sci. 58, 218 (2012), doi 10.1016/j.commatsci.2012.02.005",
        licence="AFLOW's terms not verified; none given (ParAIsite)",
        url="https://aflow.org",
        origin="TFMAT_DATA_DIR only (ParAIsite's repository, converted; AFLUX: catalog ICSD, PAW_PBE, Egap)",
        files=_files,
        examples=_examples,
        notes="The gap is known per formula only: it may be another polymorph's. The split is tfmat's own, by the hash of the formula.",
    ),
)
