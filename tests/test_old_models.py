"""Model folders that tfmat 0.1 wrote, before crystals were lists, still load and give the numbers that they gave then."""

import json
import pathlib

import numpy as np
import pytest

from tfmat.crystal import Crystal
from tfmat.elements import SYMBOLS
from tfmat.predictor import Predictor

FOLDER = pathlib.Path(__file__).parent / "data" / "models_of_0_1"
STORED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def crystals():
    return [
        Crystal(np.array([SYMBOLS.index(s) for s in c["species"]], np.int32), np.array(c["lattice"]), np.array(c["frac"]))
        for c in STORED["crystals"].values()
    ]


@pytest.mark.parametrize("name", STORED["predictions"])
def test_the_predictions_are_those_of_then(name):
    predictor = Predictor.load(FOLDER / name)
    materials = STORED["formulas"] if predictor.architecture.material == "composition" else crystals()
    frame = predictor.predict(materials)
    assert frame["error"].isna().all()
    np.testing.assert_allclose(frame["y"], STORED["predictions"][name], rtol=0, atol=1e-5)
    assert np.ptp(STORED["predictions"][name]) > 1e-3
