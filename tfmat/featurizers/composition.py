"""Composition: which elements a material holds, and in which fractions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from tfmat.crystal import Crystal, Crystals
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.base import Spec, featurize_one
from tfmat.featurizers.formula import AMOUNTS, MAX_CHARACTERS, bad_formula, parse_formula, short
from tfmat.records import Records, starts_of

Ties = Literal["as_written", "atomic_number"]

_FAST_TOKEN = re.compile(r"[A-Z][a-z]*(?:[0-9]+\.?[0-9]*)?|.", re.DOTALL)


@dataclass(frozen=True)
class CompositionFeaturizer:
    """A formula, a pymatgen `Composition`, or the composition of a `Crystal` or of a pymatgen `Structure`.

    Elements come in descending order of amount (compared as float32); those of equal amount, see `ties`. The fraction of an
    element is its amount divided by the sum of all, computed in float64. Oxidation states are dropped and isotopes (``D``, ``T``) count as
    hydrogen; amounts of the same element add up. Strings are read as `parse_formula` does, without pymatgen.

    Attributes:
        max_elements: a material with more distinct elements is refused, never shortened.
        ties: order of elements of equal amount: ``"as_written"`` in the formula, on which published numbers of L-G-DCNN rely, so that ClNa
            may get another number than NaCl; or by ascending ``"atomic_number"``.
    """

    max_elements: int = 20
    ties: Ties = "as_written"

    version: ClassVar[int] = 1
    spec: ClassVar[Spec] = {"species": ("int32", (None,)), "fractions": ("float32", (None,))}

    def __post_init__(self) -> None:
        if isinstance(self.max_elements, bool) or not isinstance(self.max_elements, int) or self.max_elements < 1:
            raise ValueError(f"`max_elements` must be a positive integer. Received: max_elements={self.max_elements!r}")
        if self.ties not in get_args(Ties):
            raise ValueError(f"`ties` must be one of {get_args(Ties)}. Received: ties={self.ties!r}")

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        """Key -> array: ``species`` int32 (E,) atomic numbers, ``fractions`` float32 (E,) with sum 1."""
        return featurize_one(self, material)

    def featurize(self, materials: Sequence[Any]) -> Records:
        """Many materials at once. An `InputError` carries the position of the bad one as ``index``."""
        if isinstance(materials, Crystals):
            rest: list[int] = []
            formula, species, amounts = _count_sites(materials)
        else:
            formula, species, amounts, rest = _tokenize(materials)
        if rest:
            parts = [_careful(materials[i], i) for i in rest]
            lengths = [len(part) for part in parts]
            formula = np.concatenate([formula, np.repeat(np.asarray(rest, np.int64), lengths)])
            species = np.concatenate([species, np.asarray([z for part in parts for z in part], np.int32)])
            amounts = np.concatenate([amounts, np.asarray([x for part in parts for x in part.values()], np.float64)])
        lengths_all = np.bincount(formula, minlength=len(materials))
        too_many = np.flatnonzero(lengths_all > self.max_elements)
        if too_many.size:
            raise self._too_many(materials, int(too_many[0]), int(lengths_all[too_many[0]]))
        fractions = amounts / np.bincount(formula, weights=amounts, minlength=len(materials))[formula]
        ties = (species,) if self.ties == "atomic_number" else ()
        order = np.lexsort((*ties, -amounts.astype(np.float32), formula))
        offsets = starts_of(lengths_all)
        return Records(
            {"species": species[order], "fractions": fractions[order].astype(np.float32)},
            {"species": offsets, "fractions": offsets},
        )

    def _too_many(self, materials: Sequence[Any], index: int, found: int) -> InputError:
        text = materials[index] if isinstance(materials[index], str) else getattr(materials[index], "formula", "")
        error = bad_formula(str(text), f"holds {found} distinct elements", f"at most {self.max_elements}")
        return InputError(error.problem, expected=error.expected, index=index)


def _careful(material: Any, index: int) -> Mapping[int, float]:
    """Z -> amount of any kind of material."""
    try:
        if isinstance(material, Crystal):
            return _from_crystal(material)
        if not isinstance(material, str):
            return _from_pymatgen(material)
        total: dict[int, float] = {}
        for symbol, amount in parse_formula(material).items():
            total[ATOMIC_NUMBERS[symbol]] = total.get(ATOMIC_NUMBERS[symbol], 0.0) + amount
        return total
    except InputError as error:
        raise InputError(error.problem, expected=error.expected, index=index) from None


def _from_crystal(crystal: Crystal) -> dict[int, float]:
    if not len(crystal):
        raise InputError("the crystal has no sites", expected="at least one")
    numbers, first, counts = np.unique(crystal.species, return_index=True, return_counts=True)
    return {int(numbers[i]): float(counts[i]) for i in np.argsort(first)}


def _count_sites(crystals: Crystals, rows: int = 16384) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count each element of each crystal, in order of first appearance: position of the crystal (int64), Z (int32), sites (float64)."""
    parts = []
    for start in range(0, len(crystals), rows):
        records = crystals.subset(np.arange(start, min(start + rows, len(crystals)))).records
        lengths = records.lengths("species")
        if not lengths.all():
            raise InputError("the crystal has no sites", expected="at least one", index=start + int(np.argmin(lengths)))
        cells = np.repeat(np.arange(len(lengths)) * len(SYMBOLS), lengths) + records.values["species"]
        counts = np.bincount(cells, minlength=len(lengths) * len(SYMBOLS))
        first = np.empty(len(counts), np.int64)
        first[cells[::-1]] = np.arange(len(cells))[::-1]  # the last assignment stays
        found = np.flatnonzero(counts)
        found = found[np.argsort(first[found])]
        parts.append((found // len(SYMBOLS) + start, (found % len(SYMBOLS)).astype(np.int32), counts[found].astype(np.float64)))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True)) if parts else empty  # type: ignore[return-value]


def _from_pymatgen(material: Any) -> dict[int, float]:
    expected = "a formula, or a pymatgen Composition or Structure"
    if not any(cls.__module__.startswith("pymatgen.") for cls in type(material).__mro__):
        raise InputError(f"{short(material)} is not a material", expected=expected)
    from pymatgen.core import Composition, DummySpecies

    composition = getattr(material, "composition", material)
    if not isinstance(composition, Composition):
        raise InputError(f"{short(material)} is not a material", expected=expected)
    total: dict[int, float] = {}
    for kind, amount in composition.items():
        if isinstance(kind, DummySpecies):
            raise InputError(f"{short(composition.formula)} holds the dummy species {short(str(kind))}", expected="chemical elements only")
        if amount <= 0:
            raise InputError(f"{short(composition.formula)} has a negative or zero amount of {kind}", expected="positive amounts")
        total[kind.Z] = total.get(kind.Z, 0.0) + float(amount)
    for z, amount in total.items():
        if not AMOUNTS[0] <= amount <= AMOUNTS[1]:
            raise InputError(
                f"{short(composition.formula)} has {amount:g} of {SYMBOLS[z]}", expected=f"amounts from {AMOUNTS[0]:g} to {AMOUNTS[1]:g}"
            )
    if not total:
        raise InputError("the composition is empty", expected="at least one element")
    return total


class _Tokens(dict[str, int]):
    """Token -> position in `species` and `amounts`, read when first met. Position 0 is the line break, 1 anything irregular."""

    def __init__(self) -> None:
        super().__init__({"\n": 0})
        self.species, self.amounts = [0, 0], [0.0, 0.0]

    def __missing__(self, token: str) -> int:
        symbol = token.rstrip("0123456789.")
        z, number = ATOMIC_NUMBERS.get(symbol), token[len(symbol) :]
        amount = float(number) if number and symbol else 1.0
        plain = z and symbol != "T" and AMOUNTS[0] <= amount <= AMOUNTS[1]
        self[token] = code = len(self.species) if plain else 1
        if code > 1:
            self.species.append(z or 0)
            self.amounts.append(amount)
        return code


def _may_join(formula: str) -> bool:
    """Tell whether a dot may stand before water or another molecule (a repeated element is seen later), or letters for no elements."""
    if ("." in formula and ("H" in formula or "D" in formula)) or (formula.isupper() and formula.isalpha()):
        return True
    return "OAc" in formula or "VI" in formula or "IV" in formula


def _tokenize(materials: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Read all formulas without brackets, repeated elements or anything else unusual in one pass.

    Returns:
        For each element found the position of its material (int64), Z (int32) and amount (float64), then the positions of the materials
        that `parse_formula` or pymatgen must read, which have no entry in the arrays.
    """
    lines = [m if isinstance(m, str) and 0 < len(m) <= MAX_CHARACTERS and "\n" not in m and not _may_join(m) else "?" for m in materials]
    tokens = _Tokens()
    codes = np.fromiter(map(tokens.__getitem__, _FAST_TOKEN.findall("\n".join(lines))), np.int64)
    formula = np.cumsum(codes == 0)
    species = np.asarray(tokens.species, np.int32)[codes]
    unusual = np.zeros(len(lines), bool)
    unusual[formula[codes == 1]] = True
    pairs = formula[codes > 1] * len(SYMBOLS) + species[codes > 1]
    unique, counts = np.unique(pairs, return_counts=True)
    unusual[unique[counts > 1] // len(SYMBOLS)] = True
    kept = (codes > 1) & ~unusual[formula]
    return formula[kept], species[kept], np.asarray(tokens.amounts)[codes[kept]], [int(i) for i in np.flatnonzero(unusual)]
