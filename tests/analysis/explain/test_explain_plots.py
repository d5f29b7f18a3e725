"""Bars of contributions: a readable PNG for formulas, small crystals and large ones."""

import numpy as np
import pytest

image = pytest.importorskip("matplotlib.image")

from tfmat.analysis.explain import Contributions, Explanation  # noqa: E402
from tfmat.analysis.explain.plots import contribution_bars  # noqa: E402
from tfmat.crystal import Crystal  # noqa: E402
from tfmat.target import Target  # noqa: E402


def explanation(sites, crystal, attention, rest=0.0):
    rng = np.random.default_rng(0)
    values = rng.normal(size=sites)
    species = np.sort(rng.integers(1, 5, sites))
    found = Contributions(Target("band_gap", "eV"), float(1 + values.sum() + rest), 1.0, values, rest, None, "integrated gradients", 0.0)
    frame = Crystal(species, np.eye(3), rng.uniform(size=(sites, 3))) if crystal else None
    weights = {name: np.full(sites, 1 / sites) for name in attention}
    return Explanation(
        "a $x$ " + "very " * 20 + "long name", frame, species, None if crystal else np.full(sites, 1 / sites), {"band_gap": found}, weights
    )


@pytest.mark.parametrize(
    ("sites", "crystal", "attention", "rest"),
    [
        (1, False, (), 0.0),
        (5, False, ("bilstm_1", "bigru_2"), 0.0),
        (2, True, (), 0.3),
        (30, True, ("atom_set2set",), 0.0),
        (200, True, (), 1.0),
    ],
)
def test_bars(tmp_path, sites, crystal, attention, rest):
    contribution_bars(explanation(sites, crystal, attention, rest), "band_gap", tmp_path / "b.png")
    picture = image.imread(tmp_path / "b.png")
    assert 500 < picture.shape[1] < 1600 and (picture[..., :3].min(axis=-1) < 0.98).mean() > 0.03
    blue, orange = (np.array(rgb) / 255 for rgb in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)))
    values = explanation(sites, crystal, attention, rest).targets["band_gap"].sites
    for colour, present in ((blue, (values > 0).any()), (orange, (values < 0).any())):
        if present:
            assert (np.abs(picture[..., :3] - colour).max(axis=-1) < 0.02).any()
    np.testing.assert_array_less(0.98, picture[:2, :, :3])  # nothing is cut off at the top
    np.testing.assert_array_less(0.98, picture[:, :2, :3])
