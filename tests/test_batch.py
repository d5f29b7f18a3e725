"""Buckets, plans and padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.batch import CALL, BatchPlan, SortedPlan, pad, pad_targets
from tfmat.buckets import PAIRS, SLOTS, Sizes, choose_buckets
from tfmat.records import Records

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)
CRYSTALS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=60).map(np.array)
SIZES = LENGTHS.map(Sizes) | st.builds(lambda crystals, flat: Sizes(*crystals.T, flat=flat), CRYSTALS, st.booleans())


@given(SIZES, st.integers(1, 16), st.integers(0, 5), st.integers(0, 100), st.integers(1, 8))
def test_every_example_once_an_epoch(sizes, batch, epoch, seed, limit):
    plan = BatchPlan(sizes, choose_buckets(sizes, batch, limit=limit), batch, seed)
    batches = plan.epoch(epoch)
    assert len(batches) == plan.steps
    assert len(plan.rows) <= limit
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(len(sizes)))
    for b in batches:
        assert sizes.lengths[b.indices].max() <= plan.buckets[b.bucket]
        assert (plan.slots is None) == (sizes.slots is None)
        assert plan.slots is None or sizes.slots[b.indices].max() <= plan.slots[b.bucket]
        assert len(b.indices) <= b.rows == plan.rows[b.bucket] <= batch


def test_epochs_differ_and_repeat():
    sizes, bucket_of = Sizes(np.ones(100, int)), np.zeros(100, int)
    plan = BatchPlan(sizes, bucket_of, 10, seed=3)
    first = np.concatenate([batch.indices for batch in plan.epoch(0)])
    assert (first == np.concatenate([batch.indices for batch in plan.epoch(0)])).all()
    assert (first != np.concatenate([batch.indices for batch in plan.epoch(1)])).any()
    assert (first != np.concatenate([batch.indices for batch in BatchPlan(sizes, bucket_of, 10, seed=4).epoch(0)])).any()
    unshuffled = np.concatenate([batch.indices for batch in BatchPlan(sizes, bucket_of, 10).epoch(7)])
    assert (unshuffled == np.arange(100)).all()


def test_an_interrupted_run_of_an_earlier_version_goes_on_with_its_batches():
    sizes = Sizes(np.array([2, 7, 3, 2, 9, 2, 3, 8, 2, 3]))
    plan = BatchPlan(sizes, choose_buckets(sizes, 2, limit=3), 2, seed=11)
    assert [(batch.indices.tolist(), batch.bucket) for batch in plan.epoch(4)] == [
        ([2, 0], 0),
        ([3], 0),
        ([1], 1),
        ([8, 9], 0),
        ([6, 5], 0),
        ([7, 4], 2),
    ]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=80).map(np.array), st.integers(1, 64))
def test_sorted_batches_hold_everything_once_with_little_padding(lengths, batch):
    batches = SortedPlan(Sizes(lengths), batch).epoch(0)
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(len(lengths)))
    for b in batches:
        assert len(b.indices) == b.rows <= batch
        assert b.rows * lengths[b.indices].max() - lengths[b.indices].sum() <= CALL


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 24)), min_size=1, max_size=80).map(np.array), st.integers(1, 64))
def test_sorted_batches_of_crystals_pad_few_pairs(crystals, batch):
    sizes = Sizes(*crystals.T)
    plan = SortedPlan(sizes, batch)
    assert sorted(np.concatenate([b.indices for b in plan.epoch(0)])) == list(range(len(sizes)))
    for b in plan.epoch(0):
        padded = b.rows * sizes.lengths[b.indices].max() * sizes.slots[b.indices].max() ** 2
        assert len(b.indices) == b.rows <= batch
        assert plan.slots[b.bucket] == sizes.slots[b.indices].max()
        assert padded - (sizes.lengths * sizes.slots**2)[b.indices].sum() <= CALL
        assert padded <= 1.1 * PAIRS


def test_sorted_batches_fill_where_the_examples_are_alike():
    sizes = Sizes(np.array([5, 20] * 64), np.array([14, 12] * 64))
    assert SortedPlan(sizes, 64).rows == (64, 64)
    assert SortedPlan(Sizes(np.array([500] * 20), np.array([16] * 20)), 64).rows == (2,) * 10


def test_very_large_examples_come_in_small_batches():
    sizes = Sizes(np.array([10] * 100 + [SLOTS // 4] * 9))
    plan = BatchPlan(sizes, np.array([0] * 100 + [1] * 9), 32, seed=0)
    assert plan.rows == (32, 4)
    assert max(b.rows * plan.buckets[b.bucket] for b in plan.epoch(0)) <= SLOTS
    crystals = Sizes(np.array([10] * 100 + [100] * 9), np.array([12] * 100 + [24] * 9))
    assert BatchPlan(crystals, np.array([0] * 100 + [1] * 9), 32).rows == (32, 4)


def test_padding():
    records = Records.stack([{"species": np.array([8, 26], "int32")}, {"species": np.array([14], "int32")}])
    padded = pad(records, np.array([1, 0]), {"species": 3}, 4)["species"]
    np.testing.assert_array_equal(padded, [[14, 0, 0], [8, 26, 0], [0, 0, 0], [0, 0, 0]])


def test_empty_slots_are_cut_off():
    vectors = np.arange(1, 28, dtype=np.float32).reshape(3, 3, 3)
    vectors[:, 2] = 0
    neighbors = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], "int32")
    offsets = np.array([0, 2, 3])
    values = {
        "species": np.array([8, 26, 14], "int32"),
        "neighbors": neighbors,
        "vectors": vectors,
        "state": np.float32([[0] * 5, [1] * 5]),
    }
    records = Records(values, dict.fromkeys(("species", "neighbors", "vectors"), offsets) | {"state": np.arange(3)})
    padded = pad(records, np.array([1, 0]), {"species": 2, "neighbors": 2, "vectors": 2, "state": 1}, 3, slots=2)
    assert {key: value.shape for key, value in padded.items()} == {
        "species": (3, 2),
        "neighbors": (3, 2, 2),
        "vectors": (3, 2, 2, 3),
        "state": (3, 1, 5),
    }
    np.testing.assert_array_equal(padded["vectors"][0], [vectors[2, :2], np.zeros((2, 3))])
    np.testing.assert_array_equal(padded["vectors"][1], vectors[:2, :2])
    np.testing.assert_array_equal(padded["neighbors"][1], neighbors[:2, :2])
    np.testing.assert_array_equal(padded["state"][0], np.ones((1, 5)))
    assert not padded["vectors"][2].any()


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
