"""Splits are complete, disjoint, reproducible and never empty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition

from tfmat.data.splits import SPLITS, split_by_hash, split_random
from tfmat.errors import InputError

FORMULAS = [f"Fe{i}O{j}" for i in range(1, 31) for j in range(1, 31)]


def check(splits, n):
    assert tuple(splits) == SPLITS
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(n))
    for rows in splits.values():
        assert rows.size
        assert (np.diff(rows) > 0).all()


def test_split_by_hash():
    splits = split_by_hash(FORMULAS)
    check(splits, 900)
    assert [len(rows) for rows in splits.values()] == pytest.approx([720, 90, 90], abs=30)
    assert [len(rows) for rows in split_by_hash(FORMULAS, salt="x").values()] != [len(rows) for rows in splits.values()]


def test_the_same_formula_stays_in_its_split():
    before = split_by_hash(FORMULAS)
    mixed = [*reversed(FORMULAS), *FORMULAS]
    after = split_by_hash(mixed)
    for name in SPLITS:
        assert {FORMULAS[i] for i in before[name]} == {mixed[i] for i in after[name]}
    spaced = split_by_hash([formula.replace("O", " O") for formula in FORMULAS])
    np.testing.assert_array_equal(spaced["test"], before["test"])


def test_split_by_hash_of_objects():
    objects = split_by_hash([Composition(formula) for formula in FORMULAS])
    texts = split_by_hash([Composition(formula).formula for formula in FORMULAS])
    for name in SPLITS:
        np.testing.assert_array_equal(objects[name], texts[name])


@given(st.integers(3, 500), st.integers(0, 5))
def test_split_random(n, seed):
    splits = split_random(n, seed=seed)
    check(splits, n)
    assert len(splits["test"]) == max(1, round(0.1 * n))
    np.testing.assert_array_equal(splits["test"], split_random(n, seed=seed)["test"])


def test_seeds_differ():
    assert split_random(100, seed=0)["test"].tolist() != split_random(100, seed=1)["test"].tolist()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows(n):
    with pytest.raises(InputError, match="too few rows to split"):
        split_random(n)
    with pytest.raises(InputError, match="too few materials to split"):
        split_by_hash(["Fe"] * n)


@pytest.mark.parametrize("fractions", [(0.8, 0.2, 0.0), (0.8, 0.1, 0.2), (1.1, -0.2, 0.1), (0.5, 0.5), (0.8, 0.1, float("nan"))])
def test_bad_fractions(fractions):
    for split in (lambda f: split_random(10, f), lambda f: split_by_hash(["Fe"], f)):
        with pytest.raises(ValueError, match="`fractions` must be three positive numbers"):
            split(fractions)
