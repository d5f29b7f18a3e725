"""What is known about published weight files beyond what they say themselves, by their SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfmat.target import Target

CONVERTER = 1
"""Raised whenever the same file gives another model directory: presets are then converted again."""

MEGNET_URL = "https://pypi.org/project/megnet/1.3.2"
MATGL_URL = "https://github.com/materialsvirtuallab/matgl"
CHEN_2019 = "C. Chen, W. Ye, Y. Zuo, C. Zheng, S. P. Ong, Chem. Mater. 31, 3564 (2019), doi 10.1021/acs.chemmater.9b01294"
CHEN_2021 = "C. Chen, Y. Zuo, W. Ye, X. Li, S. P. Ong, Nat. Comput. Sci. 1, 46 (2021), doi 10.1038/s43588-020-00002-x"
BSD = "BSD-3-Clause"

FORMATION_ENERGY = Target("formation_energy_per_atom", "eV/atom")
BAND_GAP = Target("band_gap", "eV")
NONMETAL = Target("is_nonmetal", task="binary")
BULK_MODULUS = Target("k_vrh", "GPa", transform="log10")
SHEAR_MODULUS = Target("g_vrh", "GPa", transform="log10")
FERMI_ENERGY = Target("fermi_energy", "eV")


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        preset: its name in tfmat.
        sha256: of the weight file.
        target: what it predicts; mean and std are read from the files.
        error: the error that its authors report.
        training_set: what it was trained on.
        citation: whom to cite.
        url: where it is published.
        state: state of the crystals that carry none: the fidelity that is predicted unless another one is asked for.
        fidelities: names of the fidelities of a multi-fidelity model, in order.
        weights: how many numbers the model has learnt.
    """

    preset: str
    sha256: str
    target: Target
    error: str
    training_set: str
    citation: str = CHEN_2019
    url: str = MEGNET_URL
    state: tuple[float, ...] | None = None
    fidelities: tuple[str, ...] = ()
    weights: int = 167_761

    @property
    def info(self) -> dict[str, Any]:
        """Collect what goes into `Predictor.info`, JSON-able."""
        known = {
            "title": f"MEGNet {self.preset}",
            "reported_error": self.error,
            "training_set": self.training_set,
            "citation": self.citation,
            "licence": BSD,
            "url": self.url,
        }
        return known | ({"fidelities": list(self.fidelities)} if self.fidelities else {})


def _mp(day: str, rows: str) -> str:
    return f"Materials Project of {day}: {rows}"


_2018, _2019 = "1 June 2018", "1 April 2019"
_MULTI = (
    "band gaps: 52,348 by PBE (Materials Project, 1 June 2019), 2,290 by GLLB-SC, 6,030 by HSE, 2,703 measured; 80 % of them, "
    "random split {}"
)
_MULTI_SHA256 = (
    "45c39055cca97d790fd96a2147283c3c3a3093bf050adf1342f29e3063a67ea7",
    "23e780e2962259a94c0d1da47a3d1127c6626d784ade7fcdbba8867c12a35a6f",
    "fd058c748914aa08322b9f137813792d1278b6d1cfa36c779fefe357f35c9281",
    "9473604cbf6e29d5c48ca29bca90f92335852bfb7992ddb89f93412d0cec298d",
    "a3a03cdef2cad253762208d07f781bc3ea35e8540e4e4ad124078e06681eed3d",
    "2c3eeb115451aaf181cba407a8998a5f73e2bc3781f83ab0cf8849953c2f154c",
)

MEGNET = (
    Published("mp-2018.6.1/formation_energy", "82363f6ef74747f67bccd75fa0237dfaab5f0da519bf5f9cf8f4bcc11c53712b", FORMATION_ENERGY,
              "MAE 0.028 eV/atom", _mp(_2018, "60,000 of 69,239 crystals")),
    Published("mp-2018.6.1/band_gap_regression", "e149197440863b06e819c3cc11550f7c78eee329b916112dab84d884d21306de", BAND_GAP,
              "MAE 0.32 eV", _mp(_2018, "80 % of 45,901 crystals, all with a gap above 0; for others ask band_classification first")),
    Published("mp-2018.6.1/band_classification", "51ce69de769f5f8164bfe316d027b18d9b04cec7c06f88d451956aa3319ed9e0", NONMETAL,
              "78.9 % of the metals and 90.6 % of the non-metals are classified right",
              _mp(_2018, "80 % of 69,239 crystals; class 1 is a gap above 0")),
    Published("mp-2018.6.1/log10K", "283e249977d9ac718c92a28590f35bf6ba53f49642469b98e11627a03e24dd05", BULK_MODULUS,
              "MAE 0.050 of log10(GPa)", _mp(_2018, "80 % of 5,830 crystals")),
    Published("mp-2018.6.1/log10G", "f62c31daa7a8d984c7f094ea7e70e4940c14417e4368d7297b567a907430dea2", SHEAR_MODULUS,
              "MAE 0.079 of log10(GPa)", _mp(_2018, "80 % of 5,830 crystals")),
    Published("mp-2019.4.1/formation_energy", "51de7e372f9fdbd10a519c3fd3cbf6fcd1039cc58e092c85b0f4fef49964f57b", FORMATION_ENERGY,
              "MAE 0.026 eV/atom", _mp(_2019, "80 % of 133,420 crystals")),
    Published("mp-2019.4.1/efermi", "20c541f24acdc2de003a56fc6124c1725aa48358c5a3b1be64f358c0cc4c055a", FERMI_ENERGY,
              "MAE 0.288 eV", _mp(_2019, "80 % of 66,680 crystals")),
    Published("mp-2019.4.1/log10K", "ac521bb2f6752e1a7c99df86059114b9b7920223f1db957c11749f34e8f9af4a", BULK_MODULUS,
              "MAE 0.071 of log10(GPa)", _mp(_2019, "80 % of 12,179 crystals")),
    Published("mp-2019.4.1/log10G", "2be27b3fbf59012bed6e6e595c772cf9b67db279cde1686c44987cd132c1b805", SHEAR_MODULUS,
              "MAE 0.124 of log10(GPa)", _mp(_2019, "80 % of 12,179 crystals")),
    *(
        Published(f"mf_2020/pbe_gllb_hse_exp/{number}", sha256, BAND_GAP,
                  "MAE 0.28 eV (PBE), 0.48 eV (GLLB-SC), 0.31 eV (HSE), 0.38 eV (measured)", _MULTI.format(number),
                  citation=CHEN_2021, state=(3.0,), fidelities=("PBE", "GLLB-SC", "HSE", "measured"), weights=168_721)
        for number, sha256 in enumerate(_MULTI_SHA256)
    ),
)  # fmt: skip
"""The models of megnet 1.3.2 for ordered crystals, by their names there."""

MATGL_EFORM = Published(
    "matgl/MEGNet-MP-2018.6.1-Eform", "35381368b17a2783f9ee09af5556cf1d84b74bf786b82d3fadd4acb38c51d040", FORMATION_ENERGY,
    "MAE 0.028 eV/atom", _mp(_2018, "60,000 of 69,239 crystals"), url=MATGL_URL, weights=181_169,
)  # fmt: skip

BY_SHA256: Mapping[str, Published] = {model.sha256: model for model in (*MEGNET, MATGL_EFORM)}
