"""Compositions in the TensorFlow graph: from a formula or from amounts in any order to the arrays that the networks read.

These functions repeat `tfmat.featurizers.composition` in TensorFlow operations, so that an exported model needs neither Python nor
tfmat. Brackets are the one thing left to the client, see `expand_brackets`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.export.graph.checks import require
from tfmat.featurizers.composition import AMOUNTS, MAX_CHARACTERS, parse_formula

ELEMENTS = len(SYMBOLS) - 1
"""Largest atomic number."""

_SHOWN = 60  # bytes of a formula that an error message repeats
_LARGEST = float(np.finfo(np.float32).max)
_ISOTOPES = ("D", "T")  # hydrogen, but amounts are checked symbol by symbol
_KINDS = ELEMENTS + len(_ISOTOPES)

# Python's regular expressions, in RE2's dialect: `_SPACE` is Python's \s exactly.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\p{Z}]"
_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e-?[0-9]+)?"
_FORMULA = rf"(?:[A-Z][a-z]*(?:{_SPACE}*{_NUMBER})?|{_SPACE}|@)*"
_HYDRATE = rf"(?s).*(?:[A-Za-z]|[1-9][0-9]*){_SPACE}*\.[1-9][0-9]*H2O{_SPACE}*"


def expand_brackets(formula: str) -> str:
    """The same composition without brackets, for `parse_formulas`: ``"Ca(OH)2"`` -> ``"Ca1.0O2.0H2.0"``.

    Raises:
        InputError: the formula cannot be read.
    """
    return "".join(f"{symbol}{amount!r}" for symbol, amount in parse_formula(formula).items())


def _row_checks(species: Any, amounts: Any) -> dict[str, Any]:
    """What every row must satisfy -> whether it does, bool (B,). A NaN satisfies nothing."""
    is_element = species > 0
    proper = tf.logical_and(amounts > 0, amounts <= _LARGEST)
    return {
        f"`species` must be atomic numbers from 1 to {ELEMENTS}, with 0 as padding; see row": tf.reduce_all(
            tf.logical_and(species >= 0, species <= ELEMENTS), axis=1
        ),
        "the amount of every element must be positive and finite; see row": tf.reduce_all(
            tf.where(is_element, proper, tf.ones_like(is_element)), axis=1
        ),
        "an amount needs an element: where `species` is 0 it must be 0; see row": tf.reduce_all(
            tf.where(is_element, tf.ones_like(is_element), tf.equal(amounts, 0)), axis=1
        ),
        "a composition needs at least one element; see row": tf.reduce_any(is_element, axis=1),
    }


def arrange(species: Any, amounts: Any, *, snap: float = 0.0) -> tuple[Any, Any, Any]:
    """Merge, sort and normalise, without assertions and with operations that LiteRT has built in.

    The rank of slot i is the number of slots that come before it, ``#{j: a_j > a_i or (a_j = a_i and j < i)}`` with amounts compared as
    float32; it gives a one-hot permutation. Costs O(E^2) a row.

    Args:
        species: int32 (B, E) atomic numbers in any order, 0 = no element, anywhere.
        amounts: float32 or float64 (B, E), positive where there is an element and 0 elsewhere, in any scale.
        snap: amounts whose sum is 1 within this are fractions already and stay as they are, bit by bit.

    Returns:
        species int32 (B, E) in descending order of amount, equal ones in the given order, padding on the right; fractions float32 (B, E)
        that sum to 1; whether the row is sound, bool (B,). The first two are 0 in rows that are not.
    """
    sound = tf.reduce_all(tf.stack(list(_row_checks(species, amounts).values())), axis=0)
    species = tf.where(sound[:, None], species, 0)
    amounts = tf.where(sound[:, None], amounts, tf.zeros_like(amounts))

    slots = tf.range(tf.shape(species)[1])
    earlier = (slots[None, :] < slots[:, None])[None]
    same = tf.equal(species[:, :, None], species[:, None, :])
    repeats = tf.reduce_sum(tf.cast(tf.logical_and(same, earlier), tf.int32), axis=2)
    first = tf.logical_and(species > 0, tf.equal(repeats, 0))
    merged = tf.reduce_sum(tf.where(same, amounts[:, None, :], tf.zeros_like(amounts)[:, None, :]), axis=2)
    species, amounts = tf.where(first, species, 0), tf.where(first, merged, tf.zeros_like(merged))

    key = tf.cast(amounts, tf.float32)
    mine, other = key[:, :, None], key[:, None, :]
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


def normalise(species: Any, amounts: Any, max_elements: int | None = None) -> tuple[Any, Any]:
    """What the composition featurizer gives, from amounts in any order and scale; a row that is no composition is an error.

    Elements are merged (amounts of a repeated one add up where it first stands), sorted by descending amount, equal amounts in the given
    order, and divided by their sum in float64. Float32 amounts that sum to 1 within float32 rounding are fractions already and are not
    divided: what the featurizer gives comes back unchanged. Only as many columns are returned as the largest composition needs.

    Args:
        species: int32 (B, E) atomic numbers, 0 = no element, anywhere.
        amounts: float32 or float64 (B, E).
        max_elements: a row with more distinct elements is an error.

    Returns:
        species int32 (B, E') and fractions float32 (B, E'), E' the largest number of distinct elements, at least 1.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    batch = tf.shape(species)[0]
    snap = 0.0 if amounts.dtype == tf.float64 else 2.0**-23
    shapes = tf.debugging.assert_equal(tf.shape(species), tf.shape(amounts), "there must be one amount for each of `species`")
    with tf.control_dependencies([shapes]):
        checks = [require(holds, sentence, tf.range(batch)) for sentence, holds in _row_checks(species, amounts).items()]
    with tf.control_dependencies(checks):
        slots = tf.where(species > 0)
    values = tf.cast(tf.gather_nd(amounts, slots), tf.float64)
    rows, kinds, values = _merge(tf.cast(slots[:, 0], tf.int32), tf.gather_nd(species, slots), values)
    count = tf.math.bincount(rows, minlength=batch)
    checks = []
    if max_elements is not None:
        sentence = f"a composition may hold at most {max_elements} distinct elements; see row"
        checks = [require(count <= max_elements, sentence, tf.range(batch))]
    with tf.control_dependencies(checks):
        species, fractions, sound = arrange(_by_row(kinds, rows, batch), _by_row(values, rows, batch), snap=snap)
    sentence = "the amounts of a composition differ by more than float32 can hold; see row"
    with tf.control_dependencies([require(sound, sentence, tf.range(batch))]):
        column = tf.cast(tf.equal(tf.shape(species)[1], 0), tf.int32)  # an empty batch gets one: networks need it
        return tf.pad(species, [[0, 0], [0, column]]), tf.pad(fractions, [[0, 0], [0, column]])


def _merge(rows: Any, kinds: Any, values: Any) -> tuple[Any, Any, Any]:
    """Add up the values (N,) of the same kind (N,), 1 to `_KINDS`, in the same row (N,), in order of first appearance; rows must ascend."""
    pairs, index = tf.unique(rows * (_KINDS + 1) + kinds)
    return pairs // (_KINDS + 1), pairs % (_KINDS + 1), tf.math.unsorted_segment_sum(values, index, tf.size(pairs))


def _by_row(flat: Any, rows: Any, batch: Any) -> Any:
    """Values (N,) with their ascending rows (N,) -> (B, largest number in a row), padded with 0 on the right."""
    return tf.RaggedTensor.from_value_rowids(flat, rows, nrows=tf.cast(batch, rows.dtype), validate=False).to_tensor()


def symbol_table() -> Any:
    """Lookup table from symbol to a number: the atomic number, or one above `ELEMENTS` for D and T; 0 if unknown.

    An exported module must hold it as an attribute.
    """
    symbols = [*SYMBOLS[1:], *_ISOTOPES]
    assert set(symbols) == set(ATOMIC_NUMBERS)
    entries = tf.lookup.KeyValueTensorInitializer(symbols, list(range(1, len(symbols) + 1)), tf.string, tf.int32)
    return tf.lookup.StaticHashTable(entries, default_value=0)


def _check_text(formulas: Any, shown: Any) -> Any:
    """`formulas` again, once all of them follow the grammar."""
    short = tf.strings.length(formulas, unit="UTF8_CHAR") <= MAX_CHARACTERS
    with tf.control_dependencies([require(short, f"a formula may be at most {MAX_CHARACTERS:,} characters long:", shown)]):
        formulas = tf.identity(formulas)

    def refuse(pattern: str, sentence: str) -> Any:
        return require(tf.logical_not(tf.strings.regex_full_match(formulas, pattern)), sentence, shown)

    checks = [
        refuse(rf"(?:{_SPACE}|@)*", "the formula holds no element:"),
        refuse(r"(?s).*[()\[\]{}].*", "brackets must be expanded before the formula is sent, such as CaO2H2 for Ca(OH)2:"),
        refuse(_HYDRATE, "the dot may be a decimal point or mark a hydrate; write the water's elements out, such as CuSO9H10:"),
    ]
    with tf.control_dependencies(checks):
        readable = tf.strings.regex_full_match(tf.identity(formulas), _FORMULA)
    with tf.control_dependencies([require(readable, "the formula must consist of element symbols and positive amounts:", shown)]):
        return tf.strings.regex_replace(formulas, rf"{_SPACE}|@", "")


def parse_formulas(formulas: Any, symbols: Any) -> tuple[Any, Any]:
    """Read formulas by the grammar of `tfmat.featurizers.composition.parse_formula`, without brackets.

    Args:
        formulas: string (B,), e.g. ``Fe2O3``, ``Li0.5CoO2``.
        symbols: `symbol_table`.

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
    with tf.control_dependencies([require(kinds > 0, "the formula holds an unknown element:", tf.gather(shown, rows))]):
        rows, kinds, amounts = _merge(rows, kinds, values)
    lowest, highest = AMOUNTS
    allowed = tf.logical_and(amounts >= lowest, amounts <= highest)
    sentence = f"the amount of an element must be from {lowest:g} to {highest:g} in the formula:"
    with tf.control_dependencies([require(allowed, sentence, tf.gather(shown, rows))]):
        species = tf.where(kinds > ELEMENTS, 1, kinds)
    return _by_row(species, rows, batch), _by_row(amounts, rows, batch)
