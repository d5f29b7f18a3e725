"""The nearest neighbours as arrays, whatever way the crystal is described."""

import dataclasses
import json
import time

import numpy as np
import pytest
from crystal_descriptions import CELLS, PROTOTYPES, cells_of, other_cell, prototype, random_crystal, reordered, rotated
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from small_models import make_crystal

from tfmat import datasets
from tfmat.crystal import Crystal, Crystals
from tfmat.errors import InputError
from tfmat.featurizers import NeighborFeaturizer
from tfmat.featurizers.base import configuration
from tfmat.featurizers.nearest import nearest_neighbors


def crystal(species=(11, 17), a=4.0, coords=((0, 0, 0), (0.5, 0.5, 0.5))):
    return Crystal(np.array(species, np.int32), np.eye(3) * a, np.array(coords, float))


def degrees(example):
    """Neighbours of each site."""
    return np.bincount(example["bond_receivers"], example["bond_multiplicity"], len(example["species"])).astype(int)


def environment(example, site):
    """What does not depend on the description: sorted rows (Z, distance), and of all pairs of bonds (Z, Z, cosine)."""
    kinds = example["species"][example["bond_senders"]]
    singles = np.column_stack([kinds, example["distances"]])[example["bond_receivers"] == site]
    pairs = np.column_stack([kinds[example["pair_receivers"]], kinds[example["pair_senders"]], example["cosines"]])
    pairs = pairs[example["bond_receivers"][example["pair_receivers"]] == site]
    return singles[np.lexsort(singles.T[::-1])], pairs[np.lexsort(pairs.T[::-1])]


def same_environments(one, other, parents, atol=1e-5):
    for site, parent in enumerate(parents):
        for mine, its in zip(environment(other, site), environment(one, parent), strict=True):
            if mine.shape != its.shape or not np.allclose(mine, its, atol=atol):
                return False
    return True


def slots(example, site):
    """Elements, distances and cosines of the bonds of a site, in their order."""
    mine = example["bond_receivers"] == site
    kinds, pairs = example["species"][example["bond_senders"]], mine[example["pair_receivers"]]
    return kinds[mine], example["distances"][mine], kinds[example["pair_senders"][pairs]], example["cosines"][pairs]


def assert_same_slots(one, other, parents):
    """Neighbours of the same kind in the same places, bond by bond and pair by pair."""
    np.testing.assert_array_equal(other["species"], one["species"][parents])
    for site, parent in enumerate(parents):
        for mine, its in zip(slots(other, site), slots(one, parent), strict=True):
            np.testing.assert_allclose(mine, its, atol=2e-5)


def assume_no_limit(material, tolerance=0.01, count=12):
    """No neighbour right at the limit."""
    wider = nearest_neighbors([material], count, tolerance + 2e-7)
    assume(len(wider.centers) == len(nearest_neighbors([material], count, tolerance - 2e-7).centers))


def descriptions(material, rng, cells):
    """Other descriptions in the same orientation, each with the site of `material` that each of its sites is."""
    yield reordered(material, rng)
    for matrix in cells:
        cell, parents = other_cell(material, matrix)
        cell, order = reordered(cell, rng)
        yield cell, parents[order]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strict=st.booleans())
def test_random_crystals_described_differently(seed, strict):
    rng = np.random.default_rng(seed)
    material = random_crystal(rng, int(rng.integers(1, 5)))
    assume_no_limit(material)
    featurizer = NeighborFeaturizer(max_neighbors=40, strict=strict, same=0)
    example = featurizer(material)
    for cell, parents in descriptions(material, rng, CELLS.values()):
        other = featurizer(cell)
        assert_same_slots(example, other, parents)
        assert same_environments(example, other, parents)
    if not strict:
        assert same_environments(example, featurizer(rotated(material, rng)), range(len(material)))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(PROTOTYPES)),
    scale=st.floats(0.8, 1.5),
    noise=st.sampled_from([0, 1e-9, 1e-6]),
    k=st.sampled_from([4, 12, 16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_symmetric_crystals_described_differently(name, scale, noise, k, seed):
    """Here the distances do tie, and rounding or noise must not decide."""
    rng = np.random.default_rng(seed)
    material = prototype(name, scale)
    assume_no_limit(material, count=k)
    featurizer = NeighborFeaturizer(k=k, max_neighbors=64, same=0)
    example = featurizer(material)
    for cell, parents in descriptions(material, rng, cells_of(name)):
        cell = dataclasses.replace(cell, frac_coords=cell.frac_coords + rng.uniform(-noise, noise, (len(cell), 3)))
        other = featurizer(rotated(cell, rng))
        np.testing.assert_array_equal(degrees(other), degrees(example)[parents])
        assert same_environments(example, other, parents, atol=1e-4)
        assert_same_slots(example, featurizer(cell), parents) if noise < 1e-6 else None


@pytest.mark.parametrize("name", ["bcc", "diamond", "sc"])
def test_strict_neighbours_depend_on_nothing_else(name):
    rng = np.random.default_rng(1)
    material, featurizer = prototype(name), NeighborFeaturizer(strict=True, same=0)
    example = featurizer(material)
    assert degrees(example).tolist() == [12] * len(material)
    for cell, parents in descriptions(material, rng, cells_of(name)):
        assert_same_slots(example, featurizer(cell), parents)


def test_strict_neighbours_depend_on_the_rotation():
    """Which is what the tests above would notice."""
    rng = np.random.default_rng(1)
    turned = [rotated(prototype("diamond"), rng) for _ in range(40)]
    for strict in (False, True):
        first, *others = (NeighborFeaturizer(strict=strict, same=0)(material) for material in turned)
        assert all(same_environments(first, other, [0, 1]) for other in others) is not strict


def test_strict_prefers_light_neighbours():
    example = NeighborFeaturizer(k=3, strict=True, same=0)(crystal([26, 9, 8, 8], 4.0, [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]))
    assert slots(example, 0)[0].tolist() == [8, 8, 8]


def caged(kinds=(6,), number=110):
    """An atom within a sphere of others, all equally far."""
    rank = np.arange(number) + 0.5
    polar, azimuth = np.arccos(1 - 2 * rank / number), np.pi * (1 + 5**0.5) * rank
    sphere = 6.0 * np.column_stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)])
    return crystal([11, *np.resize(kinds, number)], 20.0, np.concatenate([np.zeros((1, 3)), sphere / 20.0]))


def test_more_neighbours_than_slots():
    material = caged()
    assert (nearest_neighbors([material], 12, 0.01).centers == 0).sum() == 110
    featurizer = NeighborFeaturizer(same=0)
    example = featurizer(material)
    assert degrees(example)[0] == 24 and np.isfinite(example["cosines"]).all()
    np.testing.assert_allclose(slots(example, 0)[1], 6.0, atol=1e-5)
    rng = np.random.default_rng(0)
    for cell, parents in descriptions(material, rng, CELLS.values()):
        assert_same_slots(example, featurizer(cell), parents)


def test_the_farthest_and_then_the_heaviest_lose_their_slots():
    material = caged((8, 6, 7))
    example = NeighborFeaturizer(max_neighbors=50, same=0)(material)
    assert slots(example, 0)[0].tolist() == [6] * 37 + [7] * 13
    coords = material.frac_coords.copy()
    coords[1:41] *= 1.001  # 40 oxygen, carbon and nitrogen a little farther, and still within the tolerance
    example = NeighborFeaturizer(max_neighbors=75, same=0)(dataclasses.replace(material, frac_coords=coords))
    mine = example["bond_receivers"] == 0
    assert (np.sort(example["bond_senders"][mine][:70]) == np.arange(41, 111)).all()
    np.testing.assert_allclose(example["distances"][mine][70:], 6.006, atol=1e-4)


def test_keys_types_and_every_slot():
    featurizer = NeighborFeaturizer(same=0)
    example = featurizer(crystal())
    assert set(example) == set(featurizer.spec)
    for key, (dtype, shape) in featurizer.spec.items():
        assert str(example[key].dtype) == dtype and len(example[key].shape) == len(shape)
    assert degrees(example).tolist() == [14, 14]
    assert example["bond_receivers"].tolist() == [0] * 14 + [1] * 14
    assert example["bond_senders"].tolist() == [1] * 8 + [0] * 6 + [0] * 8 + [1] * 6
    np.testing.assert_allclose(example["distances"], ([2 * np.sqrt(3)] * 8 + [4] * 6) * 2, rtol=1e-6)
    assert (example["bond_receivers"][example["pair_senders"]] == example["bond_senders"][example["pair_receivers"]]).all()
    np.testing.assert_array_equal(example["pair_receivers"], np.repeat(np.arange(28), 14))
    assert all((example[key] == 1).all() for key in example if key.endswith("multiplicity"))


def test_classes_of_a_simple_crystal():
    """Each atom has eight unlike neighbours and six of its own kind; on the way from one, what comes from where it goes on to."""
    example = NeighborFeaturizer()(crystal())
    assert example["species"].tolist() == [11, 17] and example["site_multiplicity"].tolist() == [1, 1]
    assert example["bond_receivers"].tolist() == [0, 0, 1, 1] and example["bond_senders"].tolist() == [0, 1, 0, 1]
    assert example["bond_multiplicity"].tolist() == [6, 8, 8, 6]
    np.testing.assert_allclose(example["distances"], [4, 2 * np.sqrt(3), 2 * np.sqrt(3), 4], rtol=1e-6)
    first = example["pair_receivers"] == 0
    assert example["pair_senders"][first].tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(example["cosines"][first], [-1, 0, 1, -1 / np.sqrt(3), 1 / np.sqrt(3)], atol=1e-6)
    assert example["pair_multiplicity"][first].tolist() == [1, 4, 1, 4, 4]


def test_many_are_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(3)
    materials = [random_crystal(rng, sites) for sites in (1, 4, 2, 9)] + [prototype(name) for name in PROTOTYPES]
    monkeypatch.setattr("tfmat.featurizers.sites.BLOCK", 3)
    records = NeighborFeaturizer().featurize(Crystals.of(materials))
    for index, material in enumerate(materials):
        for key, value in NeighborFeaturizer()(material).items():
            np.testing.assert_array_equal(records[index][key], value)
    empty = NeighborFeaturizer().featurize([])
    assert len(empty) == 0 and {key: value.shape[1:] for key, value in empty.values.items()} == {
        key: shape[1:] for key, (_, shape) in NeighborFeaturizer().spec.items()
    }


def test_structures_and_crystals_give_the_same():
    cell = crystal()
    structure = Structure(Lattice(cell.lattice), ["Na+", "Cl-"], cell.frac_coords)
    both = NeighborFeaturizer().featurize([structure, cell])
    for key in both.values:
        np.testing.assert_array_equal(both[0][key], both[1][key])


@pytest.mark.parametrize(
    ("material", "message"),
    [
        (crystal([], 4.0, np.zeros((0, 3))), "no sites"),
        (crystal([96, 8]), r"site 1 is Cm \(Z = 96\).*does not know.*H to Am"),
        (crystal([0, 8]), r"site 1 is"),
        (crystal([8, 8], 4.0, [[0, 0, 0], [0.001, 0, 0]]), "sites 1 and 2 of O2 are 0.004 Å apart"),
        (crystal([8, 8], 4.0, [[0, 0, 0], [1, 0, 0]]), "sites 1 and 2 of O2 are 0.000 Å apart"),
        (crystal([8, 8], 4.0, [[0, 0, 0], [0.5, np.nan, 0]]), r"the coordinates of site 2 are \[0.5, nan, 0.0\]"),
        (crystal([8, 8], 4.0, [[0, 0, -np.inf], [0.5, 0, 0]]), r"the coordinates of site 1 are"),
        (crystal(a=np.nan), "lattice planes are nan Å apart"),
        (Crystal(np.array([8], np.int32), np.array([[3.0, 0, 0], [6, 0, 0], [0, 0, 3]]), np.zeros((1, 3))), "lattice planes are 0 Å apart"),
        (Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "site 1 is partially occupied"),
        (Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["Na"], [[0, 0, 0]]), "is periodic along 2 of 3 directions"),
        ("NaCl", "'NaCl' is a formula"),
        (3.0, "float is no crystal"),
    ],
)
def test_bad_crystals(material, message, monkeypatch):
    monkeypatch.setattr("tfmat.featurizers.sites.BLOCK", 2)
    with pytest.raises(InputError, match=message) as caught:
        NeighborFeaturizer().featurize([crystal(), crystal(), crystal(), material])
    assert caught.value.index == 3 and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message) as caught:
        NeighborFeaturizer()(material)
    assert caught.value.index is None


def test_configuration_survives_json():
    featurizer = NeighborFeaturizer(8, strict=True)
    config = json.loads(json.dumps(configuration(featurizer)))
    assert config["name"] == "NeighborFeaturizer" and NeighborFeaturizer(**config["config"]) == featurizer


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 12.5}, "k=12.5"),
        ({"k": 129, "strict": True}, "k=129"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"tolerance": float("nan")}, "tolerance=nan"),
        ({"max_neighbors": 11}, "max_neighbors=11, k=12"),
        ({"max_neighbors": 1000}, "max_neighbors=1000"),
        ({"same": -1e-9}, "`same` must be from 0 to 0.01. Received: same=-1e-09"),
        ({"same": 0.02}, "same=0.02"),
        ({"same": float("nan")}, "same=nan"),
    ],
)
def test_bad_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        NeighborFeaturizer(**keywords)


def test_speed():
    """The aim is 2,000 crystals of matbench_phonons a second on one core; a loaded machine may take three times as long."""
    cells = Crystals.of([crystal([11] * 4 + [17] * 4, 5.6, np.array(np.meshgrid(*[[0, 0.5]] * 3)).T.reshape(-1, 3))] * 500)
    NeighborFeaturizer().featurize(cells.subset(np.arange(10)))
    began = time.process_time()
    NeighborFeaturizer().featurize(cells)
    assert 500 / (time.process_time() - began) > 700


@pytest.mark.mirror
def test_statistics_of_phonons(mirror):
    materials = [material for table in datasets.load("matbench_phonons").splits.values() for material in table.materials]
    records = NeighborFeaturizer().featurize(materials)
    most = np.array([degrees(records[index]).max() for index in range(len(records))])
    assert np.percentile(most, [50, 90, 99, 100]).tolist() == [14, 18, 22, 22]
    assert [round(float((most <= slots).mean()), 2) for slots in (16, 20, 24)] == [0.83, 0.94, 1.0]
    every = NeighborFeaturizer(same=0).featurize(materials)
    saved = [len(every.values[key]) / len(records.values[key]) for key in ("species", "distances", "cosines")]
    np.testing.assert_allclose(saved, [2.2, 5.0, 6.3], atol=0.05)
    found = nearest_neighbors(materials, 13, 1e-3)
    distances = found.distances[np.lexsort((found.distances, found.centers))]
    gaps = distances[found.ranks == 12] - distances[found.ranks == 11]
    starts = np.cumsum([0, *(len(material) for material in materials[:-1])])
    assert np.logical_or.reduceat(gaps < 1e-3, starts).mean() == pytest.approx(0.823, abs=5e-4)


def test_bonds_ascend_where_two_sites_share_none_of_them():
    """The two sites of strontium are told apart by their bonds, which are all different from the beginning."""
    records = NeighborFeaturizer().featurize([make_crystal([11, 49, 59, 38, 1, 38], 43119)])
    for key in ("bond_receivers", "pair_receivers"):
        assert (np.diff(records.values[key]) >= 0).all()
