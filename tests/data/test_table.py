"""Subsets and the content hash."""

import dataclasses

import numpy as np
import pytest
from pymatgen.core import Composition

from tfmat.data.table import Table


def make(**changes):
    columns = {
        "materials": ["NaCl", "Fe2O3", "NaN"],
        "targets": {"gap": np.asarray([5.0, 2.0, np.nan])},
        "ids": ["a", "b", "c"],
        "rows": np.asarray([2, 3, 5]),
        "source": "x.csv",
    }
    return Table(**(columns | changes))


def test_subset_keeps_columns_together():
    part = make().subset([2, 0])
    assert part.materials == ["NaN", "NaCl"]
    assert part.ids == ["c", "a"]
    assert part.rows.tolist() == [5, 2]
    np.testing.assert_array_equal(part.targets["gap"], [np.nan, 5.0])
    assert len(make().subset([])) == 0


def test_content_hash_is_stable():
    assert make().content_hash() == "6ac20d9f9dc58c43f709bc3682c4ed5fe1a46b3eac344a8f36eb1dc00f1dd776"
    assert make(source="y.csv", rows=np.asarray([7, 8, 9])).content_hash() == make().content_hash()
    quiet = np.asarray([5.0, 2.0, 0.0])
    quiet[2] = np.frombuffer(np.uint64(0x7FF8000000000001).tobytes(), np.float64)[0]
    assert make(targets={"gap": quiet}).content_hash() == make().content_hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"materials": ["NaCl", "Fe2O3", "NaF"]},
        {"ids": ["a", "b", "d"]},
        {"targets": {"gap": np.asarray([5.0, 2.0, 0.0])}},
        {"targets": {"energy": np.asarray([5.0, 2.0, np.nan])}},
        {"targets": {}},
        {"materials": [Composition("NaCl"), "Fe2O3", "NaN"]},
    ],
)
def test_content_hash_sees_every_change(changes):
    assert make(**changes).content_hash() != make().content_hash()


def test_pymatgen_objects_hash_alike():
    first, second = (make(materials=[Composition("NaCl"), "Fe2O3", None]) for _ in range(2))
    assert first.content_hash() == second.content_hash()


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="same length"):
        make(ids=["a"])
    assert dataclasses.is_dataclass(Table)
