"""CIF files are read as pymatgen reads them, but where a difference is listed here with its reason."""

import gzip
import importlib.util
import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from tfmat.data.read.dictionaries import crystal_from_dict
from tfmat.data.read.parse import parse_structure
from tfmat.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EXPLAINED: dict[str, str] = {}
"""Of the files of packages those that are read otherwise -> why."""


def package_files():
    """CIF files that come with pymatgen, ASE and gemmi."""
    found = []
    for name in ("pymatgen", "ase", "gemmi"):
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            found += sorted(path for path in Path(folder).rglob("*.cif") if path.stat().st_size < 10**6)
    return found


def theirs(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Structure.from_str(text, fmt="cif")


def same_atoms(crystal, structure):
    """Whether both have the same atoms in the same cell, in any order."""
    if len(crystal) != len(structure) or not np.allclose(crystal.lattice, structure.lattice.matrix, atol=1e-3):
        return False
    numbers = np.array([site.specie.Z for site in structure])
    difference = crystal.frac_coords[:, None] - structure.frac_coords[None]
    difference -= np.round(difference)
    far = np.linalg.norm(difference @ crystal.lattice, axis=2) > 0.01
    return bool((~far & (crystal.species[:, None] == numbers[None])).any(axis=1).all())


@pytest.mark.parametrize("path", package_files(), ids=lambda path: path.name)
def test_files_of_packages(path):
    text = path.read_text(encoding="latin-1")
    structure = theirs(text)
    if not structure.is_ordered:
        with pytest.raises(InputError, match="partially occupied"):
            parse_structure(text, "cif")
        return
    try:
        agree = same_atoms(parse_structure(text, "cif"), structure)
    except InputError as error:
        assert EXPLAINED.get(path.name, "") in str(error) and path.name in EXPLAINED, error
        return
    assert agree or path.name in EXPLAINED


@pytest.mark.mirror
@pytest.mark.parametrize("symprec", [None, 0.01])
@pytest.mark.parametrize(
    "name", ["structures/matbench_phonons", "structures/mp_elasticity_union", "structures/jarvis_dft3d_subset", "mp2018/test"]
)
def test_crystals_of_the_mirror_written_as_cif(mirror, name, symprec):
    """With all atoms in P1, and with the symmetry that spglib finds: read back, they are what pymatgen reads."""
    with gzip.open(mirror / f"{name}.jsonl.gz", "rt") as lines:
        crystals = [crystal_from_dict(json.loads(line)) for line in itertools.islice(lines, 0, None, 17)][:60]
    for crystal in crystals:
        text = str(CifWriter(Structure(crystal.lattice, crystal.species.tolist(), crystal.frac_coords), symprec=symprec))
        read = parse_structure(text, "cif")
        assert same_atoms(read, theirs(text)), text
        shares = [np.bincount(one.species, minlength=119) / len(one) for one in (read, crystal)]
        np.testing.assert_allclose(*shares)
