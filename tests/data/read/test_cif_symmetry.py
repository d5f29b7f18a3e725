"""Every setting of every space group, however a CIF names it: read right, or refused where it is ambiguous, and never wrong."""

import numpy as np
import pytest
import spglib
from structure_cases import cif

from tfmat.crystal import lattice_from_parameters
from tfmat.data.read.parse import parse_structure
from tfmat.errors import InputError

POSITION = np.array([0.0713, 0.1591, 0.2877])
SETTINGS = [spglib.get_spacegroup_type(place) for place in range(1, 531)]


def cell_of(setting):
    """A cell of no higher symmetry than the group's, large enough to keep the atoms apart."""
    number, choice = setting.number, setting.choice
    if number <= 2:
        return 57, 63, 69, 84, 97, 103
    if number <= 15:
        angles = [90, 90, 90]
        angles["abc".index(choice.strip("-123")[0])] = 101.3
        return 57, 63, 69, *angles
    if number <= 74:
        return 57, 63, 69, 90, 90, 90
    if number <= 142:
        return 63, 63, 75, 90, 90, 90
    if number <= 194 and choice != "R":
        return 63, 63, 75, 90, 90, 120
    return (63, 63, 63, 81, 81, 81) if number <= 194 else (81, 81, 81, 90, 90, 90)


def text(setting, lines, loop=""):
    a, b, c, alpha, beta, gamma = cell_of(setting)
    head = f"data_x\n_cell_length_a {a}\n_cell_length_b {b}\n_cell_length_c {c}\n"
    head += f"_cell_angle_alpha {alpha}\n_cell_angle_beta {beta}\n_cell_angle_gamma {gamma}\n"
    sites = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    return head + lines + loop + sites + "Na1 " + " ".join(map(str, POSITION)) + "\n"


def operations(place):
    found = spglib.get_symmetry_from_database(place)
    return found["rotations"], found["translations"]


def is_right(crystal, place):
    """Whether the atoms are the orbit of the position by spglib's own database."""
    rotations, translations = operations(place)
    images = rotations @ POSITION + translations
    if len(crystal) != len(images):
        return False
    difference = images[:, None] - crystal.frac_coords
    return bool((np.abs(difference - np.round(difference)) < 1e-5).all(axis=2).any(axis=1).all())


def count(write):
    """How many of the 530 settings are (right, refused, wrong), and the places of those refused."""
    right, refused, wrong = 0, [], []
    for place, setting in enumerate(SETTINGS, start=1):
        try:
            crystal = parse_structure(write(place, setting), "cif")
        except InputError:
            refused.append(place)
            continue
        right += is_right(crystal, place)
        if not is_right(crystal, place):
            wrong.append(place)
    return right, refused, wrong


def name_of(setting):
    return setting.international_full.replace("_", "")


def short(setting):
    return (
        setting.international.split("=")[-1].strip().replace("_", "")
        if not 3 <= setting.number <= 15
        else name_of(setting).replace(" 1", "")
    )


def triplet(rotation, translation):
    parts = []
    for row, shift in zip(rotation, translation, strict=True):
        part = "".join(("+" if value > 0 else "-") + axis for value, axis in zip(row, "xyz", strict=True) if value)
        parts.append(part + (f"+{round(shift * 24)}/24" if round(shift * 24) else ""))
    return "'" + ", ".join(parts) + "'"


def loop_of(place):
    rows = "\n".join(triplet(*operation) for operation in zip(*operations(place), strict=True))
    return f"loop_\n_symmetry_equiv_pos_as_xyz\n{rows}\n"


def homonyms(name, choices=()):
    """Places of the settings whose symbol, in the form that `name` gives, has another meaning that the cell allows, too."""
    names = [(name(setting), setting.choice[:1] if setting.choice[:1] in choices else "", cell_of(setting)) for setting in SETTINGS]
    return {place for place, found in enumerate(names, start=1) if names.count(found) > 1}


@pytest.mark.parametrize("with_number", [False, True])
@pytest.mark.parametrize("form", ["full", "short", "compact"])
def test_symbols(form, with_number):
    """Only symbols with two meanings, such as those of two origins, are refused."""

    def write(_, setting):
        name = {"full": name_of(setting), "short": short(setting), "compact": name_of(setting).replace(" ", "")}[form]
        number = f"_symmetry_Int_Tables_number {setting.number}\n" if with_number else ""
        return text(setting, f"_symmetry_space_group_name_H-M '{name}'\n{number}")

    right, refused, wrong = count(write)
    assert wrong == []
    bbcb = 331  # spglib's `B b c b` is another setting than gemmi's
    assert set(refused) <= homonyms(short if form == "short" else name_of) | {bbcb}
    assert right == 530 - len(refused) and right >= 450


@pytest.mark.parametrize("suffixes", [":", "icsd"])
def test_symbols_with_suffixes(suffixes):
    icsd = {"1": " S", "2": " Z", "H": " H", "R": " R"}

    def write(_, setting):
        choice = setting.choice[:1] if setting.choice[:1] in icsd else ""
        suffix = (f" :{choice}" if suffixes == ":" else icsd[choice]) if choice else ""
        return text(setting, f"_space_group_name_H-M_alt '{name_of(setting)}{suffix}'\n_space_group_IT_number {setting.number}\n")

    right, refused, wrong = count(write)
    assert wrong == [] and set(refused) <= homonyms(name_of, "12") and right + len(refused) == 530
    assert {SETTINGS[place - 1].number for place in refused} <= {64, 67, 68}, "e glides"


def test_hall_symbols():
    right, refused, wrong = count(lambda _, setting: text(setting, f"_space_group_name_Hall '{setting.hall_symbol}'\n"))
    assert (right, refused, wrong) == (530, [], [])


@pytest.mark.parametrize("named", [False, True])
def test_operations(named):
    def write(place, setting):
        name = f"_symmetry_space_group_name_H-M '{name_of(setting)}'\n" if named else ""
        return text(setting, name, loop_of(place))

    assert count(write) == (530, [], [])


def test_the_number_alone():
    """A number has one meaning where its group has one setting that the cell allows."""
    right, refused, wrong = count(lambda _, setting: text(setting, f"_symmetry_Int_Tables_number {setting.number}\n"))
    assert wrong == [] and right > 100
    several = {number for number in range(1, 231) if sum(setting.number == number for setting in SETTINGS) > 1}
    assert {SETTINGS[place - 1].number for place in refused} <= several


def test_a_cell_of_right_angles_does_not_tell_the_unique_axis():
    sites = [("Na", 0.1, 0.2, 0.3)]
    with pytest.raises(InputError, match="the symmetry has several meanings"):
        parse_structure(cif(sites=sites, symmetry="", group="P 21/n", a=9), "cif")
    assert len(parse_structure(cif(sites=sites, symmetry="", group="P 1 21/n 1", a=9), "cif")) == 4


@pytest.mark.parametrize(
    ("group", "extra", "message"),
    [
        ("P 21/n", "_symmetry_Int_Tables_number 15\n", "the space group 'P21/n' with the number 15 is unknown"),
        ("P 63/m m c", "", "the cell does not have the symmetry of the space group P 63/m m c"),
        ("F d -3 m", "", "several meanings"),
        ("F d -3 m :3", "", "is unknown"),
        ("", "_symmetry_Int_Tables_number 231\n", "the space group has the number '231'"),
        ("", "_symmetry_Int_Tables_number 62\n", "several meanings"),
        ("", "_space_group_name_Hall 'Q 4'\n", "'Q 4' is no Hall symbol"),
        ("", "_space_group_magn.name_BNS 'P_c 2_1/c'\n", "the magnetic space group has no list of operations"),
    ],
)
def test_what_is_unknown_or_ambiguous(group, extra, message):
    with pytest.raises(InputError, match=message):
        parse_structure(cif(sites=[("Na", 0.1, 0.2, 0.3)], a=30, symmetry="", group=group, extra=extra), "cif")


@pytest.mark.parametrize(
    ("listed", "group", "message"),
    [
        (("x,y,z", "-x,-y,-z"), "P 1", "several meanings"),
        (("x,y,z", "-x,y+1/2,-z+1/2", "-x,-y,-z", "x,-y+1/2,z+1/2"), "P 1 21/n 1", "several meanings"),
        (("x,y,z", "y,z,x"), "", "form no group"),
        (("x,y,z", "import os"), "", "cannot be read"),
    ],
)
def test_lists_that_contradict_the_name_or_themselves(listed, group, message):
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(f"'{row}'" for row in listed) + "\n"
    with pytest.raises(InputError, match=message):
        parse_structure(cif(sites=[("Na", 0.1, 0.2, 0.3)], a=30, symmetry=loop, group=group), "cif")


def test_a_group_about_an_origin_of_its_own():
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x+1/4,-y,-z\n"
    crystal = parse_structure(cif(sites=[("Na", 0.1, 0.2, 0.3)], a=30, symmetry=loop, group="P -1"), "cif")
    np.testing.assert_allclose(crystal.frac_coords, [[0.1, 0.2, 0.3], [0.15, 0.8, 0.7]])


@pytest.mark.parametrize("facts", ["_chemical_formula_sum Si\n_cell_formula_units_Z 8\n", "_exptl_crystal_density_diffrn 2.33\n"])
def test_stated_facts_tell_the_origin(facts):
    crystal = parse_structure(cif(sites=[("Si", 0.125, 0.125, 0.125)], a=5.43, symmetry="", group="F d -3 m", extra=facts), "cif")
    assert crystal.formula == "Si8"


def test_magnetic_files():
    """Time reversal moves no atom, and centerings multiply the list."""
    loop = "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,-1\n"
    loop += "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx,y,z+1/2,-1\n"
    crystal = parse_structure(cif(sites=[("Mn", 0.1, 0.2, 0.3)], symmetry=loop, group=""), "cif")
    found = {tuple(np.round(row, 6).tolist()) for row in crystal.frac_coords}
    assert found == {(0.1, 0.2, 0.3), (0.1, 0.2, 0.8), (0.9, 0.8, 0.7), (0.9, 0.8, 0.2)}
    moments = "loop_\n_atom_site_moment_label\n_atom_site_moment_crystalaxis_x\nMn0 4.6\n"
    plain = cif(sites=[("Mn", 0, 0, 0), ("F", 0.305, 0.305, 0)], a=4.8, symmetry="", group="P 42/m n m") + moments
    assert parse_structure(plain, "cif").formula == "Mn2F4"


def test_cells_are_pymatgens():
    cell = (57, 63, 69, 84, 97, 103)
    crystal = parse_structure(text(SETTINGS[0], ""), "cif")
    np.testing.assert_allclose(crystal.lattice, lattice_from_parameters(cell))
