"""Which examples form which batch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.batching import plan as plans
from tfmat.batching.plan import ConsecutivePlan, EvenPlan, SortedPlan, plan_of, work_of
from tfmat.records import Records

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=80).map(np.array)


def every_plan(sizes, batch, seed=3):
    return [EvenPlan(sizes, batch, seed), SortedPlan(sizes, batch, seed), SortedPlan(sizes, batch), ConsecutivePlan(sizes, batch)]


@given(SIZES, st.integers(1, 16), st.integers(0, 5))
def test_every_example_once_per_epoch(sizes, batch, epoch):
    for plan in every_plan(sizes, batch):
        batches = plan.epoch(epoch)
        assert len(batches) == plan.steps == len(plan.epoch(epoch + 1))
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))
        assert max(map(len, batches)) <= plan.rows <= batch


def test_epochs_differ_and_repeat():
    for kind in (EvenPlan, SortedPlan):
        plan = kind(np.ones(100, int), 10, 3)
        first, again, next_epoch, other = (
            np.concatenate(batches) for batches in (plan.epoch(0), plan.epoch(0), plan.epoch(1), kind(np.ones(100, int), 10, 4).epoch(0))
        )
        assert (first == again).all()
        assert (first != next_epoch).any()
        assert (first != other).any()
    assert (np.concatenate(ConsecutivePlan(np.ones(100, int), 10).epoch(7)) == np.arange(100)).all()


@given(SIZES, st.integers(1, 16), st.integers(0, 5))
def test_even_batches_hold_about_the_same_work(sizes, batch, seed):
    plan = EvenPlan(sizes, batch, seed)
    work = [sizes[b].sum() for b in plan.epoch(0)]
    assert max(work) - min(work) <= 2 * sizes.max()
    assert {len(b) for b in plan.epoch(0)} <= {plan.rows, plan.rows - 1}


@given(SIZES, st.integers(1, 16))
def test_sorted_batches_hold_examples_of_neighbouring_lengths(sizes, batch):
    spans = sorted((sizes[b].min(), sizes[b].max()) for b in SortedPlan(sizes, batch, 1).epoch(2))
    assert all(longest <= shortest for (_, longest), (shortest, _) in itertools.pairwise(spans))


@given(SIZES, st.integers(1, 16))
def test_large_examples_make_small_batches(sizes, batch):
    limit = 60
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "WORK", limit)
        for plan in every_plan(sizes, batch):
            bound = limit + sizes.max() if isinstance(plan, EvenPlan) else limit
            for members in plan.epoch(1):
                assert len(members) == 1 or sizes[members].sum() <= bound


def test_the_plan_fits_the_kind_of_example():
    offsets = np.array([0, 2, 5])
    composition = Records({"species": np.arange(5), "fractions": np.ones(5)}, dict.fromkeys(("species", "fractions"), offsets))
    lists = {"species": np.arange(5), "site_multiplicity": np.ones(5), "elements": np.ones((5, 7))}
    crystals = Records(lists, dict.fromkeys(lists, offsets))
    sequence = Records(lists | {"lists": np.arange(9)}, crystals.offsets | {"lists": np.array([0, 8, 9])})
    assert isinstance(plan_of(composition, 2, seed=0), SortedPlan)
    assert isinstance(plan_of(crystals, 2, seed=0), EvenPlan)
    assert isinstance(plan_of(crystals, 2), ConsecutivePlan)
    assert plan_of(sequence, 2).lengths.tolist() == [8, 1]
    assert work_of(crystals).tolist() == [14, 21]
