"""A batch of crystals in lists goes through the network in parts."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmat.export.graph import lists as crystal_lists
from tfmat.export.graph.lists import in_parts

KEYS = ("species", "bond_receivers", "bond_senders", "distances", "pair_receivers", "pair_senders", "cosines")


class Network:
    """Gives each crystal's sum over its pairs, by way of the indices, and remembers how long its lists were."""

    def __init__(self):
        self.seen = []

    def __call__(self, lists):
        arrays = {key: value.numpy() for key, value in lists.items()}
        self.seen.append({key: len(arrays[key]) for key in (*KEYS, "batch_sites")})
        sites, bonds = len(arrays["species"]), len(arrays["distances"])
        for key, last in (("bond_receivers", sites), ("bond_senders", sites), ("pair_receivers", bonds), ("pair_senders", bonds)):
            assert arrays[key][-1] == last - 1 and (arrays[key] >= 0).all() and (arrays[key] < last).all()
            assert "receivers" not in key or (np.diff(arrays[key]) >= 0).all()
        assert arrays["species"][-1] == arrays["distances"][-1] == arrays["cosines"][-1] == 0
        by_bond = arrays["distances"] * arrays["species"][arrays["bond_senders"]] + arrays["species"][arrays["bond_receivers"]]
        by_pair = arrays["cosines"] * by_bond[arrays["pair_senders"]] + by_bond[arrays["pair_receivers"]]
        crystal = np.repeat(np.arange(len(arrays["batch_sites"])), arrays["batch_sites"])
        owner = crystal[arrays["bond_receivers"][arrays["pair_receivers"][:-1]]]
        total = np.bincount(owner, by_pair[:-1], len(arrays["batch_sites"]))
        total += arrays["state"][:, 0]
        return {"total": tf.constant(total[:, None], tf.float32), "twice": tf.constant(2 * total[:, None], tf.float32)}


def batch(sizes):
    """Crystals of so many sites, bonds of a site and pairs of a bond."""
    rng = np.random.default_rng(len(sizes))
    lists = {key: [np.zeros(0, np.int32)] for key in KEYS}
    sites = bonds = 0
    for number, each, pairs in sizes:
        receivers = np.repeat(np.arange(number), each)
        ends = np.repeat(np.arange(len(receivers)), pairs)
        lists["species"].append(rng.integers(1, 9, number))
        lists["bond_receivers"].append(receivers + sites)
        lists["bond_senders"].append(rng.integers(0, number, len(receivers)) + sites)
        lists["distances"].append(rng.integers(1, 9, len(receivers)))
        lists["pair_receivers"].append(ends + bonds)
        lists["pair_senders"].append(rng.integers(0, len(receivers), len(ends)) + bonds)
        lists["cosines"].append(rng.integers(1, 9, len(ends)))
        sites, bonds = sites + number, bonds + len(receivers)
    arrays = {
        key: np.concatenate(parts).astype(np.float32 if key in ("distances", "cosines") else np.int32) for key, parts in lists.items()
    }
    arrays["batch_sites"] = np.array([number for number, *_ in sizes], np.int32)
    arrays["state"] = np.arange(len(sizes), dtype=np.float32)[:, None]
    return {key: tf.constant(value) for key, value in arrays.items()}


@pytest.fixture(autouse=True)
def eager():
    """Step by step, so that what the network sees is known."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(before)


def run(arrays, work):
    network, before = Network(), crystal_lists.WORK
    crystal_lists.WORK = work
    try:
        return in_parts(network, arrays, ["total", "twice"]), network.seen
    finally:
        crystal_lists.WORK = before


SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(1, 200))
def test_every_crystal_gets_its_own_result(sizes, work):
    arrays = batch(sizes)
    whole, seen = run(arrays, 2**20)
    assert len(seen) == 1
    parts, seen = run(arrays, work)
    for name in ("total", "twice"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)
    assert sum(one["batch_sites"] for one in seen) == len(sizes)
    largest = max(number * each * pairs for number, each, pairs in sizes)
    assert all(one["cosines"] <= work + largest + 1 for one in seen)


def test_as_many_as_fit():
    assert [one["batch_sites"] for one in run(batch([(2, 2, 2)] * 6), 16)[1]] == [2, 2, 2]
    assert [one["batch_sites"] for one in run(batch([(2, 2, 2)] * 6), 1)[1]] == [1] * 6


@pytest.mark.parametrize(("key", "kind"), [("distances", "bonds"), ("cosines", "pairs of bonds")])
def test_too_many_different_ones(key, kind, monkeypatch):
    arrays = batch([(2, 2, 2), (3, 2, 2)])
    monkeypatch.setitem(crystal_lists.DISTINCT, key, (len(arrays[key]) // 2, kind))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"a crystal must have at most \d+ different {kind}; see row. b?'?\[?1"):
        run(arrays, 2**20)


def test_in_a_graph():
    """Without any crystals, too."""
    arrays = batch([(3, 2, 2), (1, 1, 1), (5, 4, 3)])
    tf.config.run_functions_eagerly(False)

    def network(lists):
        owners = tf.repeat(tf.range(tf.size(lists["batch_sites"])), lists["batch_sites"])
        species = tf.cast(lists["species"][:-1, None], tf.float32)
        return {"total": tf.math.unsorted_segment_sum(species, owners, tf.size(lists["batch_sites"]))}

    specs = {key: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for key, value in arrays.items()}
    call = tf.function(lambda lists: in_parts(network, lists, ["total"]), input_signature=[specs])
    ends = np.cumsum(arrays["batch_sites"])
    expected = [rows.sum() for rows in np.split(arrays["species"].numpy(), ends[:-1])]
    np.testing.assert_array_equal(call(arrays)["total"][:, 0], expected)
    assert call({key: value[:0] for key, value in arrays.items()})["total"].shape == (0, 1)
