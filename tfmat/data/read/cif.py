"""CIF text to a crystal, with gemmi. What the file says is what is read; what it leaves open or contradicts is refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.crystal import Crystal
from tfmat.data.read import symmetry
from tfmat.data.read.bounded import Limits
from tfmat.data.read.cif_sites import COORDS, CifSites, number, read_sites
from tfmat.data.read.crystal import lattice_vectors, make_crystal
from tfmat.data.read.symmetry import Operations
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError

Block = Mapping[str, Sequence[str]]
"""Tags in lower case, dots as underscores -> values, one for a single item."""
_LISTS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC = "_space_group_symop_magn_operation_xyz"
_CENTERINGS = "_space_group_symop_magn_centering_xyz"
_HALLS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NAMES = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full", "_space_group_name_h-m_ref")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")


_TOLD = 1e-4
"""A site that is moved farther to lie on a special position is told, fractional."""


def read_cif(text: str, limits: Limits) -> Crystal:
    """The one crystal of a CIF.

    Its symmetry is that of the listed operations, else of the Hall symbol, else of the Hermann-Mauguin symbol, else of the number; with
    none of them it is P1. What names and lists say must agree. If several settings are meant, the cell, then the stated formula, Z and
    multiplicities must leave one crystal. Stated formula, Z, volume and density must be those of the crystal.

    Args:
        text: of the file.
        limits: ``sites`` is the largest number of atoms in the cell.
    """
    block = _crystal_block(text)
    formula = _formula(_first(block, ("_chemical_formula_sum",)))
    sites = read_sites(block, formula.keys(), limits)
    lattice = lattice_vectors(_cell(block))
    _check_volume(block, lattice)
    meanings = _meanings(block, lattice)
    read: list[Crystal] = []
    problems: list[InputError] = []
    for operations in meanings:
        try:
            crystal = _expanded(sites, lattice, operations, limits)
            counts = zip(*np.unique(crystal.species, return_counts=True), strict=True)
            _check_content(block, formula, {SYMBOLS[z]: float(count) for z, count in counts}, crystal.formula, lattice)
            if len(meanings) > 1:
                _check_multiplicities(sites, operations, limits)
        except InputError as error:
            problems.append(error)
        else:
            if not any(_same(crystal, other) for other in read):
                read.append(crystal)
    if not read:
        raise problems[0]
    if len(read) > 1:
        names = " or ".join(operations.name for operations in meanings[:3])
        raise InputError(f"the symmetry has several meanings ({names[:120]})", expected="the symmetry operations or a Hall symbol")
    return read[0]


def read_cif_formula(text: str, limits: Limits) -> str:
    """The formula of the cell of a CIF, which may have partially occupied sites; their occupancies count.

    The symmetry is found as by `read_cif`. If it has several meanings, all must give the same formula. A stated formula, with Z, must
    agree.

    Args:
        text: of the file.
        limits: ``sites`` is the largest number of rows of sites.
    """
    block = _crystal_block(text)
    stated = _formula(_first(block, ("_chemical_formula_sum",)))
    sites = read_sites(block, stated.keys(), limits, partial=True)
    lattice = lattice_vectors(_cell(block))
    _check_volume(block, lattice)
    found: list[str] = []
    problems: list[InputError] = []
    for operations in _meanings(block, lattice):
        _, owners, _ = symmetry.orbits(sites.positions, sites.digits, operations)
        amounts: dict[str, float] = {}
        for kind, atoms in zip(sites.species, sites.occupancies * np.bincount(owners, minlength=len(sites.species)), strict=True):
            amounts[SYMBOLS[kind]] = amounts.get(SYMBOLS[kind], 0.0) + float(atoms)
        formula = "".join(f"{symbol}{round(amount, 6):g}" for symbol, amount in amounts.items())
        try:
            _check_content(block, stated, amounts, formula, lattice)
        except InputError as error:
            problems.append(error)
        else:
            found.append(formula)
    if not found:
        raise problems[0]
    if len(set(found)) > 1:
        raise InputError(f"the symmetry has several meanings ({' or '.join(found)[:120]})", expected="the symmetry operations")
    return found[0]


def split_cif(text: str) -> dict[str, str]:
    """The CIF text of each block that holds a crystal, by the block's name; of a block whose name stands twice, with its number.

    Raises:
        InputError: it is no CIF, or no block holds a crystal.
    """
    found: dict[str, str] = {}
    for block in _document(text):
        if any(key in _items(block) for key in COORDS):
            name = str(block.name)
            found[name if name not in found else f"{name}-{len(found) + 1}"] = block.as_string()
    if not found:
        raise InputError("the CIF has no atom sites", expected="a loop of _atom_site_fract_x, _y and _z")
    return found


def _document(text: str) -> Any:
    """The blocks of a CIF."""
    import gemmi

    text = text.removeprefix("\ufeff")
    if not re.search(r"(?i)_atom_site[._]fract_", text):
        raise InputError("the CIF has no atom sites", expected="a loop of _atom_site_fract_x, _y and _z")
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        detail = " ".join(str(error).removeprefix("string:").split())
        raise InputError(f"cannot be read as CIF (line {detail[:120]})", expected="one crystal") from None
    return document


def _crystal_block(text: str) -> Block:
    """The block that holds a crystal."""
    blocks = [block for block in map(_items, _document(text)) if any(key in block for key in COORDS)]
    if not blocks:
        raise InputError("the CIF has no atom sites", expected="a loop of _atom_site_fract_x, _y and _z")
    if len(blocks) > 1:
        raise InputError(f"the CIF holds {len(blocks)} crystals", expected="one crystal per file")
    return blocks[0]


def _items(block: Any) -> Block:
    from gemmi import cif

    def text(value: str) -> str:
        return value if value in (".", "?") else cif.as_string(value)

    found: dict[str, Sequence[str]] = {}
    for item in block:
        if item.pair is not None:
            found[_tag(item.pair[0])] = [text(item.pair[1])]
        elif item.loop is not None:
            tags, values = [_tag(tag) for tag in item.loop.tags], item.loop.values
            for place, tag in enumerate(tags):
                if tag.startswith(("_atom_site_", "_space_group_", "_symmetry_")):
                    found[tag] = [text(value) for value in values[place :: len(tags)]]
    return found


def _tag(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _first(block: Block, keys: Sequence[str]) -> str:
    """The first value that is given, else an empty text."""
    for key in keys:
        value = " ".join(block[key][0].split()) if block.get(key) else ""
        if value not in ("", ".", "?"):
            return value
    return ""


def _cell(block: Block) -> np.ndarray:
    """Lengths [Å] and angles [degrees], (6,); by the dictionary of CIF an angle that is not given is 90."""
    values = []
    for key in (*_LENGTHS, *_ANGLES):
        text = _first(block, (key,))
        value = number(text) if text else 90.0 if key in _ANGLES else None
        if value is None:
            raise InputError(f"{key} is {text[:30]!r}" if text else f"the CIF has no {key}", expected="a number")
        values.append(value)
    return np.asarray(values)


def _meanings(block: Block, lattice: np.ndarray) -> list[Operations]:
    """List what the symmetry of the file may be: one reading, unless the file is ambiguous or contradicts itself."""
    name, hall, stated = _first(block, _NAMES), _first(block, _HALLS), _first(block, _NUMBERS)
    value = number(stated) if stated else None
    if stated and (value is None or value != int(value) or not 1 <= value <= 230):
        raise InputError(f"the space group has the number {stated[:20]!r}", expected="1 to 230")
    group = None if value is None else int(value)
    if block.get(_MAGNETIC):
        return [_fitting(symmetry.from_triplets(tuple(block[_MAGNETIC]), tuple(block.get(_CENTERINGS, ()))), lattice)]
    if _first(block, ("_space_group_magn_name_bns", "_space_group_magn_number_bns")) and not any(block.get(key) for key in _LISTS):
        raise InputError("the magnetic space group has no list of operations", expected="symmetry operations")
    named = symmetry.from_name(name, group) if name or group else []
    listed = next((symmetry.from_triplets(tuple(block[key])) for key in _LISTS if block.get(key)), None)
    if listed is None and hall:
        listed = symmetry.from_hall(hall)
    if listed is not None:
        _fitting(listed, lattice)
        if (not name and not group) or _agree(listed, named):
            return [listed]
        if name and not symmetry.from_name(name):  # a name that no table has says nothing, a number does
            named = symmetry.from_name("", group) if group else []
            if not named or _agree(listed, named):
                return [listed]
        if not named:
            raise InputError(f"the space group {name[:30]!r} does not have the number {group}", expected="one space group")
        return [listed, *_chosen(named, lattice)]
    if not name and group is None:
        return [symmetry.from_hall("P 1")]
    if not named:
        shown = re.sub(r"[\s'\"_]", "", name)[:30]
        said = f" with the number {group}" if name and group else ""
        raise InputError(
            f"the space group {shown or group!r}{said} is unknown and there is no symmetry loop", expected="symmetry operations"
        )
    chosen = _chosen(named, lattice)
    if not chosen:
        raise InputError(f"the cell does not have the symmetry of the space group {name or group}", expected="a cell of that symmetry")
    return chosen


def _fitting(operations: Operations, lattice: np.ndarray) -> Operations:
    if not operations.fits(lattice, symmetry.COARSE):
        raise InputError("the cell does not have the symmetry of the listed operations", expected="a cell of that symmetry")
    return operations


def _agree(listed: Operations, named: Sequence[Operations]) -> bool:
    """Tell whether a list is what a name means, or the same group about an origin that no table has."""
    if any(listed.codes == operations.codes for operations in named):
        return True
    return not symmetry.is_tabulated(listed) and any(symmetry.same_class(listed, operations) for operations in named)


def _chosen(named: Sequence[Operations], lattice: np.ndarray) -> list[Operations]:
    """The settings that a cell allows: within the precision of cells, else roughly."""
    for tolerance in (symmetry.FINE, symmetry.COARSE):
        fitting = [operations for operations in named if operations.fits(lattice, tolerance)]
        if fitting:
            return fitting
    return []


def _expanded(sites: CifSites, lattice: np.ndarray, operations: Operations, limits: Limits) -> Crystal:
    coords, owners, moves = symmetry.orbits(sites.positions, sites.digits, operations)
    first = coords[np.unique(owners, return_index=True)[1]]
    if len(np.unique(np.floor(first * 1e4 + 0.3183098861), axis=0)) < len(first):
        raise InputError("several atoms share a position", expected="an ordered crystal")
    crystal = make_crystal(sites.species[owners].tolist(), lattice, coords, limits)
    moved = np.flatnonzero(np.abs(moves).max(axis=1) > _TOLD)
    if not len(moved):
        return crystal
    row = int(moved[0])
    before, after = (" ".join(f"{x:.6g}" for x in place) for place in (sites.positions[row], sites.positions[row] + moves[row]))
    others = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
    return dataclasses.replace(crystal, note=f"site {row + 1}{others} moved to a special position: {before} to {after}")


def _check_multiplicities(sites: CifSites, operations: Operations, limits: Limits) -> None:
    _, owners, _ = symmetry.orbits(sites.positions, sites.digits, operations)
    found = np.bincount(owners, minlength=len(sites.species))
    for row in np.flatnonzero((sites.multiplicities > 0) & (sites.multiplicities != found)):
        raise InputError(
            f"site {row + 1} has the multiplicity {sites.multiplicities[row]}, the operations give {found[row]}", expected="one number"
        )


def _same(one: Crystal, other: Crystal) -> bool:
    """Tell whether two crystals in one cell have the same atoms, in any order."""
    if len(one) != len(other):
        return False
    difference = one.frac_coords[:, None] - other.frac_coords[None]
    close = (np.abs(difference - np.round(difference)) < 1e-4).all(axis=2) & (one.species[:, None] == other.species[None])
    return bool(close.any(axis=1).all())


def _formula(text: str) -> dict[str, float]:
    """Amounts by symbol, D and T as H; nothing where the text is no plain formula."""
    amounts: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        for symbol, amount in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", part):
            name = "H" if symbol in ("D", "T") else symbol
            amounts[name] = amounts.get(name, 0.0) + (float(amount) if amount not in ("", ".") else 1.0)
    plain = re.fullmatch(r"(?:[A-Z][a-z]?(?:\d+\.?\d*|\.\d+)?\s*)+", text.replace(",", " "))
    return {name: amount for name, amount in amounts.items() if amount > 0} if plain and set(amounts) <= set(SYMBOLS) else {}


def _check_content(block: Block, formula: Mapping[str, float], counts: Mapping[str, float], name: str, lattice: np.ndarray) -> None:
    """Refuse a cell whose atoms (`counts` by symbol, as text `name`) are not those of the stated formula, Z and density."""
    if formula:
        missing, extra = [name for name in formula if name not in counts], [name for name in counts if name not in formula]
        if missing:
            raise InputError(f"the formula names {', '.join(missing)}, which no site holds", expected="all atoms")
        if extra:
            raise InputError(f"sites hold {', '.join(extra)}, which the formula does not name", expected="the atoms of the formula")
        units = number(_first(block, ("_cell_formula_units_z",))) or sum(counts.values()) / sum(formula.values())
        possible = (units, 1.0)  # pymatgen writes the atoms of the cell as the formula, whatever Z is
        if not any(all(abs(counts[name] - z * amount) <= 0.02 * counts[name] + 0.02 for name, amount in formula.items()) for z in possible):
            stated = " ".join(f"{name}{amount:g}" for name, amount in formula.items())
            raise InputError(f"the cell holds {name}, and the formula says {stated} times {units:g}", expected="one composition")
    density = number(_first(block, ("_exptl_crystal_density_diffrn",)))
    if density:
        found = _density(counts, lattice)
        if abs(found - density) > 0.05 * density:
            raise InputError(f"the density is {found:.3f} g/cm3, and the CIF says {density:g}", expected="one density")


def _density(counts: Mapping[str, float], lattice: np.ndarray) -> float:
    """Density [g/cm3]."""
    import gemmi

    mass = sum(gemmi.Element(symbol).weight * count for symbol, count in counts.items())
    return float(mass * 1.66053907 / abs(np.linalg.det(lattice)))


def _check_volume(block: Block, lattice: np.ndarray) -> None:
    stated, found = number(_first(block, ("_cell_volume",))), abs(float(np.linalg.det(lattice)))
    if stated and abs(found - stated) > 0.01 * stated:
        raise InputError(f"the cell has {found:.2f} Å3, and the CIF says {stated:g}", expected="one volume")
