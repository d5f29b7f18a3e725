"""Every form in which a material can be handed over is read by one reader, with the same rules."""

import copy
import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from tfmat import InputError, Predictor, Target
from tfmat.analysis.explain import explain
from tfmat.crystal import Crystal
from tfmat.data.materials import read_material, read_materials

SALT = Structure(Lattice.cubic(3.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DISORDERED = Structure(Lattice.cubic(3.6), [{"Na": 0.75, "K": 0.25}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def formulas() -> Predictor:
    return Predictor.create("lgdcnn", [Target("gap", "eV")], keywords={"dim": 8, "conv_dim": 8})


@pytest.fixture(scope="module")
def crystals() -> Predictor:
    return Predictor.create("megnet", [Target("gap", "eV")], keywords={"blocks": 1})


@pytest.fixture
def cif(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NaCl.cif").write_text(SALT.to(fmt="cif"))
    (tmp_path / "my_cifs").mkdir()
    (tmp_path / "my_cifs" / "a.cif").write_text(SALT.to(fmt="cif"))
    (tmp_path / "my_cifs" / "b.vasp").write_text(SALT.to(fmt="poscar"))
    return tmp_path / "NaCl.cif"


@pytest.mark.parametrize("material", ["CO2", "NO", Composition("CO2"), {"C": 1.0, "O": 2.0}, SALT, SALT.as_dict(), DISORDERED.as_dict()])
def test_one_material_is_one_row(formulas, material):
    frame = formulas.predict(material)
    assert len(frame) == 1 and frame["error"].tolist() == [None]
    assert frame["gap"].tolist() == formulas.predict([material])["gap"].tolist()


def test_a_formula_is_read_from_any_structure_file(formulas, crystals, tmp_path, monkeypatch):
    """Disordered and large ones too, as from objects; a model of crystals takes neither from a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.cif").write_text(DISORDERED.to(fmt="cif"))
    large = SALT.make_supercell([9, 8, 8], in_place=False)
    large.to(filename="large.vasp", fmt="poscar")
    frame = formulas.predict(["mixed.cif", "large.vasp", DISORDERED, large])
    assert frame["error"].tolist() == [None] * 4 and frame["material"][0] in ("Na0.75K0.25Cl1", "K0.25Na0.75Cl1")
    np.testing.assert_allclose(frame["gap"][:2], frame["gap"][2:], rtol=1e-5)
    refused = crystals.predict(["mixed.cif", "large.vasp"])["error"]
    assert "partially occupied" in refused[0] and "1,000 sites" in refused[1]


def test_dictionaries_of_amounts(formulas):
    assert formulas.predict({"C": 1.0, "O": 2.0})["gap"][0] == formulas.predict("CO2")["gap"][0]
    assert formulas.predict(DISORDERED.as_dict())["gap"][0] == formulas.predict(DISORDERED)["gap"][0]


def test_one_crystal_is_one_row_in_every_form(crystals, cif):
    ase = pytest.importorskip("ase")
    atoms = ase.Atoms("NaCl", scaled_positions=SALT.frac_coords, cell=SALT.lattice.matrix, pbc=True)
    crystal = Crystal(np.array([11, 17], np.int32), 3.6 * np.eye(3), np.asarray(SALT.frac_coords))
    wanted = crystals.predict([crystal])["gap"][0]
    for material in (crystal, SALT, SALT.as_dict(), atoms, "NaCl.cif", cif, SALT.to(fmt="cif"), SALT.to(fmt="poscar")):
        frame = crystals.predict(material)
        assert len(frame) == 1 and frame["error"].tolist() == [None] and frame["sites"].tolist() == [2]
        assert frame["gap"][0] == pytest.approx(wanted, rel=1e-5)
    assert explain(crystals, "NaCl.cif").targets["gap"].prediction == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_files_folders_and_objects_together(crystals, cif):
    frame = crystals.predict(iter(["NaCl.cif", "my_cifs", SALT, "missing.cif", "Fe2O3", None]))
    assert frame["id"].tolist() == ["NaCl.cif", "a.cif", "b.vasp", "", "missing.cif", "", ""]
    assert frame["gap"].notna().tolist() == [True] * 4 + [False] * 3
    assert [error is None or isinstance(error, str) for error in frame["error"]] == [True] * 7
    assert [error is None for error in frame["error"]] == [True] * 4 + [False] * 3


def test_tables_on_disk(formulas, tmp_path):
    (tmp_path / "t.csv").write_text("id,formula\na,Fe2O3\nb,Xx\n")
    frame = formulas.predict(str(tmp_path / "t.csv"))
    assert frame["id"].tolist() == ["a", "b"] and frame["gap"].notna().tolist() == [True, False]
    with pytest.raises(InputError, match=r"t\.csv"):
        formulas.predict(tmp_path / "missing" / "t.csv")


def test_one_unreadable_path_among_many_is_a_row_with_an_error(formulas, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pdb").write_text("CRYST1\n")
    (tmp_path / "struct.json").write_text('{"a":1}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "NaCl.cif.txt").write_text(SALT.to(fmt="cif"))
    (tmp_path / "POSCAR1").write_text(SALT.to(fmt="poscar"))
    frame = formulas.predict([tmp_path / name for name in ("x.pdb", "struct.json", "empty", "gone.csv", "NaCl.cif.txt", "POSCAR1")])
    assert frame["gap"].notna().tolist() == [False] * 4 + [True] * 2
    told = ("unknown kind of file. Expected a structure file", "no column 'formula'", "is a folder with no structure file", "no such file")
    assert all(message in error for message, error in zip(told, frame["error"], strict=False))
    with pytest.raises(InputError, match=r"x\.pdb: unknown kind of file"):
        formulas.predict(tmp_path / "x.pdb")


def test_crystals_of_more_than_1000_sites(crystals, formulas, tmp_path):
    """An option raises the limit; a formula needs none."""
    path = str(tmp_path / "large.cif")
    SALT.make_supercell([9, 9, 7], in_place=False).to(filename=path)
    assert "has 1,134 sites. Expected at most 1,000" in crystals.predict(path)["error"][0]
    frame = crystals.predict(path, max_sites=1200)
    assert frame["error"].tolist() == [None] and frame["sites"].tolist() == [1134]
    assert formulas.predict(path)["error"].tolist() == [None]


def test_warnings(crystals, formulas, tmp_path):
    """Of a bond length at the cut-off, 4 Å, of an odd volume, and of what reading changed."""

    def salt(a):
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])

    frame = crystals.predict([salt(5.64), salt(5.66), salt(5.8), "NaCl"])
    told = [f"Na-Na is {a / 2**0.5:.3f} Å, and atoms are bonded up to 4 Å: a slightly other cell has other bonds" for a in (5.64, 5.66)]
    assert frame["warning"].tolist() == [*told, "", ""] and frame["error"].notna().tolist() == [False] * 3 + [True]
    gas = Structure(Lattice.orthorhombic(3.2, 3.2, 60), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.01]])
    assert crystals.predict([gas])["warning"].tolist() == ["307.2 Å3 per atom: not the volume of a crystal"]
    (tmp_path / "Mg.cif").write_text(
        "data_Mg\n_cell_length_a 3.209\n_cell_length_b 3.209\n_cell_length_c 5.211\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 120\n_symmetry_space_group_name_H-M 'P 63/m m c'\nloop_\n_atom_site_label\n_atom_site_fract_x\n"
        "_atom_site_fract_y\n_atom_site_fract_z\nMg1 0.333 0.667 0.25\n"
    )
    frame = crystals.predict(tmp_path / "Mg.cif")
    assert frame["warning"].tolist() == ["site 1 moved to a special position: 0.333 0.667 0.25 to 0.333333 0.666667 0.25"]
    assert "warning" not in formulas.predict("NaCl")


def test_several_crystals_in_one_cif(crystals, formulas, tmp_path):
    """Each is a row; a bad one does not hide the others."""
    blocks = [SALT.to(fmt="cif").replace("data_NaCl", f"data_{name}") for name in ("low", "high", "bad")]
    blocks[2] = blocks[2].replace(" Cl ", " Qq ")
    (tmp_path / "two.cif").write_text(
        "data_global\n_journal_name_full 'J. X'\n" + "\n".join(blocks) + "\ndata_powder\n_pd_meas_2theta_fixed 1\n"
    )
    frame = crystals.predict(tmp_path / "two.cif")
    assert frame["id"].tolist() == ["two.cif#low", "two.cif#high", "two.cif#bad"] and frame["sites"].tolist()[:2] == [2, 2]
    assert frame["gap"].notna().tolist() == [True, True, False] and "unknown element 'Qq'" in frame["error"][2]
    assert formulas.predict((tmp_path / "two.cif").read_text())["gap"].notna().tolist() == [True, True, False]


def test_other_columns_travel(formulas, crystals, tmp_path):
    (tmp_path / "t.csv").write_text("material_id,pretty_formula,gap,note,\nmp-1,NaCl,5.0,white,\nmp-2,Xx,,,\n")
    frame = formulas.predict([str(tmp_path / "t.csv"), "MgO"])
    assert frame["id"].tolist() == ["mp-1", "mp-2", ""] and frame["note"].tolist() == ["white", "", None]
    assert frame["gap_given"].tolist() == ["5.0", "", None] and frame["gap"].notna().tolist() == [True, False, True]
    (tmp_path / "s.jsonl").write_text(json.dumps({"jid": "J-1", "atoms": SALT.as_dict(), "note": "red"}) + "\n")
    frame = crystals.predict(tmp_path / "s.jsonl")
    assert frame["id"].tolist() == ["J-1"] and frame["note"].tolist() == ["red"]


def test_columns_and_limits_of_training_data(tmp_path):
    from tfmat.datasets import open_data

    rows = [{"mine": "NaCl", "relaxed": SALT.as_dict(), "gap": i, "jid": f"J-{i}"} for i in range(12)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(InputError, match="no column 'formula'"):
        open_data(tmp_path / "t.jsonl", targets=["gap"])
    crystals = open_data(tmp_path / "t.jsonl", targets=["gap"], structure_column="relaxed")
    assert crystals.material == "crystal" and sum(map(len, crystals.splits.values())) == 12
    assert sorted(name for part in crystals.splits.values() for name in part.ids) == sorted(row["jid"] for row in rows)
    formulas = open_data(tmp_path / "t.jsonl", targets=["gap"], formula_column="mine", material="composition")
    assert formulas.material == "composition" and formulas.splits["train"].materials[0] == "NaCl"
    with pytest.raises(InputError, match=r"the crystal has 2 sites\. Expected at most 1"):
        open_data(tmp_path / "t.jsonl", targets=["gap"], structure_column="relaxed", max_sites=1)


def test_columns_can_be_named(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"mine": "NaCl", "relaxed": SALT.as_dict(), "structure": "rocksalt"}) + "\n")
    assert [m.value for m in read_materials(tmp_path / "t.jsonl", "composition", formula_column="mine")] == ["NaCl"]
    assert [m.value.formula for m in read_materials(tmp_path / "t.jsonl", "crystal", structure_column="relaxed")] == ["Na1Cl1"]
    frame = pd.DataFrame({"relaxed": [SALT], "mine": ["NaCl"]})
    assert [m.value for m in read_materials(frame, "crystal", structure_column="relaxed")] == [SALT]


def test_pandas_keep_their_index(formulas, crystals, cif):
    series = pd.Series(["Fe2O3", float("nan"), "NaCl"], index=[5, 9, 7])
    frame = formulas.predict(series)
    assert frame.index.tolist() == [5, 9, 7] and frame["gap"].notna().tolist() == [True, False, True]
    assert "nan" in frame["error"][9] and frame["error"][5] is None
    table = pd.DataFrame({"formula": ["Fe2O3", "CO2"], "structure": [SALT, "my_cifs"]}, index=["x", "y"])
    assert formulas.predict(table)["material"].tolist() == ["Fe2O3", "CO2"]
    assert crystals.predict(table).index.tolist() == ["x", "y", "y"]
    with pytest.raises(InputError, match="a column 'structure'"):
        crystals.predict(table[["formula"]])


def test_errors_are_none_or_text(formulas):
    for frame in (formulas.predict(["Fe2O3", "Xx"]), formulas.predict(["Fe2O3"]), formulas.predict(["Xx"]), formulas.predict(5)):
        assert all(error is None or isinstance(error, str) for error in frame["error"])


def test_exactly_one(cif):
    assert len(read_material("NaCl.cif", "crystal")) == 2
    with pytest.raises(InputError, match="2 materials are given"):
        read_material("my_cifs", "crystal")
    with pytest.raises(InputError, match=r"none\.cif"):
        read_material("none.cif", "crystal")


def test_a_name_that_is_a_formula_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NaCl").mkdir()
    assert [material.value for material in read_materials("NaCl", "composition")] == ["NaCl"]


@pytest.mark.parametrize("used", [False, True])
def test_a_predictor_pickles(formulas, used, tmp_path):
    joblib = pytest.importorskip("joblib")
    predictor = Predictor.create("lgdcnn", formulas.targets, keywords=formulas.keywords | {"recurrent": (), "attention": False})
    predictor.info["elements"] = [8, 26]
    wanted = predictor.predict(["Fe2O3"])["gap"][0] if used else None
    file = io.BytesIO()
    joblib.dump(predictor, file)
    file.seek(0)
    for copied in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor), joblib.load(file)):
        assert copied.predict(["Fe2O3"])["gap"][0] == (wanted or predictor.predict(["Fe2O3"])["gap"][0])
        assert copied.info == predictor.info and copied.targets == predictor.targets


def test_frozen_layers_stay_frozen_in_a_copy():
    predictor = Predictor.create("lgdcnn", [Target("gap", "eV")], keywords={"dim": 8, "conv_dim": 8}, freeze=["fraction*"])
    frozen = [layer.name for layer in predictor.model.layers if not layer.trainable]
    assert frozen and [layer.name for layer in copy.deepcopy(predictor).model.layers if not layer.trainable] == frozen


def test_short_names(formulas):
    from tfmat import datasets

    data = datasets.load("exp_formation_enthalpy")
    assert repr(formulas) == "Predictor(lgdcnn: gap [eV], dim=8, conv_dim=8)"
    assert len(repr(data)) < 300 and "[eV/atom]" in repr(data)
    assert len(repr(data.splits["train"])) < 200
