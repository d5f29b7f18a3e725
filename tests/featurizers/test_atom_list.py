"""Lists of atoms: ties, order, equal lists, and what the description of a crystal may not change."""

import dataclasses
import json

import numpy as np
import pytest
from crystal_descriptions import CELLS, PROTOTYPES, all_pairs, cells_of, other_cell, prototype, random_crystal, reordered, rotated
from pymatgen.core import Lattice, Structure

from tfmat.crystal import Crystal, Crystals
from tfmat.errors import InputError
from tfmat.featurizers import AtomListFeaturizer
from tfmat.featurizers.base import configuration


def crystal(species=(11, 17), a=4.0, coords=((0, 0, 0), (0.5, 0.5, 0.5))):
    return Crystal(np.array(species, np.int32), np.eye(3) * a, np.array(coords, float))


def per_site(example):
    """Species, elements and distances of each site, in the order of the sites."""
    rows = example["lists"] - 1
    return example["species"][rows], example["elements"][rows], example["distances"][rows]


def assert_same(one, other, atol=1e-5, copies=1):
    """The same sequence of lists, every one of them `copies` times."""
    for mine, its in zip(per_site(one), per_site(other), strict=True):
        np.testing.assert_allclose(its, np.repeat(mine, copies, axis=0), atol=atol)


def descriptions(material, rng, cells, noise):
    """In other words; with the number of cells, and with noise on every coordinate [Å]."""
    for matrix in [np.eye(3, dtype=int), *cells]:
        cell, parents = other_cell(material, matrix)
        cell, _ = reordered(cell, rng)
        moves = rng.uniform(-noise, noise, (len(cell), 3)) @ np.linalg.inv(cell.lattice)
        cell = dataclasses.replace(cell, frac_coords=cell.frac_coords + moves)
        yield rotated(cell, rng), len(parents) // len(material)


@pytest.mark.parametrize("noise", [0, 1e-6])
@pytest.mark.parametrize("name", PROTOTYPES)
def test_symmetric_crystals_described_differently(name, noise):
    """Here distances tie, within a list and between lists: neither rounding nor noise may decide."""
    rng = np.random.default_rng(0)
    featurizer = AtomListFeaturizer()
    for scale in (0.9, 1.0, 1.1371):
        material = prototype(name, scale)
        example = featurizer(material)
        for cell, copies in descriptions(material, rng, cells_of(name), noise):
            other = featurizer(cell)
            assert len(other["species"]) == len(example["species"])  # equal lists are found
            assert_same(example, other, copies=copies)


@pytest.mark.parametrize("noise", [0, 1e-6])
@pytest.mark.parametrize("seed", range(12))
def test_random_crystals_described_differently(seed, noise):
    rng = np.random.default_rng(seed)
    material = random_crystal(rng, int(rng.integers(1, 6)))
    featurizer = AtomListFeaturizer()
    for cell, copies in descriptions(material, rng, CELLS.values(), noise):
        assert_same(featurizer(material), featurizer(cell), copies=copies)


@pytest.mark.parametrize("edge", [2.5, 2.5005, 2.50005])
@pytest.mark.parametrize("seed", range(8))
def test_noise_does_not_order_the_lists(edge, seed):
    """The first distances of three sites are the same to within noise, and are where rounding to so many decimals would cut."""
    rng = np.random.default_rng(seed)
    lattice = np.diag([edge, edge, 24.0])
    coords = np.array([[0, 0, 0], [0.3, 0.2, 0.31], [0.1, 0.4, 0.63]])
    layers = Crystal(np.array([29, 29, 29], np.int32), lattice, coords)  # sites in one plane are 1, sqrt(2), 2, ... edges apart
    featurizer = AtomListFeaturizer(n_list=60)
    example = featurizer(layers)
    assert len(example["species"]) == 3, "the layers differ in what is farther away"
    assert np.ptp(example["distances"][:, :20], axis=0).max() < 1e-6
    for _ in range(5):
        moved, _ = reordered(layers, rng)
        noise = rng.uniform(-1e-6, 1e-6, (3, 3)) / np.diag(lattice)
        assert_same(example, featurizer(dataclasses.replace(moved, frac_coords=moved.frac_coords + noise)))


def test_published_order_depends_on_the_origin():
    """Which is what the tests above would notice."""
    material = prototype("perovskite")
    moved = dataclasses.replace(material, frac_coords=material.frac_coords + [0.3, 0.6, 0.1])
    for order, same in (("canonical", True), ("published", False)):
        one, other = (per_site(AtomListFeaturizer(order=order)(cell))[0].tolist() for cell in (material, moved))
        assert (one == other) is same


def test_published_order():
    """x, then y, then z; just below 1 is 0; the lists themselves are those of the canonical order."""
    coords = [[0.5, 0.5, 0.5], [0.0, 0.75, 0], [1 - 1e-9, 0.25, 0.5], [-0.5, 0.5, 0.0], [2.0, 0.25, 0.0]]
    material = crystal([8, 9, 10, 11, 12], 6.0, coords)
    published, canonical = AtomListFeaturizer(order="published")(material), AtomListFeaturizer()(material)
    assert per_site(published)[0].tolist() == [12, 10, 9, 11, 8]
    assert per_site(canonical)[0].tolist() == [8, 9, 10, 11, 12]
    for key in ("species", "elements", "distances"):
        np.testing.assert_array_equal(published[key], canonical[key])


def test_published_order_of_sites_in_other_cells():
    """The same x in another cell is equal, though 2.3 % 1.0 is less than 0.3: y decides."""
    material = crystal([8, 9], 6.0, [[2.3, 0.75, 0], [0.3, 0.25, 0]])
    assert per_site(AtomListFeaturizer(order="published")(material))[0].tolist() == [9, 8]


@pytest.mark.parametrize("seed", range(4))
def test_lists_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    material = random_crystal(rng, 4)
    example = AtomListFeaturizer(n_list=12, order="published")(material)
    order = np.lexsort((material.frac_coords % 1).T[::-1])
    centers, neighbors, _, distances = all_pairs(material, 8.0)
    for site, (kind, elements, found) in zip(order, zip(*per_site(example), strict=True), strict=True):
        mine = np.flatnonzero(centers == site)
        nearest = mine[np.argsort(distances[mine])][:11]
        assert kind == material.species[site]
        np.testing.assert_allclose(found, distances[nearest], atol=1e-4)
        np.testing.assert_array_equal(elements, material.species[neighbors[nearest]])


@pytest.mark.parametrize(("n_list", "expected"), [(7, [8, 8, 8, 9, 9, 9]), (5, [8, 8, 8, 9]), (3, [8, 8])])
def test_light_neighbours_come_first_in_a_shell(n_list, expected):
    """Also where the list ends within a shell, and where the farthest of the shell is a light one."""
    around = [[0.1, 0, 0], [-0.1, 0, 0], [0, 0.1, 0], [0, -0.1, 0], [0, 0, 0.1], [0, 0, -0.10002]]
    material = crystal([26, 9, 8, 9, 8, 9, 8], 20.0, [[0, 0, 0], *around])
    example = AtomListFeaturizer(n_list=n_list)(material)
    site = example["species"].tolist().index(26)
    assert example["elements"][site].tolist() == expected
    assert (np.diff(example["distances"][site][: min(3, n_list - 1)]) >= 0).all()


def test_cutoff():
    material = prototype("rock salt")
    example = AtomListFeaturizer(cutoff=3.0)(material)
    assert (example["elements"] > 0).sum(1).tolist() == [6, 6] and (example["elements"][:, :6] > 0).all()
    np.testing.assert_array_equal(example["distances"] > 0, example["elements"] > 0)
    alone = AtomListFeaturizer(cutoff=0.5)(material)
    assert not alone["elements"].any() and not alone["distances"].any() and alone["species"].tolist() == [11, 17]
    assert alone["site_multiplicity"].tolist() == [1, 1]


def test_equal_lists_are_kept_once_and_almost_equal_ones_are_not():
    material, _ = other_cell(prototype("rock salt"), np.diag([2, 2, 1]))
    example = AtomListFeaturizer()(material)
    assert example["species"].tolist() == [11, 17] and example["lists"].tolist() == [1] * 4 + [2] * 4
    coords = material.frac_coords.copy()
    coords[0, 2] += 1e-3
    moved = dataclasses.replace(material, frac_coords=coords)
    assert example["site_multiplicity"].tolist() == [4, 4]
    assert len(AtomListFeaturizer()(moved)["species"]) > 2
    assert AtomListFeaturizer(same=0.01)(moved)["site_multiplicity"].tolist() == [4, 4]


def test_every_site_has_a_list_of_its_own_with_same_0():
    material, _ = other_cell(prototype("perovskite"), np.diag([2, 1, 1]))
    every, example = AtomListFeaturizer(same=0)(material), AtomListFeaturizer()(material)
    assert every["lists"].tolist() == list(range(1, 11)) and (every["site_multiplicity"] == 1).all()
    assert_same(example, every)


def test_keys_types_and_sizes():
    featurizer = AtomListFeaturizer()
    example = featurizer(prototype("perovskite"))
    for key, (dtype, shape) in featurizer.spec.items():
        assert str(example[key].dtype) == dtype
        assert len(example[key].shape) == len(shape) and example[key].shape[1:] == shape[1:]
    assert (example["distances"] > 0).all() and example["lists"].tolist() == [1, 1, 1, 2, 3]
    records = featurizer.featurize([prototype("perovskite"), prototype("fcc")])
    assert records.lengths("lists").tolist() == [5, 1] and records.lengths("site_multiplicity").tolist() == [3, 1]


@pytest.mark.parametrize("order", ["canonical", "published"])
def test_many_are_as_one_by_one(order, monkeypatch):
    rng = np.random.default_rng(3)
    materials = [random_crystal(rng, sites) for sites in (1, 4, 2, 9)] + [prototype(name) for name in PROTOTYPES]
    monkeypatch.setattr("tfmat.featurizers.sites.BLOCK", 3)
    featurizer = AtomListFeaturizer(order=order)
    records = featurizer.featurize(Crystals.of(materials))
    for index, material in enumerate(materials):
        for key, value in featurizer(material).items():
            np.testing.assert_array_equal(records[index][key], value)
    empty = featurizer.featurize([])
    assert len(empty) == 0
    assert {key: value.shape[1:] for key, value in empty.values.items()} == {key: shape[1:] for key, (_, shape) in featurizer.spec.items()}


def test_structures_and_crystals_give_the_same():
    cell = crystal()
    structure = Structure(Lattice(cell.lattice), ["Na+", "Cl-"], cell.frac_coords)
    both = AtomListFeaturizer().featurize([structure, cell])
    for key in both.values:
        np.testing.assert_array_equal(both[0][key], both[1][key])


@pytest.mark.parametrize(
    ("material", "message"),
    [
        (crystal([], 4.0, np.zeros((0, 3))), "no sites"),
        (crystal([86, 8]), r"site 1 is Rn \(Z = 86\).*does not know.*H to At"),
        (crystal([8, 8], 4.0, [[0, 0, 0], [0.001, 0, 0]]), "sites 1 and 2 of O2 are 0.004 Å apart"),
        ("NaCl", "'NaCl' is a formula"),
    ],
)
def test_bad_crystals(material, message, monkeypatch):
    monkeypatch.setattr("tfmat.featurizers.sites.BLOCK", 2)
    featurizer = AtomListFeaturizer(heaviest=85)
    with pytest.raises(InputError, match=message) as caught:
        featurizer.featurize([crystal(), crystal(), crystal(), material])
    assert caught.value.index == 3 and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message) as caught:
        featurizer(material)
    assert caught.value.index is None


def test_configuration_survives_json():
    featurizer = AtomListFeaturizer(12, cutoff=6.0, order="published", heaviest=85)
    config = json.loads(json.dumps(configuration(featurizer)))
    assert config["name"] == "AtomListFeaturizer" and AtomListFeaturizer(**config["config"]) == featurizer


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_list": 1}, "n_list=1"),
        ({"n_list": 20.0}, "n_list=20.0"),
        ({"cutoff": 0}, "cutoff=0"),
        ({"cutoff": float("nan")}, "cutoff=nan"),
        ({"order": "file"}, "order='file'"),
        ({"heaviest": 119}, "heaviest=119"),
        ({"same": -0.1}, "same=-0.1"),
    ],
)
def test_bad_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        AtomListFeaturizer(**keywords)
