"""The predictor of a model of crystals: sizes, order, cells, and what is no crystal."""

import numpy as np
import pandas as pd
import pytest
from megnet_cases import CRYSTALS, IRON, ISOLATED, PEROVSKITE, SALT, SMALL, TRICLINIC, crystal, randomise, supercell

from tfmat.crystal import Crystals
from tfmat.predictor import Predictor
from tfmat.target import Target


@pytest.fixture(scope="module")
def predictor():
    predictor = Predictor.create("megnet", [Target("y", "eV")], keywords=SMALL)
    randomise(predictor.model)
    return predictor


MIXED = [supercell(TRICLINIC, (5, 4, 4)), IRON, PEROVSKITE, ISOLATED, supercell(PEROVSKITE, (3, 3, 2)), TRICLINIC, SALT]


def test_each_crystal_predicts_what_it_predicts_alone(predictor):
    """From one site to 320 in one call, in their order, whatever the batches."""
    alone = np.array([predictor.predict([one])["y"][0] for one in MIXED])
    frame = predictor.predict(MIXED)
    assert frame["sites"].tolist() == [320, 1, 5, 3, 90, 4, 2] and frame["material"].tolist() == [one.formula for one in MIXED]
    assert len(np.unique(np.round(alone, 4))) == 5, "two of them are supercells of others"
    np.testing.assert_allclose(frame["y"], alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(predictor.predict(MIXED[::-1], batch_size=3)["y"], alone[::-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("repeats", [(2, 2, 2), (1, 1, 3)])
def test_a_supercell_predicts_what_its_cell_does(predictor, repeats):
    large = [supercell(one, repeats) for one in CRYSTALS]
    assert len(large[0]) == np.prod(repeats) * len(CRYSTALS[0])
    first, second = (predictor.predict(materials)["y"] for materials in (CRYSTALS, large))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_the_same_crystals_in_other_forms(predictor):
    from pymatgen.core import Structure

    structures = [Structure(one.lattice, one.species, one.frac_coords) for one in MIXED]
    wanted = predictor.predict(MIXED)
    for materials in (Crystals.of(MIXED), structures):
        np.testing.assert_allclose(predictor.predict(materials)["y"], wanted["y"], rtol=0, atol=1e-6)


def test_what_cannot_be_read_stays_in_its_row(predictor):
    sparse = crystal([54], np.eye(3) * 9, [[0, 0, 0]])
    heavy = crystal([95], np.eye(3) * 3, [[0, 0, 0]])
    dense = crystal([6], np.eye(3) * 0.6, [[0, 0, 0]])
    frame = predictor.predict([SALT, "NaCl", sparse, TRICLINIC, heavy, dense])
    assert frame["y"].notna().tolist() == [True, False, False, True, False, False]
    np.testing.assert_allclose(frame["y"][[0, 3]], predictor.predict([SALT, TRICLINIC])["y"], rtol=0, atol=1e-6)
    errors = frame["error"].tolist()
    assert pd.isna(errors[0]) and pd.isna(errors[3])
    assert "no crystal" in errors[1] and "no bonds" in errors[2] and "Am" in errors[4]
    assert errors[5] == "the cell has 0.216 Å3 per atom. Expected at least 2: lengths in Å, and each atom once"
