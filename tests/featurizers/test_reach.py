"""What a few atoms could cost in a dense, thin or crooked cell: it is refused with a sentence, or searched in bounded memory."""

import numpy as np
import pymatgen.optimization.neighbors
import pytest
from crystal_descriptions import PROTOTYPES, prototype, random_crystal

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.featurizers import AtomListFeaturizer, BondFeaturizer, NeighborFeaturizer, quotient, reach, sites

FEATURIZERS = [BondFeaturizer(4.0), NeighborFeaturizer(), AtomListFeaturizer()]


def cell(lattice, coords):
    return Crystal(np.full(len(coords), 6, np.int32), np.array(lattice, float), np.array(coords, float))


@pytest.fixture
def largest(monkeypatch):
    """The largest number of pairs that one search has found, and of centres that it was for, as a list."""
    search, found = pymatgen.optimization.neighbors.find_points_in_spheres, [0, 0]

    def watched(coords, centers, **rest):
        pairs = search(coords, centers, **rest)
        found[:] = max(found[0], len(pairs[0])), max(found[1], len(centers))
        return pairs

    monkeypatch.setattr(pymatgen.optimization.neighbors, "find_points_in_spheres", watched)
    return found


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=lambda featurizer: type(featurizer).__name__)
def test_a_dense_cell_is_refused(featurizer, largest):
    tiny, grid = cell(0.6 * np.eye(3), [[0, 0, 0]]), np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3) / 5
    for crystal, found in ((tiny, 0.216), (cell(1.4 * np.eye(3), grid), 0.022), (cell(6.29 * np.eye(3), grid), 1.99)):
        with pytest.raises(InputError, match=rf"the cell has {found} Å3 per atom. Expected at least 2: lengths in Å, and each atom once"):
            featurizer(crystal)
    assert largest == [0, 0]
    featurizer(cell(6.31 * np.eye(3), grid))


@pytest.mark.parametrize("featurizer", FEATURIZERS, ids=lambda featurizer: type(featurizer).__name__)
@pytest.mark.parametrize(
    "lattice",
    [25 * np.eye(3), np.diag([0.2, 0.2, 9000]), [[0.5, 0, 0], [1.3, 0.6, 0], [1300, 600, 9000]]],
    ids=["cube", "needle", "crooked"],
)
def test_atoms_in_one_place(featurizer, lattice, largest, monkeypatch):
    """Millions of pairs within the radius; the first part of them shows that atoms overlap."""
    monkeypatch.setattr(reach, "AT_ONCE", 2**14)
    monkeypatch.setattr("tfmat.featurizers.bonds.MOST", 2**14)
    with pytest.raises(InputError, match=r"sites \d+ and \d+ of C150 are 0\.[0-2]\d\d Å apart"):
        featurizer(cell(lattice, np.zeros((150, 3))))
    assert 0 < largest[0] < 2 * 150 * 2000  # of a single site with all its images, at most


def test_too_many_images_to_look_at():
    needle = cell(np.diag([0.6, 0.6, 9000]), np.linspace(0, 1, 1500, endpoint=False)[:, None] * [0, 0, 1])
    problem = r"around each site of C1500 are [\d,]+ sites and images to look at. Expected at most 1,048,576; a reduced cell may have fewer"
    with pytest.raises(InputError, match=problem) as caught:
        BondFeaturizer(10.0).featurize([prototype("fcc"), needle])
    assert caught.value.index == 1


def test_far_atoms_in_a_large_box(largest):
    """pymatgen would divide the box into 15,000 million cubes."""
    box = cell(9999 * np.eye(3), [[0, 0, 0], [1e-4, 0, 0], [0.5, 0.5, 0.5], [0.50013, 0.5, 0.5]])
    assert sorted(BondFeaturizer(4.0)(box)["distances"]) == pytest.approx([0.9999, 1.29987])
    assert largest[1] < len(box)


def test_no_trace_of_the_parts(monkeypatch, largest):
    rng = np.random.default_rng(2)
    crystals = [random_crystal(rng, number) for number in (1, 2, 7, 20)] + [prototype(name) for name in PROTOTYPES]
    featurizer = BondFeaturizer(5.0)
    before = featurizer.featurize(crystals)
    assert largest[1] == 20
    largest[1] = 0
    monkeypatch.setattr(reach, "AT_ONCE", 100)
    monkeypatch.setattr(sites, "SITES", 3)
    after = featurizer.featurize(crystals)
    assert largest[1] == 1
    for key, values in before.values.items():
        np.testing.assert_array_equal(values, after.values[key])
        np.testing.assert_array_equal(before.offsets[key], after.offsets[key])


def test_blocks_of_few_sites(monkeypatch):
    """Large crystals are searched one by one; an error has the position among all of them."""
    monkeypatch.setattr(sites, "SITES", 4)
    rng = np.random.default_rng(3)
    crystals = [random_crystal(rng, number) for number in (3, 3, 5, 1, 1)]
    seen = []

    def records_of(block):
        seen.append(len(block))
        return FEATURIZERS[0]._records(block)

    sites.block_by_block(crystals, 94, records_of)
    assert seen == [2, 1, 2]
    overlap = cell(4 * np.eye(3), np.zeros((2, 3)))
    with pytest.raises(InputError, match="apart") as caught:
        sites.block_by_block([*crystals[:4], overlap], 94, records_of)
    assert caught.value.index == 4


@pytest.mark.parametrize(
    ("key", "kind", "featurizer"),
    [
        ("distances", "bonds", BondFeaturizer(5.0)),
        ("cosines", "pairs of bonds", NeighborFeaturizer()),
    ],
)
def test_too_many_different_bonds(key, kind, featurizer, monkeypatch):
    """What is equal is computed once, so a large supercell is no large request."""
    cells = [prototype("perovskite"), random_crystal(np.random.default_rng(1), 8)]
    most = len(featurizer(cells[0])[key])
    monkeypatch.setitem(quotient.DISTINCT, key, (most, kind))
    with pytest.raises(InputError, match=rf"the crystal has [\d,]+ different {kind}. Expected at most {most:,}: fewer sites, or") as caught:
        featurizer.featurize(cells)
    assert caught.value.index == 1
