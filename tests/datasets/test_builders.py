"""The datasets as builders of TensorFlow Datasets."""

import gzip
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from tfmat import datasets
from tfmat.datasets import crystal_sets, exp_formation_enthalpy, matbench_phonons, registry, source
from tfmat.datasets import tfds as prepared
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")
from tfmat.datasets import builders  # noqa: E402

NAMES = [family.BUILDER for family in registry.FAMILIES]
CELL = {"cell": [3.99, 3.99, 3.99, 60.0, 61.0, 62.0], "species": ["Na", "Cl"], "frac": [[0, 0, 0], [0.5, 0.5, 1 / 3]]}


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty folder of TFDS."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


@pytest.fixture
def small(monkeypatch, tmp_path, home):
    """A mirror with the phonon set alone."""
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path))
    (tmp_path / "structures").mkdir()
    rows = [CELL | {"id": f"mb-phonons-{i:04d}", "last_phdos_peak": i / 3, "species": [SYMBOLS[1 + i % 100], "Cl"]} for i in range(1_265)]
    folds = {f"fold_{fold}": [row["id"] for row in rows[fold::5]] for fold in range(5)}
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "structures" / "matbench_phonons.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "structures" / "matbench_phonons_folds.json.gz").write_bytes(gzip.compress(json.dumps(folds).encode()))
    return tmp_path / "structures"


@pytest.mark.parametrize(
    "order",
    [
        "import tfmat.datasets, tensorflow_datasets as tfds",
        "import tensorflow_datasets as tfds, tfmat.datasets",
        "import tfmat.datasets, importlib.util; importlib.util.find_spec('tensorflow_datasets'); import tensorflow_datasets as tfds",
    ],
)
def test_registered_without_tensorflow(order):
    code = f"""
import sys
{order}
assert "tensorflow" not in sys.modules
assert [tfds.builder_cls(name).name for name in {NAMES}] == {NAMES}
assert "SourceFileLoader" in repr(tfds.__spec__.loader) and "SourceFileLoader" in repr(tfds.__loader__), tfds.__spec__
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_import_loads_no_tfds():
    code = "import sys, tfmat.datasets\nassert not {'tensorflow', 'tensorflow_datasets', 'pandas', 'pymatgen'} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_without_tfds_the_import_fails_as_ever():
    code = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError("No module named 'tensorflow_datasets'", name=name)
sys.meta_path.insert(0, Hide())
import tfmat.datasets
try:
    tfmat.datasets.build(tfmat.datasets.DEFAULT)
except tfmat.InputError as error:
    assert "tfmat[datasets]" in str(error), error
else:
    raise AssertionError
assert len(tfmat.datasets.load(tfmat.datasets.DEFAULT).splits["train"]) == 1729
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_source_is_a_configuration(home):
    found = [(name, config) for name in NAMES for config in tfds.builder_cls(name).builder_configs]
    assert sorted(found) == sorted((one.builder, one.config) for one in registry.SOURCES.values())
    for one in registry.SOURCES.values():
        builder = tfds.builder(one.tfds_name, data_dir=str(home))
        assert builder.info.citation == one.citation
        assert one.licence in str(builder.info.redistribution_info).replace("\\", "")
        assert str(builder.version) in builder.RELEASE_NOTES
        for target, unit in one.units.items():
            documentation = builder.info.features[target].doc
            assert unit in documentation.desc
            assert documentation.value_range


def test_load_by_tfds(home):
    splits, info = tfds.load(exp_formation_enthalpy.NAME, data_dir=str(home), with_info=True)
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 1729, "validation": 203, "test": 203}
    table = datasets.load(datasets.DEFAULT).splits["test"]
    stored = list(splits["test"].as_numpy_iterator())
    assert [row["formula"].decode() for row in stored] == table.materials
    np.testing.assert_array_equal([row[exp_formation_enthalpy.TARGET] for row in stored], table.targets[exp_formation_enthalpy.TARGET])
    formula, value = next(iter(tfds.load(exp_formation_enthalpy.NAME, data_dir=str(home), split="test", as_supervised=True)))
    assert formula.dtype == "string" and value.dtype == "float64"


def test_what_is_built_is_what_is_read_directly(small, home, monkeypatch, capfd, caplog):
    direct = crystal_sets.load(registry.SOURCES["matbench_phonons"], 2)
    calls = []
    folder = datasets.build("matbench_phonons", progress=lambda split, done, total: calls.append((split, done, total)))
    assert folder == home / "matbench_phonons" / "matbench_phonons" / "1.0.0"
    assert ("fold4", 253, 253) in calls
    assert capfd.readouterr().out == "" and "Building matbench_phonons (1,265 rows)" in caplog.text
    monkeypatch.setenv("TFMAT_DATA_DIR", str(small / "nothing"))
    assert next(row for row in datasets.describe() if row.name == "matbench_phonons").present
    again = datasets.load("matbench_phonons/fold2")
    for split, table in again.splits.items():
        assert table.content_hash() == direct.splits[split].content_hash()
    assert datasets.build("matbench_phonons") == folder  # is there already: the files are not looked for
    with pytest.raises(InputError, match="not in TFMAT_DATA_DIR"):
        datasets.build("matbench_phonons", overwrite=True)
    assert datasets.load("matbench_phonons/fold2").splits["test"].content_hash() == direct.splits["test"].content_hash()
    monkeypatch.setenv("TFMAT_DATA_DIR", str(small.parent))
    assert datasets.build("matbench_phonons", overwrite=True) == folder
    assert not list(home.glob(".rebuild*")) and prepared.read(registry.SOURCES["matbench_phonons"], "fold0").ids


def test_a_failed_build_leaves_nothing(small, home):
    lines = gzip.decompress((small / "matbench_phonons.jsonl.gz").read_bytes()).splitlines(keepends=True)
    (small / "matbench_phonons.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:-1])))
    with pytest.raises(InputError, match=r"split fold4 holds 252 of 253 rows"):
        datasets.build("matbench_phonons")
    (small / "matbench_phonons.jsonl.gz").write_bytes(gzip.compress(b"".join(lines))[:-40])
    with pytest.raises(InputError, match=r"matbench_phonons\.jsonl\.gz: cannot be read"):
        datasets.build("matbench_phonons")
    assert not list(home.rglob("dataset_info.json")) and not list(home.rglob("*.tfrecord*"))
    assert registry.prepared_directory(registry.SOURCES["matbench_phonons"]) is None


def test_a_wrong_download(monkeypatch, tmp_path, home):
    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    wrong = tmp_path / "wrong.json.gz"
    wrong.write_bytes(b"not what was published")
    monkeypatch.setattr(builders, "reach", lambda url: None)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: str(wrong))
    with pytest.raises(InputError, match=r"is damaged or another file.*Expected 4db551f21ec5f577"):
        datasets.build("matbench_phonons")
    assert not wrong.exists() and not list(home.rglob("dataset_info.json"))


def test_a_download_from_a_url(monkeypatch, tmp_path, home):
    import hashlib

    from pymatgen.core import Lattice, Structure

    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    structures = [Structure(Lattice.cubic(4.0), [symbol, "Cl"], places).as_dict() for symbol in SYMBOLS[1:90]]
    table = {"columns": ["structure", "last phdos peak"], "data": [[structures[i % 89], float(i)] for i in range(1, 1_266)]}
    folds = {f"fold_{k}": {"test": [f"mb-phonons-{i:04d}" for i in range(1 + k, 1_266, 5)]} for k in range(5)}
    path = tmp_path / "published.json.gz"
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "matbench_v0.1_validation.json").write_text(json.dumps({"splits": {"matbench_phonons": folds}}))
    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    monkeypatch.setattr(matbench_phonons, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(matbench_phonons, "fetch", lambda archive: tmp_path / "folds")
    monkeypatch.setattr(builders, "reach", lambda url: None)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, url: str(path))
    dataset = datasets.load("matbench_phonons/fold1")
    assert sorted(dataset.splits["test"].targets[matbench_phonons.TARGET]) == list(range(2, 1_266, 5))
    assert path.exists()


def test_no_connection_is_noticed_at_once(monkeypatch, home):
    def refuse(address, timeout):
        raise OSError("Name or service not known")

    monkeypatch.delenv("TFMAT_DATA_DIR", raising=False)
    monkeypatch.setattr(builders.socket, "create_connection", refuse)
    monkeypatch.setattr(builders.urllib.request, "getproxies", dict)
    with pytest.raises(source.Absent, match=r"figshare\.com/files/26724977 cannot be reached \(Name or service not known\)"):
        datasets.load("mp2018")


def test_files_that_tfds_has_need_no_connection(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.INFO").write_text(json.dumps({"urls": ["https://example.org/a"]}))
    assert builders.downloaded("https://example.org/a", tmp_path)
    assert not builders.downloaded("https://example.org/ab", tmp_path)


def test_a_folder_that_cannot_be_written_to(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(InputError, match="could not be built"):
        datasets.build(datasets.DEFAULT)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache_beam is not installed: it needs a protobuf below 7")
def test_built_by_beam_in_several_processes(small, home):
    from apache_beam.options.pipeline_options import PipelineOptions

    one = registry.SOURCES["matbench_phonons"]
    direct = crystal_sets._tables(one)
    prepared.build(one, beam_options=PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"]))
    for split, table in direct.items():
        assert prepared.read(one, split).content_hash() == table.content_hash()
