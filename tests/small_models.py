"""Small configurations of every architecture, all their variants, and materials that they all take."""

import numpy as np
import pytest

from tfmat.architecture import architectures
from tfmat.crystal import Crystal

SMALL = {name: dict(architecture.small) for name, architecture in architectures().items()}
VARIANTS = [(name, variant) for name, a in architectures().items() for variant in (a.variants or {"default": {}})]
SLOW = [("crysformer", "crysformer"), *(("lgdcnn", variant) for variant in ("dcnn", "dcnn_k1", "gdcnn", "gru", "ldcnn", "lgdcnn", "lstm"))]
"""Another variant of theirs has the same layers: fewer of them, or all."""


def of_variants(*slow):
    """The `VARIANTS` as parameters of a fixture; those of `SLOW`, and any others given, are for the slow tests."""
    return [pytest.param(case, marks=pytest.mark.slow if case in (*SLOW, *slow) else ()) for case in VARIANTS]


def make_crystal(species, seed):
    """Sites on a jittered 2 x 2 x 2 grid of a distorted cell, so that no two are closer than about 1 Å."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)[rng.permutation(8)[: len(species)]]
    lattice = np.diag(rng.uniform(3.0, 3.6, 3)) + rng.uniform(-0.2, 0.2, (3, 3))
    return Crystal(np.array(species, np.int32), lattice, grid + rng.normal(0, 0.03, grid.shape))


MATERIALS = {
    "composition": ["Fe2O3", "NaCl", "Si", "SrTiO3", "Li0.5CoO2", "Ca3Al2Si3O12", "KAl3Si3O12H2"],
    "crystal": [make_crystal([11, 17], 0), make_crystal([26], 1), make_crystal([22, 22, 8, 8, 8, 8], 2), make_crystal([94, 8, 8], 3)],
}
