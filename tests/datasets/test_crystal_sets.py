"""Published crystals: their arrays, files in every shape, splits and counts."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from tfmat import datasets
from tfmat.crystal import Crystals
from tfmat.datasets import crystal_files, crystal_sets, jarvis_dft_3d, matbench_phonons, materials_project, mp_elasticity, registry
from tfmat.datasets.source import Absent
from tfmat.errors import InputError

NACL = {"id": "mp-22862", "cell": [3.99, 3.99, 3.99, 60.0, 60.0, 60.0], "species": ["Na", "Cl"], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}
ATOMS = {
    "lattice_mat": [[2.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0]],
    "coords": [[0, 0, 0], [0.25, 0.5, 0.75]],
    "elements": ["Na", "Cl "],
    "cartesian": False,
}


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    return path


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty mirror, and an empty cache."""
    monkeypatch.setenv("TFMAT_DATA_DIR", str(tmp_path / "mirror"))
    monkeypatch.setenv("TFMAT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    return tmp_path / "mirror"


def test_lattices_are_pymatgens():
    from pymatgen.core import Lattice

    rng = np.random.default_rng(0)
    for _ in range(500):
        cell = [*rng.uniform(1, 30, 3), *rng.uniform(60, 119, 3)]
        np.testing.assert_array_equal(crystal_files.lattice_from_parameters(cell), Lattice.from_parameters(*cell).matrix)


def test_lattices_of_the_mirror_are_pymatgens(mirror):
    from pymatgen.core import Lattice

    with gzip.open(mirror / "mp2018" / "test.jsonl.gz", "rt") as stream:
        for line in stream:
            cell = json.loads(line)["cell"]
            np.testing.assert_array_equal(crystal_files.lattice_from_parameters(cell), Lattice.from_parameters(*cell).matrix)


def test_shapes_of_a_crystal():
    row = crystal_files.example(NACL | {"gap": None}, {"band_gap": "gap"})
    assert row["species"].tolist() == [11, 17] and row["species"].dtype == np.int32
    assert row["lattice"].shape == (3, 3) and row["frac_coords"].shape == (2, 3)
    assert row["lattice"].dtype == row["frac_coords"].dtype == np.float64
    assert np.isnan(row["band_gap"])


def test_jarvis_atoms():
    direct = crystal_files.jarvis_crystal(ATOMS)
    cartesian = crystal_files.jarvis_crystal(ATOMS | {"coords": [[0, 0, 0], [0.5, 2.0, 3.75]], "cartesian": True})
    assert direct["species"].tolist() == [11, 17]
    np.testing.assert_allclose(cartesian["frac_coords"], direct["frac_coords"])


def test_pymatgen_dictionary():
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    row = crystal_files.pymatgen_crystal(json.loads(json.dumps(structure.as_dict())))
    assert row["species"].tolist() == [55, 17]
    np.testing.assert_array_equal(row["lattice"], structure.lattice.matrix)


def test_reduced_formula_is_that_of_every_polymorph():
    assert crystal_files.reduced_formula(np.array([11, 17])) == crystal_files.reduced_formula(np.array([17, 17, 11, 11])) == "Cl1Na1"


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.zip"])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_arrays_are_streamed(monkeypatch, tmp_path, name, chunk):
    monkeypatch.setattr(crystal_files, "_CHUNK", chunk)
    records = [{"id": i, "text": "}, {" * i} for i in range(20)]
    path, text = tmp_path / name, json.dumps(records, indent=1)
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.json", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert list(crystal_files.read_array(path)) == records


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'[{"a": 1}', b'[{"a": 1}, {"b"', b"[nonsense]", b"\x1f\x8b\x08", b"PK\x03\x04rest", b"[\xff\xfe]"]
)
def test_damaged_arrays(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: "):
        list(crystal_files.read_array(path))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        json.dumps(NACL | {"species": ["Na", "Xx"]}),
        json.dumps(NACL | {"frac": [[0, 0, 0]]}),
        json.dumps(NACL | {"cell": [1, 2]}),
        "{}",
    ],
)
def test_damaged_lines(tmp_path, line):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(NACL) + "\n" + line + "\n").encode()))
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, row 2: "):
        list(crystal_files.read_lines(path, {}))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        list(crystal_files.read_lines(path, {}))


def test_names():
    assert registry.find("materials_project/mp2018_subset") == registry.find("mp2018_subset")
    assert registry.find("composition_benchmark/elasticity_log10_k_vrh/fold4")[1] == 4
    assert registry.find("matbench_phonons/fold3")[1] == 3
    for name in ("matbench_phonons/fold5", "mp2018/fold0", "mp2018/", "/fold0", ""):
        assert registry.find(name) is None
    with pytest.raises(InputError, match=r"did you mean .*mp2018_subset"):
        datasets.load("mp2018_subse")
    assert len(set(registry.SOURCES)) == len({source.tfds_name for source in registry.SOURCES.values()}) == 48


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mp2018", r"mp2018/megnet\.json in that folder"),
        ("mp2018_subset", r"mp2018/megnet\.json in that folder"),
        ("jarvis_dft_3d/ehull", r"structures/dft_3d_ehull\.json\.zip"),
        ("jarvis_dft_3d/subset", "is not distributed"),
        ("matbench_phonons/fold0", "not in TFMAT_DATA_DIR"),
        ("mp_elasticity", "is not distributed"),
        ("thermal_conductivity/dataset1", r"pickles, which can run.*paraisite/Dataset1\.jsonl\.gz"),
        ("thermal_conductivity/aflow", "without a licence"),
        ("aflow_band_gap", "without a licence"),
    ],
)
def test_absent_sets_say_how_to_get_them(folder, name, message):
    with pytest.raises(Absent, match=message):
        datasets.load(name)
    assert not registry.listing(registry.find(name)[0]).present


def test_a_set_that_is_not_complete(folder):
    for part in ("train", "val", "test"):
        write_lines(folder / "mp2018" / f"{part}.jsonl.gz", [NACL | {"formation_energy_per_atom": -2.0, "band_gap": 5.0}])
    with pytest.raises(InputError, match=r"split train holds 1 of 33,720 rows"):
        datasets.load("mp2018_subset")


@pytest.fixture(scope="module")
def megnet(tmp_path_factory):
    """All ids of MP-2018.6.1 in the file of jarvis-tools, with one crystal for all of them."""
    path = tmp_path_factory.mktemp("mp2018") / "megnet.json"
    entry = json.dumps({"atoms": ATOMS, "e_form": -1.5, "gap pbe": 0.25, "id": "ID"})
    ids = sorted(materials_project.split_ids(subset=False), key=lambda name: name[::-1])
    path.write_text("[" + ", ".join(entry.replace("ID", name) for name in ids) + "]")
    return path


@pytest.mark.parametrize("name", [pytest.param("mp2018", marks=pytest.mark.slow), "mp2018_subset"])
def test_official_split_of_megnet_json(folder, megnet, name):
    (folder / "mp2018").mkdir(parents=True)
    (folder / "mp2018" / "megnet.json").symlink_to(megnet)
    dataset = datasets.load(name)
    assert [len(table) for table in dataset.splits.values()] == list(registry.SOURCES[name].splits.values())
    assigned = materials_project.split_ids(subset=name != "mp2018")
    for split, table in dataset.splits.items():
        assert {assigned[entry] for entry in table.ids} == {split}
    assert dataset.splits["test"].targets["formation_energy_per_atom"][0] == -1.5
    assert dataset.official_split


def test_megnet_json_of_the_authors(folder, tmp_path):
    pytest.importorskip("pymatgen")
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    name = next(iter(materials_project.split_ids(subset=True)))
    record = {"material_id": name, "structure": structure.to(fmt="cif"), "formation_energy_per_atom": -2.0, "band_gap": 5.0}
    path = tmp_path / "mp.json"
    path.write_text(json.dumps([record]))
    rows = [row for split in ("train", "validation", "test") for row in materials_project.MP2018.examples({"all": path}, split)]
    assert rows[0]["band_gap"] == 5.0
    assert sorted(rows[0]["species"].tolist()) == [17, 55]
    path.write_text(json.dumps([record | {"band_gap": None}]))
    with pytest.raises(InputError, match="entry 1 is not a crystal with its targets"):
        [row for split in ("train", "validation", "test") for row in materials_project.MP2018.examples({"all": path}, split)]


def test_ids_are_those_of_the_mirror(mirror):
    with gzip.open(mirror / "mp2018" / "official_split_ids.json.gz") as stream:
        official = json.load(stream)
    spelled = {"train": "train", "val": "validation", "test": "test"}
    assert materials_project.split_ids(subset=False) == {name: spelled[split] for split, ids in official.items() for name in ids}


def test_jarvis_takes_the_first_of_two_entries(folder, monkeypatch):
    (folder / "structures").mkdir(parents=True)
    entries = [{"jid": f"JVASP-{i // 2}", "atoms": ATOMS} for i in range(12)]
    (folder / "structures" / "jdft_3d-8-18-2021.json").write_text(json.dumps(entries))
    splits = {"train": {f"JVASP-{i}": i for i in range(4)}, "val": {"JVASP-4": 4}, "test": {"JVASP-5": 5}}
    with zipfile.ZipFile(folder / "structures" / "dft_3d_ehull.json.zip", "w") as archive:
        archive.writestr("dft_3d_ehull.json", json.dumps(splits))
    source = registry.SOURCES["jarvis_dft_3d/ehull"]
    files = source.files(None)
    assert [row["energy_above_hull"] for row in source.examples(files, "train")] == [0.0, 1.0, 2.0, 3.0]
    assert [row["id"] for row in source.examples(files, "test")] == ["JVASP-5"]


def test_phonons_from_matbench(tmp_path):
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()
    table = {"index": [0, 1], "columns": ["structure", "last phdos peak"], "data": [[structure, 100.5], [structure, 200.5]]}
    folds = {"splits": {"matbench_phonons": {"fold_0": {"test": ["mb-phonons-0002"]}}}}
    files = {"matbench": tmp_path / "a.json.gz", "folds": tmp_path / "folds.json"}
    files["matbench"].write_bytes(gzip.compress(json.dumps(table).encode()))
    files["folds"].write_text(json.dumps(folds))
    (row,) = matbench_phonons.SOURCES[0].examples(files, "fold0")
    assert (row["id"], row[matbench_phonons.TARGET]) == ("mb-phonons-0002", 200.5)
    with pytest.raises(InputError, match="is not a list of folds"):
        list(matbench_phonons.SOURCES[0].examples(files, "fold1"))


def test_poscar_of_matminer():
    from pymatgen.core import Structure

    text = "Nb2 Co1\n2.0\n1.5 0.0 0.0\n0.0 1.5 0.0\n0.1 0.0 2.5\nNb Co\n2 1\ndirect\n0.1 0.2 0.3 Nb\n0.9 0.8 0.7 Nb\n0.5 0.5 0.5 Co\n"
    row, structure = mp_elasticity._poscar(text), Structure.from_str(text, fmt="poscar")
    assert row["species"].tolist() == list(structure.atomic_numbers)
    np.testing.assert_allclose(row["lattice"], structure.lattice.matrix)
    np.testing.assert_allclose(row["frac_coords"], structure.frac_coords)


CRYSTALS = ["mp2018_subset", "jarvis_dft_3d/subset", "mp_elasticity", "aflow_band_gap"]
CRYSTALS += [f"thermal_conductivity/{name}" for name in ("dataset1", "dataset2", "mix", "aflow")]


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystal_sets_of_the_mirror(mirror, name):
    dataset, source = datasets.load(name), registry.SOURCES[name]
    assert dataset.material == "crystal"
    assert {split: len(table) for split, table in dataset.splits.items()} == source.splits
    assert all(isinstance(table.materials, Crystals) for table in dataset.splits.values())
    if not dataset.official_split:
        formulas = [set(crystal_sets._formulas(table)) for table in dataset.splits.values()]
        assert not formulas[0] & formulas[1] and not formulas[0] & formulas[2] and not formulas[1] & formulas[2]


def test_facts_of_the_mirror(mirror):
    gaps = np.concatenate([table.targets["band_gap"] for table in datasets.load("aflow_band_gap").splits.values()])
    assert (len(gaps), int((gaps > 0).sum())) == (5_512, 1_569)
    assert registry.SOURCES["thermal_conductivity/aflow"].rows == 3_269
    assert registry.SOURCES["thermal_conductivity/mix"].rows == 95 + 143
    assert registry.SOURCES["mp2018_subset"].rows == 38_885
    values = datasets.info("thermal_conductivity/mix").targets["thermal_conductivity"]
    assert (values.min, values.max) == pytest.approx((0.5076814928374872, 1769.0012100965014))


def test_folds_of_phonons(mirror):
    parts = [datasets.load(f"matbench_phonons/fold{fold}") for fold in range(5)]
    tests = [set(part.splits["test"].ids) for part in parts]
    assert [len(ids) for ids in tests] == [253] * 5 and len(set.union(*tests)) == 1_265
    for part, held_out in zip(parts, tests, strict=True):
        train, validation = (part.splits[split] for split in ("train", "validation"))
        assert len(train) + len(validation) == 1_012
        assert not held_out & {*train.ids, *validation.ids}
        assert not set(crystal_sets._formulas(train)) & set(crystal_sets._formulas(validation))
        assert part.official_split
    whole = datasets.load("matbench_phonons")
    assert sum(len(table) for table in whole.splits.values()) == 1_265 and not whole.official_split


def test_info_and_histogram(mirror, tmp_path):
    from tfmat.analysis import plots

    info = datasets.info("jarvis_dft_3d/subset")
    assert info.rows == 940 and info.sites[0] >= 1
    assert info.targets["band_gap_mbj"].missing == 940 - 568
    assert max(info.elements.values()) <= 940 and info.formulas <= 940
    plots.dataset_histogram(datasets.load("jarvis_dft_3d/subset"), tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")


def test_info_of_the_embedded_set():
    info = datasets.info(datasets.DEFAULT)
    (values,) = info.targets.values()
    assert (info.rows, len(info.elements), info.formulas, info.sites) == (2_135, 79, 2_135, None)
    assert values.min == pytest.approx(-4.489, abs=1e-3)
    assert values.unit == "eV/atom" and values.missing == 0
    assert values.mad == pytest.approx(0.75, abs=0.5)


def test_jarvis_counts_are_those_of_the_splits(mirror):
    for source in jarvis_dft_3d.SOURCES[:-1]:
        splits = crystal_files.read_json(mirror / "structures" / f"dft_3d_{source.config}.json.zip")
        assert [len(part) for part in splits.values()] == list(source.splits.values())
