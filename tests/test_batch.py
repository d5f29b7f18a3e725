"""Buckets, plans and padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.batch import BatchPlan, choose_buckets, pad, pad_targets
from tfmat.records import Records

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)


def slots(sizes, buckets, batch):
    counts = np.bincount(np.searchsorted(buckets, sizes), minlength=len(buckets))
    return sum(-(-count // batch) * batch * width for count, width in zip(counts, buckets, strict=True))


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
    assert all(sizes[b.indices].max() <= plan.buckets[b.bucket] and len(b.indices) <= b.rows == batch for b in batches)


def test_epochs_differ_and_repeat():
    sizes = np.ones(100, int)
    plan = BatchPlan(sizes, 10, (1,), seed=3)
    first = np.concatenate([batch.indices for batch in plan.epoch(0)])
    assert (first == np.concatenate([batch.indices for batch in plan.epoch(0)])).all()
    assert (first != np.concatenate([batch.indices for batch in plan.epoch(1)])).any()
    assert (first != np.concatenate([batch.indices for batch in BatchPlan(sizes, 10, (1,), seed=4).epoch(0)])).any()
    unshuffled = np.concatenate([batch.indices for batch in BatchPlan(sizes, 10, (1,)).epoch(7)])
    assert (unshuffled == np.arange(100)).all()


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
