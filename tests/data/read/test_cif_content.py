"""What a CIF says of its atoms, cell, formula and density is what is read, or the file is refused with both sides."""

import numpy as np
import pytest
from structure_cases import HALITE, cif

from tfmat.data.read.crystal import make_crystal
from tfmat.data.read.parse import parse_structure
from tfmat.errors import InputError

COLUMNS = "_atom_site_label", "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"
METHANOL = ("C1 0 0 0", "O1 0.3 0 0", "HO1 0.45 0.15 0", "H1 0 0.22 0", "H2 0 -0.1 0.18", "H3 0 -0.1 -0.18")


def text(rows, columns=COLUMNS, a=5.0, extra="", head="data_x\n"):
    """CIF text of a cubic cell in P1."""
    lines = [f"_cell_length_{axis} {a}" for axis in "abc"] + [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    return head + extra + "\n".join([*lines, "loop_", *columns, *rows]) + "\n"


def formula(content):
    return parse_structure(content, "cif").formula


# ---------------------------------------------------------------- what is stated is checked


def test_stated_facts_that_agree():
    facts = "_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 4\n_cell_volume 179.4(2)\n_exptl_crystal_density_diffrn 2.16\n"
    assert formula(cif(extra=facts)) == "Na4Cl4"
    assert formula(cif(extra="_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 4\n")) == "Na4Cl4"  # as pymatgen writes it


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ("_chemical_formula_sum 'Cl2 Na'", "the cell holds Na4Cl4, and the formula says Cl2 Na1 times"),
        ("_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 2", "the cell holds Na4Cl4, and the formula says Cl1 Na1 times 2"),
        ("_chemical_formula_sum 'Na'", "sites hold Cl, which the formula does not name"),
        ("_chemical_formula_sum 'Na Cl Br'", "the formula names Br, which no site holds"),
        ("_cell_volume 190", "the cell has 179.41 Å3, and the CIF says 190"),
        ("_exptl_crystal_density_diffrn 4.3", r"the density is 2.164 g/cm3, and the CIF says 4.3"),
    ],
)
def test_stated_facts_that_disagree(fact, message):
    with pytest.raises(InputError, match=message):
        formula(cif(extra=fact + "\n"))


def test_a_row_with_a_cell_too_many():
    with pytest.raises(InputError, match="Wrong number of values in loop"):
        formula(text(["Na1 0 0 0 1", "Cl1 0.5 0.5 0.5"]))


@pytest.mark.parametrize("key", ["_cell_length_b", "_atom_site_fract_y"])
def test_what_is_needed(key):
    with pytest.raises(InputError, match=f"the CIF has no {key}"):
        formula(cif().replace(key, "_other"))


# ---------------------------------------------------------------- no site is dropped or renamed


@pytest.mark.parametrize("occupancy", [".", "?", "1", "1.000(2)"])
def test_an_occupancy_that_is_not_given_is_one(occupancy):
    assert formula(cif(occupancy=occupancy)) == "Na4Cl4"


@pytest.mark.parametrize("occupancy", ["a", "-1", "2"])
def test_an_occupancy_that_is_none(occupancy):
    with pytest.raises(InputError, match="site 1 has the occupancy"):
        formula(cif(occupancy=occupancy))


def test_rows_without_an_atom():
    columns = (*COLUMNS, "_atom_site_occupancy", "_atom_site_calc_flag")
    assert formula(text(["Na1 0 0 0 1 d", "Cl1 .5 .5 .5 1 d", "Q1 .2 .2 .2 1 dum", "Q2 .3 .2 .2 0 d"], columns)) == "Na1Cl1"


@pytest.mark.parametrize(
    ("label", "element"),
    [("Na1", "Na"), ("O1W", "O"), ("C1A", "C"), ("SiT1", "Si"), ("Fe3+", "Fe"), ("D1", "H"), ("FeM2", "Fe"), ("Co1", "Co"), ("U1", "U")],
)
def test_labels_that_tell_the_element(label, element):
    assert formula(text([f"{label} 0 0 0"])) == f"{element}1"


@pytest.mark.parametrize("label", ["OH1", "HO1", "T1", "Wat1", "CA1", "CO1", "co1", "Oh", "Ow", "O-H", "?"])
def test_labels_that_do_not(label):
    with pytest.raises(InputError, match="cannot be told"):
        formula(text([f"{label} 0 0 0"]))


def test_no_element():
    with pytest.raises(InputError, match="site 1 holds the unknown element 'M1'"):
        formula(text(["M1 0 0 0"]))


def test_the_formula_tells_hydrogen_from_holmium():
    stated = "_chemical_formula_sum 'C H4 O'\n"
    assert formula(text(METHANOL, a=6, extra=stated)) == "C1O1H4"
    with pytest.raises(InputError, match=r"the element of site 3 \('HO1'\) cannot be told"):
        formula(text(METHANOL, a=6))
    with pytest.raises(InputError, match="site 2 is 'O1', and the formula names neither O"):
        formula(text(METHANOL, a=6, extra="_chemical_formula_sum 'C H4 S'\n"))


def test_hydroxyl_and_water():
    hydroxyl = text(["OH1 0 0 0", "H1 0.2 0 0", "Na1 .5 .5 .5"], extra="_chemical_formula_sum 'H Na O'\n")
    assert formula(hydroxyl) == "O1H1Na1"
    water = text(["Wat1 0 0 0", "H1 .15 0 .1", "H2 -.15 0 .1"], extra="_chemical_formula_sum 'H2 O'\n")
    assert formula(water) == "O1H2"
    with pytest.raises(InputError, match="the formula names H, which no site holds"):
        formula(text(["Wat1 0 0 0"], extra="_chemical_formula_sum 'H2 O'\n"))
    with pytest.raises(InputError, match="implicit hydrogens"):
        formula(text(["O1 0 0 0 1"], (*COLUMNS, "_atom_site_attached_hydrogens")))


@pytest.mark.parametrize(("kind", "element"), [("Na1+", "Na"), ("O2-", "O"), ("D", "H"), ("T", "H"), ("NA", "Na"), ("Siva", "Si")])
def test_types(kind, element):
    columns = ("_atom_site_type_symbol", *COLUMNS[1:])
    assert formula(text([f"{kind} 0 0 0"], columns)) == f"{element}1"


# ---------------------------------------------------------------- good files are not refused


def test_other_blocks_and_text_fields():
    assert formula("data_global\n_journal_name_full 'J. X'\n" + cif()) == "Na4Cl4"
    assert formula(cif() + "data_powder\n_pd_meas_2theta_fixed 1\n") == "Na4Cl4"
    assert formula(cif(extra="_journal_details\n;\ndata_symmetries\nloop_\n_space_group_symop_operation_xyz\nx,y,z\n;\n")) == "Na4Cl4"


def test_tags_in_any_case():
    assert formula(cif().replace("_cell_length_a", "_CELL_LENGTH_A").replace("fract_x", "Fract_X")) == "Na4Cl4"


@pytest.mark.parametrize("third", [("0.333", "0.667"), ("0.3333", "0.6667"), ("0.333", "0.666"), ("1/3", "2/3"), ("0.33333(2)", "0.66667")])
def test_thirds_of_few_digits(third):
    extra = "_cell_length_a 3.209\n_cell_length_b 3.209\n_cell_length_c 5.211\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    extra += "_cell_angle_gamma 120\n_symmetry_space_group_name_H-M 'P 63/m m c'\n"
    content = "data_x\n" + extra + "\n".join(["loop_", *COLUMNS, f"Mg1 {third[0]} {third[1]} 0.25"]) + "\n"
    if "/" in third[0]:
        with pytest.raises(InputError, match="site 1 has the coordinate '1/3'"):
            parse_structure(content, "cif")
        return
    crystal = parse_structure(content, "cif")
    assert crystal.formula == "Mg2"
    digits = len(third[0].partition(".")[2])
    assert crystal.note == (
        f"site 1 moved to a special position: {third[0]} {third[1]} 0.25 to 0.333333 0.666667 0.25" if digits == 3 else ""
    )
    np.testing.assert_allclose(crystal.frac_coords, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], atol=1e-12)


def test_a_position_off_a_special_one_is_not_moved():
    mirror = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\ny,x,z\n"
    crystal = parse_structure(cif(sites=[("Na", "0.10", "0.30", "0.5")], symmetry=mirror, group=""), "cif")
    np.testing.assert_allclose(crystal.frac_coords, [[0.1, 0.3, 0.5], [0.3, 0.1, 0.5]])


def test_a_whole_cell_that_keeps_the_name_of_its_group():
    assert formula(cif(sites=HALITE, group="F m -3 m")) == "Na4Cl4"


# ---------------------------------------------------------------- what is no crystal


@pytest.mark.parametrize(
    ("rows", "a", "message"),
    [
        (["Na1 0 0 0", "Na2 .05 0 0", "Cl1 .5 .5 .5"], 6.0, r"sites 1 \(Na\) and 2 \(Na\) are 0.300 Å apart. Expected at least 0.5 Å"),
        (["Na1 0 0 0", "Na2 .96 0 0"], 6.0, "are 0.240 Å apart"),
        (["H1 0 0 0", "H2 .5 .5 .5"], 0.8, "are 0.693 Å apart|the cell has 0.256 Å3 per atom. Expected at least 2"),
        (["Na1 0 0 0"], 0.4, r"site 1 \(Na\) is 0.400 Å from its own image"),
        (["Na1 0 0 0"], 1.2, "the cell has 1.73 Å3 per atom. Expected at least 2: lengths in Å, and each atom once"),
    ],
)
def test_atoms_and_cells_that_are_too_close(rows, a, message):
    with pytest.raises(InputError, match=message):
        formula(text(rows, a=a))


def test_hydrogen_molecules_and_dense_crystals_are_read():
    assert formula(text(["H1 0 0 0", "H2 .148 0 0"], a=5.0)) == "H2"  # 0.74 Å
    assert formula(text(["C1 0 0 0", "C2 .25 .25 .25"], a=2.3)) == "C2"


def test_overlaps_through_the_sides_of_a_skewed_cell():
    """Lattice planes 0.6 Å apart: the nearest image of a site is not the one whose coordinates differ least."""
    lattice = np.array([[9.0, 0, 0], [8.98, 0.6, 0], [0, 0, 9.0]])
    near = np.linalg.solve(lattice.T, [0.3, 0.1, 0.0])
    with pytest.raises(InputError, match="Å apart"):
        make_crystal(["Na", "Cl"], lattice, [[0, 0, 0], (near % 1).tolist()])
    far = np.linalg.solve(lattice.T, [4.5, 0.3, 4.5])
    assert len(make_crystal(["Na", "Cl"], lattice, [[0, 0, 0], far.tolist()])) == 2
