"""Buckets, plans and padding."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.batch import CALL, SLOTS, BatchPlan, SortedPlan, choose_buckets, pad, pad_targets, rows_of
from tfmat.records import Records

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)


def slots(sizes, buckets, batch):
    counts = np.bincount(np.searchsorted(buckets, sizes), minlength=len(buckets))
    rows = [rows_of(int(width), batch, int(count)) for count, width in zip(counts, buckets, strict=True)]
    return sum(-(-count // r) * r * width for count, r, width in zip(counts, rows, buckets, strict=True))


@given(SIZES, st.integers(1, 16), st.integers(1, 4))
def test_buckets_are_the_cheapest(sizes, batch, limit):
    from itertools import combinations

    buckets = choose_buckets(sizes, batch, limit=limit, gain=0.0)
    distinct = [int(v) for v in np.unique(sizes)]
    assert buckets[-1] == distinct[-1]
    assert len(buckets) <= limit
    best = min(slots(sizes, (*cut, distinct[-1]), batch) for k in range(limit) for cut in combinations(distinct[:-1], k))
    assert slots(sizes, buckets, batch) == best


def test_a_bucket_must_be_worth_its_compilation():
    sizes = np.array([3] * 1000 + [4])
    assert choose_buckets(sizes, 100, gain=0.5) == (4,)
    assert choose_buckets(sizes, 100, gain=0.05) == (3, 4)


@given(SIZES, st.integers(1, 16), st.integers(0, 5), st.integers(0, 100))
def test_every_example_once_an_epoch(sizes, batch, epoch, seed):
    plan = BatchPlan(sizes, batch, choose_buckets(sizes, batch), seed)
    batches = plan.epoch(epoch)
    assert len(batches) == plan.steps
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(len(sizes)))
    assert all(sizes[b.indices].max() <= plan.buckets[b.bucket] and len(b.indices) <= b.rows <= batch for b in batches)


def test_epochs_differ_and_repeat():
    sizes = np.ones(100, int)
    plan = BatchPlan(sizes, 10, (1,), seed=3)
    first = np.concatenate([batch.indices for batch in plan.epoch(0)])
    assert (first == np.concatenate([batch.indices for batch in plan.epoch(0)])).all()
    assert (first != np.concatenate([batch.indices for batch in plan.epoch(1)])).any()
    assert (first != np.concatenate([batch.indices for batch in BatchPlan(sizes, 10, (1,), seed=4).epoch(0)])).any()
    unshuffled = np.concatenate([batch.indices for batch in BatchPlan(sizes, 10, (1,)).epoch(7)])
    assert (unshuffled == np.arange(100)).all()


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=80).map(np.array), st.integers(1, 64))
def test_sorted_batches_hold_everything_once_with_little_padding(sizes, batch):
    batches = SortedPlan(sizes, batch).epoch(0)
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(len(sizes)))
    for b in batches:
        assert len(b.indices) == b.rows <= batch
        assert b.rows * sizes[b.indices].max() - sizes[b.indices].sum() <= CALL


def test_very_large_examples_come_in_small_batches():
    assert rows_of(100, 128) == 128
    assert rows_of(SLOTS, 128) == rows_of(10 * SLOTS, 128) == 1
    assert rows_of(SLOTS // 32, 128) == 32
    assert rows_of(10, 128, 3) == 8
    sizes = np.array([10] * 100 + [SLOTS // 4] * 9)
    plan = BatchPlan(sizes, 32, (10, SLOTS // 4), seed=0)
    assert plan.rows == (32, 4)
    assert max(b.rows * plan.buckets[b.bucket] for b in plan.epoch(0)) <= SLOTS


def test_many_distinct_sizes_are_bucketed_quickly():
    sizes = np.random.default_rng(0).lognormal(6, 0.8, 20_000).astype(int) + 1
    began = time.perf_counter()
    buckets = choose_buckets(sizes, 128)
    assert time.perf_counter() - began < 5
    assert len(buckets) <= 8
    assert slots(sizes, buckets, 128) < 0.5 * slots(sizes, (int(sizes.max()),), 128)


def test_padding():
    records = Records.stack([{"species": np.array([8, 26], "int32")}, {"species": np.array([14], "int32")}])
    padded = pad(records, np.array([1, 0]), {"species": 3}, 4)["species"]
    np.testing.assert_array_equal(padded, [[14, 0, 0], [8, 26, 0], [0, 0, 0], [0, 0, 0]])


def test_weights_give_the_mean_over_present_targets():
    values, weights = pad_targets({"y": np.array([1.0, np.nan, 3.0])}, np.array([0, 1, 2]), 4)
    np.testing.assert_array_equal(values["y"][:, 0], [1, np.nan, 3, np.nan])
    np.testing.assert_array_equal(weights["y"], [2, 0, 2, 0])
    assert np.nanmean(np.where(weights["y"] > 0, values["y"][:, 0] * weights["y"], 0)) == pytest.approx(2.0)


def test_records_check_their_columns():
    with pytest.raises(ValueError, match="same keys"):
        Records({"a": np.zeros(1)}, {"b": np.array([0, 1])})
    with pytest.raises(ValueError, match="same number"):
        Records({"a": np.zeros(1), "b": np.zeros(1)}, {"a": np.array([0, 1]), "b": np.array([0, 1, 1])})
    with pytest.raises(IndexError):
        Records({"a": np.zeros(1)}, {"a": np.array([0, 1])})[1]
