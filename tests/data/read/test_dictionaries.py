"""Crystals in JSON as databases give them; what has no third period is refused alike everywhere, and only by models of crystals."""

import copy
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from structure_cases import as_dict, cif, record

from tfmat.data.materials import read_materials
from tfmat.data.read.dictionaries import crystal_from_dict, formula_from_dict, is_crystal
from tfmat.data.read.user_data import read_user_data
from tfmat.errors import InputError
from tfmat.featurizers import BondFeaturizer

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SYMBOLS = [site.specie.symbol for site in SALT]
JARVIS = {"lattice_mat": SALT.lattice.matrix.tolist(), "coords": SALT.frac_coords.tolist(), "elements": SYMBOLS, "cartesian": False}
OPTIMADE = {
    "lattice_vectors": SALT.lattice.matrix.tolist(),
    "cartesian_site_positions": SALT.cart_coords.tolist(),
    "species_at_sites": SYMBOLS,
    "species": [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in ("Na", "Cl")],
    "dimension_types": [1, 1, 1],
    "chemical_formula_reduced": "ClNa",
}
ROWS = {
    "pymatgen": {"id": "a", "structure": SALT.as_dict()},
    "as it is": {"id": "a"} | SALT.as_dict(),
    "old pymatgen": {"id": "a", "structure": as_dict()},
    "text": {"id": "a", "structure": json.dumps(SALT.as_dict())},
    "jarvis": {"jid": "a", "atoms": JARVIS, "formula": "NaCl"},
    "cartesian": {"jid": "a", "atoms": JARVIS | {"coords": SALT.cart_coords.tolist(), "cartesian": True}},
    "optimade": {"id": "a", "type": "structures", "attributes": OPTIMADE},
    "materials project": {"material_id": "a", "formula_pretty": "NaCl", "structure": SALT.as_dict(), "band_gap": 5.0},
    "cif": {"material_id": "a", "cif": cif()},
    "own": {"id": "a"} | record(),
}
SLABS = {
    "pymatgen": as_dict() | {"lattice": {"matrix": (5.64 * np.eye(3)).tolist(), "pbc": [True, True, False]}},
    "optimade": OPTIMADE | {"dimension_types": [1, 1, 0]},
    "own": record(pbc=[True, True, False]),
}


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_forms_of_one_crystal(tmp_path, form, name):
    path = tmp_path / name
    path.write_text(json.dumps(ROWS[form] if name == "data.jsonl" else [ROWS[form]]) + "\n")
    (found,) = read_materials(path, "crystal")
    assert (found.error, found.identifier, found.value.formula) == (None, "a", "Na4Cl4")
    np.testing.assert_allclose(found.value.lattice, 5.64 * np.eye(3), atol=1e-9)
    positions = {
        (int(z), *np.round(2 * row % 2).astype(int).tolist()) for z, row in zip(found.value.species, found.value.frac_coords, strict=True)
    }
    assert positions == {(site.specie.Z, *np.round(2 * site.frac_coords).astype(int).tolist()) for site in SALT}
    (found,) = read_materials(path, "composition")
    assert found.error is None and found.identifier == "a" and str(found.value) in ("NaCl", "Na4Cl4")


def test_a_csv_file_with_cifs(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(
        f'material_id,cif,gap\na,"{cif()}",5.0\nb,{json.dumps(json.dumps(as_dict())).replace(chr(92) + chr(34), chr(34) * 2)},6\n'
    )
    data = read_user_data(path)
    assert data.material == "crystal" and data.table.ids == ["a", "b"] and data.table.targets["gap"].tolist() == [5.0, 6.0]


@pytest.mark.parametrize("form", SLABS)
def test_a_slab_is_refused_by_models_of_crystals_alone(tmp_path, form):
    message = "is periodic along 2 of 3 directions. Expected a crystal with three lattice vectors"
    with pytest.raises(InputError) as error:
        crystal_from_dict(SLABS[form])
    assert str(error.value) == message
    assert formula_from_dict(SLABS[form]) == "Na4Cl4"
    assert read_materials(SLABS[form], "crystal")[0].error == message
    assert read_materials(SLABS[form], "composition")[0].value == "Na4Cl4"
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "x", "structure": SLABS[form]}) + "\n" + json.dumps(record(id="y")) + "\n")
    assert [material.error for material in read_materials(tmp_path / "a.jsonl", "crystal")] == [message, None]
    assert [material.value for material in read_materials(tmp_path / "a.jsonl", "composition")] == ["Na4Cl4", "Na4Cl4"]
    with pytest.raises(InputError, match="is periodic along 2 of 3 directions"):
        BondFeaturizer()(Structure(Lattice(4 * np.eye(3), pbc=(True, True, False)), ["Na"], [[0, 0, 0]]))


def test_disordered_rows_feed_models_of_compositions(tmp_path):
    mixed = copy.deepcopy(as_dict())
    mixed["sites"][0]["species"] = [{"element": "Na", "occu": 0.75}, {"element": "K", "occu": 0.25}]
    rows = [
        {"id": "x", "structure": mixed, "gap": 1},
        {"id": "y", "structure": as_dict(), "gap": 2},
        {"id": "z", "structure": cif(occupancy=0.5), "gap": 3},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = read_user_data(tmp_path / "a.jsonl", material="composition")
    assert data.material == "composition" and data.table.materials == ["Na3.75K0.25Cl4", "Na4Cl4", "Na2Cl2"]
    crystals = read_user_data(tmp_path / "a.jsonl")
    assert crystals.table.ids == ["y"] and "partially occupied (Na 0.75+K 0.25)" in crystals.rejections[0].reason
    assert [material.value for material in read_materials(tmp_path / "a.jsonl", "composition")] == data.table.materials
    optimade = OPTIMADE | {"species": [{"name": "Na", "chemical_symbols": ["Na", "vacancy"], "concentration": [0.5, 0.5]}]}
    assert formula_from_dict(optimade) == "Na2Cl4"
    with pytest.raises(InputError, match="site 1 is partially occupied"):
        crystal_from_dict(optimade)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (JARVIS | {"elements": SYMBOLS[:3]}, "3 species with coordinates of shape"),
        (JARVIS | {"elements": ["Qq", *SYMBOLS[1:]]}, "unknown element 'Qq'"),
        (JARVIS | {"lattice_mat": [[1, 0, 0]] * 3, "cartesian": True}, "lattice and positions cannot be read"),
        (JARVIS | {"coords": "x"}, "the coordinates cannot be read as numbers"),
        ({"lattice": {"matrix": 1}, "sites": 5}, "the crystal is malformed"),
        ({"lattice": {}, "sites": [{}]}, "the crystal lacks 'species'"),
    ],
)
def test_what_is_refused(bad, message):
    assert is_crystal(bad)
    with pytest.raises(InputError) as error:
        crystal_from_dict(bad)
    assert message in str(error.value)


def test_a_dictionary_of_amounts_is_no_crystal():
    assert not is_crystal({"Na": 1}) and not is_crystal({"lattice": {}})
