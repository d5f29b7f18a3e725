"""The cache returns what was featurized, notices every change, and survives damage."""

import dataclasses
import io
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from tfmat.crystal import Crystal, Crystals
from tfmat.data import cache as cache_module
from tfmat.data import featurize
from tfmat.data.cache import RecordCache, RecordWriter, Spool
from tfmat.data.featurize import featurize_table
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
    assert [path.name for path in cache.directory.iterdir()] == [cache.key(featurizer, table)]
    assert cache.path(cache.key(featurizer, table)).stat().st_mode & 0o777 == 0o755


def test_every_change_gives_another_key(tmp_path, table, monkeypatch):
    cache = RecordCache(tmp_path)
    keys = {
        cache.key(CompositionFeaturizer(), table),
        cache.key(CompositionFeaturizer(max_elements=5), table),
        cache.key(CompositionFeaturizer(), table.subset([1, 0, 2])),
    }
    other_target = Table(table.materials, {"z": np.zeros(3)}, ["d", "e", "f"], table.rows, "y.csv")
    assert cache.key(CompositionFeaturizer(), other_target) in keys
    monkeypatch.setattr(CompositionFeaturizer, "version", 2)
    assert len(keys | {cache.key(CompositionFeaturizer(), table)}) == 4


def damages(path):
    """Ways to damage an entry: (what is changed, its new content, None to remove it)."""
    entry, values, offsets = path / "entry.json", path / "values.species.npy", path / "offsets.species.npy"
    for file in (entry, values, offsets):
        content = file.read_bytes()
        yield file, None
        yield file, b""
        yield file, b"something else"
        yield file, content[: len(content) // 2]
    yield values, values.read_bytes()[:-1] + b"\1"
    yield entry, b"[]"
    yield entry, b'{"rows": 3, "checksums": {}}'
    yield entry, entry.read_bytes().replace(b'"rows": 3', b'"rows": 4')
    for file, array in (
        (values, np.asarray([{}], dtype=object)),
        (values, np.zeros(3)),
        (offsets, np.zeros(4)),
        (offsets, np.arange(4)[::-1]),
    ):
        stream = io.BytesIO()
        np.save(stream, array)
        yield file, stream.getvalue()


def test_a_damaged_entry_is_rebuilt(tmp_path, table, featurizer, caplog):
    cache = RecordCache(tmp_path)
    expected = featurize_table(table, featurizer, cache)
    for file, content in list(damages(cache.path(cache.key(featurizer, table)))):
        file.write_bytes(content) if content is not None else file.unlink()
        featurizer.calls.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="tfmat"):
            same(featurize_table(table, featurizer, cache), expected)
        assert len(featurizer.calls) == 1
        assert len(caplog.records) == 1
        assert "is damaged" in caplog.text and cache.key(featurizer, table) in caplog.text
        assert [path.name for path in tmp_path.iterdir()] == [cache.key(featurizer, table)]
        caplog.clear()
        same(featurize_table(table, featurizer, cache), expected)
        assert len(featurizer.calls) == 1 and not caplog.records


def test_an_entry_of_another_table_is_rebuilt(tmp_path, table, featurizer, caplog):
    cache = RecordCache(tmp_path)
    key = cache.key(featurizer, table)
    cache.save(key, Records({"other": np.zeros(3)}, {"other": np.arange(4)}))
    with caplog.at_level(logging.WARNING, logger="tfmat"):
        assert len(featurize_table(table, featurizer, cache)) == 3
    assert "does not fit" in caplog.text
    assert set(cache.load(key).values) == {"species", "fractions"}


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


def test_nothing_is_left_behind_when_saving_fails(tmp_path, table, monkeypatch, caplog):
    def fail(*arguments, **keywords):
        raise OSError("disk full")

    monkeypatch.setattr(RecordWriter, "finish", fail)
    with caplog.at_level(logging.WARNING, logger="tfmat"):
        assert len(featurize_table(table, CompositionFeaturizer(), RecordCache(tmp_path))) == 3
    assert "disk full" in caplog.text
    assert not list(tmp_path.iterdir())


def test_large_arrays_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "CHECKED_BYTES", 1000)
    records = Records({"a": np.arange(3000.0).reshape(1000, 3)}, {"a": np.arange(0, 1001, 10)})
    cache = RecordCache(tmp_path)
    cache.save("0" * 64, records)
    found = cache.load("0" * 64)
    same(found, records)
    assert isinstance(found.values["a"].base, np.memmap) and not found.values["a"].flags.writeable
    file = cache.path("0" * 64) / "values.a.npy"
    file.write_bytes(file.read_bytes()[:-8])
    assert cache.load("0" * 64) is None
    monkeypatch.setattr(cache_module, "CHECKED_BYTES", 0)
    empty = Records({"a": np.zeros((0, 3))}, {"a": np.zeros(3, np.int64)})
    cache.save("1" * 64, empty)
    same(cache.load("1" * 64), empty)


def test_parts_make_the_whole(tmp_path):
    parts = [CompositionFeaturizer().featurize(formulas) for formulas in (["NaCl", "Fe2O3"], ["Ca(OH)2"], ["LiFePO4", "Si"])]
    whole = CompositionFeaturizer().featurize(["NaCl", "Fe2O3", "Ca(OH)2", "LiFePO4", "Si"])
    same(Records.join(parts), whole)
    cache = RecordCache(tmp_path)
    with cache.building("2" * 64) as writer:
        for part in parts:
            writer.append(part)
    same(cache.load("2" * 64), whole)
    same(whole.take(np.asarray([4, 0])), CompositionFeaturizer().featurize(["Si", "NaCl"]))
    for limit in (1, 10**9):
        with Spool(limit) as spool:
            for part in parts:
                spool.append(part)
            spooled = spool.finish()
        same(spooled, whole)
    with Spool() as spool:
        assert spool.finish() is None


def test_list_and_clear(tmp_path, table):
    cache = RecordCache(tmp_path)
    assert cache.entries() == [] and cache.clear() == (0, 0)
    featurize_table(table, CompositionFeaturizer(), cache)
    featurize_table(table, CompositionFeaturizer(max_elements=5), cache)
    first, second = cache.entries()
    assert (first.source, first.featurizer, first.rows) == ("x.csv", "CompositionFeaturizer", 3)
    assert first.created >= second.created and first.size > 100
    (second.path / "entry.json").write_text("{")
    assert [entry.featurizer for entry in cache.entries() if entry.key == second.key] == ["unreadable"]
    (tmp_path / f"{first.key}.abc.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    assert cache.clear([first.key])[0] == 1
    assert {path.name for path in tmp_path.iterdir()} == {second.key, f"{first.key}.abc.tmp", "notes"}
    assert cache.clear()[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


BUILD = """
import sys, time
import numpy as np
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import featurize_table
from tfmat.data.cache import RecordWriter, Spool
from tfmat.data.table import Table
from tfmat.featurizers.composition import CompositionFeaturizer
slow = float(sys.argv[2])
original = CompositionFeaturizer.featurize
def featurize(self, materials):
    print("begun", flush=True)
    if slow:
        sys.stdin.readline()
    return original(self, materials)
CompositionFeaturizer.featurize = featurize
formulas = [f"Fe{i}O{j}" for i in range(1, 200) for j in range(1, 20)]
table = Table(formulas, {}, [str(i) for i in range(len(formulas))], np.arange(len(formulas)), "x")
records = featurize_table(table, CompositionFeaturizer(), RecordCache(sys.argv[1]))
print(len(records), int(records.values["species"].sum()), flush=True)
"""


def build(folder, slow):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILD, str(folder), str(slow)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_processes_that_build_the_same_entry_at_once(tmp_path):
    processes = [build(tmp_path, 1) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "begun\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert len(outputs) == 1
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == len(RecordCache(tmp_path).entries()) == 1


def test_a_process_that_is_killed_leaves_nothing_that_is_read(tmp_path):
    process = build(tmp_path, 1)
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate()
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    assert RecordCache(tmp_path).entries() == []
    with build(tmp_path, 0) as again:
        assert again.communicate(timeout=60)[0].startswith("begun\n3781 ")
    assert len(RecordCache(tmp_path).entries()) == 1
    left = next(path for path in tmp_path.iterdir() if path.suffix == ".tmp")
    os.utime(left, (0, 0))
    RecordCache(tmp_path).save("3" * 64, Records({"a": np.zeros(1)}, {"a": np.asarray([0, 1])}))
    assert not left.exists()


def crystals(number):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, number)
    single = [Crystal(rng.integers(1, 90, s).astype(np.int32), np.eye(3), rng.uniform(size=(s, 3))) for s in sizes.tolist()]
    return Table(Crystals.of(single), {}, [str(i) for i in range(number)], np.arange(number) + 2, "x.jsonl")


def test_crystals_are_featurized_in_other_processes(tmp_path, monkeypatch):
    table, calls = crystals(1000), []
    here = featurize_table(table, CompositionFeaturizer(), processes=1, report=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (1000, 1000) and len(calls) > 2
    calls.clear()
    elsewhere = featurize_table(
        table, CompositionFeaturizer(), RecordCache(tmp_path), processes=2, report=lambda done, total: calls.append((done, total))
    )
    same(here, elsewhere)
    assert calls[-1] == (1000, 1000)
    monkeypatch.setattr(featurize, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(featurize, "cores", lambda: 2)
    same(here, featurize_table(table, CompositionFeaturizer()))


def test_a_bad_crystal_is_located_from_another_process(tmp_path):
    table = crystals(600)
    rich = Crystal(np.arange(1, 31, dtype=np.int32), np.eye(3), np.zeros((30, 3)))
    table = dataclasses.replace(table, materials=[*table.materials[:500], rich, *table.materials[501:]])
    with pytest.raises(InputError, match=r"^x\.jsonl, row 502: formula .* holds 30 distinct elements") as here:
        featurize_table(table, CompositionFeaturizer(), processes=1)
    with pytest.raises(InputError) as elsewhere:
        featurize_table(table, CompositionFeaturizer(), RecordCache(tmp_path), processes=2)
    assert str(elsewhere.value) == str(here.value)
    assert not list(tmp_path.iterdir())
