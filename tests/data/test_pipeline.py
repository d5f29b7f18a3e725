"""From records with neighbour slots to batches."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmat.data.pipeline import Batches
from tfmat.data.static_shapes import drops_padding, least_saving, most_buckets
from tfmat.records import Records

WIDTH = 24


def crystals(shapes):
    """Records of crystals with `shapes` (sites, used slots): the first site uses all of these, each later one a slot less."""
    random, examples = np.random.default_rng(len(shapes)), []
    for number, (sites, slots) in enumerate(shapes):
        filled = np.arange(WIDTH) < np.maximum(slots - np.arange(sites), 1)[:, None]
        neighbors = np.where(filled, random.integers(0, sites, filled.shape), 0).astype(np.int32)
        vectors = np.where(filled[..., None], random.uniform(1, 3, (*filled.shape, 3)), 0).astype(np.float32)
        examples.append({"species": np.full(sites, number + 1, np.int32), "neighbors": neighbors, "vectors": vectors})
    return Records.stack(examples)


SHAPES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, WIDTH)), min_size=1, max_size=30)


@given(SHAPES, st.integers(1, 8), st.integers(1, 6), st.booleans(), st.booleans())
@settings(max_examples=50)
def test_every_crystal_comes_whole_and_once(shapes, batch, limit, ordered, flat):
    records = crystals(shapes)
    batches = Batches.sorted(records, batch, flat) if ordered else Batches.of(records, {}, batch, seed=1, max_buckets=limit, flat=flat)
    assert ordered or len(batches.widths) <= limit
    seen, widths = [], {}
    for (inputs, *_), planned in zip(batches.epoch(2), batches.plan.epoch(2), strict=True):
        rows, sites, slots = inputs["neighbors"].shape
        assert inputs["vectors"].shape == (rows, sites, slots, 3)
        assert inputs["species"].shape == (rows, sites)
        assert widths.setdefault(planned.bucket, (rows, sites, slots)) == (rows, sites, slots)
        for row, index in enumerate(planned.indices.tolist()):
            seen.append(index)
            for key, value in records[index].items():
                whole = np.zeros((sites, *value.shape[1:]), value.dtype)
                whole[: len(value)] = value
                cut = inputs[key][row]
                np.testing.assert_array_equal(cut, whole if key == "species" else whole[:, :slots])
                assert key == "species" or not whole[:, slots:].any()
        assert not any(value[len(planned.indices) :].any() for value in inputs.values())
    assert sorted(seen) == list(range(len(shapes)))
    for bucket, (_, sites, slots) in widths.items():  # and no slot more than someone uses
        members = np.flatnonzero(batches.plan.bucket_of == bucket).tolist()
        assert (sites, slots) == tuple(max(shapes[i][axis] for i in members) for axis in (0, 1))


def test_dataset_has_a_free_axis_of_slots():
    records = crystals([(2, 12)] * 8 + [(2, 16)] * 8 + [(9, 16)] * 8)
    batches = Batches.of(records, {"y": np.arange(24.0)}, 8, seed=0)
    dataset = batches.dataset()
    inputs, targets, _ = dataset.element_spec
    assert inputs["species"].shape == (8, None)
    assert inputs["neighbors"].shape == (8, None, None)
    assert inputs["vectors"].shape == (8, None, None, 3)
    assert targets["y"].shape == (8, 1)
    assert sorted(tuple(x["vectors"].shape) for x, *_ in dataset) == [(8, 2, 12, 3), (8, 2, 16, 3), (8, 9, 16, 3)]
    for (expected, *_), (found, *_) in zip(batches.epoch(0), dataset, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(value, found[key].numpy())


def test_records_without_slots_keep_their_trailing_axes():
    bonds = [np.arange(number, dtype=np.int32) for number in (3, 4)]
    records = Records.stack([{"species": x + 1, "neighbors": x, "state": np.zeros((1, 5), np.float32)} for x in bonds])
    batches = Batches.of(records, {}, 2, max_buckets=1)
    assert batches.plan.slots is None
    spec = batches.dataset().element_spec[0]
    assert spec["state"].shape == (2, None, 5)
    assert spec["neighbors"].shape == (2, None)
    (inputs, *_) = next(batches.epoch(0))
    assert inputs["neighbors"].shape == (2, 4)
    assert inputs["state"].shape == (2, 1, 5)


def test_a_pair_of_slots_costs_fewer_weights():
    def model(**shapes):
        inputs = {key: keras.Input(shape, name=key) for key, shape in shapes.items()}
        return keras.Model(inputs, keras.layers.Dense(100)(keras.layers.Concatenate()([*inputs.values(), *inputs.values()])))

    bonds, crystal = model(neighbors=(None, 8), distances=(None, 8)), model(neighbors=(None, 8), vectors=(None, 8))
    assert bonds.count_params() == crystal.count_params()
    assert least_saving(crystal, 10, True) == pytest.approx(4 * least_saving(bonds, 10, True))
    assert least_saving(crystal, 10, False) == 0


def test_more_shapes_where_none_is_compiled():
    x = keras.Input((None, 3))
    plain = keras.Model(x, keras.layers.Dense(2)(x))
    assert most_buckets(plain, True) < most_buckets(plain, False)
    layer = keras.layers.Dense(2)
    layer.unrolls = True
    assert most_buckets(keras.Model(x, layer(x)), False) == most_buckets(plain, True)


def test_padded_sites_cost_nothing_in_one_program_for_all_shapes():
    x = keras.Input((None, 3))
    layer = keras.layers.Dense(2)
    model = keras.Model(x, keras.layers.Dense(2)(layer(x)))
    assert not drops_padding(model, False)
    layer.drops_padding = True
    assert drops_padding(model, False) and not drops_padding(model, True)
    layer.unrolls = True
    assert not drops_padding(model, False)
