"""Crystals as dictionaries: pymatgen's ``as_dict``, ``atoms`` of JARVIS, an entry of OPTIMADE, or ``cell``, ``species`` and ``frac``.

They are read as data: no class that one names is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmat.crystal import Crystal, not_periodic, partial_occupancy
from tfmat.data.read.bounded import LIMITS, Limits
from tfmat.data.read.crystal import make_crystal, too_many_sites
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError

FORMS = ({"cell", "species", "frac"}, {"lattice", "sites"}, {"lattice_mat", "coords", "elements"}, {"lattice_vectors", "species_at_sites"})
"""Of each form the keys that tell it."""
_EXPECTED = "cell, species and frac, or pymatgen's as_dict"

Kinds = Sequence[tuple[str, float]]
"""Symbols and occupancies of one site."""


@dataclass(frozen=True)
class _Contents:
    """What a dictionary says: of each site its kinds and its position, fractional unless `cartesian`."""

    kinds: Sequence[Kinds]
    lattice: Any
    coords: Any
    cartesian: bool = False
    periodic: Any = (True, True, True)


def is_crystal(record: Mapping[str, Any]) -> bool:
    """Tell whether a dictionary has the keys of a crystal in one of the `FORMS`."""
    record = _inner(record)
    return any(form <= set(record) for form in FORMS)


def crystal_from_dict(record: Mapping[str, Any], limits: Limits = LIMITS) -> Crystal:
    """The crystal of a dictionary; partially occupied sites and slabs are refused.

    Args:
        record: in one of the `FORMS`.
        limits: ``sites`` is the largest number of sites.
    """
    found = _read(record, limits)
    periods = sum(map(bool, found.periodic))
    if periods != 3:
        raise not_periodic(periods)
    for site, kinds in enumerate(found.kinds):
        if len(kinds) != 1 or abs(kinds[0][1] - 1) > 1e-6:
            raise partial_occupancy(site, "+".join(f"{symbol} {share:g}" for symbol, share in kinds))
    coords = found.coords
    if found.cartesian:
        try:
            coords = np.linalg.solve(np.asarray(found.lattice, np.float64).T, np.asarray(coords, np.float64).T).T
        except (ValueError, TypeError, np.linalg.LinAlgError):
            raise InputError("lattice and positions cannot be read", expected="three vectors that span a volume, and numbers") from None
    return make_crystal([kinds[0][0] for kinds in found.kinds], found.lattice, coords, limits)


def formula_from_dict(record: Mapping[str, Any], limits: Limits = LIMITS) -> str:
    """The formula of the cell of a dictionary, occupancies counted; the cell itself does not matter."""
    amounts: dict[str, float] = {}
    for kinds in _read(record, limits).kinds:
        for symbol, share in kinds:
            amounts[symbol] = amounts.get(symbol, 0.0) + share
    return formula_of(amounts)


def formula_of(amounts: Mapping[Any, float]) -> str:
    """The formula with these amounts by symbol."""
    for symbol in amounts:
        if str(symbol) not in ATOMIC_NUMBERS:
            raise InputError(f"unknown element {str(symbol)[:40]!r}", expected="a symbol from H to Og")
    return "".join(f"{symbol}{int(amount) if amount == int(amount) else round(float(amount), 9)!r}" for symbol, amount in amounts.items())


def _inner(record: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = record.get("attributes")  # OPTIMADE
    return attributes if isinstance(attributes, Mapping) else record


def _read(record: Mapping[str, Any], limits: Limits) -> _Contents:
    record = _inner(record)
    try:
        sites = next((record[key] for key in ("sites", "species_at_sites", "elements", "species") if key in record), ())
        if isinstance(sites, list) and len(sites) > limits.sites:
            raise too_many_sites(len(sites), limits)
        return _contents(record)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        problem = f"the crystal lacks {error}" if isinstance(error, KeyError) else "the crystal is malformed"
        raise InputError(problem, expected=_EXPECTED) from None


def _contents(record: Mapping[str, Any]) -> _Contents:
    if "sites" in record:
        lattice, sites = record["lattice"], record["sites"]
        kinds = [[(str(kind["element"]), float(kind.get("occu", 1))) for kind in site["species"]] for site in sites]
        return _Contents(kinds, lattice["matrix"], [site["abc"] for site in sites], periodic=lattice.get("pbc", (True,) * 3))
    if "lattice_mat" in record:
        return _Contents(_single(record["elements"]), record["lattice_mat"], record["coords"], bool(record.get("cartesian")))
    if "lattice_vectors" in record:
        known = {kind["name"]: zip(kind["chemical_symbols"], kind["concentration"], strict=True) for kind in record.get("species", ())}
        mixed = {name: [(str(s), float(x)) for s, x in pairs if s != "vacancy"] for name, pairs in known.items()}
        kinds = [mixed.get(name, [(str(name), 1.0)]) for name in record["species_at_sites"]]
        periodic = record.get("dimension_types") or (True,) * 3
        return _Contents(kinds, record["lattice_vectors"], record["cartesian_site_positions"], True, periodic)
    for key in ("cell", "species", "frac"):
        if not isinstance(record.get(key), list):
            raise InputError(f"no {key!r}" if record.get(key) is None else f"{key!r} is not a list", expected="cell, species and frac")
    pbc = record.get("pbc")
    return _Contents(_single(record["species"]), record["cell"], record["frac"], periodic=(True,) * 3 if pbc is None else pbc)


def _single(symbols: Sequence[Any]) -> list[Kinds]:
    return [[(SYMBOLS[kind] if isinstance(kind, int) and 0 < kind < len(SYMBOLS) else str(kind), 1.0)] for kind in symbols]
