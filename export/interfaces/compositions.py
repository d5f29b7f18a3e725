"""The interface of models of compositions: formulas, or amounts of elements in any order and scale.

The functions repeat `tfmat.featurizers.composition` in TensorFlow operations, so that an exported model needs neither Python nor tfmat.
Brackets are the one thing left to the client, see `expand_brackets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.export.graph.checks import LARGEST, Tensors, atomic_numbers, checked_rows, of_whole_rows, require, require_rows, zeroed_rows
from tfmat.export.graph.lists import padded_rows
from tfmat.export.interfaces.base import Entry, Grids, Input, Interface, Size
from tfmat.featurizers.composition import CompositionFeaturizer, Ties
from tfmat.featurizers.formula import AMOUNTS, MAX_CHARACTERS, MOLECULES, parse_formula

EXAMPLES: tuple[str, ...] = (
    *("Fe", "Si", "O2", "NaCl", "GaAs", "Fe2O3", "TiO2", "Al0.3Ga0.7", "Bi2Te3", "SrTiO3", "LiFePO4", "Li0.5CoO2", "CaCO3", "Fe0.75Ni0.25"),
    *("CuSO9H10", "KAl3Si3O12H2", "La0.67Ca0.33MnO3", "LiNi0.8Mn0.1Co0.1O2", "CrMnFeCoNi", "YBa2Cu3O6.93", "Ba0.5Sr0.5Co0.8Fe0.2O2.5"),
    *("Zr41.2Ti13.8Cu12.5Ni10Be22.5", "Li6.4La3Zr1.4Ta0.6O12", "NaKCaMgAlSiO8"),
)
"""Compositions of 1 to 7 elements, with equal amounts and decimals."""

ELEMENTS = len(SYMBOLS) - 1
"""Largest atomic number."""

AMBIGUOUS = "the formula is ambiguous: add up the atoms, such as CuSO9H10 for CuSO4.5H2O, and write no space before a number:"

_SHOWN = 60  # bytes of a formula that an error message repeats
_ISOTOPES = ("D", "T")  # hydrogen, but amounts are checked symbol by symbol
_KINDS = ELEMENTS + len(_ISOTOPES)

# Python's regular expressions, in RE2's dialect: `_SPACE` is Python's \s exactly.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\p{Z}]"
_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e-?[0-9]+)?"
_FORMULA = rf"(?:[A-Z][a-z]*(?:{_SPACE}*{_NUMBER})?|{_SPACE}|@)*"
_DECIMAL = r"[A-Z][a-z]*(?:[1-9][0-9]*)?\.[1-9][0-9]*"
_ATOM = "[CHNOSD][0-9]*"
_ORGANIC = rf"(?:{_ATOM})*(?:C[0-9]*(?:{_ATOM})*H|H[0-9]*(?:{_ATOM})*C)[0-9]*(?:{_ATOM})*"
_TWO_MEANINGS = (
    rf".*{_DECIMAL}{_SPACE}*(?:{'|'.join(MOLECULES)}|{_ORGANIC}){_SPACE}*(?:\..*)?",
    rf".*{_SPACE}\..*",
    rf".*[A-Za-z0-9]{_SPACE}+{_NUMBER}{_SPACE}*[A-Z].*",
    r".*T[BCHI](?:[^a-z].*)?",
    r".*[A-Za-z](?:II(?:[^a-z].*)?|(?:IV|VI)(?:[^a-z0-9].*)?)",
    r".*OAc(?:[^a-z].*)?",
    rf".*@{_SPACE}*(?:[ABD-Z].*|C|C[^0-9].*|C[0-9]|C[0-9][^0-9].*)",
    rf"{_SPACE}*(?:YBCO|BSCCO|TBCCO|BFO|[A-Z]*T[A-Z]+|[A-Z][A-Z]+T){_SPACE}*",
)
"""Formulas that `parse_formula` refuses as ambiguous, some that it reads among them."""


class CompositionInterface(Interface):
    """`tfmat.featurizers.CompositionFeaturizer` in the graph. The signature ``from_formula`` of a SavedModel reads formulas."""

    materials: ClassVar[str] = "formulas"
    featurizer: CompositionFeaturizer

    @property
    def inputs(self) -> Mapping[str, Input]:
        species = f"atomic numbers of the elements, each 1 to {ELEMENTS}, in any order; 0 = no element"
        fractions = "amounts of the elements, positive, in any scale (divided by their sum); 0 = no element"
        return {"species": Input("int32", ("B", "E"), species), "fractions": Input("float32", ("B", "E"), fractions)}

    @property
    def sizes(self) -> Mapping[str, Size]:
        """See `Interface.sizes`. A LiteRT model is unrolled over the elements, so its time grows with them."""
        return {"max_elements": Size("E", 8, self.featurizer.max_elements, "elements")}

    def prepare(self, arrays: Tensors) -> dict[str, Any]:
        given = self.featurizer
        species, fractions = normalise(arrays["species"], arrays["fractions"], given.max_elements, ties=given.ties)
        return {"species": species, "fractions": fractions}

    def prepare_fixed(self, arrays: Tensors) -> tuple[dict[str, Any], Any, Grids]:
        width = int(arrays["species"].shape[1])
        # The sum of float32 fractions is rounded at every addition.
        snap = (width + 1) * 2.0**-24
        species, fractions, sound = arrange(arrays["species"], arrays["fractions"], snap=snap, ties=self.featurizer.ties)
        return {"species": species, "fractions": fractions}, sound, ()

    def entries(self) -> Mapping[str, Entry]:
        symbols = symbol_table()
        meaning = "formula without brackets, e.g. Fe2O3 or Li0.5CoO2: expand Ca(OH)2 to CaO2H2 before sending"

        def prepare(arrays: Tensors) -> dict[str, Any]:
            species, amounts = parse_formulas(arrays["formula"], symbols)
            return self.prepare({"species": species, "fractions": amounts})

        def encode(formulas: Sequence[str]) -> dict[str, np.ndarray]:
            return {"formula": np.array([expand_brackets(formula) for formula in formulas], object)}

        return {"from_formula": Entry({"formula": Input("string", ("B",), meaning)}, prepare, encode, resources=(symbols,))}

    def examples(self) -> Sequence[str]:
        return EXAMPLES


def expand_brackets(formula: str) -> str:
    """The same composition without brackets, for `parse_formulas`: ``"Ca(OH)2"`` -> ``"Ca1.0O2.0H2.0"``.

    Raises:
        InputError: the formula cannot be read.
    """
    return "".join(f"{symbol}{amount!r}" for symbol, amount in parse_formula(formula).items())


def _row_checks(arrays: Tensors) -> dict[str, Any]:
    """What makes a row a composition: sentence -> whether it holds, bool (B,). A NaN satisfies nothing."""
    species, amounts = arrays["species"], arrays["fractions"]
    is_element, yes = species > 0, tf.ones_like(species, tf.bool)
    proper = tf.logical_and(amounts > 0, amounts <= LARGEST)
    checks = atomic_numbers("species", species, ELEMENTS) | {
        "the amount of every element must be positive and finite; see row": tf.where(is_element, proper, yes),
        "an amount needs an element: where `species` is 0 it must be 0; see row": tf.where(is_element, yes, tf.equal(amounts, 0)),
    }
    return of_whole_rows(checks) | {"a composition needs at least one element; see row": tf.reduce_any(is_element, axis=1)}


def arrange(species: Any, amounts: Any, *, snap: float = 0.0, ties: Ties = "as_written") -> tuple[Any, Any, Any]:
    """Merge, sort and normalise, without assertions and with operations that LiteRT has built in.

    The rank of slot i is the number of slots that come before it, ``#{j: a_j > a_i or (a_j = a_i and j < i)}`` with amounts compared as
    float32 (by atomic number Z_j < Z_i instead of j < i, if `ties` says so); it gives a one-hot permutation. The cost is O(E^2) per row.

    Args:
        species: int32 (B, E) atomic numbers in any order, 0 = no element, anywhere.
        amounts: float32 or float64 (B, E), positive where there is an element and 0 elsewhere, in any scale.
        snap: amounts whose sum is 1 within this are fractions already and stay as they are, bit by bit.
        ties: see `CompositionFeaturizer`; ``"as_written"`` is the given order.

    Returns:
        species int32 (B, E) in descending order of amount, padding on the right; fractions float32 (B, E)
        that sum to 1; whether the row is sound, bool (B,). The first two are 0 in rows that are not.
    """
    arrays, sound = zeroed_rows({"species": species, "fractions": amounts}, _row_checks)
    species, amounts = arrays["species"], arrays["fractions"]

    slots = tf.range(tf.shape(species)[1])
    earlier = (slots[None, :] < slots[:, None])[None]
    same = tf.equal(species[:, :, None], species[:, None, :])
    repeats = tf.reduce_sum(tf.cast(tf.logical_and(same, earlier), tf.int32), axis=2)
    first = tf.logical_and(species > 0, tf.equal(repeats, 0))
    merged = tf.reduce_sum(tf.where(same, amounts[:, None, :], tf.zeros_like(amounts)[:, None, :]), axis=2)
    species, amounts = tf.where(first, species, 0), tf.where(first, merged, tf.zeros_like(merged))

    key = tf.cast(amounts, tf.float32)
    mine, other = key[:, :, None], key[:, None, :]
    if ties == "atomic_number":
        earlier = species[:, None, :] < species[:, :, None]
    before = tf.logical_or(other > mine, tf.logical_and(tf.equal(other, mine), earlier))
    rank = tf.reduce_sum(tf.cast(before, tf.int32), axis=2)
    place = tf.equal(rank[:, None, :], slots[None, :, None])

    total = tf.reduce_sum(amounts, axis=1, keepdims=True)
    divisor = tf.where(tf.logical_and(tf.abs(total - 1.0) > snap, total > 0), total, tf.ones_like(total))
    fractions = tf.cast(amounts / divisor, tf.float32)[:, None, :]
    species = tf.reduce_sum(tf.where(place, species[:, None, :], 0), axis=2)
    fractions = tf.reduce_sum(tf.where(place, fractions, tf.zeros_like(fractions)), axis=2)
    # Amounts that float32 cannot hold side by side leave an element with the fraction 0.
    sound = tf.logical_and(sound, tf.reduce_all(tf.equal(species > 0, fractions > 0), axis=1))
    return tf.where(sound[:, None], species, 0), tf.where(sound[:, None], fractions, tf.zeros_like(fractions)), sound


def normalise(species: Any, amounts: Any, max_elements: int | None = None, *, ties: Ties = "as_written") -> tuple[Any, Any]:
    """What the composition featurizer gives, from amounts in any order and scale; a row that is no composition is an error.

    Elements are merged (amounts of a repeated one add up where it first stands), sorted by descending amount, then as `ties` says, and
    divided by their sum in float64. Float32 amounts that sum to 1 within float32 rounding are fractions already and are not
    divided: what the featurizer gives comes back unchanged. Only as many columns are returned as the largest composition needs.

    Args:
        species: int32 (B, E) atomic numbers, 0 = no element, anywhere.
        amounts: float32 or float64 (B, E).
        max_elements: a row with more distinct elements is an error.
        ties: see `arrange`.

    Returns:
        species int32 (B, E') and fractions float32 (B, E'), E' the largest number of distinct elements, at least 1.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    batch = tf.shape(species)[0]
    snap = 0.0 if amounts.dtype == tf.float64 else 2.0**-23
    shapes = tf.debugging.assert_equal(tf.shape(species), tf.shape(amounts), "there must be one amount for each of `species`")
    arrays = checked_rows({"species": species, "fractions": amounts}, [shapes], _row_checks)
    slots = tf.where(arrays["species"] > 0)
    kinds, values = tf.gather_nd(species, slots), tf.cast(tf.gather_nd(amounts, slots), tf.float64)
    rows, kinds, values = _merge(tf.cast(slots[:, 0], tf.int32), kinds, values)
    few = {}
    if max_elements is not None:
        count = tf.math.bincount(rows, minlength=batch)
        few = {f"a composition may hold at most {max_elements} distinct elements; see row": count <= max_elements}
    with tf.control_dependencies(require_rows(few)):
        species, fractions, sound = arrange(padded_rows(kinds, rows, batch), padded_rows(values, rows, batch), snap=snap, ties=ties)
    with tf.control_dependencies(require_rows({"the amounts of a composition differ by more than float32 can hold; see row": sound})):
        return tf.identity(species), tf.identity(fractions)


def _merge(rows: Any, kinds: Any, values: Any) -> tuple[Any, Any, Any]:
    """Add up the values (N,) of the same kind (N,), 1 to `_KINDS`, in the same row (N,), in order of first appearance; rows must ascend."""
    pairs, index = tf.unique(rows * (_KINDS + 1) + kinds)
    return pairs // (_KINDS + 1), pairs % (_KINDS + 1), tf.math.unsorted_segment_sum(values, index, tf.size(pairs))


def symbol_table() -> Any:
    """A lookup table from symbol to a number: the atomic number, or one above `ELEMENTS` for D and T; 0 if unknown.

    An exported module must hold it as an attribute.
    """
    symbols = [*SYMBOLS[1:], *_ISOTOPES]
    assert set(symbols) == set(ATOMIC_NUMBERS)
    entries = tf.lookup.KeyValueTensorInitializer(symbols, list(range(1, len(symbols) + 1)), tf.string, tf.int32)
    return tf.lookup.StaticHashTable(entries, default_value=0)


def _check_text(formulas: Any, shown: Any) -> Any:
    """The formulas without spaces, string (B,), once all of them follow the grammar; `shown` is what errors repeat of each."""
    short = tf.strings.length(formulas, unit="UTF8_CHAR") <= MAX_CHARACTERS
    with tf.control_dependencies([require(short, f"a formula may be at most {MAX_CHARACTERS:,} characters long:", shown)]):
        formulas = tf.identity(formulas)

    def refuse(pattern: str, sentence: str) -> Any:
        return require(tf.logical_not(tf.strings.regex_full_match(formulas, pattern)), sentence, shown)

    checks = [
        refuse(rf"(?:{_SPACE}|@)*", "the formula holds no element:"),
        refuse(r"(?s).*[()\[\]{}].*", "brackets must be expanded before the formula is sent, such as CaO2H2 for Ca(OH)2:"),
        refuse("(?s)" + "|".join(_TWO_MEANINGS), AMBIGUOUS),
    ]
    with tf.control_dependencies(checks):
        readable = tf.strings.regex_full_match(tf.identity(formulas), _FORMULA)
    with tf.control_dependencies([require(readable, "the formula must consist of element symbols and positive amounts:", shown)]):
        return tf.strings.regex_replace(formulas, rf"{_SPACE}|@", "")


def parse_formulas(formulas: Any, symbols: Any) -> tuple[Any, Any]:
    """Read formulas by the grammar of `tfmat.featurizers.formula.parse_formula`, without brackets and joined compounds.

    What that function refuses is refused, and a few formulas more: with spaces before numbers, or with a number that could join compounds.

    Args:
        formulas: string (B,), such as ``Fe2O3`` and ``Li0.5CoO2``.
        symbols: the `symbol_table`.

    Returns:
        species int32 (B, T) and amounts float64 (B, T) in order of first appearance, 0 = padding on the right. Hydrogen and its isotopes
        stand apart, to be merged by `normalise`.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the beginning of the first formula that cannot be read.
    """
    batch = tf.shape(formulas)[0]
    shown = tf.strings.unicode_transcode(tf.strings.substr(formulas, 0, _SHOWN), "UTF-8", "UTF-8", errors="ignore")
    tokens = tf.strings.split(tf.strings.regex_replace(_check_text(formulas, shown), "([A-Z])", r" \1"))
    rows, tokens = tf.cast(tokens.value_rowids(), tf.int32), tokens.flat_values
    numbers = tf.strings.regex_replace(tokens, "^[A-Z][a-z]*", "")
    values = tf.strings.to_number(tf.where(tf.equal(numbers, ""), "1", numbers), tf.float64)
    kinds = symbols.lookup(tf.strings.regex_replace(tokens, r"[0-9.].*$", ""))
    _, index, counts = tf.unique_with_counts(rows * (_KINDS + 1) + kinds)
    # O3.6Fe2O3: three oxygen atoms and six times Fe2O3
    joined = tf.logical_and(tf.gather(counts, index) > 1, tf.strings.regex_full_match(tokens, _DECIMAL))
    checks = [
        require(kinds > 0, "the formula holds an unknown element:", tf.gather(shown, rows)),
        require(tf.logical_not(joined), AMBIGUOUS, tf.gather(shown, rows)),
    ]
    with tf.control_dependencies(checks):
        rows, kinds, amounts = _merge(rows, kinds, values)
    lowest, highest = AMOUNTS
    allowed = tf.logical_and(amounts >= lowest, amounts <= highest)
    sentence = f"the amount of an element must be from {lowest:g} to {highest:g} in the formula:"
    with tf.control_dependencies([require(allowed, sentence, tf.gather(shown, rows))]):
        species = tf.where(kinds > ELEMENTS, 1, kinds)
    return padded_rows(species, rows, batch), padded_rows(amounts, rows, batch)
