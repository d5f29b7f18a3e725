"""The search for neighbours in the graph finds what the featurizers find, whatever the cell, the batch and the way it is cut up."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from crystal_descriptions import CELLS, PROTOTYPES, all_pairs, other_cell, prototype, random_crystal, reordered
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from raw_cases import SKEWED, float32, handmade, skewed

from tfmat.batching.arrays import ROWS_OF, batch_arrays
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export.graph import neighbor_search
from tfmat.export.graph.lists import expand, order_within, padded_rows
from tfmat.export.interfaces import bonds, neighbors
from tfmat.export.interfaces.atom_lists import AtomListInterface
from tfmat.export.interfaces.bonds import BondInterface
from tfmat.export.interfaces.crystals import displaced
from tfmat.export.interfaces.neighbors import NeighborInterface
from tfmat.featurizers import AtomListFeaturizer, BondFeaturizer
from tfmat.featurizers.neighbors import NeighborFeaturizer

INTERFACES = {
    "bonds": BondInterface(BondFeaturizer(4.0)),
    "neighbors": NeighborInterface(NeighborFeaturizer()),
    "few slots": NeighborInterface(NeighborFeaturizer(k=3, max_neighbors=4, tolerance=0.3)),
    "strict": NeighborInterface(NeighborFeaturizer(k=7, strict=True)),
    "lists": AtomListInterface(AtomListFeaturizer(n_list=9)),
    "short lists": AtomListInterface(AtomListFeaturizer(n_list=14, cutoff=3.5)),
    "published order": AtomListInterface(AtomListFeaturizer(n_list=5, order="published")),
}


def traced(interface):
    """The signature's preparation as a function of arrays."""
    entry = interface.entries()["serving_default"]
    specs = {name: value.spec(name, {}) for name, value in entry.inputs.items()}
    function = tf.function(lambda arrays: entry.prepare(arrays), autograph=False, input_signature=[specs])
    return lambda batch: {key: value.numpy() for key, value in function({key: tf.constant(value) for key, value in batch.items()}).items()}


prepare = functools.cache(lambda name: traced(INTERFACES[name]))


def encode(name, materials):
    return INTERFACES[name].entries()["serving_default"].encode(materials)


def wanted_of(name, materials):
    """The featurizer's lists of all crystals, with a row for every bond; ``lists`` padded."""
    records = INTERFACES[name].records_of(materials)
    arrays = batch_arrays(records, np.arange(len(materials)), len(materials))
    return {key: value if key in ("lists", "batch_sites") else value[:-1] for key, value in arrays.items()}


def table(columns):
    rows = np.column_stack(columns)
    return rows[np.lexsort(np.round(rows, 3).T[::-1])]


def assert_same_bonds(found, wanted):
    """The same set of site, neighbour, distance."""
    keys = ("bond_receivers", "bond_senders", "distances")
    assert (np.diff(found["bond_receivers"]) >= 0).all()
    mine, its = (table([lists[key] for key in keys]) for lists in (found, wanted))
    assert mine.shape == its.shape
    np.testing.assert_array_equal(np.unique(mine[:, :2], axis=0), np.unique(its[:, :2], axis=0))
    pairs = [rows[np.lexsort(rows.T[::-1])] for rows in (mine, its)]
    np.testing.assert_allclose(*pairs, atol=2e-5)


def assert_agrees(name, materials):
    found, wanted = prepare(name)(encode(name, materials)), wanted_of(name, materials)
    assert set(found) == set(wanted)
    free = ("bond_receivers", "bond_senders", "distances") if name == "bonds" else ()  # their order is
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype
        if key not in free:
            np.testing.assert_allclose(found[key], value, atol=2e-5 if key in ("distances", "cosines") else 0, err_msg=key)
    if free:
        assert_same_bonds(found, wanted)


@pytest.mark.parametrize("name", INTERFACES)
def test_handmade(name):
    """Ties, shells, molecules, layers, oblique cells; all in one batch, so the small ones are padded."""
    materials = handmade()
    if name == "bonds":
        materials = [prototype("sc", 4 / 3.35), *materials]  # six bonds right at the cut-off
    assert_agrees(name, [float32(material) for material in materials])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(INTERFACES)))
def test_random_cells(seed, name):
    rng = np.random.default_rng(seed)
    materials = []
    for sites in rng.integers(1, 6, 3):
        material = float32(skewed(random_crystal(rng, sites), rng))
        distances = all_pairs(material, 4.1)[3]
        limits = np.abs(distances[:, None] - [4.0, 3.5]).min(initial=1.0)
        if limits > 1e-5 and (distances < 4.0).any() and min(distances) > 0.6:
            materials.append(material)
    assume(materials)
    assert_agrees(name, materials)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(INTERFACES)), prototype_name=st.sampled_from(sorted(PROTOTYPES)))
def test_neighbors_do_not_depend_on_the_cell(seed, name, prototype_name):
    """Of ties: a skewed cell with the sites elsewhere has the same distances around the same sites."""
    if name == "published order":
        name = "lists"
    rng = np.random.default_rng(seed)
    material = prototype(prototype_name, rng.uniform(0.85, 1.05))
    cell, parents = other_cell(material, SKEWED if rng.random() < 0.5 else CELLS["sheared"])
    moved, order = reordered(cell, rng)
    one, other = (prepare(name)(encode(name, [crystal])) for crystal in (material, moved))
    if "lists" in name:  # a supercell has the same different lists
        np.testing.assert_array_equal(one["elements"], other["elements"])
        np.testing.assert_allclose(one["distances"], other["distances"], atol=2e-5)
        return
    counted = [
        [np.sort(np.round(row, 3)).tolist() for row in distances_of(outputs, crystal)]
        for outputs, crystal in ((one, material), (other, moved))
    ]
    for site, parent in enumerate(parents[order]):
        np.testing.assert_allclose(counted[1][site], counted[0][parent], atol=2e-3)


def distances_of(outputs, crystal):
    """Of each site, to its neighbours [Å]."""
    return [outputs["distances"][outputs["bond_receivers"] == site] for site in range(len(crystal))]


def rows_of(outputs, index):
    """What the lists hold of one crystal, with numbers of its own."""
    ends = {"species": np.cumsum(outputs["batch_sites"])}
    for receivers, key in (("bond_receivers", "distances"), ("pair_receivers", "cosines")):
        if receivers in outputs:
            ends[key] = np.searchsorted(outputs[receivers], ends[ROWS_OF[receivers]])
    first = {key: of[index - 1] if index else 0 for key, of in ends.items()}
    rows = {}
    for key, value in outputs.items():
        if key in ("lists", "batch_sites"):
            rows[key] = value[index]
            continue
        kind = key if key in ends else {"bond": "distances", "pair": "cosines"}.get(key.split("_")[0], "species")
        rows[key] = value[first[kind] : ends[kind][index]] - first.get(ROWS_OF.get(key), 0)
    return rows


@pytest.mark.parametrize("name", INTERFACES)
def test_batch_mates_and_padding_change_nothing(name):
    """Not even a bit; but the displaced sites are rounded elsewhere."""
    materials = handmade()[:20]
    batch = encode(name, materials)
    together = prepare(name)(batch)
    for index in (0, 7, 19):
        alone, rows = (rows_of(outputs, i) for outputs, i in ((prepare(name)(encode(name, [materials[index]])), 0), (together, index)))
        for key, value in alone.items():
            row = rows[key] if key != "lists" else rows[key][: len(value)]
            np.testing.assert_array_equal(row, value, err_msg=key)
            assert np.count_nonzero(rows[key]) == np.count_nonzero(value)
    moved = prepare(name)(displaced(batch))
    for key, value in together.items():
        mine = moved[key]
        if key in ("distances", "cosines"):
            mine, value = np.sort(mine, axis=None), np.sort(value, axis=None)
        if key not in ("lists", "bond_senders", "pair_senders"):
            np.testing.assert_allclose(mine, value, atol=2e-5, err_msg=key)


@pytest.mark.parametrize(
    ("module", "constant", "value"),
    [(neighbor_search, "WORK", 1), (neighbor_search, "WORK", 3000), (neighbor_search, "GUESS", 0.3), (neighbor_search, "GROWTH", 1.05)],
)
@pytest.mark.parametrize("name", ["bonds", *(pytest.param(name, marks=pytest.mark.slow) for name in ("few slots", "lists"))])
def test_no_trace_of_how_it_was_searched(module, constant, value, name, monkeypatch):
    batch = encode(name, handmade())
    before = prepare(name)(batch)
    monkeypatch.setattr(module, constant, value)
    after = traced(INTERFACES[name])(batch)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_an_empty_batch():
    for name in INTERFACES:
        batch = {key: value[:0] for key, value in encode(name, handmade()[:2]).items()}
        assert all(value.shape[0] == 0 for value in prepare(name)(batch).values())


def test_200_sites_in_a_skewed_cell():
    """The work is cut up: no array is longer than what one site needs plus `WORK`."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5), np.arange(8)), -1).reshape(-1, 3) / [5, 5, 8]
    lattice = np.diag([12.0, 12.0, 19.0])
    material = Crystal(rng.integers(1, 90, 200).astype(np.int32), lattice, grid + rng.normal(0, 0.002, grid.shape))
    turned = float32(reordered(other_cell(material, SKEWED)[0], rng)[0])
    for name in ("bonds", "neighbors", "lists"):
        assert_agrees(name, [turned])


def test_triangular_lattices():
    rng = np.random.default_rng(0)
    lattices = rng.normal(0, 4, (50, 3, 3))  # left-handed ones too
    turned = neighbor_search.triangular(tf.constant(lattices)).numpy()
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), lattices @ lattices.transpose(0, 2, 1), atol=1e-10)
    assert not np.triu(turned, 1).any() and (np.diagonal(turned, axis1=1, axis2=2) > 0).all()


def test_flat_arrays():
    owners, places = expand(tf.constant([2, 0, 3, 1, 0]))
    assert owners.numpy().tolist() == [0, 0, 2, 2, 2, 3] and places.numpy().tolist() == [0, 1, 0, 1, 2, 0]
    assert [part.shape for part in expand(tf.zeros([0], tf.int32))] == [(0,), (0,)]

    groups, values = tf.constant([1, 0, 1, 0, 2]), tf.constant([-900.0, 3.0, -901.0, 2.5, 0.0], tf.float64)
    assert order_within(groups, values).numpy().tolist() == [3, 1, 2, 0, 4]
    rows = np.sort(np.random.default_rng(0).integers(0, 2000, 100_000))
    lengths = np.random.default_rng(1).uniform(0, 30, 100_000)
    np.testing.assert_array_equal(order_within(tf.constant(rows), tf.constant(lengths)), np.lexsort((lengths, rows)))

    padded = padded_rows(tf.constant([[1, 2], [3, 4], [5, 6]]), tf.constant([0, 2, 2]), 4)
    assert padded.numpy().tolist() == [[[1, 2], [0, 0]], [[0, 0], [0, 0]], [[3, 4], [5, 6]], [[0, 0], [0, 0]]]
    assert padded_rows(tf.zeros([0]), tf.zeros([0], tf.int32), 0).shape == (0, 1)


def test_isolated_atoms():
    """Beside others they are sites without bonds; alone they are no crystal, as the featurizer says."""
    beside = Crystal(np.array([1, 1, 2], np.int32), 14.0 * np.eye(3), np.array([[0, 0, 0], [0.06, 0, 0], [0.5, 0.5, 0.5]]))
    assert_agrees("bonds", [float32(beside), float32(prototype("fcc"))])
    alone = Crystal(np.array([10], np.int32), 6.0 * np.eye(3), np.zeros((1, 3)))
    with pytest.raises(InputError, match="within 4 Å, so it has no bonds"):
        BondFeaturizer(4.0)(alone)
    lattice, coords = np.stack([4.0 * np.eye(3), alone.lattice]), np.zeros((2, 1, 3))
    batch = {"lattice": lattice.astype(np.float32), "frac_coords": coords.astype(np.float32), "species": np.full((2, 1), 10, np.int32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"no two atoms are within 4 Å, so the crystal has no bonds; see row\] \[1\]"):
        prepare("bonds")(batch)


def test_too_many_images(monkeypatch):
    monkeypatch.setattr(neighbor_search, "MOST", 400)
    materials = [prototype("fcc"), other_cell(prototype("fcc"), 3 * np.eye(3, dtype=int))[0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a site has more than 400 sites and images.*see row\] \[1\]"):
        traced(BondInterface(BondFeaturizer(6.0)))(encode("bonds", materials))


@pytest.mark.parametrize(
    ("module", "constant", "name", "sentence"),
    [
        (neighbor_search, "WHOLE", "bonds", "the sites of a crystal have in all more than 30 sites and images to look at"),
        (bonds, "MOST", "bonds", "a crystal must have at most 30 bonds"),
        (neighbors, "MOST", "few slots", "a crystal must have at most 30 pairs of bonds"),
    ],
)
def test_crystals_that_are_too_large(module, constant, name, sentence, monkeypatch):
    """The second one, of eight copper atoms in a cell; the first one has one atom."""
    monkeypatch.setattr(module, constant, 30)
    materials = [dataclasses.replace(prototype("sc"), lattice=3.9 * np.eye(3)), other_cell(prototype("fcc"), 2 * np.eye(3, dtype=int))[0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{sentence}; see row\] \[1\]"):
        traced(INTERFACES[name])(encode(name, materials))
