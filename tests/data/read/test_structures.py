"""A user's own crystals: every format, every way in which they can be bad, and none of them dropped silently."""

import csv
import gzip
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from structure_cases import HALITE, SYMMETRY, as_dict, cif, folder, jsonl, poscar, random_sites, reasons, record

from tfmat.crystal import Crystals
from tfmat.data import Limits, check_material, read_user_data, write_rejections
from tfmat.data.read.crystal import lattice_vectors
from tfmat.data.read.parse import kind_of, parse_structure, stem_of
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer

# ---------------------------------------------------------------- what is read


def test_a_folder_of_every_kind_of_file(tmp_path):
    files = {
        "a.cif": cif(),
        "b.CIF": cif(a=6),
        "c.vasp": poscar(),
        "POSCAR_d": poscar(),
        "e.cif.gz": gzip.compress(cif().encode()),
        "f.poscar": poscar(),
        "atom_init.json": "{}",
        "notes.txt": "nothing",
        "Co.Pt.cif": cif(),
    }
    path = folder(tmp_path, files, "a,1\nb,2\nc.vasp,3\nd,\ne,5\nf,6\nCo.Pt,7\n")
    data = read_user_data(path)
    assert data.rejections == ()
    assert data.material == "crystal"
    assert data.table.ids == ["a", "b", "c.vasp", "d", "e", "f", "Co.Pt"]
    np.testing.assert_array_equal(data.table.targets["target"], [1, 2, 3, np.nan, 5, 6, 7])
    assert data.table.rows.tolist() == [1, 2, 3, 4, 5, 6, 7]
    for crystal in data.table.materials:
        assert crystal.formula == "Na4Cl4"
        assert crystal.species.dtype == np.int32 and crystal.lattice.shape == (3, 3) and crystal.frac_coords.shape == (8, 3)
    np.testing.assert_allclose(data.table.materials[1].lattice, np.eye(3) * 6, atol=1e-12)


@pytest.mark.parametrize(
    ("id_prop", "targets", "names"),
    [
        ("a,1,2\nb,3,4\n", None, ["target", "target2"]),
        ("a,1\nb,2\n", ["band_gap"], ["band_gap"]),
        ("a,1,2\nb,3,4\n", ["band_gap", "e"], ["band_gap", "e"]),
        ("a,1,2\nb,3,4\n", ["target2"], ["target2"]),
        ("id,gap,e\na,1,2\nb,3,4\n", None, ["gap", "e"]),
        ("id,gap,e\na,1,2\nb,3,4\n", ["e"], ["e"]),
        ("which,gap,split\na,1,train\nb,3,test\n", None, ["gap"]),
        ("\ufeffID , gap\r\na, 1\r\nb, 2\r\n", None, ["gap"]),
        ('"a","1"\r\n\r\n"b",""\r\n', None, ["target"]),
    ],
)
def test_the_header_of_id_prop(tmp_path, id_prop, targets, names):
    data = read_user_data(folder(tmp_path, {"a.cif": cif(), "b.cif": cif()}, id_prop), targets=targets)
    assert list(data.table.targets) == names
    assert data.table.ids == ["a", "b"]
    assert not data.rejections
    assert data.table.targets[names[0]][0] in (1, 2)


def test_a_folder_to_predict_needs_no_id_prop(tmp_path):
    path = folder(tmp_path, {"a.cif": cif(), "b.vasp": poscar(), "b.cif": cif(), "c.cif": "nonsense"}, None)
    data = read_user_data(path, require_targets=False)
    assert data.table.ids == ["a", "b.cif", "b.vasp"]
    assert data.table.targets == {}
    assert list(reasons(data)) == ["c"]
    with pytest.raises(InputError, match=r"no id_prop\.csv"):
        read_user_data(path)


def test_csv_with_text_and_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.cif").write_text(cif())
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows(
            [
                ["structure", "gap", "id"],
                [cif(), 1, "t"],
                ["sub/x.cif", "", "p"],
                [poscar(), 3, "v"],
                ["none.cif", 4, "n"],
                ["rocksalt", 5, "r"],
            ]
        )
    data = read_user_data(path, targets="gap")
    assert data.table.ids == ["t", "p", "v"]
    np.testing.assert_array_equal(data.table.targets["gap"], [1, np.nan, 3])
    assert [crystal.formula for crystal in data.table.materials] == ["Na4Cl4"] * 3
    assert reasons(data)["n"] == "none.cif: no such file"
    assert reasons(data)["r"].startswith("'rocksalt' is neither CIF text nor the name of a structure file")
    assert [rejection.row for rejection in data.rejections] == [5, 6]
    assert data.read == 5


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_json_lines_in_all_forms(tmp_path, name):
    (tmp_path / "x.cif").write_text(cif())
    path = jsonl(
        tmp_path,
        record(id="a", gap=1),
        {"id": "b", "gap": None, "structure": as_dict()},
        as_dict() | {"id": "c", "gap": 3},
        {"id": "d", "gap": True, "structure": cif()},
        {"id": "e", "gap": 5, "structure": "x.cif"},
        record(id="f", gap=6, cell=[[5.64, 0, 0], [0, 5.64, 0], [0, 0, 5.64]], species=[11] * 4 + [17] * 4),
        name=name,
    )
    data = read_user_data(path)
    assert not data.rejections
    assert data.table.ids == list("abcdef")
    np.testing.assert_array_equal(data.table.targets["gap"], [1, np.nan, 3, 1, 5, 6])
    for crystal in data.table.materials:
        assert crystal.formula == "Na4Cl4"
        np.testing.assert_allclose(np.sort(crystal.lattice.ravel()), np.sort((np.eye(3) * 5.64).ravel()), atol=1e-9)


def test_formulas_stay_formulas(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("formula,structure,y\nNaCl,rocksalt,1\nZnS,wurtzite,2\n")
    data = read_user_data(path)
    assert data.material == "composition"
    assert data.table.materials == ["NaCl", "ZnS"]
    with pytest.raises(InputError, match="holds formulas, no crystals"):
        read_user_data(path, material="crystal")


def test_a_file_with_both_can_be_read_either_way(tmp_path):
    path = jsonl(tmp_path, record(formula="NaCl", y=1), record(formula="NaCl", y=2))
    assert read_user_data(path).material == "crystal"
    assert read_user_data(path, material="composition").table.materials == ["NaCl", "NaCl"]
    assert read_user_data(jsonl(tmp_path, record(y=1), name="x.jsonl"), material="composition").material == "crystal"


def test_cells_become_pymatgens_lattices():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cell = [*rng.uniform(3, 9, 3), *rng.uniform(70, 110, 3)]
        np.testing.assert_allclose(lattice_vectors(np.asarray(cell)), Lattice.from_parameters(*cell).matrix, atol=1e-12)


def test_crystals_feed_a_composition_model(tmp_path):
    data = read_user_data(jsonl(tmp_path, record(y=1), record(y=2, species=["Fe", "O", "O", "O", "Fe", "O", "O", "O"])))
    assert isinstance(data.table.materials, Crystals)
    records = CompositionFeaturizer().featurize(data.table.materials)
    assert records[0]["species"].tolist() == [11, 17] and records[1]["species"].tolist() == [8, 26]
    check_material("composition", data.material, model="lgdcnn", data="x")
    check_material("crystal", data.material, model="megnet", data="x")
    with pytest.raises(InputError, match="x holds formulas, and megnet learns from crystals"):
        check_material("crystal", "composition", model="megnet", data="x")


def test_names():
    assert [kind_of(n) for n in ("a.cif", "A.CIF.GZ", "POSCAR", "x.vasp", "CONTCAR_1", "a.csv", "poscar.txt2")] == [
        "cif", "cif", "poscar", "poscar", "poscar", None, "poscar",
    ]  # fmt: skip
    assert [stem_of(n) for n in ("a.cif", "b.cif.gz", "POSCAR_c", "d.e.vasp", "POSCAR")] == ["a", "b", "c", "d.e", "POSCAR"]


# ---------------------------------------------------------------- bad crystals

MISSING_LOOP = cif(symmetry="")
BAD_CIFS = {
    "partial": (cif(occupancy=0.5), "site 1 is partially occupied"),
    "mixed": (cif(sites=[("Na", 0, 0, 0)], occupancy=0.5) + "K9 K 0 0 0 0.5\n", "is partially occupied"),
    "unknown_group": (cif(symmetry="", group="Q q 77"), "the space group 'Qq77' is unknown and there is no symmetry loop"),
    "no_atoms": (cif(sites=[]), "the crystal has no atoms"),
    "no_sites": ("data_x\n_cell_length_a 3\n", "the CIF has no atom sites"),
    "nan": (cif(sites=[("Na", "nan", 0, 0), ("Cl", 0.5, 0.5, 0.5)]), "NaN"),
    "unknown": (cif(sites=[("Na", "?", 0, 0)]), "site 1 has the coordinate '?'"),
    "dot": (cif(sites=[("Na", ".", 0, 0)]), "site 1 has the coordinate '.'"),
    "overlap": (cif(sites=[*HALITE, ("Na", 0.01, 0, 0)]), "are 0.056 Å apart. Expected at least 0.5 Å"),
    "through_the_edge": (cif(sites=[("Na", 0.001, 0, 0), ("Na", 0.995, 0, 0)]), "are 0.034 Å apart"),
    "same_place": (cif(sites=[("Na", 0, 0, 0), ("Cl", 0, 0, 0)]), "several atoms share a position"),
    "two": (cif() + cif().replace("data_test", "data_two"), "the CIF holds 2 crystals"),
    "large": (cif(sites=random_sites(5000), a=60), "the crystal has 5,000 sites. Expected at most 1,000"),
    "dummy": (cif(sites=[("Xx", 0, 0, 0)]), "unknown element"),
    "implicit": (cif(sites=[("O-H", 0, 0, 0)]), ""),
    "water_left_out": (cif(extra="_chemical_formula_sum 'Na4 Cl4 H8'\n"), "the formula names H, which no site holds"),
    "flat": (cif(a=0.1, sites=[("Na", 0, 0, 0)]), "lattice planes are 0.1 Å apart"),
    "garbage": ("no crystal here\n" * 20, "the CIF has no atom sites"),
    "empty": ("", "is empty"),
    "binary": (b"\0\1\2" * 100, "is not a text file"),
    "utf16": (cif().encode("utf-16"), "is not a text file"),
    "pickled": (b"\x80\x04\x95", "is a pickle"),
    "bad_gzip": (b"", ""),
}


def test_bad_cifs_are_rejected_with_reason_and_row(tmp_path):
    files = {f"{name}.cif": content for name, (content, _) in BAD_CIFS.items() if name != "bad_gzip"}
    files |= {"bad_gzip.cif.gz": b"not gzip", "good.cif": cif()}
    rows = [f"{name},1" for name in BAD_CIFS] + ["good,2"]
    path = folder(tmp_path, files, "\n".join(rows))
    with (path / "huge.cif").open("wb") as stream:
        stream.truncate(200 * 2**20)
    with (path / "id_prop.csv").open("a") as stream:
        stream.write("\nhuge,3\n")
    began = time.perf_counter()
    data = read_user_data(path)
    assert time.perf_counter() - began < 30
    assert data.table.ids == ["good"]
    assert data.read == len(BAD_CIFS) + 2
    found = reasons(data)
    assert set(found) == {*BAD_CIFS, "huge"}
    for number, (name, (_, message)) in enumerate(BAD_CIFS.items(), start=1):
        assert message in found[name], name
        assert "\n" not in found[name] and len(found[name]) < 300
        assert next(rejection.row for rejection in data.rejections if rejection.id == name) == number
    assert found["huge"] == "huge.cif: is larger than 10 MiB (200 MiB or more). Expected at most 10 MiB"
    assert "gzip" in found["bad_gzip"]
    written = write_rejections(tmp_path / "rejected.csv", data.rejections)
    with written.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [rejection.id for rejection in data.rejections]
    assert rows[0]["file"] == str(path / "id_prop.csv") and rows[0]["row"] == "1" and rows[0]["reason"]


def test_a_cif_without_symmetry_loop_is_read_by_its_group_or_as_p1():
    assert len(parse_structure(MISSING_LOOP, "cif")) == 8
    assert len(parse_structure(cif(symmetry="", group=""), "cif")) == 8
    two = [("Na", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)]
    assert parse_structure(cif(sites=two, symmetry="", group="Fm-3m"), "cif").formula in ("Na4Cl4", "Cl4Na4")


def test_pymatgen_agrees(tmp_path):
    crystal = parse_structure(cif(a=6), "cif")
    theirs = Structure.from_str(cif(a=6), fmt="cif")
    np.testing.assert_allclose(crystal.lattice, theirs.lattice.matrix)
    np.testing.assert_allclose(crystal.frac_coords, theirs.frac_coords)
    assert crystal.species.tolist() == [site.specie.Z for site in theirs]
    assert parse_structure(cif() + "# é", "cif").formula == "Na4Cl4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (poscar(names=False), "the POSCAR does not name its elements"),
        (poscar(sites=random_sites(1001)), "the POSCAR has more than 1,000 sites"),
        (poscar().replace("4 4", "4 999999999"), "the POSCAR has more than 1,000 sites"),
        (poscar()[:60], "cannot be read as POSCAR"),
        (poscar().replace("0.5 0.5 0.5", "0.5 nan 0.5"), "not finite"),
        (poscar(sites=[("Na", 0, 0, 0), ("Na", 0.001, 0, 0)]), "apart"),
    ],
)
def test_bad_poscars(text, message):
    with pytest.raises(InputError, match=message):
        parse_structure(text, "poscar")


BAD_RECORDS = [
    (record(cell=[1, 2, 3]), "the cell has shape (3,)"),
    (record(cell=[0, 5, 5, 90, 90, 90]), "the cell is [0.0, 5.0, 5.0"),
    (record(cell=[5, 5, 5, 10, 80, 170]), "span no cell"),
    (record(cell=[[1, 0, 0], [0, 1, 0], [1, 1, 0]]), "lattice planes are 0 Å apart"),
    (record(cell=[5, 5, float("nan"), 90, 90, 90]), "the cell is"),
    (record(cell=[1e5, 5, 5, 90, 90, 90]), "the lattice is 100000 Å long"),
    (record(cell=None), "no 'cell'"),
    (record(frac=[[0, 0, 0]]), "8 species with coordinates of shape (1, 3)"),
    (record(frac=[[0, 0], *record()["frac"][1:]]), "the coordinates cannot be read as numbers"),
    (record(frac=[[0, 0, float("nan")], *record()["frac"][1:]]), "site 1 (Na) has a coordinate that is not finite"),
    (record(frac=[[0, 0, 1e300], *record()["frac"][1:]]), "a fractional coordinate is 1e+300"),
    (record(frac=[[0, 0, "a"], *record()["frac"][1:]]), "the coordinates cannot be read as numbers"),
    (record(species=[], frac=[]), "the crystal has no atoms"),
    (record(species=["Na"] * 7 + ["Xx"]), "unknown element 'Xx'"),
    (record(species=[11] * 7 + [119]), "unknown element '119'"),
    (record(species=["Na"] * 7 + [None]), "unknown element 'None'"),
    (record(species="NaCl"), "'species' is not a list"),
    (record(species=["H"] * 1001, frac=[[0, 0, 0]] * 1001), "1,001 sites"),
    (record(frac=[[0, 0, 0.999], *record()["frac"][1:4], [1, -1, 0], *record()["frac"][5:]]), "sites 1 (Na) and 5 (Cl) are 0.006 Å apart"),
    (as_dict() | {"sites": [{"species": [{"element": "Na", "occu": 0.5}], "abc": [0, 0, 0]}]}, "site 1 is partially occupied (Na 0.5)"),
    (as_dict() | {"sites": [{"abc": [0, 0, 0]}]}, "the crystal lacks 'species'"),
    (as_dict() | {"sites": 3}, "the crystal is malformed"),
    (as_dict() | {"lattice": {"@module": "os", "@class": "system"}}, "the crystal lacks 'matrix'"),
    ({"formula": "NaCl"}, "no 'cell'"),
    ("[1, 2]", "holds [1, 2]"),
    ("{", "is not valid JSON"),
    ("[" * 100_000, "is not valid JSON"),
]


def test_bad_records_are_rejected_with_their_line(tmp_path):
    lines = [record(id="good", y=1)]
    lines += [bad if isinstance(bad, str) else bad | {"id": f"r{i}", "y": 1} for i, (bad, _) in enumerate(BAD_RECORDS)]
    data = read_user_data(jsonl(tmp_path, *lines))
    assert data.table.ids == ["good"]
    assert [rejection.row for rejection in data.rejections] == list(range(2, len(BAD_RECORDS) + 2))
    for rejection, (_, message) in zip(data.rejections, BAD_RECORDS, strict=True):
        assert message in rejection.reason
    assert data.read == len(BAD_RECORDS) + 1


def test_strict_makes_the_first_one_fatal(tmp_path):
    path = jsonl(tmp_path, record(y=1), record(y=1, species=["Xx"] * 8), "{")
    with pytest.raises(InputError, match=r"data\.jsonl, row 2: unknown element 'Xx'"):
        read_user_data(path, strict=True)


def test_ids_files_and_rows_that_do_not_match(tmp_path):
    files = {"a.cif": cif(), "b.cif": cif(), "c.cif": cif(), "c.vasp": poscar(), "orphan.cif": cif(), "old.pkl": b"\x80\x04."}
    path = folder(tmp_path, files, "id,gap\na,1\nnone,2\na,3\nb,wide\nc,4\n,5\na\n../b,6\n")
    with pytest.raises(InputError, match="row 1: no column 'missing'"):
        read_user_data(path, targets=["missing"])
    with pytest.raises(InputError, match=r"old\.pkl: is a pickle, and reading a pickle runs whatever code it holds"):
        read_user_data(path, strict=True)
    data = read_user_data(path)
    assert data.table.ids == ["a"]
    found = {(rejection.row, rejection.id): rejection.reason for rejection in data.rejections}
    assert "id 'a' stands already in row 2" in found[4, "a"]
    assert found[3, "none"].startswith("no structure file for id 'none'")
    assert "column 'gap' holds 'wide'" in found[5, "b"]
    assert found[6, "c"].startswith("several files for id 'c': c.cif, c.vasp")
    assert found[7, ""].startswith("no id")
    assert "1 cells under 2 columns" in found[8, "a"]
    assert "no structure file for id '../b'" in found[9, "../b"]
    assert found[None, "orphan"].startswith("no row in id_prop.csv. Expected a row orphan,gap")
    assert "is a pickle" in found[None, "old.pkl"]
    assert len(found) == len(data.rejections) == 9
    assert data.read == 10


@pytest.mark.parametrize(
    ("id_prop", "message"),
    [
        ("", "the file is empty"),
        ("a\nb\n", "row 1: has one column"),
        ("id,gap\n", "row 1: no row below the header"),
        ("id,gap\na,\n", "no column of numbers"),
        ("id,gap,gap\na,1,2\n", "column 'gap' stands twice"),
        ("a,1\n".encode("utf-16"), "is not text in UTF-8 (it looks like UTF-16)"),
        ('a,"1\n', "is not valid CSV"),
        ("none,1\n", "no structure file for id 'none'"),
    ],
)
def test_bad_id_props(tmp_path, id_prop, message):
    with pytest.raises(InputError) as error:
        read_user_data(folder(tmp_path, {"a.cif": cif()} if "none" not in str(id_prop) else {}, id_prop))
    assert message in str(error.value)


def test_progress_is_reported(tmp_path):
    calls = []
    path = folder(tmp_path, {"a.cif": cif(), "b.cif": cif()}, "a,1\nb,2\n")
    read_user_data(path, report=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (2, 2)
    assert len(read_user_data(path, limits=Limits(sites=8)).table) == 2
    with pytest.raises(InputError, match="none of 2 rows can be used; the first because: the crystal has 8 sites"):
        read_user_data(path, limits=Limits(sites=7))


def test_symmetry_is_what_the_cases_say():
    assert SYMMETRY in cif() and SYMMETRY not in MISSING_LOOP
