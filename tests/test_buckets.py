"""The choice of buckets: cheapest, few, wide enough."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.batch import BatchPlan
from tfmat.buckets import PAIRS, SLOTS, Sizes, choose_buckets, has_slots, rows_of, used_slots
from tfmat.records import Records

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)
CRYSTALS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=60).map(np.array)


def cost(plan):
    """Padded cost of an epoch."""
    counts, slots = np.bincount(plan.bucket_of).tolist(), plan.slots or [1] * len(plan.rows)
    return sum(-(-count // rows) * rows * w * k * k for count, rows, w, k in zip(counts, plan.rows, plan.buckets, slots, strict=True))


def cuts(values, most):
    """All ways to cut the distinct values into at most `most` ranges, as tuples of upper bounds."""
    distinct = np.unique(values).tolist()
    return [(*cut, distinct[-1]) for number in range(most) for cut in combinations(distinct[:-1], number)]


@given(SIZES, st.integers(1, 16), st.integers(1, 4))
def test_buckets_are_the_cheapest(lengths, batch, limit):
    sizes = Sizes(lengths)
    bucket_of = choose_buckets(sizes, batch, limit=limit, gain=0.0)
    assert bucket_of.max() < limit
    assert cost(BatchPlan(sizes, bucket_of, batch)) == min(
        cost(BatchPlan(sizes, np.searchsorted(bounds, lengths), batch)) for bounds in cuts(lengths, limit)
    )


@given(CRYSTALS, st.integers(1, 16), st.integers(1, 8))
def test_two_dimensions_cost_no_more_than_one(crystals, batch, limit):
    sizes = Sizes(*crystals.T)
    plan = BatchPlan(sizes, choose_buckets(sizes, batch, limit=limit, gain=0.0), batch)
    assert sorted(set(plan.bucket_of)) == list(range(len(plan.rows)))
    assert len(plan.rows) <= limit
    by_length = choose_buckets(Sizes(sizes.lengths), batch, limit=limit, gain=0.0)
    by_slots = choose_buckets(Sizes(sizes.slots), batch, limit=limit, gain=0.0)
    assert cost(plan) <= min(cost(BatchPlan(sizes, by_length, batch)), cost(BatchPlan(sizes, by_slots, batch)))


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=40).map(np.array), st.integers(1, 12), st.integers(1, 4)
)
def test_slots_are_cut_into_the_cheapest_classes(crystals, batch, limit):
    """Against all ways to cut by slots and each class by length."""
    lengths, slots = crystals.T
    sizes = Sizes(lengths, slots)

    def class_costs(members):
        """Least cost of one class for 1, 2, ... buckets."""
        best = [np.inf] * limit
        part = Sizes(lengths[members], slots[members])
        for bounds in cuts(lengths[members], limit):
            found = cost(BatchPlan(part, np.searchsorted(bounds, lengths[members]), batch))
            best[len(bounds) - 1] = min(best[len(bounds) - 1], found)
        return best

    least = np.inf
    for bounds in cuts(slots, limit):
        totals = {0: 0.0}
        for low, high in zip((0, *bounds), bounds, strict=False):
            options = class_costs((low < slots) & (slots <= high))
            sums = [(n + m, spent + more) for n, spent in totals.items() for m, more in enumerate(options, 1) if n + m <= limit]
            totals = {}
            for number, total in sums:
                totals[number] = min(total, totals.get(number, np.inf))
        least = min([least, *totals.values()])
    assert cost(BatchPlan(sizes, choose_buckets(sizes, batch, limit=limit, gain=0.0), batch)) == least


def test_a_bucket_must_be_worth_its_compilation():
    sizes = Sizes(np.array([3] * 1000 + [4]))
    assert set(choose_buckets(sizes, 100, gain=0.5)) == {0}
    np.testing.assert_array_equal(choose_buckets(sizes, 100, gain=0.05), [0] * 1000 + [1])
    saved = 11 * 100 * 4 - 10 * 100 * 3 - 4
    assert set(choose_buckets(sizes, 100, gain=0.0, least=saved)) == {0, 1}
    assert set(choose_buckets(sizes, 100, gain=0.0, least=saved + 1)) == {0}


def test_what_pairs_of_slots_save_is_counted():
    sizes = Sizes(np.array([10] * 80), np.array([12] * 40 + [24] * 40))
    saved = 40 * 10 * (24**2 - 12**2)
    np.testing.assert_array_equal(choose_buckets(sizes, 8, gain=0.0, least=saved), [0] * 40 + [1] * 40)
    assert set(choose_buckets(sizes, 8, gain=0.0, least=saved + 1)) == {0}
    assert set(choose_buckets(Sizes(sizes.lengths), 8)) == {0}


def test_very_large_examples_come_in_small_batches():
    assert rows_of(100, 128) == 128
    assert rows_of(SLOTS, 128) == rows_of(10 * SLOTS, 128) == 1
    assert rows_of(SLOTS // 32, 128) == 32
    assert rows_of(10, 128, 3) == 8
    assert rows_of(16, 64, slots=16) == 64
    assert rows_of(PAIRS // 32 // 64, 128, slots=8) == 32
    assert rows_of(PAIRS, 128, slots=24) == 1


def test_many_distinct_sizes_are_bucketed_quickly():
    sizes = Sizes(np.random.default_rng(0).lognormal(6, 0.8, 20_000).astype(int) + 1)
    began = time.perf_counter()
    bucket_of = choose_buckets(sizes, 128)
    assert time.perf_counter() - began < 5
    assert bucket_of.max() < 8
    assert cost(BatchPlan(sizes, bucket_of, 128)) < 0.5 * cost(BatchPlan(sizes, np.zeros(20_000, int), 128))


def test_many_crystals_are_bucketed_quickly():
    random = np.random.default_rng(0)
    sizes = Sizes(np.minimum(random.lognormal(3, 0.8, 40_000).astype(int) + 1, 200), random.integers(1, 25, 40_000))
    began = time.perf_counter()
    bucket_of = choose_buckets(sizes, 64)
    assert time.perf_counter() - began < 5
    by_length = choose_buckets(Sizes(sizes.lengths), 64)
    assert cost(BatchPlan(sizes, bucket_of, 64)) < 0.8 * cost(BatchPlan(sizes, by_length, 64))


def test_many_numbers_of_slots_become_few_levels():
    random = np.random.default_rng(0)
    sizes = Sizes(random.integers(1, 20, 3000), random.integers(1, 100, 3000))
    plan = BatchPlan(sizes, choose_buckets(sizes, 32), 32)
    assert cost(plan) < 0.6 * cost(BatchPlan(sizes, choose_buckets(Sizes(sizes.lengths), 32), 32))


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=8), st.integers(0, 2), st.floats(-1e-30, 1e-30))
def test_used_slots(used, component, smallest):
    """Sites with none, examples without sites, and vectors of which one component is not zero."""
    vectors = np.zeros((sum(map(len, used)), 5, 3), np.float32)
    value = smallest if np.float32(smallest) else 1.0
    for site, number in enumerate(k for example in used for k in example):
        vectors[site, :number, component] = value
    offsets = np.cumsum([0, *map(len, used)])
    np.testing.assert_array_equal(used_slots(vectors, offsets), [max([1, *example]) for example in used])


def test_used_slots_of_many_sites_in_a_mapped_file(tmp_path):
    used = np.random.default_rng(0).integers(1, 9, 40_000)
    vectors = np.where(np.arange(8)[:, None] < used[:, None, None], np.float32([0, 0, 1]), np.float32(0))
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    np.testing.assert_array_equal(used_slots(mapped, np.arange(0, 40_001, 2)), used.reshape(-1, 2).max(axis=1))


def test_only_records_of_vectors_have_slots():
    assert has_slots({"species", "neighbors", "vectors"})
    assert not has_slots({"species", "centers", "neighbors", "distances"})
    bonds = Records.stack([{"species": np.ones(2, np.int32), "neighbors": np.zeros(6, np.int32), "state": np.zeros(2, np.float32)}] * 3)
    sizes = Sizes.of(bonds)
    assert sizes.slots is None
    np.testing.assert_array_equal(sizes.lengths, [6, 6, 6])


@pytest.mark.parametrize("slots", [None, np.array([3])])
def test_one_example(slots):
    np.testing.assert_array_equal(choose_buckets(Sizes(np.array([5]), slots), 32), [0])
