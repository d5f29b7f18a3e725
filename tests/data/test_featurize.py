"""What a featurizer refuses is left out, told, and remembered; nothing is featurized more often than needed."""

import dataclasses
import logging
from typing import ClassVar

import numpy as np
import pytest

from tfmat.crystal import Crystal, Crystals
from tfmat.data import featurize
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import featurize_each, featurize_parts, featurize_table, usable_table
from tfmat.data.rejections import Rejection, Rejections
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer
from tfmat.records import Records


@dataclasses.dataclass(frozen=True)
class LightFeaturizer:
    """Refuses elements beyond `heaviest`, and counts the crystals that it looks at."""

    heaviest: int = 80
    indexed: bool = True
    version: ClassVar[int] = 1
    spec: ClassVar[dict] = {"species": ("int32", (None,))}
    seen: ClassVar[list[int]] = []

    def __call__(self, material):
        return self.featurize([material])[0]

    def featurize(self, materials):
        return Records.stack([self._one(material, index) for index, material in enumerate(materials)])

    def _one(self, crystal, index):
        self.seen.append(1)
        if crystal.species.max() > self.heaviest:
            raise InputError("too heavy", expected="light", index=index if self.indexed else None)
        return {"species": crystal.species}


@pytest.fixture(autouse=True)
def seen():
    LightFeaturizer.seen.clear()
    return LightFeaturizer.seen


def crystals(number, heavy=()):
    species = [np.array([90 if i in heavy else 1 + i % 60, 8], np.int32) for i in range(number)]
    single = [Crystal(z, np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])) for z in species]
    rows = np.arange(number)
    return Table(Crystals.of(single), {"y": rows * 1.0}, [f"c{i}" for i in rows], rows + 2, "x.jsonl")


def same(first, second):
    for name in first.values:
        np.testing.assert_array_equal(first.values[name], second.values[name])
        np.testing.assert_array_equal(first.offsets[name], second.offsets[name])


@pytest.mark.parametrize(
    "heavy", [(), (0,), (2999,), (0, 1, 2, 1500, 2999), tuple(range(0, 3000, 7)), tuple(range(2999)), tuple(range(3000))]
)
@pytest.mark.parametrize("indexed", [True, False])
def test_the_good_ones_are_featurized(heavy, indexed, seen):
    table = crystals(3000, heavy)
    for materials in (table.materials, list(table.materials)):
        seen.clear()
        records, kept, errors = featurize_each(LightFeaturizer(indexed=indexed), materials)
        assert kept.tolist() == [i for i in range(3000) if i not in set(heavy)]
        assert sorted(errors) == list(heavy) and all(str(error.problem) == "too heavy" for error in errors.values())
        assert len(seen) <= 3000 * 3
        if len(heavy) == 3000:
            assert records is None
        else:
            same(records, LightFeaturizer().featurize(table.subset(kept).materials))


def test_formulas():
    formulas = ["NaCl", "Xx", "Fe2O3", "?", 3, "KF"] + ["LiF"] * 2000 + ["Qq"] * 100
    records, kept, errors = featurize_each(CompositionFeaturizer(), formulas)
    assert sorted(errors) == [1, 3, 4, *range(2006, 2106)] and len(kept) == 2003
    same(records, CompositionFeaturizer().featurize([formulas[i] for i in kept]))
    assert "unknown element 'Xx'" in errors[1].problem and "Qq" in errors[2100].problem


def test_nothing():
    records, kept, errors = featurize_each(CompositionFeaturizer(), [])
    assert records is None and len(kept) == 0 and errors == {}


@pytest.mark.parametrize("processes", [None, 1, 2])
@pytest.mark.parametrize("heavy", [(), (5, 300, 301, 699), tuple(range(256, 512))])
def test_parts_without_the_bad_ones(processes, heavy):
    table, refused, calls = crystals(700, heavy), {}, []
    parts = list(
        featurize_parts(table, LightFeaturizer(), processes=processes, refused=refused.__setitem__, report=lambda *done: calls.append(done))
    )
    assert list(refused) == list(heavy) and all(error.expected == "light" for error in refused.values())
    assert calls[-1] == (700, 700)
    same(Records.join(parts), LightFeaturizer().featurize(table.subset([i for i in range(700) if i not in refused]).materials))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_usable_table(tmp_path, seen, processes):
    table, cache, rejections = crystals(600, (3, 400)), RecordCache(tmp_path), Rejections()
    found = usable_table(table, LightFeaturizer(), rejections, cache, processes=processes)
    assert len(found) == 598 and found.ids[2:4] == ["c2", "c4"] and found.targets["y"][3] == 4
    assert rejections.found == [Rejection("x.jsonl", row, f"c{row - 2}", "too heavy. Expected light") for row in (5, 402)]
    assert {entry.featurizer for entry in cache.entries()} == {"LightFeaturizer", "refused by LightFeaturizer"}
    seen.clear()
    same(featurize_table(found, LightFeaturizer(), cache), LightFeaturizer().featurize(found.materials))
    assert len(seen) == 598, "only the comparison"

    seen.clear()
    again = Rejections()
    assert usable_table(table, LightFeaturizer(), again, cache).ids == found.ids
    assert again == rejections and not seen
    assert len(usable_table(table, LightFeaturizer(heaviest=100), Rejections(), cache)) == 600


def test_nothing_is_refused(tmp_path, seen):
    table, cache = crystals(40), RecordCache(tmp_path)
    assert usable_table(table, LightFeaturizer(), Rejections(), cache) is table
    assert [entry.key for entry in cache.entries()] == [cache.key(LightFeaturizer(), table)]
    seen.clear()
    assert usable_table(table, LightFeaturizer(), Rejections(), cache) is table
    assert len(featurize_table(table, LightFeaturizer(), cache)) == 40 and not seen


def test_everything_is_refused(tmp_path):
    cache = RecordCache(tmp_path)
    for number, message in (
        (2, "x.jsonl, row 2: none of 2 rows can be used; the first because: too heavy"),
        (1, "x.jsonl, row 2: too heavy"),
    ):
        for place in (cache, None):
            with pytest.raises(InputError) as error:
                usable_table(crystals(number, range(number)), LightFeaturizer(), Rejections(), place)
            assert str(error.value) == f"{message}. Expected light"
    assert not list(tmp_path.iterdir())


def test_strict(tmp_path):
    with pytest.raises(InputError, match=r"^x\.jsonl, row 5: too heavy"):
        usable_table(crystals(40, (3, 9)), LightFeaturizer(), Rejections(strict=True), RecordCache(tmp_path))
    assert not list(tmp_path.iterdir())
    assert len(usable_table(crystals(40), LightFeaturizer(), Rejections(strict=True))) == 40


def test_without_a_place_to_keep_records(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, logger="tfmat"):
        found = usable_table(crystals(40, (3,)), LightFeaturizer(), Rejections(), RecordCache(tmp_path / "file" / "folder"))
    assert len(found) == 39 and "could not be kept" in caplog.text
    assert len(usable_table(crystals(40, (3,)), LightFeaturizer(), Rejections())) == 39


def test_damaged_memory_is_made_again(tmp_path):
    table, cache = crystals(40, (3,)), RecordCache(tmp_path)
    usable_table(table, LightFeaturizer(), Rejections(), cache)
    (entry,) = (entry for entry in cache.entries() if entry.featurizer.startswith("refused"))
    (entry.path / "values.problem.npy").write_bytes(b"")
    rejections = Rejections()
    assert len(usable_table(table, LightFeaturizer(), rejections, cache)) == 39 and rejections.found[0].id == "c3"
    for other in cache.entries():
        if not other.featurizer.startswith("refused"):
            cache.clear([other.key])
    found = usable_table(table, LightFeaturizer(), Rejections(), cache)
    assert len(featurize_table(found, LightFeaturizer(), cache)) == 39


def test_the_limit_of_attempts(monkeypatch, seen):
    monkeypatch.setattr(featurize, "ATTEMPTS", 2)
    _, kept, errors = featurize_each(LightFeaturizer(), crystals(50, range(0, 50, 5)).materials)
    assert len(kept) == 40 and len(errors) == 10
