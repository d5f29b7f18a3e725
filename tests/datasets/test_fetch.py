"""Archives of PyPI: hashes, damage, what is kept, and (slow) CrabNet's benchmarks from PyPI itself."""

import csv
import hashlib
import io
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest

from tfmat import datasets
from tfmat.datasets import composition_benchmark, fetch, jarvis_dft_3d, matbench_phonons, mp_elasticity
from tfmat.datasets.source import Absent
from tfmat.errors import InputError

FILES = {"data/a.csv": b"formula,target\nFe,1\n", "data/deep/b.csv": b"x", "setup.py": b"raise SystemExit('nothing of an archive is run')"}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sources"


def content(kind, files=FILES):
    stream = io.BytesIO()
    if kind == "wheel":
        with zipfile.ZipFile(stream, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name, text in files.items():
                member = tarfile.TarInfo(f"toy-1.0/{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


def archive_of(blob, kind="sdist", members=("a.csv", "deep/b.csv")):
    filename = "toy-1.0.tar.gz" if kind == "sdist" else "toy-1.0-py3-none-any.whl"
    return fetch.Archive("toy", "1.0", filename, kind, hashlib.sha256(blob).hexdigest(), len(blob), "data", members)


def answer(monkeypatch, blob=None, stderr="", code=0, name="toy-1.0.tar.gz"):
    """Let pip store `blob` and end with `code`."""
    calls = []

    def run(command, **keywords):
        calls.append(command)
        if blob is not None:
            folder = command[command.index("--dest") + 1]
            with open(f"{folder}/{name}", "wb") as stream:
                stream.write(blob)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return calls


def left(cache):
    return [path.name for path in cache.iterdir()] if cache.is_dir() else []


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_downloaded_once_and_kept(monkeypatch, cache, kind):
    blob, told = content(kind), []
    archive = archive_of(blob, kind)
    calls = answer(monkeypatch, blob, name=archive.filename)
    folder = fetch.fetch(archive, progress=told.append)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == ["a.csv", "deep/b.csv"]
    assert fetch.fetch(archive) == folder and len(calls) == 1
    assert "--require-hashes" in calls[0] and "--no-deps" in calls[0]
    assert told == ["Downloading toy 1.0 from PyPI (0 MB)"]
    assert left(cache) == ["toy-1.0"]


def test_a_file_put_there_by_hand(cache):
    blob = content("sdist")
    with pytest.raises(Absent, match=r"toy-1\.0\.tar\.gz of PyPI in .*sources"):
        fetch.fetch(archive_of(blob), download=False)
    cache.mkdir(parents=True)
    (cache / "toy-1.0.tar.gz").write_bytes(blob)
    assert (fetch.fetch(archive_of(blob), download=False) / "a.csv").is_file()


@pytest.mark.parametrize(
    ("damage", "members", "message"),
    [
        (lambda blob: blob[:-30], ("a.csv",), "is damaged or another file"),
        (lambda blob: b"", ("a.csv",), "is damaged or another file"),
        (lambda blob: blob, ("a.csv", "c.csv", "d.csv"), r"does not hold c\.csv and 1 more"),
    ],
)
def test_nothing_bad_is_kept(monkeypatch, cache, damage, members, message):
    blob = content("sdist")
    answer(monkeypatch, damage(blob))
    with pytest.raises(InputError, match=message):
        fetch.fetch(archive_of(blob, members=members))
    assert left(cache) == []


def test_a_cut_archive_of_the_right_hash(monkeypatch, cache):
    cut = content("sdist", FILES | {"data/long.csv": np.random.default_rng(0).bytes(100_000)})[:-5_000]
    answer(monkeypatch, cut)
    with pytest.raises(InputError, match="cannot be unpacked"):
        fetch.fetch(archive_of(cut))
    assert left(cache) == []


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_paths_that_lead_out(monkeypatch, cache, tmp_path, kind):
    blob = content(kind, {"data/../../../../evil": b"x"})
    archive = archive_of(blob, kind, members=("../../../../evil",))
    answer(monkeypatch, blob, name=archive.filename)
    with pytest.raises(InputError, match="holds the path"):
        fetch.fetch(archive)
    assert left(cache) == [] and not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    Got x\n",
            "the hash of the file is not the expected one",
        ),
        ("/usr/bin/python3: No module named pip\n", "pip is not installed in this Python"),
        ("WARNING: Retrying\nERROR: No matching distribution found for toy==1.0\n", "No matching distribution found for toy==1.0"),
        ("", "pip failed"),
    ],
)
def test_what_pip_says_in_one_line(monkeypatch, cache, stderr, message):
    answer(monkeypatch, None, stderr, code=1)
    with pytest.raises(Absent, match=message) as error:
        fetch.fetch(archive_of(content("sdist")))
    assert "\n" not in str(error.value) and left(cache) == []


def test_no_time_left(monkeypatch, cache):
    def run(command, **keywords):
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(Absent, match="pip took more than"):
        fetch.fetch(archive_of(content("sdist")))
    assert left(cache) == []


def test_composition_sets_come_from_the_archive(monkeypatch, cache):
    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    files = {f"data/{name}": b"formula,target\nFe,1\nCo,2\nFe,3\n" for name in composition_benchmark.CRABNET.members}
    blob = content("sdist", files | {"data/benchmark_data/__init__.py": b"", "data/element_properties/mat2vec.csv": b""})
    crabnet = composition_benchmark.CRABNET
    archive = fetch.Archive("crabnet", "1.0.1", crabnet.filename, "sdist", hashlib.sha256(blob).hexdigest(), 1, "data", crabnet.members)
    monkeypatch.setattr(composition_benchmark, "CRABNET", archive)
    answer(monkeypatch, blob, name=archive.filename)
    dataset = datasets.load("aflow__Egap")
    assert dataset.splits["train"].targets["band_gap"].tolist() == [2.0, 2.0]
    assert len(list((cache / "crabnet-1.0.1").rglob("*.csv"))) == len(crabnet.members) == 18 * 3 + 13 * 16
    assert all(row.present for row in datasets.describe() if row.tfds_name.startswith("composition_benchmark"))


@pytest.mark.slow
def test_crabnet_from_pypi(monkeypatch, cache, mirror):
    """All 31 sets, with the counts that were taken from the published files: `peers/composition_datasets.csv` of the mirror."""
    with (mirror / "peers" / "composition_datasets.csv").open(newline="") as stream:
        published = {row["dataset"]: row for row in csv.DictReader(stream)}
    monkeypatch.delenv("TFMAT_DATA_DIR")
    for name in (source.name for source in composition_benchmark.SOURCES):
        dataset, row = datasets.load(name), published[name]
        values = [next(iter(table.targets.values())) for table in dataset.splits.values()]
        if row["suite"] == "benchmark":
            assert [len(column) for column in values] == [int(row[split]) for split in ("train", "val", "test")]
            np.testing.assert_allclose(np.concatenate(values).min(), float(row["min"]))
            np.testing.assert_allclose(np.concatenate(values).max(), float(row["max"]))
        source = next(source for source in composition_benchmark.SOURCES if source.name == name)
        files = source.files(None)
        assert source.rows == int(row["total"])
        for split in source.splits:
            assert sum(1 for _ in source.checked(files, split)) == source.splits[split]
        for column, split in (("cv_train", "train"), ("cv_val", "validation"), ("cv_test", "test")):
            folds = [source.splits[f"fold{fold}_{split}"] for fold in range(source.folds)]
            assert "/".join(map(str, folds)) == row[column]


@pytest.mark.slow
@pytest.mark.parametrize("archive", [jarvis_dft_3d.LEADERBOARD, matbench_phonons.MATBENCH, mp_elasticity.MATMINER], ids=str)
def test_other_archives_from_pypi(archive):
    folder = fetch.fetch(archive)
    assert all((folder / name).is_file() for name in archive.members)


@pytest.mark.slow
def test_elasticity_from_pypi(monkeypatch, cache):
    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    dataset = datasets.load("mp_elasticity/elastic_tensor_2015")
    assert [len(table) for table in dataset.splits.values()] == [922, 138, 121]


@pytest.mark.slow
def test_folds_of_matbench_are_those_of_the_mirror(monkeypatch, mirror):
    of_mirror = {"all": None, "folds": mirror / "structures" / "matbench_phonons_folds.json.gz"}
    of_wheel = {"matbench": None, "folds": fetch.fetch(matbench_phonons.MATBENCH) / "matbench_v0.1_validation.json"}
    for fold in range(5):
        assert matbench_phonons._ids(of_mirror, f"fold_{fold}") == matbench_phonons._ids(of_wheel, f"fold_{fold}")
