"""The quotient graph: it is what exact refinement finds, every member of a class sees the same, and the description does not matter."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from crystal_descriptions import CELLS, PROTOTYPES, cells_of, other_cell, prototype, random_crystal, reordered, rotated
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfmat import datasets
from tfmat.crystal import Crystal, Crystals
from tfmat.errors import InputError
from tfmat.featurizers import BondFeaturizer, NeighborFeaturizer, quotient

FEATURIZERS = [NeighborFeaturizer(), BondFeaturizer(5.0)]
SYMMETRIC = ["P1", "supercell", "slab", "isolated", "glass", *PROTOTYPES]


def example_crystal(name, seed=0):
    rng = np.random.default_rng(seed)
    if name in PROTOTYPES:
        return prototype(name)
    if name == "P1":
        return random_crystal(rng, 5)
    if name == "supercell":
        return other_cell(prototype("perovskite"), np.diag([2, 2, 1]))[0]
    if name == "slab":  # four layers of rock salt in a box
        layers, _ = other_cell(prototype("rock salt"), [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
        layers, _ = other_cell(layers, np.diag([1, 1, 2]))
        lattice = layers.lattice * [[1], [1], [2]]
        return Crystal(layers.species, lattice, layers.frac_coords * [1, 1, 0.5])
    if name == "isolated":
        return Crystal(np.array([2, 29, 29], np.int32), np.eye(3) * 16.0, np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.65]]))
    grid = np.stack(np.meshgrid(*[[0, 1, 2]] * 3), -1).reshape(-1, 3)  # glass
    return Crystal(rng.choice([8, 14], 27).astype(np.int32), np.eye(3) * 7.5, (grid + rng.uniform(-0.3, 0.3, (27, 3))) / 3)


def exact_classes(every, digits=3):
    """Sites, bonds and pairs of one bond of each class, of lists with every copy: refinement with sorted tuples of rounded numbers."""
    receivers, senders = every["bond_receivers"].tolist(), every["bond_senders"].tolist()
    lengths = np.round(every["distances"].astype(float), digits).tolist()
    pairs = [[] for _ in receivers]
    if "cosines" in every:
        cosines = (np.round(every["cosines"].astype(float), digits) + 0.0).tolist()
        for receiver, sender, cosine in zip(every["pair_receivers"].tolist(), every["pair_senders"].tolist(), cosines, strict=True):
            pairs[receiver].append((cosine, sender))
    sites, bonds, counts = every["species"].tolist(), lengths, None
    while counts != (counts := (len(set(sites)), len(set(bonds)))):
        bonds = numbered(
            [
                (b, sites[i], sites[j], *sorted((c, bonds[s]) for c, s in p))
                for b, i, j, p in zip(bonds, receivers, senders, pairs, strict=True)
            ]
        )
        arriving = [[] for _ in sites]
        for receiver, bond in zip(receivers, bonds, strict=True):
            arriving[receiver].append(bond)
        sites = numbered([(site, *sorted(bond)) for site, bond in zip(sites, arriving, strict=True)])
    kinds = {(bond, cosine, bonds[sender]) for bond, own in zip(bonds, pairs, strict=True) for cosine, sender in own}
    return np.array(sites), np.array(bonds), len(kinds)


def numbered(values):
    numbers = {value: number for number, value in enumerate(sorted(set(values)))}
    return [numbers[value] for value in values]


def sizes(example):
    return [len(example[key]) for key in ("species", "distances", "cosines") if key in example]


def total(example):
    """Sites, bonds and pairs that the classes stand for."""
    sites = example["site_multiplicity"].astype(int)
    bonds = example["bond_multiplicity"] * sites[example["bond_receivers"]]
    pairs = [example["pair_multiplicity"] * bonds[example["pair_receivers"]]] if "cosines" in example else []
    return [int(part.sum()) for part in (sites, bonds, *pairs)]


def same_lists(one, other, copies=1, atol=1e-5):
    """Whether class by class all is the same, in the same order, but for `copies` times as many sites."""
    return set(one) == set(other) and all(
        one[key].shape == other[key].shape
        and np.allclose(
            other[key], one[key] * (copies if key == "site_multiplicity" else 1), atol=atol if one[key].dtype == np.float32 else 0
        )
        for key in one
    )


def assume_no_limit(featurizer, material):
    """No neighbour right at the limit, and no two numbers right at the tolerance."""
    counts = [total(featurizer(dataclasses.replace(material, lattice=material.lattice * scale))) for scale in (1 - 1e-7, 1, 1 + 1e-7)]
    every = dataclasses.replace(featurizer, same=2e-4)(material), dataclasses.replace(featurizer, same=5e-5)(material)
    assume(counts[0] == counts[1] == counts[2] and sizes(every[0]) == sizes(every[1]))


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=["neighbors", "bonds"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_classes_are_those_of_exact_refinement(name, featurizer):
    material = example_crystal(name)
    every, example = dataclasses.replace(featurizer, same=0)(material), featurizer(material)
    sites, bonds, pairs = exact_classes(every)
    assert sizes(example)[:2] == [sites.max() + 1, bonds.max() + 1]
    assert "cosines" not in example or len(example["cosines"]) == pairs
    assert total(example) == sizes(every)


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=["neighbors", "bonds"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_every_member_of_a_class_sees_the_same(name, featurizer):
    """By the map from sites to classes: all sites of a class receive the bonds that the list says, and these the pairs that it says."""
    material = example_crystal(name)
    every, example = dataclasses.replace(featurizer, same=0)(material), featurizer(material)
    sites = featurizer.site_classes(material)
    assert sites.dtype == np.int64 and np.bincount(sites).tolist() == example["site_multiplicity"].tolist()
    np.testing.assert_array_equal(example["species"][sites], material.species)

    def seen(lists, classes):
        ends = classes[lists["bond_senders"]].tolist()
        rounded = zip(ends, np.round(lists["distances"].astype(float), 3).tolist(), strict=True)
        bonds, through = list(rounded), [Counter() for _ in ends]
        if "cosines" in lists:
            cosines = (np.round(lists["cosines"].astype(float), 3) + 0.0).tolist()
            columns = (lists[key].tolist() for key in ("pair_receivers", "pair_senders", "pair_multiplicity"))
            for receiver, sender, number, cosine in zip(*columns, cosines, strict=True):
                through[receiver][bonds[sender], cosine] += number
        arriving = [Counter() for _ in lists["species"]]
        for site, bond, pairs, number in zip(
            lists["bond_receivers"].tolist(), bonds, through, lists["bond_multiplicity"].tolist(), strict=True
        ):
            arriving[site][bond, frozenset(pairs.items())] += number
        return arriving

    of_class = seen(example, np.arange(len(example["species"])))
    for site, arriving in enumerate(seen(every, sites)):
        assert arriving == of_class[sites[site]]


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=["neighbors", "bonds"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_lists_are_sorted_and_their_indices_valid(name, featurizer):
    example = featurizer(example_crystal(name))
    site_count, bond_count, *_ = sizes(example)
    assert (np.diff(example["bond_receivers"]) >= 0).all() and (np.diff(example["species"]) >= 0).all()
    for key, count in (
        ("bond_receivers", site_count),
        ("bond_senders", site_count),
        ("pair_receivers", bond_count),
        ("pair_senders", bond_count),
    ):
        assert key not in example or (example[key].min() >= 0 and example[key].max() < count)
    assert all((example[key] >= 1).all() for key in example if key.endswith("multiplicity"))
    if "cosines" in example:
        assert (np.diff(example["pair_receivers"]) >= 0).all()
        through = example["bond_receivers"][example["pair_senders"]]
        np.testing.assert_array_equal(through, example["bond_senders"][example["pair_receivers"]])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["random", *SYMMETRIC[2:]]), pairs=st.booleans())
def test_the_description_does_not_matter(seed, name, pairs):
    """Order of the sites, origin, images, cell, orientation: the same lists in the same order."""
    rng = np.random.default_rng(seed)
    material = random_crystal(rng, int(rng.integers(1, 5))) if name == "random" else example_crystal(name, seed)
    featurizer = NeighborFeaturizer(max_neighbors=40) if pairs else BondFeaturizer(5.0)
    assume(pairs or (distances_of(material) < 4.9).any())
    assume_no_limit(featurizer, material)
    example = featurizer(material)
    for matrix in cells_of(name) if name in PROTOTYPES else CELLS.values():
        cell, parents = other_cell(material, matrix)
        cell, order = reordered(rotated(cell, rng), rng)
        assert same_lists(example, featurizer(cell), len(cell) // len(material))
        np.testing.assert_array_equal(featurizer.site_classes(cell), featurizer.site_classes(material)[parents[order]])


def distances_of(material):
    return NeighborFeaturizer(1, same=0)(material)["distances"]


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=["neighbors", "bonds"])
def test_a_supercell_has_the_lists_of_its_cell(featurizer):
    for name in ("perovskite", "hcp", "P1"):
        material = example_crystal(name)
        large, _ = other_cell(material, np.diag([2, 2, 1]))
        assert same_lists(featurizer(material), featurizer(large), 4)


def test_crystals_do_not_disturb_each_other(monkeypatch):
    """In a block and in its parts; some finish later than others."""
    monkeypatch.setattr(quotient, "AT_A_TIME", 3000)
    materials = [example_crystal(name) for name in SYMMETRIC]
    for featurizer in FEATURIZERS:
        records = featurizer.featurize(Crystals.of(materials))
        for index, material in enumerate(materials):
            for key, value in featurizer(material).items():
                np.testing.assert_array_equal(records[index][key], value)


def test_means_and_tolerance():
    """A chain of atoms in which two lengths differ by little: they are one up to the tolerance."""

    def chain(difference):
        return Crystal(np.array([6, 6], np.int32), np.diag([3.0, 30, 30]), np.array([[0.0, 0, 0], [0.5 + difference / 6, 0, 0]]))

    featurizer = BondFeaturizer(2.0)
    for difference, length in ((0.9e-4, [1.5]), (1.2e-4, [1.49994, 1.50006]), (0, [1.5])):
        example = featurizer(chain(difference))
        np.testing.assert_allclose(example["distances"], length, atol=1e-6)
        assert example["bond_multiplicity"].tolist() == [2 // len(length)] * len(length)
    assert len(BondFeaturizer(2.0, same=0.01)(chain(0.005))["distances"]) == 1


def test_a_dense_spectrum_is_cut():
    """Lengths that follow each other closely do not run together."""
    heights = np.cumsum(np.full(40, 4.0))
    coords = np.zeros((80, 3))
    coords[::2, 2] = heights
    coords[1::2, 2] = heights + 1.5 + 0.8e-4 * np.arange(40)
    lattice = np.diag([30.0, 30, 200])
    example = BondFeaturizer(2.0)(Crystal(np.full(80, 6, np.int32), lattice, coords / np.diag(lattice)))
    assert 10 <= len(example["distances"]) <= 40 and np.ptp(example["distances"]) > 0.003
    assert example["site_multiplicity"].sum() == 80


def test_same_0_keeps_what_is_equal():
    material = prototype("fcc")
    example = NeighborFeaturizer(same=0)(material)
    assert sizes(example) == [1, 12, 144] and total(example) == [1, 12, 144]
    assert sizes(NeighborFeaturizer()(material)) == [1, 1, 5]


def test_thousands_of_equal_distances():
    """Complete shells of fcc: 78 neighbours, so 6084 pairs."""
    featurizer = NeighborFeaturizer(k=78, max_neighbors=200)
    example = featurizer(prototype("fcc"))
    assert total(example) == [1, 78, 78 * 78] and len(example["distances"]) == 5
    assert example["bond_multiplicity"].tolist() == [12, 6, 24, 12, 24]
    assert same_lists(example, featurizer(other_cell(prototype("fcc"), np.diag([2, 2, 1]))[0]), 4)


def test_an_isolated_atom_has_no_bonds():
    material = example_crystal("isolated")
    example = BondFeaturizer()(material)
    assert example["species"].tolist() == [2, 29] and example["bond_receivers"].tolist() == [1]
    assert BondFeaturizer().site_classes(material).tolist() == [0, 1, 1]


def test_too_large_a_crystal(monkeypatch):
    monkeypatch.setattr(quotient, "MOST", 200)
    small, large = prototype("sc"), prototype("perovskite")
    for featurizer, kind in ((NeighborFeaturizer(k=4), "pairs of bonds"), (BondFeaturizer(6.0), "bonds")):
        with pytest.raises(InputError, match=rf"the crystal has [\d,]+ {kind}. Expected at most 200: fewer sites") as caught:
            featurizer.featurize([small, large])
        assert caught.value.index == 1


@pytest.mark.mirror
def test_classes_of_real_crystals(mirror):
    """A sample: exact refinement, which rounds, differs where a number is at a half."""
    materials = next(iter(datasets.load("matbench_phonons").splits.values())).materials
    chosen = [m for m in (materials[i] for i in np.random.default_rng(0).integers(0, len(materials), 60).tolist()) if len(m) <= 12]
    equal = 0
    for material in chosen:
        every, example = NeighborFeaturizer(same=0)(material), NeighborFeaturizer()(material)
        sites, bonds, pairs = exact_classes(every)
        equal += sizes(example) == [sites.max() + 1, bonds.max() + 1, pairs]
        assert total(example) == sizes(every)
    assert len(chosen) >= 20 and equal >= 0.9 * len(chosen)
