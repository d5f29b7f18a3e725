"""The arrays of a batch: lists of crystals, padded compositions, targets and weights."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmat.batching.arrays import MULTIPLE, ROWS_OF, batch_arrays, target_arrays
from tfmat.records import Records

SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=12)


def crystals(shapes):
    """Records of crystals with so many sites, bonds and pairs (none without bonds); narrow, as a packed file has them."""
    random, examples = np.random.default_rng(len(shapes)), []
    for sites, bonds, pairs in shapes:
        pairs = pairs if bonds else 0
        example = {"species": random.integers(1, 90, sites), "site_multiplicity": random.integers(1, 9, sites)}
        example |= {"bond_receivers": np.sort(random.integers(0, sites, bonds)), "bond_senders": random.integers(0, sites, bonds)}
        example |= {"distances": random.uniform(1, 3, bonds).astype(np.float16), "bond_multiplicity": random.integers(1, 9, bonds)}
        example |= {"pair_receivers": np.sort(random.integers(0, max(bonds, 1), pairs))}
        example |= {"pair_senders": random.integers(0, max(bonds, 1), pairs)}
        example |= {"cosines": random.uniform(-1, 1, pairs).astype(np.float32), "pair_multiplicity": random.integers(1, 9, pairs)}
        example |= {"state": random.normal(size=3).astype(np.float32)}
        examples.append({key: value.astype(np.uint8) if value.dtype.kind == "i" else value for key, value in example.items()})
    return Records.stack(examples)


@given(SHAPES, st.booleans(), st.integers(0, 3))
@settings(max_examples=60)
def test_lists_hold_one_crystal_after_the_other(shapes, filled, empty_rows):
    records = crystals(shapes)
    indices = np.random.default_rng(0).permutation(len(shapes))[: max(1, len(shapes) // 2)]
    rows = len(indices) + empty_rows
    batch = batch_arrays(records, indices, rows, filled)
    assert batch["batch_sites"].tolist() == [*(shapes[i][0] for i in indices), *[0] * empty_rows]
    assert batch["state"].shape == (rows, 3)
    at = dict.fromkeys(records.values, 0)
    for row, index in enumerate(indices.tolist()):
        before = dict(at)
        for key, value in records[index].items():
            if key == "state":
                np.testing.assert_array_equal(batch[key][row], value)
                continue
            found = batch[key][before[key] : before[key] + len(value)]
            np.testing.assert_array_equal(found, value.astype(found.dtype) + (before[ROWS_OF[key]] if key in ROWS_OF else 0))
            assert found.dtype == (np.int32 if value.dtype.kind == "u" else np.float32)
            at[key] += len(value)
    for key, array in batch.items():
        if key in ("state", "batch_sites"):
            continue
        assert len(array) > at[key], "no empty entry at the end"
        assert not filled or len(array) % MULTIPLE == 0
        rest = array[at[key] :]
        assert (rest == (len(batch[ROWS_OF[key]]) - 1 if key in ROWS_OF else 0)).all()
        assert not key.endswith("receivers") or (np.diff(array) >= 0).all()


def test_filled_batches_have_few_shapes():
    rng = np.random.default_rng(1)
    records = crystals([tuple(rng.integers(1, 6, 3).tolist()) for _ in range(200)])
    shapes = {
        tuple(len(a) for a in batch_arrays(records, rng.permutation(200)[: rng.integers(1, 17)], 16, True).values()) for _ in range(100)
    }
    assert len(shapes) <= 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.booleans())
def test_compositions_are_padded_to_the_longest(lengths, filled):
    rng = np.random.default_rng(0)
    examples = [{"species": rng.integers(1, 90, n).astype(np.int32), "fractions": rng.random(n, np.float32)} for n in lengths]
    batch = batch_arrays(Records.stack(examples), np.arange(len(lengths)), len(lengths) + 1, filled)
    width = batch["species"].shape[1]
    assert width in (2, 4, 8, 16) if filled else width == max(lengths)
    for row, example in enumerate(examples):
        for key, value in example.items():
            np.testing.assert_array_equal(batch[key][row], np.pad(value, (0, width - len(value))))
    assert not batch["species"][-1].any()


def test_sequences_of_sites_are_padded():
    ones = np.ones(2, np.int32)
    examples = [{"species": ones, "site_multiplicity": ones, "lists": np.array(x)} for x in ([1, 2, 1], [2])]
    batch = batch_arrays(Records.stack(examples), np.array([1, 0]), 3)
    assert batch["lists"].tolist() == [[2, 0, 0], [1, 2, 1], [0, 0, 0]]
    assert batch["species"].tolist() == [1, 1, 1, 1, 0]


@given(st.lists(st.one_of(st.just(np.nan), st.floats(-5, 5)), min_size=1, max_size=12), st.integers(0, 4))
def test_weights_make_the_mean_over_the_rows_that_of_the_present_targets(column, empty):
    values, weights = target_arrays({"y": np.array(column)}, np.arange(len(column)), len(column) + empty)
    present = np.isfinite(values["y"][:, 0])
    assert present.sum() == np.isfinite(column).sum()
    if present.any():
        mean = np.mean(weights["y"] * np.where(present, values["y"][:, 0], 0))
        np.testing.assert_allclose(mean, np.nanmean(column), rtol=1e-4, atol=1e-5)
    assert not weights["y"][~present].any()
