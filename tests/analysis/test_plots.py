"""Plots: a readable PNG for ordinary and for degenerate data."""

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.image")

from tfmat.analysis import plots  # noqa: E402


def inked(path):
    """Share of pixels that are not white."""
    return float((plt.imread(path)[..., :3].min(axis=-1) < 0.98).mean())


def test_learning_curve(tmp_path):
    history = [{"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "gap_mae": 1 / e, "val_gap_mae": 2 / e} for e in (1.0, 2.0, 3.0)]
    plots.learning_curve(history, {"gap": "eV"}, tmp_path / "all.png")
    plots.learning_curve(history[:1], {"gap": "eV"}, tmp_path / "one.png")
    without = [{k: v for k, v in row.items() if not k.startswith("val_")} for row in history]
    plots.learning_curve(without, {"gap": ""}, tmp_path / "none.png", {"gap": "binary"})
    assert plt.imread(tmp_path / "all.png").shape[1] > 1000
    assert inked(tmp_path / "all.png") > inked(tmp_path / "none.png") > 0.01


@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize("spread", [True, False])
def test_parity(tmp_path, rows, spread):
    rng = np.random.default_rng(0)
    values = rng.normal(size=rows)
    values[:1] = 1.0
    uncertainty = rng.uniform(0.1, 1, rows) if spread else None
    plots.parity(values, values + 0.1, tmp_path / "p.png", target="band_gap", unit="eV", uncertainty=uncertainty, title="test")
    assert inked(tmp_path / "p.png") > 0.01


def test_roc(tmp_path):
    plots.roc(np.array([0, 1, 1, np.nan]), np.array([0.2, 0.9, 0.4, 0.1]), tmp_path / "r.png", target="metal")
    plots.roc(np.array([1.0]), np.array([0.2]), tmp_path / "one.png", target="metal")
    assert inked(tmp_path / "r.png") > 0.01


@pytest.mark.parametrize(("unit", "text"), [("eV", "band gap [eV]"), ("", "band gap")])
def test_label(unit, text):
    assert plots.label("band_gap", unit) == text
