"""Files that ASE reads: all frames, nothing but crystals, nothing unpickled, nothing guessed."""

import importlib.util
import pickle

import numpy as np
import pytest

from tfmat.crystal import Crystal
from tfmat.data import read_user_data
from tfmat.data.materials import read_materials
from tfmat.data.read.bounded import Limits
from tfmat.data.read.parse import kind_of
from tfmat.data.read.structures import Reading, read_structure_files
from tfmat.errors import InputError

needs_ase = pytest.mark.skipif(importlib.util.find_spec("ase") is None, reason="needs ase")
CELL = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3'
SALT = f"2\n{CELL}\nNa 0 0 0\nCl 2 2 2\n"


def frames_of(paths, how):
    return [[frame for _, frame in frames] for frames in read_structure_files(paths, how)]


def read(folder, limits=None, **files):
    """Name (with __ for the dot) -> its frames, errors as text."""
    paths = [folder / name.replace("__", ".") for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    answers = frames_of(paths, Reading(limits=limits or Limits(), processes=1))
    return [
        [str(x).removeprefix(f"{path}: ") if isinstance(x, InputError) else x for x in answer]
        for path, answer in zip(paths, answers, strict=True)
    ]


def test_formats_are_told_by_name():
    known = {"a.extxyz": "extxyz", "a.XYZ.gz": "extxyz", "x/geometry.in": "aims", "XDATCAR": "vasp-xdatcar", "a.pwi": "espresso-in"}
    for name, kind in known.items():
        assert kind_of(name) == kind
    for name in ("a.traj", "a.db", "a.json", "a.cell", "a.in", "a.pckl", "a.cif", "POSCAR", "extxyz", "a.py"):
        assert kind_of(name) in (None, "cif", "poscar")


@needs_ase
def test_formats(tmp_path):
    aims = "lattice_vector 4 0 0\nlattice_vector 0 4 0\nlattice_vector 0 0 4\natom 0 0 0 Na\natom 2 2 2 Cl\n"
    xsf = "CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\nPRIMCOORD\n2 1\n11 0 0 0\n17 2 2 2\n"
    gen = "2 F\nNa Cl\n1 1 0 0 0\n2 2 0.5 0.5 0.5\n0 0 0\n4 0 0\n0 4 0\n0 0 4\n"
    pwi = "&system\nibrav=0\nnat=2\nntyp=2\n/\nATOMIC_SPECIES\nNa 23 x\nCl 35 y\nCELL_PARAMETERS angstrom\n4 0 0\n0 4 0\n0 0 4\n"
    pwi += "ATOMIC_POSITIONS crystal\nNa 0 0 0\nCl 0.5 0.5 0.5\n"
    xdatcar = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\n" + 2 * "Direct configuration= 1\n0 0 0\n0.5 0.5 0.5\n"
    files = {"geometry__in": aims, "a__xsf": xsf, "a__gen": gen, "a__pwi": pwi, "XDATCAR": xdatcar, "a__extxyz": SALT, "b__xyz": 3 * SALT}
    answers = read(tmp_path, **files)
    assert [len(answer) for answer in answers] == [1, 1, 1, 1, 2, 1, 3]
    for crystal in (crystal for answer in answers for crystal in answer):
        assert isinstance(crystal, Crystal) and crystal.species.tolist() == [11, 17]
        np.testing.assert_allclose(crystal.lattice, 4 * np.eye(3), atol=1e-6)
        np.testing.assert_allclose(crystal.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]], atol=1e-6)


BAD = [
    ("2\nwater\nO 0 0 0\nH 1 0 0\n", 'has no cell: it is not periodic. Expected lattice vectors, in extended XYZ as Lattice="..."'),
    (SALT.replace(CELL, CELL + ' pbc="T T F"'), "is periodic along 2 of 3 directions. Expected a crystal with three lattice vectors"),
    (SALT.replace("0 4 0", "4 0 0"), "lattice planes are 0 Å apart"),
    (SALT.replace("0 4 0", "0 0 0"), "is periodic along 2 of 3 directions"),
    (SALT.replace("0 4 0 0 0 4", "0 4 0 4 4 0.001"), "lattice planes are "),
    (SALT.replace("2 2 2", "0 0 0.01"), "sites 1 (Na) and 2 (Cl) are 0.010 Å apart"),
    (SALT.replace("2 2 2", "nan 2 2"), "not finite"),
    (SALT.replace("Cl 2", "X 2"), "unknown element"),
    (SALT.replace("Cl 2", "Qq 2"), "cannot be read as extxyz (unknown 'Qq'). Expected one or more crystals"),
    (f"0\n{CELL}\n", "the crystal has no atoms"),
    ("five\n", "cannot be read as extxyz"),
    (SALT[:-8], "cannot be read as extxyz"),
    (" \n", "is empty"),
    (b"a\0b", "is not a text file"),
    (pickle.dumps({"a": 1}), "is a pickle"),
]


@needs_ase
def test_bad_frames(tmp_path):
    answers = read(tmp_path, **{f"a{i}__xyz": text for i, (text, _) in enumerate(BAD)})
    for frames, (text, message) in zip(answers, BAD, strict=True):
        assert len(frames) == 1 and message in frames[0], (text, frames)


@needs_ase
def test_good_frames_beside_bad_ones(tmp_path):
    unreadable = SALT.replace("Cl 2", "Qq 2")
    (frames,) = read(tmp_path, a__xyz=SALT + "1\nno cell\nNa 0 0 0\n" + SALT + unreadable + SALT)
    assert [isinstance(frame, Crystal) for frame in frames] == [True, False, True, False]


HEAD = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\n"
FRAME = "Direct configuration= 1\n0 0 0\n0.5 0.5 0.5\n"


def test_good_frames_of_an_xdatcar_beside_bad_ones(tmp_path):
    """Without ASE, whose reader loses the frames in front of numbers that have grown together."""
    glued = FRAME.replace("0.5 0.5 0.5", "0.5-0.01-0.02")
    other = HEAD.replace("4", "5").replace("1 1", "2 1") + FRAME.replace("0 0 0", "0 0 0\n0.3 0 0")
    (frames,) = read(tmp_path, XDATCAR=HEAD + FRAME + glued + FRAME + other)
    assert [str(frame) for frame in frames] == [
        "Na1Cl1",
        "cannot be read as XDATCAR (line 10 is '0.5-0.01-0.02'). Expected a position: 3 numbers",
        "Na1Cl1",
        "Na2Cl1",
    ]
    assert [float(frame.lattice[0, 0]) for frame in (frames[0], frames[3])] == [4.0, 5.0]
    short, empty, headless = read(tmp_path, XDATCAR=HEAD + FRAME[:-12]), read(tmp_path, XDATCAR=HEAD), read(tmp_path, XDATCAR=FRAME)
    assert "1 positions for 2 atoms" in short[0][0] and "holds no frame" in empty[0][0] and "cannot be read" in headless[0][0]


@needs_ase
def test_heavy_hydrogen(tmp_path):
    aims = "lattice_vector 4 0 0\nlattice_vector 0 4 0\nlattice_vector 0 0 4\natom 0 0 0 Li\natom 2 2 2 D\n"
    for answer in read(tmp_path, a__xyz=SALT.replace("Na 0", "Li 0").replace("Cl 2", "T 2"), geometry__in=aims):
        assert [str(frame) for frame in answer] == ["Li1H1"]


@needs_ase
def test_the_formula_of_a_molecule(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\nwater\nO 0 0 0\nH 1 0 0\nD 0 1 0\n")
    assert frames_of([path], Reading(processes=1, disordered=True)) == [["H2O"]]


@needs_ase
def test_a_path_in_a_table_or_an_id_of_a_folder(tmp_path):
    """The names that are read are the same everywhere; a row is one crystal."""
    for name, content in {"a.xyz": SALT, "b.extxyz": 2 * SALT, "c.xyz": "2\nno cell\nNa 0 0 0\nCl 2 2 2\n"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "data.csv").write_text("id,structure,gap\na,a.xyz,1\nb,b.extxyz,2\nc,c.xyz,3\nd,none.xyz,4\n")
    (tmp_path / "id_prop.csv").write_text("id,gap\na,1\nb,2\nc.xyz,3\n")
    for path in (tmp_path / "data.csv", tmp_path):
        data = read_user_data(path)
        assert data.table.ids == ["a"] and data.table.materials[0].formula == "Na1Cl1"
        told = {rejection.id: rejection.reason for rejection in data.rejections}
        assert told["b"] == "holds 2 frames. Expected one crystal"
        assert told.get("c", told.get("c.xyz")).startswith("has no cell")
    rows = read_materials(tmp_path / "data.csv", "crystal")
    assert [row.error is None for row in rows] == [True, False, False, False] and rows[3].error == "none.xyz: no such file"


@needs_ase
def test_limits(tmp_path):
    (large,), (long, fine) = read(
        tmp_path, Limits(file_bytes=400, sites=2), a__xyz=9 * SALT, b__xyz=f"3\n{CELL}\nNa 0 0 0\nNa 1 0 0\nNa 2 0 0\n" + SALT
    )
    assert "is larger than" in large and "3 sites. Expected at most 2" in long and isinstance(fine, Crystal)
    (missing,) = frames_of([tmp_path / "gone.xyz"], Reading(processes=1))
    assert str(missing[0]) == f"{tmp_path}/gone.xyz: no such file"
    left_handed = SALT.replace("4 0 0 0 4 0 0 0 4", "0 4 0 4 0 0 0 0 4")
    ((crystal,),) = read(tmp_path, a__xyz=left_handed)
    assert np.linalg.det(crystal.lattice) == pytest.approx(-64)


def test_without_ase(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ase" else found(name, *rest))
    ((error,),) = read(tmp_path, a__xyz=SALT)
    assert error == "reading such files needs ase, which is not installed. Expected pip install 'tfmat[ase]'"
