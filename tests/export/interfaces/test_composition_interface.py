"""The graph's preprocessing against the composition featurizer."""

import numpy as np
import pytest
import tensorflow as tf
from export_cases import BAD_ROWS
from formula_cases import READ, REFUSED
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.export.interfaces.compositions import EXAMPLES, arrange, expand_brackets, normalise, parse_formulas, symbol_table
from tfmat.featurizers import CompositionFeaturizer

FEATURIZER = CompositionFeaturizer()
SYMBOL = st.sampled_from([*SYMBOLS[1:], "D", "T"])
NUMBER = st.one_of(
    st.just(""),
    st.integers(1, 200).map(str),
    st.floats(1e-6, 1e6).map(lambda x: repr(x).replace("+", "")),
    st.sampled_from(["0.5", ".5", "2.", "1e-2", "3e2", "007", "0.3333333333333333333333333"]),
)
SPACE = st.sampled_from(["", "", "", " ", "\t", "@", "\u2009", "\u00a0", "\n", "\x0b"])
PIECE = st.tuples(SYMBOL, NUMBER, SPACE).map("".join)
FORMULA = st.tuples(SPACE, st.lists(PIECE, min_size=1, max_size=12)).map(lambda parts: parts[0] + "".join(parts[1]))
# Text that is close to a formula, and mostly is none.
GARBAGE = st.lists(st.sampled_from([*"FeOHCaLi2305.. e-@", "H2O", ".5H2O", "Fe", "\u2009", "é", "+", "D", "T"]), max_size=12).map("".join)


@pytest.fixture(scope="module")
def read():
    module = tf.Module()
    module.symbols = symbol_table()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def function(formulas):
        return normalise(*parse_formulas(formulas, module.symbols), FEATURIZER.max_elements)

    module.function = function
    return function


@pytest.fixture(scope="module")
def serve():
    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None), tf.float32)])
    def function(species, amounts):
        return normalise(species, amounts, FEATURIZER.max_elements)

    return function


def same(found, row, expected):
    species, fractions = (array.numpy()[row] for array in found)
    size = len(expected["species"])
    np.testing.assert_array_equal(species[:size], expected["species"])
    np.testing.assert_array_equal(fractions[:size], expected["fractions"])
    assert not species[size:].any() and not fractions[size:].any()


def agreed(read, formula):
    """What the featurizer reads; None for what the graph refuses, as it must whatever the featurizer does."""
    try:
        expected = FEATURIZER(formula)
    except InputError:
        expected = None
    try:
        found = read([formula])
    except tf.errors.InvalidArgumentError as error:
        assert expected is None or "ambiguous" in str(error) or not formula.isascii() or set(formula) & set("()[]{}.*E") or "2 " in formula
        return None
    assert expected is not None
    same(found, 0, expected)
    return expected


@pytest.mark.parametrize("formula", [*READ, *REFUSED])
def test_the_table_of_formulas(read, formula):
    """The same numbers, or a refusal."""
    agreed(read, formula)


def test_the_graph_reads_plain_formulas(read):
    plain = [formula for formula in READ if formula.isascii() and formula.isalnum()]
    assert len(plain) >= 30 and sum(agreed(read, formula) is None for formula in plain) <= 2
    for formula in EXAMPLES:
        assert agreed(read, formula) is not None


@settings(max_examples=100, deadline=None)
@given(formulas=st.lists(FORMULA, min_size=1, max_size=5))
@example(formulas=["Fe2O3", "Li0.5CoO2", "HDO", " Na Cl 1e-1 ", "Y3N@C80", "CuSO4.5 H2O", "Li0.5H2O", "O"])
def test_parser_is_the_featurizer(read, formulas):
    good = []
    for formula in formulas:
        expected = agreed(read, formula)
        if expected is not None:
            good.append((formula, expected))
    if good:
        found = read([formula for formula, _ in good])
        assert found[0].shape[1] == max(len(expected["species"]) for _, expected in good)
        for row, (_, expected) in enumerate(good):
            same(found, row, expected)


@settings(max_examples=100, deadline=None)
@given(text=GARBAGE)
def test_parser_refuses_what_the_featurizer_refuses(read, text):
    agreed(read, text)


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        ("", "holds no element"),
        (" \t@", "holds no element"),
        ("Xx2O3", "holds an unknown element:] [Xx2O3]"),
        ("NaCl Fee", "holds an unknown element:] [NaCl Fee]"),
        ("Ca(OH)2", "brackets must be expanded before the formula is sent, such as CaO2H2 for Ca(OH)2:] [Ca(OH)2]"),
        ("K4[Fe", "brackets must be expanded"),
        ("CuSO4.5H2O", "the formula is ambiguous"),
        ("Fe0", "must be from 1e-08 to 1e+08 in the formula:] [Fe0]"),
        ("Fe1e9", "must be from 1e-08 to 1e+08"),
        ("Fe" + "1" * 400, "must be from 1e-08 to 1e+08"),
        ("Fe-2O3", "must consist of element symbols and positive amounts:] [Fe-2O3]"),
        ("Fe2 3", "must consist of element symbols and positive amounts"),
        ("Fe3+", "must consist of element symbols and positive amounts"),
        ("fe", "must consist of element symbols and positive amounts"),
        ("2Fe", "must consist of element symbols and positive amounts"),
        ("é", "must consist of element symbols and positive amounts"),
        (b"Fe\xff", "must consist of element symbols and positive amounts"),
        ("Fe" * 501, "at most 1,000 characters long:] [" + "Fe" * 30 + "]"),
        ("x" * 1_000_000, "at most 1,000 characters"),
        ("".join(SYMBOLS[1:22]), "at most 20 distinct elements; see row] [1]"),
    ],
)
def test_refused_formulas(read, formula, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        read(["Fe2O3", formula])
    assert sentence in str(error.value)
    if not isinstance(formula, bytes) and "(" not in formula and "ambiguous" not in sentence:
        with pytest.raises(InputError):
            FEATURIZER(formula)


def test_empty_batch(read, serve):
    assert read(tf.zeros((0,), tf.string))[0].shape[0] == 0
    assert serve(tf.zeros((0, 4), tf.int32), tf.zeros((0, 4)))[0].shape[0] == 0


@pytest.mark.parametrize("formula", ["Ca(OH)2", "K4[Fe(CN)6]", "Mg(Al0.5(SO4)0.25)1e-4", "HDO"])
def test_expanded_brackets_are_the_same_composition(read, formula):
    flat = expand_brackets(formula)
    assert not set(flat) & set("()[]{}")
    same(read([flat]), 0, FEATURIZER(formula))


AMOUNTS = st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3, 7, 16]), min_size=1, max_size=8)


@st.composite
def compositions(draw):
    amounts = draw(AMOUNTS)
    species = draw(st.lists(st.integers(1, 118), min_size=len(amounts), max_size=len(amounts), unique=True))
    return species, amounts


def formula_of(species, amounts):
    return "".join(f"{SYMBOLS[z]}{amount}" for z, amount in zip(species, amounts, strict=True))


def call(serve, *rows, width=12):
    species, amounts = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
    for row, (z, a) in enumerate(rows):
        species[row, : len(z)], amounts[row, : len(a)] = z, a
    return serve(species, amounts)


@settings(max_examples=100, deadline=None)
@given(composition=compositions(), other=compositions(), data=st.data())
def test_normalise(serve, composition, other, data):
    species, amounts = composition
    expected = FEATURIZER(formula_of(species, amounts))
    same(call(serve, composition, other), 0, expected)  # whatever else is in the batch
    same(call(serve, (species, np.multiply(amounts, 1024))), 0, expected)
    same(call(serve, (species, np.divide(amounts, 1024))), 0, expected)

    spread = np.sort(data.draw(st.permutations(range(12)))[: len(species)])  # padding anywhere
    wide_species, wide_amounts = np.zeros(12, np.int32), np.zeros(12, np.float32)
    wide_species[spread], wide_amounts[spread] = species, amounts
    same(call(serve, (wide_species, wide_amounts)), 0, expected)

    order = data.draw(st.permutations(range(len(species))))
    shuffled = [species[i] for i in order], [amounts[i] for i in order]
    same(call(serve, shuffled), 0, FEATURIZER(formula_of(*shuffled)))

    # Splitting an element in two halves changes nothing, wherever the second half stands.
    halves = [*species, species[0]], [amounts[0] / 2, *amounts[1:], amounts[0] / 2]
    same(call(serve, halves), 0, expected)


@settings(max_examples=100, deadline=None)
@given(formula=FORMULA)
def test_fractions_come_back_unchanged(serve, formula):
    try:
        features = FEATURIZER(formula)
    except InputError:
        return
    # Amounts that differ, but not in float32, keep their order; their fractions may then be out of order by one rounding.
    assume(np.all(np.diff(features["fractions"]) <= 0))
    same(serve(features["species"][None], features["fractions"][None]), 0, features)
    static = arrange(tf.constant(features["species"][None]), tf.constant(features["fractions"][None]), snap=13 * 2.0**-24)
    same(static[:2], 0, features)
    assert static[2].numpy().all()


@settings(max_examples=30, deadline=None)
@given(formula=FORMULA)
def test_ties_by_atomic_number(formula):
    """Whatever the order in which a client sends the elements."""
    try:
        features = CompositionFeaturizer(ties="atomic_number")(formula)
    except InputError:
        return
    assume(np.all(np.diff(features["fractions"]) <= 0))
    backwards = [tf.constant(np.pad(features[key][::-1], (2, 1))[None]) for key in ("species", "fractions")]
    same(normalise(*backwards, ties="atomic_number"), 0, features)
    same(arrange(*backwards, snap=13 * 2.0**-24, ties="atomic_number")[:2], 0, features)


@pytest.mark.parametrize(("species", "amounts", "sentence"), BAD_ROWS)
def test_refused_amounts(serve, species, amounts, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        serve(np.array([[26, 8], species], np.int32), np.array([[2, 3], amounts], np.float32))
    assert sentence in str(error.value) and "row] [1]" in str(error.value)


@pytest.mark.parametrize(("species", "amounts", "sentence"), BAD_ROWS)
def test_rows_without_assertions_are_unsound(species, amounts, sentence):
    _, _, sound = arrange(tf.constant([[26, 8], species]), tf.constant([[2.0, 3.0], amounts], tf.float32))
    assert sound.numpy().tolist() == [True, False]


def test_refused_shapes(serve):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one amount for each"):
        serve(np.ones((1, 2), np.int32), np.ones((1, 3), np.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 20 distinct elements"):
        serve(np.arange(1, 22, dtype=np.int32)[None], np.ones((1, 21), np.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one element"):
        serve(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32))
