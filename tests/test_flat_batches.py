"""Buckets and batches where real sites cost and padded ones do not."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfmat.batch
import tfmat.buckets
from tfmat.batch import CALL, BatchPlan, SortedPlan
from tfmat.buckets import PAIRS, Sizes, choose_buckets
from tfmat.flat_batches import STEP, flat_rows

CRYSTALS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=30).map(np.array)
LARGE = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 24)), min_size=1, max_size=80).map(np.array)


def plan_of(sizes, batch_size, limit=24, seed=0, **options):
    return BatchPlan(sizes, choose_buckets(sizes, batch_size, limit=limit, **options), batch_size, seed)


def cost(lengths, slots, batch_size, most, step):
    """Of one bucket, by trying how many of the largest crystals fit."""
    rows = max([1, *(n for n in range(1, batch_size + 1) if np.sort(lengths)[::-1][:n].sum() * slots.max() ** 2 <= most)])
    return lengths.sum() * slots.max() ** 2 + step * -(-len(lengths) // rows)


def ranges(values, most):
    """All ways to cut the distinct values into at most `most` ranges, as masks."""
    distinct = np.unique(values).tolist()
    for number in range(most):
        for cut in combinations(distinct[:-1], number):
            yield [(low < values) & (values <= high) for low, high in zip((0, *cut), (*cut, distinct[-1]), strict=True)]


@given(CRYSTALS, st.integers(1, 12), st.integers(1, 4), st.sampled_from([10, 40, 10**6]))
def test_buckets_are_the_cheapest(crystals, batch_size, limit, most):
    """Against all ways to cut by slots and each class by length."""
    lengths, slots = crystals.T
    step = STEP * min(batch_size * (lengths * slots**2).mean(), most)

    def class_costs(members):
        """Least cost of one class for 1, 2, ... buckets."""
        best = [np.inf] * limit
        for parts in ranges(lengths[members], limit):
            found = sum(cost(lengths[members][part], slots[members][part], batch_size, most, step) for part in parts)
            best[len(parts) - 1] = min(best[len(parts) - 1], found)
        return best

    least = np.inf
    for classes in ranges(slots, limit):
        totals = {0: 0.0}
        for options in map(class_costs, classes):
            sums = [(n + m, spent + more) for n, spent in totals.items() for m, more in enumerate(options, 1) if n + m <= limit]
            totals = {n: min(total for m, total in sums if m == n) for n, _ in sums}
        least = min([least, *totals.values()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfmat.buckets, "PAIRS", most)
        bucket_of = choose_buckets(Sizes(lengths, slots, flat=True), batch_size, limit=limit, gain=0.0)
    chosen = [bucket_of == bucket for bucket in range(bucket_of.max() + 1)]
    assert len(chosen) <= limit
    assert sum(cost(lengths[part], slots[part], batch_size, most, step) for part in chosen) == pytest.approx(least)


@given(LARGE, st.integers(1, 64), st.integers(1, 24))
def test_no_batch_is_too_large_and_none_much_smaller_than_others(crystals, batch_size, limit):
    sizes = Sizes(*crystals.T, flat=True)
    plan = plan_of(sizes, batch_size, limit)
    epoch = plan.epoch(3)
    assert sorted(np.concatenate([b.indices for b in epoch])) == list(range(len(sizes)))
    for b in epoch:
        assert len(b.indices) <= b.rows <= batch_size
        assert len(b.indices) == 1 or sizes.lengths[b.indices].sum() * plan.slots[b.bucket] ** 2 <= PAIRS
    for bucket in range(len(plan.rows)):
        counts = [len(b.indices) for b in epoch if b.bucket == bucket]
        assert max(counts) - min(counts) < max(len(counts), 2)
    again = plan_of(sizes, batch_size, limit)  # as a resumed run derives it
    assert [(b.indices.tolist(), b.bucket) for b in again.epoch(3)] == [(b.indices.tolist(), b.bucket) for b in epoch]


def test_crystals_are_told_apart_by_their_slots_alone():
    lengths, slots = np.tile(np.arange(1, 21), 30), np.repeat([12, 16, 20], 200)
    plan = plan_of(Sizes(lengths, slots, flat=True), 32)
    np.testing.assert_array_equal(plan.bucket_of, np.repeat([0, 1, 2], 200))
    assert plan.rows == (29, 29, 29)  # 7 batches of 200 crystals
    padded = plan_of(Sizes(lengths, slots), 32)
    assert len(padded.rows) > 3


def test_very_large_crystals_come_apart():
    """With one of them in a batch, 64 crystals would be too many."""
    lengths = np.array([10] * 256 + [300] * 3)
    plan = plan_of(Sizes(lengths, np.full(259, 16), flat=True), 64)
    np.testing.assert_array_equal(plan.bucket_of, [0] * 256 + [1] * 3)
    assert plan.rows == (64, 3) and plan.steps == 5
    assert flat_rows(lengths, 16, 64, PAIRS) == 15  # 900 sites of three, and of 12 others, make 2**18 pairs


def test_a_few_crystals_join_those_with_more_slots():
    slots = np.array([12] * 3 + [13] * 193)
    plan = plan_of(Sizes(np.full(196, 10), slots, flat=True), 64)
    assert plan.rows == (49,) and plan.steps == 4
    assert [len(b.indices) for b in plan.epoch(0)] == [49] * 4
    more = np.array([12] * 40 + [16] * 193)  # what they would cost there is more than that of a batch
    assert plan_of(Sizes(np.full(233, 10), more, flat=True), 64).rows == (40, 49)


def test_the_choice_is_quick():
    random = np.random.default_rng(0)
    lengths = random.lognormal(4, 0.8, 40_000).astype(int) + 1
    sizes = Sizes(lengths, random.integers(1, 60, 40_000), flat=True)
    began = time.perf_counter()
    plan = plan_of(sizes, 64)
    assert plan.steps > 0 and time.perf_counter() - began < 8
    real = float((sizes.lengths * sizes.pairs).sum())
    assert sum(lengths[b.indices].sum() * plan.slots[b.bucket] ** 2 for b in plan.epoch(0)) < 1.2 * real


@given(LARGE, st.integers(1, 64))
def test_sorted_batches_pad_few_pairs(crystals, batch_size):
    sizes = Sizes(*crystals.T, flat=True)
    plan = SortedPlan(sizes, batch_size)
    assert sorted(np.concatenate([b.indices for b in plan.epoch(0)])) == list(range(len(sizes)))
    for b in plan.epoch(0):
        pairs = sizes.lengths[b.indices].sum() * plan.slots[b.bucket] ** 2
        assert len(b.indices) == b.rows <= batch_size
        assert pairs - (sizes.lengths * sizes.pairs)[b.indices].sum() <= CALL
        assert len(b.indices) == 1 or pairs <= PAIRS


def test_sorted_batches_hold_crystals_of_any_length():
    lengths = np.tile([2, 30], 32)
    assert SortedPlan(Sizes(lengths, np.full(64, 12), flat=True), 64).rows == (64,)
    assert len(SortedPlan(Sizes(lengths, np.full(64, 12)), 64).rows) > 1
    assert len(SortedPlan(Sizes(lengths, np.where(lengths > 2, 12, 24), flat=True), 64).rows) == 2
