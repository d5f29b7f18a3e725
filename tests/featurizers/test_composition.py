"""Formulas against pymatgen, order and fractions, and every refusal."""

import gzip
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, DummySpecies, Lattice, Structure

from tfmat.crystal import Crystal, Crystals
from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer
from tfmat.featurizers.formula import parse_formula

SYMBOL = st.sampled_from([*SYMBOLS[1:], "D", "T"])
AMOUNT = st.one_of(
    st.just(""),
    st.integers(1, 999).map(str),
    st.decimals("0.01", "99", places=3, allow_nan=False).map(str),
    st.sampled_from([".05", "2.", "3e-2"]),
)
PART = st.tuples(SYMBOL, AMOUNT).map("".join)
MULTIPLIER = st.one_of(st.just(""), st.integers(1, 20).map(str), st.sampled_from(["0.5", "1.25"]))


def grouped(parts):
    brackets = st.sampled_from(["()", "[]", "{}"])
    inside = st.lists(parts, min_size=1, max_size=3).map("".join)
    return st.tuples(brackets, inside, MULTIPLIER).map(lambda t: f"{t[0][0]}{t[1]}{t[0][1]}{t[2]}")


FORMULA = st.lists(st.recursive(PART, grouped, max_leaves=5), min_size=1, max_size=4).map("".join)
SPACED = st.tuples(FORMULA, st.sampled_from(["", " ", "  "]), FORMULA).map("".join)


@settings(max_examples=300, deadline=None)
@given(SPACED)
def test_formulas_are_read_as_pymatgen_reads_them(formula):
    try:
        amounts = parse_formula(formula)
    except InputError as error:
        assert "ambiguous" in str(error)
        return
    expected = {element.name: amount for element, amount in Composition(formula).items()}
    assert list(amounts) == list(expected)
    np.testing.assert_allclose(list(amounts.values()), list(expected.values()), rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(FORMULA, max_size=8))
def test_many_at_once_equal_one_by_one(formulas):
    featurizer = CompositionFeaturizer(max_elements=100)
    good = []
    for formula in formulas:
        try:
            total = {}
            for symbol, amount in parse_formula(formula).items():
                total[ATOMIC_NUMBERS[symbol]] = total.get(ATOMIC_NUMBERS[symbol], 0.0) + amount
        except InputError:
            continue
        order = sorted(total, key=lambda z: -np.float32(total[z]))
        good.append((formula, order, [total[z] / sum(total.values()) for z in order]))
    records = featurizer.featurize([formula for formula, _, _ in good])
    assert len(records) == len(good)
    for i, (formula, species, fractions) in enumerate(good):
        for example in (records[i], featurizer(formula)):
            assert example["species"].tolist() == species
            np.testing.assert_allclose(example["fractions"], fractions, rtol=1e-6)


def test_mirror_formulas_equal_pymatgens(mirror):
    formulas = []
    for name in (
        "benchmark_data/OQMD_Bandgap/test",
        "benchmark_data/aflow__energy_atom/test",
        "matbench/steels_yield",
        "matbench/expt_gap",
        "matbench/glass",
    ):
        with gzip.open(mirror / "composition" / f"{name}.csv.gz", "rt") as stream:
            formulas += [line.split(",")[0] for line in list(stream)[1::20]]
    records = CompositionFeaturizer().featurize(formulas)
    for i, formula in enumerate(formulas):
        amounts = sorted(((np.float32(x), z) for z, x in ((e.Z, x) for e, x in Composition(formula).items())), key=lambda pair: -pair[0])
        assert records[i]["species"].tolist() == [z for _, z in amounts]
        np.testing.assert_allclose(records[i]["fractions"], [x / sum(y for y, _ in amounts) for x, _ in amounts], rtol=1e-5)


def test_every_mirror_formula_can_be_read(mirror):
    for path in sorted((mirror / "composition").glob("benchmark_data/[am]*/test.csv.gz")) + sorted(
        (mirror / "composition/matbench").glob("*.gz")
    ):
        with gzip.open(path, "rt") as stream:
            formulas = [line.split(",")[0] for line in list(stream)[1:]]
        assert len(CompositionFeaturizer().featurize(formulas)) == len(formulas)


def test_example_follows_the_spec():
    featurizer = CompositionFeaturizer()
    example = featurizer("Li0.5CoO2")
    assert example["species"].tolist() == [8, 27, 3]
    np.testing.assert_array_equal(example["fractions"], np.asarray([2 / 3.5, 1 / 3.5, 0.5 / 3.5], np.float32))
    for key, (dtype, shape) in featurizer.spec.items():
        assert example[key].dtype == dtype
        assert example[key].ndim == len(shape)


@pytest.mark.parametrize(
    ("formula", "species"),
    [
        ("NaCl", [11, 17]),
        ("ClNa", [17, 11]),
        ("TiBaO3", [8, 22, 56]),
        ("CH3COOH", [1, 6, 8]),
        ("Ca(OH)2", [8, 1, 20]),
        ("D2O", [1, 8]),
        ("HDO", [1, 8]),
        ("Fe0.50000000001O0.5", [26, 8]),
        ("O0.5Fe0.50000000001", [8, 26]),
        ("NaN", [11, 7]),
        ("No2", [102]),
        ("Co", [27]),
        ("CO", [6, 8]),
    ],
)
def test_order_is_by_amount_with_ties_in_formula_order(formula, species):
    assert CompositionFeaturizer()(formula)["species"].tolist() == species


def test_ties_by_atomic_number():
    """Then a formula may be written in any order, also as a crystal."""
    featurizer = CompositionFeaturizer(ties="atomic_number")
    for formula in ("NaClO3", "ClNaO3", "O3ClNa", "O3NaCl", "NaOClO2"):
        assert featurizer(formula)["species"].tolist() == [8, 11, 17]
    cells = Crystals.of([Crystal(np.array(order, np.int32), 4 * np.eye(3), np.eye(3)[: len(order)] / 2) for order in ([17, 11], [11, 17])])
    assert featurizer.featurize(cells).values["species"].tolist() == [11, 17, 11, 17]
    assert CompositionFeaturizer()("ClNaO3")["species"].tolist() == [8, 17, 11]
    with pytest.raises(ValueError, match=r"`ties` must be one of \('as_written', 'atomic_number'\). Received: ties='alphabet'"):
        CompositionFeaturizer(ties="alphabet")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SYMBOLS[1:]), st.integers(1, 50)), min_size=1, max_size=8, unique_by=lambda t: t[0]),
    st.integers(2, 9),
)
def test_scaling_all_amounts_changes_nothing(parts, factor):
    records = CompositionFeaturizer().featurize(
        [
            "".join(f"{symbol}{amount}" for symbol, amount in parts),
            "".join(f"{symbol}{amount * factor}" for symbol, amount in parts),
            "(" + "".join(f"{symbol}{amount}" for symbol, amount in parts) + f"){factor}",
        ]
    )
    for other in (records[1], records[2]):
        np.testing.assert_array_equal(records[0]["species"], other["species"])
        np.testing.assert_array_equal(records[0]["fractions"], other["fractions"])


def test_pymatgen_objects():
    featurizer = CompositionFeaturizer()
    text = featurizer("Fe2O3")
    salt = Structure(Lattice.cubic(4.2), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed = {"Fe2+": 1, "Fe3+": 2, "O2-": 4}
    for material, formula in ((Composition("Fe2O3"), "Fe2O3"), (Composition(mixed), "Fe3O4"), (salt, "NaCl"), (Composition("D2O"), "H2O")):
        for key, value in featurizer(material).items():
            np.testing.assert_array_equal(value, featurizer(formula)[key])
    records = featurizer.featurize(["NaCl", Composition("Fe2O3"), "Fe2O3", salt])
    for i in (1, 2):
        assert records[i]["species"].tolist() == text["species"].tolist()
    assert records.lengths("species").tolist() == [2, 2, 2, 2]


def test_no_material_gives_no_example():
    records = CompositionFeaturizer().featurize([])
    assert len(records) == 0
    assert records.values["species"].dtype == np.int32


BAD = [
    ("", "the formula is empty"),
    ("  \t", "the formula is empty"),
    ("Xx2O3", "unknown element 'Xx'"),
    ("iron", "holds 'i' at character 1"),
    ("2Fe", "holds '2' at character 1"),
    ("F e2", "holds 'e' at character 3"),
    ("Fe2 3", "holds '3' at character 5"),
    ("Fe1.2.3", "holds '.'"),
    ("Fe,O", "holds ','"),
    ("Fe(OH", "no ')'"),
    ("FeOH)2", "unbalanced brackets at ')'"),
    ("Fe(OH]2", "unbalanced brackets at ']'"),
    ("Fe()2", "empty brackets"),
    ("@", "holds no element"),
    ("Fe0O2", "negative or zero amount of Fe"),
    ("Fe(OH)0", "negative or zero amount of O"),
    ("Fe-2O3", "a negative amount, or an alloy"),
    ("Fe1e-9O", "has 1e-09 of Fe"),
    ("Fe1e400", "has inf of Fe"),
    ("Fe" + "9" * 500, "has inf of Fe"),
    ("Fe3+O2-", "charges and oxidation states are not read"),
    ("O2-", "charges and oxidation states are not read"),
    ("SO4^2-", "charges and oxidation states are not read"),
    ("Li1.5H2O", "CuSO4(H2O)5"),
    ("WO3.33H2O", "CuSO4(H2O)5"),
    ("".join(SYMBOLS[1:22]), "holds 21 distinct elements"),
    ("(" * 400 + "Fe" + ")" * 401, "unbalanced brackets"),
    ("Fe" * 501, "is 1,002 characters long"),
    (None, "None is not a material"),
    (float("nan"), "nan is not a material"),
    (26, "26 is not a material"),
    (b"Fe", "b'Fe' is not a material"),
    ({"Fe": 2}, "{'Fe': 2} is not a material"),
    (Composition(), "empty"),
    (Composition({"Fe": -1, "O": 2}, allow_negative=True), "negative or zero amount"),
    (Composition({DummySpecies("X"): 1, "O": 2}), "dummy species"),
    (Lattice.cubic(3), "is not a material"),
]


@pytest.mark.parametrize(("material", "message"), BAD, ids=lambda value: repr(value)[:24])
def test_bad_materials_are_refused_by_name_and_position(material, message):
    featurizer = CompositionFeaturizer()
    with pytest.raises(InputError) as single:
        featurizer(material)
    assert message in str(single.value)
    assert "\n" not in str(single.value)
    assert len(str(single.value)) < 300
    assert single.value.index is None
    with pytest.raises(InputError) as listed:
        featurizer.featurize(["NaCl", "Fe2O3", material, "CaO"])
    assert listed.value.index == 2
    assert str(listed.value) == f"item 2: {single.value}"


@pytest.mark.parametrize("formula", ["Li0.5H2O", "CaCl2.0H2O", "Li0.5CoO2", "CuSO4(H2O)5", "Y3N@C80", "Fe 2 O 3", "Fe\nO"])
def test_what_is_a_decimal_number_stays_one(formula):
    assert parse_formula(formula) == Composition(formula).get_el_amt_dict()


def test_a_formula_of_a_million_characters_is_refused_at_once():
    formula = "(" * 500_000 + ")" * 500_000
    start = time.perf_counter()
    with pytest.raises(InputError, match="1,000,000 characters long"):
        CompositionFeaturizer().featurize(["NaCl", formula])
    assert time.perf_counter() - start < 0.05


@pytest.mark.parametrize("max_elements", [0, -1, 2.0, True, "20"])
def test_a_bad_limit_is_refused(max_elements):
    with pytest.raises(ValueError, match="`max_elements` must be a positive integer"):
        CompositionFeaturizer(max_elements=max_elements)


def test_the_limit_is_kept():
    assert len(CompositionFeaturizer(max_elements=2)("NaCl")["species"]) == 2
    with pytest.raises(InputError, match=r"holds 3 distinct elements\. Expected at most 2"):
        CompositionFeaturizer(max_elements=2)("NaClO3")
