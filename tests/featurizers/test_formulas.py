"""Formulas are read as a chemist does, or refused with the reason; never as another compound."""

import numpy as np
import pytest
from formula_cases import READ, REFUSED
from pymatgen.core import Composition

from tfmat.elements import ATOMIC_NUMBERS, SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers import CompositionFeaturizer
from tfmat.featurizers.formula import parse_formula


def wanted(formula):
    """Amounts of the plain formula, as pymatgen reads it."""
    return {element.symbol: amount for element, amount in Composition(READ[formula]).items()}


def read(formula):
    amounts = {}
    for symbol, amount in parse_formula(formula).items():
        name = SYMBOLS[ATOMIC_NUMBERS[symbol]]
        amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def test_there_are_enough():
    assert len(READ) + len(REFUSED) > 200 and not set(READ) & set(REFUSED)


@pytest.mark.parametrize("formula", READ)
def test_it_is_read(formula):
    assert read(formula) == pytest.approx(wanted(formula), rel=1e-12)


@pytest.mark.parametrize("formula", REFUSED)
def test_it_is_refused_with_the_reason(formula):
    with pytest.raises(InputError) as error:
        parse_formula(formula)
    assert REFUSED[formula] in str(error.value) and "\n" not in str(error.value)


def test_many_at_once_are_read_alike():
    featurizer = CompositionFeaturizer()
    records = featurizer.featurize(list(READ))
    for example, formula in zip(records, READ, strict=True):
        amounts = wanted(formula)
        assert dict(zip(example["species"].tolist(), example["fractions"].tolist(), strict=True)) == pytest.approx(
            {ATOMIC_NUMBERS[symbol]: amount / sum(amounts.values()) for symbol, amount in amounts.items()}, rel=1e-6
        )
        np.testing.assert_array_equal(example["species"], featurizer(formula)["species"])
    for formula in REFUSED:
        with pytest.raises(InputError):
            featurizer.featurize(["NaCl", formula])
