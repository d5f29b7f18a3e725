"""Crystals in columns behave like a list of crystals."""

import numpy as np
import pytest

from tfmat.crystal import Crystal, Crystals
from tfmat.data.table import Table, as_crystals
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer


def make(number=20, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, number)
    return [
        Crystal(rng.integers(1, 90, size).astype(np.int32), rng.normal(size=(3, 3)), rng.uniform(size=(size, 3))) for size in sizes.tolist()
    ]


def same(first, second):
    for name in ("species", "lattice", "frac_coords"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_columns_and_subsets():
    single = make()
    columns = Crystals.of(single)
    assert len(columns) == 20 and Crystals.of(columns) is columns
    for one, other in zip(single, columns, strict=True):
        same(one, other)
    part = columns.subset([5, 3, 3, 19]).subset([3, 0, 1])
    assert len(part) == 3
    for one, other in zip([single[19], single[5], single[3]], part, strict=True):
        same(one, other)
    same(part[-1], single[3])
    assert part.sites.tolist() == [len(single[i]) for i in (19, 5, 3)]
    assert part.records.lengths("species").tolist() == part.sites.tolist()
    assert [len(crystal) for crystal in part[1:]] == [len(single[5]), len(single[3])]
    assert len(columns.subset([])) == 0 and len(columns.subset([]).records) == 0
    with pytest.raises(IndexError):
        part[3]


def test_tables_hash_crystals_by_content():
    single = make()

    def table(materials):
        return Table(materials, {}, [str(i) for i in range(len(materials))], np.arange(len(materials)), "x")

    columns = table(Crystals.of(single))
    assert columns.content_hash() == table(single).content_hash() == table(make()).content_hash()
    order = [1, 0, *range(2, 20)]
    assert columns.subset(order).content_hash() == table(single).subset(order).content_hash() != columns.content_hash()
    moved = make()
    moved[3].frac_coords[0, 0] += 1e-12
    assert table(moved).content_hash() != columns.content_hash()
    assert table([*single[:-1], "NaCl"]).content_hash() != columns.content_hash()
    assert as_crystals(["NaCl"]) is None and as_crystals([]) is None


@pytest.mark.parametrize("many", [20, 40_000])
def test_compositions_of_crystals(many):
    single = make(20)
    columns = Crystals.of(single).subset(np.arange(many) % 20)
    featurizer = CompositionFeaturizer()
    records = featurizer.featurize(columns)
    assert len(records) == many
    by_formula = featurizer.featurize([crystal.formula for crystal in single])
    mixed = featurizer.featurize([*single, "NaCl"])
    for i in range(20):
        for records_i in (records[i], records[many - 20 + i], featurizer(single[i]), mixed[i]):
            np.testing.assert_array_equal(records_i["species"], by_formula[i]["species"])
            np.testing.assert_array_equal(records_i["fractions"], by_formula[i]["fractions"])


def test_bad_crystals_are_told_by_position():
    empty = Crystal(np.zeros(0, np.int32), np.eye(3), np.zeros((0, 3)))
    for materials in (Crystals.of([*make(3), empty]), [*make(3), empty, "NaCl"]):
        with pytest.raises(InputError, match="the crystal has no sites") as error:
            CompositionFeaturizer().featurize(materials)
        assert error.value.index == 3
    many = Crystal(np.arange(1, 25, dtype=np.int32), np.eye(3), np.zeros((24, 3)))
    with pytest.raises(InputError, match="holds 24 distinct elements") as error:
        CompositionFeaturizer().featurize(Crystals.of([*make(2), many]))
    assert error.value.index == 2
