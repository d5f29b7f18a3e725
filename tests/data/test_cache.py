"""The cache returns what was featurized, notices every change, and survives damage."""

import logging

import numpy as np
import pytest

from tfmat.data.cache import RecordCache, featurize_table
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer
from tfmat.records import Records


@pytest.fixture
def table():
    formulas = ["NaCl", "Fe2O3", "Ca(OH)2"]
    return Table(formulas, {"y": np.asarray([1.0, 2.0, np.nan])}, ["a", "b", "c"], np.asarray([2, 3, 4]), "x.csv")


@pytest.fixture
def featurizer(monkeypatch):
    """Counts how often it is asked."""
    calls = []
    original = CompositionFeaturizer.featurize
    monkeypatch.setattr(CompositionFeaturizer, "featurize", lambda self, materials: calls.append(1) or original(self, materials))
    CompositionFeaturizer.calls = calls
    yield CompositionFeaturizer()
    del CompositionFeaturizer.calls


def same(first, second):
    assert len(first) == len(second)
    for name in first.values:
        np.testing.assert_array_equal(first.values[name], second.values[name])
        assert first.values[name].dtype == second.values[name].dtype
        np.testing.assert_array_equal(first.offsets[name], second.offsets[name])


def test_a_table_is_featurized_once(tmp_path, table, featurizer):
    cache = RecordCache(tmp_path / "new" / "folder")
    first = featurize_table(table, featurizer, cache)
    again = featurize_table(table, CompositionFeaturizer(), cache)
    same(first, again)
    same(first, featurize_table(table, featurizer))
    assert len(featurizer.calls) == 2
    assert [path.suffix for path in cache.directory.iterdir()] == [".npz"]


def test_every_change_gives_another_key(tmp_path, table, monkeypatch):
    cache = RecordCache(tmp_path)
    keys = {
        cache.key(CompositionFeaturizer(), table),
        cache.key(CompositionFeaturizer(max_elements=5), table),
        cache.key(CompositionFeaturizer(), table.subset([1, 0, 2])),
    }
    monkeypatch.setattr(CompositionFeaturizer, "version", 2)
    assert len(keys | {cache.key(CompositionFeaturizer(), table)}) == 4


def damaged(path, records):
    content = path.read_bytes()
    yield b""
    yield b"not a zip file"
    yield content[: len(content) // 2]
    yield content[:150] + b"\0\0\0\0" + content[154:]
    for values, offsets in (
        ({}, {}),
        ({"species": records.values["species"]}, {}),
        (records.values, {name: offset[:-1] for name, offset in records.offsets.items()}),
        (records.values, {name: offset[::-1] for name, offset in records.offsets.items()}),
        ({"other": records.values["species"]}, {"other": records.offsets["species"]}),
        ({"species": np.asarray([{}], dtype=object)}, {"species": np.asarray([0, 1])}),
    ):
        np.savez(path, **{f"values/{k}": v for k, v in values.items()}, **{f"offsets/{k}": v for k, v in offsets.items()})
        yield path.read_bytes()


def test_a_damaged_file_is_rebuilt(tmp_path, table, featurizer, caplog):
    cache = RecordCache(tmp_path)
    expected = featurize_table(table, featurizer, cache)
    path = cache.path(cache.key(featurizer, table))
    good = path.read_bytes()
    for content in list(damaged(path, expected)):
        path.write_bytes(content)
        featurizer.calls.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="tfmat"):
            same(featurize_table(table, featurizer, cache), expected)
        assert len(featurizer.calls) == 1
        assert len(caplog.records) == 1
        assert path.name in caplog.text
        path.write_bytes(good)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, table, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = RecordCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING, logger="tfmat"):
        assert len(featurize_table(table, CompositionFeaturizer(), cache)) == 3
    assert "could not be kept" in caplog.text


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path))
    assert RecordCache().directory == tmp_path
    monkeypatch.delenv("TFMAT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RecordCache().directory == tmp_path / ".cache" / "tfmat" / "records"


def test_a_bad_material_is_located(tmp_path, table):
    bad = Table([*table.materials[:2], "Xx"], table.targets, table.ids, table.rows, table.source)
    with pytest.raises(InputError, match=r"^x\.csv, row 4: formula 'Xx' holds the unknown element 'Xx'"):
        featurize_table(bad, CompositionFeaturizer(), RecordCache(tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_behind_when_saving_fails(tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    RecordCache(tmp_path).save("key", Records({"a": np.zeros(1)}, {"a": np.asarray([0, 1])}))
    assert not list(tmp_path.iterdir())
