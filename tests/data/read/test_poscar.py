"""POSCAR: every form of scale, comments, what is missing; right, or refused in words of its own."""

import numpy as np
import pytest
from pymatgen.core import Structure
from structure_cases import poscar

from tfmat.data.read.parse import parse_structure
from tfmat.errors import InputError

HALF = ["0 0 0", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5", "0.5 0.5 0.5", "0 0 0.5", "0 0.5 0", "0.5 0 0"]
UNIT = ["1 0 0", "0 1 0", "0 0 1"]


def text(scale="5.64", lattice=UNIT, names="Na Cl", counts="4 4", mode="Direct", positions=HALF):
    return "\n".join(["NaCl", scale, *lattice, names, counts, mode, *positions]) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(scale="-179.406144"),
        text(scale="-179.406144", mode="Cartesian"),
        text(scale="5.64", mode="cart"),
        text(scale="5.64", mode="Kartesisch"),
        text(scale="5.64 5.64 5.64"),
        text(scale="2.82 5.64 11.28", lattice=["2 0 0", "0 1 0", "0 0 0.5"]),
        text(scale="5.64 ! scale", names="Na Cl ! names", counts="4 4 # counts", mode="Direct ! x"),
        text(mode="Selective dynamics\nDirect", positions=[f"{row} T F T" for row in HALF]),
        text(positions=[f"{row} Na" for row in HALF] + ["", "0 0 0", "1 1 1"]),
        text(scale="0.564D+01"),
        text(names="Na_pv Cl"),
        text(names="Na Cl Na", counts="2 4 2", positions=HALF[:2] + HALF[4:] + HALF[2:4]),
        text().replace("\n", "\r\n"),
        poscar(),
    ],
)
def test_forms_of_one_crystal(content):
    crystal = parse_structure(content, "poscar")
    np.testing.assert_allclose(crystal.lattice, np.eye(3) * 5.64, atol=1e-7)
    found = {(int(z), *np.round(2 * row % 2).astype(int).tolist()) for z, row in zip(crystal.species, crystal.frac_coords, strict=True)}
    right = [[round(2 * float(x)) for x in row.split()] for row in HALF]
    assert found == {(11, *row) for row in right[:4]} | {(17, *row) for row in right[4:]}


def test_a_skewed_cell_in_cartesian_positions_is_pymatgens():
    content = text(
        scale="1.5", lattice=["3 0.1 0", "0.4 3 0.2", "-0.3 0 4"], names="Fe O", counts="1 1", mode="C", positions=["0 0 0", "1 1 1"]
    )
    crystal, theirs = parse_structure(content, "poscar"), Structure.from_str(content, fmt="poscar")
    np.testing.assert_allclose(crystal.lattice, theirs.lattice.matrix)
    np.testing.assert_allclose(crystal.frac_coords, theirs.frac_coords, atol=1e-12)


def test_heavy_hydrogen():
    assert parse_structure(text(names="D O", counts="4 4"), "poscar").formula == "H4O4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(scale="0"), "the scale of the POSCAR is 0. Expected one factor"),
        (text(scale="1 2"), "the scale of the POSCAR is 1 2"),
        (text(scale="1 -2 3"), "the scale of the POSCAR is 1 -2 3"),
        (text(scale="x"), "line 2 is 'x'"),
        (text(lattice=["1 0", "0 1 0", "0 0 1"]), "line 3 is '1 0'"),
        (text(lattice=["1 0 0", "1 0 0", "0 0 1"]), "lattice planes are 0 Å apart"),
        (text(scale="-9", lattice=["1 0 0", "1 0 0", "0 0 1"]), "spans no volume"),
        (text(positions=HALF[:5]), "(5 positions for 8 atoms)"),
        (text(counts="4"), "2 elements and 1 counts"),
        (text(counts="4 0"), "2 elements and 2 counts"),
        (text(names="4 4", counts="Direct"), "does not name its elements"),
        (text(names="Na Xx"), "unknown element 'Xx'"),
        (text(mode="0 0 0"), "line 8 of the POSCAR is '0 0 0'. Expected Direct or Cartesian"),
        (text(positions=["a b c", *HALF[1:]]), "line 9 is 'a b c'"),
        ("NaCl\n", "line 2 is ''"),
        ("NaCl\n1\n1 0 0\n0 1 0\n0 0 1\n", "0 elements and 0 counts"),
    ],
)
def test_what_is_refused(content, message):
    with pytest.raises(InputError) as error:
        parse_structure(content, "poscar")
    assert message in str(error.value)
