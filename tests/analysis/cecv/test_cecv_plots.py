"""Plots of CECV: a readable PNG for one model and for several, with references and without."""

import numpy as np
import pytest

image = pytest.importorskip("matplotlib.image")

from tfmat.analysis.cecv import CECV, Environment  # noqa: E402
from tfmat.analysis.cecv.plots import environment_maps, retention_curves, tolerance_curves  # noqa: E402


def vector(*numbers):
    return CECV("Si", "readout", "leader", {3: 900, 4: 100}, {3: np.array(numbers), 4: np.ones(8, int)})


FOUND = {
    "lstm": vector(376, 147, 80, 48, 31, 27, 16, 14),
    "dcnn_k1": vector(910, 615, 453, 314, 237, 179, 134, 112),
    "a$b": vector(598, 241, 127, 73, 47, 34, 29, 21),
}
ROLES = {"lstm": "global", "dcnn_k1": "local"}


def inked(path):
    """Share of pixels that are not white."""
    return float((image.imread(path)[..., :3].min(axis=-1) < 0.98).mean())


def test_curves(tmp_path):
    tolerance_curves(FOUND, ROLES, tmp_path / "all.png")
    tolerance_curves({"a$b": FOUND["a$b"]}, {}, tmp_path / "one.png")
    assert inked(tmp_path / "all.png") > 2 * inked(tmp_path / "one.png") > 0.02  # the space between the references is shaded
    retention_curves(FOUND, ROLES, tmp_path / "r.png")
    assert inked(tmp_path / "r.png") > 0.02


def test_maps(tmp_path):
    rng = np.random.default_rng(0)
    found = Environment(("O", "Ti", "Sr"), rng.normal(size=(3, 64)), np.corrcoef(rng.normal(size=(3, 64))))
    environment_maps({"a$b": found}, "SrTiO3", tmp_path / "one.png")
    environment_maps({"a": found, "b": found, "c": found}, "SrTiO3", tmp_path / "three.png")
    one, three = image.imread(tmp_path / "one.png"), image.imread(tmp_path / "three.png")
    assert three.shape[0] > 2 * one.shape[0] and inked(tmp_path / "one.png") > 0.3
