"""The search for the nearest neighbours."""

import dataclasses

import numpy as np
import pymatgen.optimization.neighbors
import pytest
from crystal_descriptions import PROTOTYPES, all_pairs, other_cell, prototype, random_crystal
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.featurizers import nearest, reach
from tfmat.featurizers.nearest import nearest_neighbors


def crystal(species, lattice, coords):
    return Crystal(np.array(species, np.int32), np.array(lattice, float) * np.ones((3, 3)), np.array(coords, float))


def cluster(side, spacing, box):
    """A cube of atoms in an empty box."""
    coords = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3) * spacing / box
    return crystal([14] * len(coords), np.eye(3) * box, coords)


def expected(crystal, count, tolerance):
    """By brute force: for each site the sorted rows of neighbour, vector."""
    radius = 3.0
    while True:
        centers, neighbors, vectors, distances = all_pairs(crystal, radius)
        of_site = [np.sort(distances[centers == site]) for site in range(len(crystal))]
        if all(len(d) >= count and d[count - 1] + tolerance + 1e-3 < radius for d in of_site):
            break
        radius *= 1.5
    limits = np.array([d[count - 1] for d in of_site]) + tolerance
    if np.abs(distances - limits[centers]).min() < 1e-7:
        return None  # rounding decides
    kept = distances < limits[centers]
    return rows(centers[kept], neighbors[kept], vectors[kept])


def rows(centers, neighbors, vectors):
    table = np.column_stack([centers, neighbors, vectors])
    return table[np.lexsort(np.round(table, 4).T[::-1])]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 24), tolerance=st.sampled_from([1e-4, 0.01, 0.3]))
def test_against_brute_force(seed, count, tolerance):
    rng = np.random.default_rng(seed)
    material = random_crystal(rng, int(rng.integers(1, 6)))
    truth = expected(material, count, tolerance)
    assume(truth is not None)
    found = nearest_neighbors([material], count, tolerance)
    assert len(found.centers) == len(truth)
    np.testing.assert_allclose(np.sort(found.distances), np.sort(np.linalg.norm(truth[:, 2:], axis=1)), atol=1e-9)
    table = rows(found.centers, found.neighbors, found.vectors)
    for row in truth:  # rounding may sort them differently
        assert np.abs(table - row).sum(1).min() < 1e-8
    assert (np.bincount(found.centers) >= count).all()
    steps = np.diff(found.distances)[np.diff(found.centers) == 0]
    assert steps.min(initial=0) > -nearest.SHELL * 10


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototypes_against_brute_force(name):
    material = prototype(name)
    found = nearest_neighbors([material], 12, 0.01)
    truth = expected(material, 12, 0.01)
    assert len(found.centers) == len(truth)
    np.testing.assert_allclose(np.sort(found.distances), np.sort(np.linalg.norm(truth[:, 2:], axis=1)), atol=1e-9)


@pytest.mark.parametrize(("name", "degrees"), [("sc", [18]), ("fcc", [12]), ("bcc", [14]), ("hcp", [12, 12]), ("diamond", [16, 16])])
def test_shells_are_complete(name, degrees):
    found = nearest_neighbors([prototype(name)], 12, 0.01)
    assert np.bincount(found.centers).tolist() == degrees


def test_rock_salt_in_numbers():
    found = nearest_neighbors([prototype("rock salt")], 7, 0.01)
    for site in range(2):
        of_site = found.centers == site
        np.testing.assert_allclose(found.distances[of_site], [2.82] * 6 + [5.64 / np.sqrt(2)] * 12)
        assert found.neighbors[of_site].tolist() == [1 - site] * 6 + [site] * 12
        assert found.ranks[of_site].tolist() == list(range(18))
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), found.distances)


@pytest.mark.parametrize(
    "change",
    [
        (nearest, "GUESS", 0.2),
        (nearest, "GUESS", 3.0),
        (nearest, "GROWTH", 1.05),
        (nearest, "PAIRS", 1),
        (reach, "AT_ONCE", 100),
        (reach, "CUBES", 20),
    ],
    ids=lambda change: "{1}={2}".format(*change),
)
def test_no_trace_of_how_it_was_searched(change, monkeypatch):
    rng = np.random.default_rng(5)
    materials = [random_crystal(rng, sites) for sites in (1, 2, 7, 20)] + [prototype(name) for name in PROTOTYPES]
    before = nearest_neighbors(materials, 12, 0.01)
    alone = [nearest_neighbors([material], 12, 0.01) for material in materials]
    monkeypatch.setattr(*change)
    for column, after in zip(before, nearest_neighbors(materials, 12, 0.01), strict=True):
        np.testing.assert_array_equal(column, after)
    np.testing.assert_array_equal(before.vectors, np.concatenate([found.vectors for found in alone]))


def test_complete_wherever_the_first_radius_ends(monkeypatch):
    rng = np.random.default_rng(6)
    materials = [random_crystal(rng, sites) for sites in (1, 2, 3, 4)]
    before = nearest_neighbors(materials, 12, 0.3)
    for guess in np.linspace(0.8, 1.4, 25):
        monkeypatch.setattr(nearest, "GUESS", guess)
        np.testing.assert_array_equal(nearest_neighbors(materials, 12, 0.3).vectors, before.vectors)


def test_a_shell_is_ordered_by_element_and_then_along_a_direction():
    """Also where rounding to 0.001 Å would tear the shell apart: 2.0005 and a little more or less."""
    jitter = np.random.default_rng(0).uniform(-1e-9, 1e-9, (4, 3))
    material = crystal([26, 9, 8, 8], np.eye(3) * 4.001, np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]) + jitter)
    found = nearest_neighbors([material], 6, 0.01)
    of_iron = found.centers == 0
    assert found.neighbors[of_iron].tolist() == [2, 3, 3, 2, 1, 1]
    assert np.ptp(found.distances[of_iron]) < 1e-8
    np.testing.assert_allclose(found.vectors[of_iron].sum(1), np.array([-1, -1, 1, 1, -1, 1]) * 2.0005, atol=1e-6)


def test_isolated_atoms():
    one = nearest_neighbors([crystal([2], np.eye(3) * 30, [[0.2, 0.9, 0]])], 12, 0.01)
    np.testing.assert_allclose(one.distances, [30] * 6 + [30 * np.sqrt(2)] * 12)
    assert not one.neighbors.any()
    pair = nearest_neighbors([crystal([2, 29, 29], np.eye(3) * 15, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.65]])], 12, 0.01)
    assert (np.bincount(pair.centers) >= 12).all()
    assert pair.distances[pair.centers == 1][0] == pytest.approx(2.25)


def test_memory_is_bounded(monkeypatch):
    """Where the mean density says nothing: a cluster in a large box, a chain in a crooked needle, a sheared cell, far images."""
    largest = [0, 0.0]
    search = pymatgen.optimization.neighbors.find_points_in_spheres

    def watched(coords, centers, r, **rest):
        found = search(coords, centers, r=r, **rest)
        cubes = np.prod((np.ptp(centers, axis=0) + 2 * max(r, 1)) / max(r, 1))
        largest[:] = max(largest[0], len(found[0])), max(largest[1], cubes)
        return found

    monkeypatch.setattr(pymatgen.optimization.neighbors, "find_points_in_spheres", watched)
    monkeypatch.setattr(reach, "AT_ONCE", 2**16)
    drop = cluster(9, 2.5, 150)
    found = nearest_neighbors([drop], 12, 0.01)
    assert np.bincount(found.centers)[9 * 9 * 4 + 9 * 4 + 4] == 18  # in the middle
    assert found.distances.max() < 2.5 * 2.3

    axis = np.array([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    needle = crystal([6, 7], axis * np.array([[1e6], [1.0], [1.0]]), [[0.1, 0, 0], [0.6, 0, 0]])
    found = nearest_neighbors([needle], 12, 0.01)
    assert np.bincount(found.centers).tolist() == [12, 12]
    np.testing.assert_allclose(found.distances, ([1] * 4 + [np.sqrt(2)] * 4 + [2] * 4) * 2)

    sheared, parents = other_cell(prototype("perovskite"), [[1, 0, 0], [4, 1, 0], [-3, 2, 1]])
    far = Crystal(sheared.species, sheared.lattice + np.outer([0, 1e3, 0], sheared.lattice[0]), sheared.frac_coords)
    expected_degrees = np.bincount(nearest_neighbors([prototype("perovskite")], 12, 0.01).centers)
    assert np.bincount(nearest_neighbors([far], 12, 0.01).centers).tolist() == expected_degrees[parents].tolist()

    scattered = dataclasses.replace(prototype("perovskite"), frac_coords=prototype("perovskite").frac_coords + np.eye(5, 3) * 1e5)
    assert np.bincount(nearest_neighbors([scattered], 12, 0.01).centers).tolist() == expected_degrees.tolist()
    assert largest[0] <= 2**16 and largest[1] < 2 * reach.CUBES


def test_a_large_cell():
    side = 16  # 4,096 sites
    coords = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3) / side
    found = nearest_neighbors([crystal([84] * len(coords), np.eye(3) * 3.35 * side, coords)], 12, 0.01)
    assert (np.bincount(found.centers) == 18).all()


def test_overlapping_atoms():
    good, bad = prototype("fcc"), crystal([8, 8], np.eye(3) * 4, [[0, 0, 0], [0.999, 0, 0]])
    with pytest.raises(InputError, match=r"sites 1 and 2 of O2 are 0.004 Å apart") as caught:
        nearest_neighbors([good, good, bad], 12, 0.01)
    assert caught.value.index == 2


def test_no_crystals():
    assert [len(column) for column in nearest_neighbors([], 12, 0.01)] == [0] * 5
