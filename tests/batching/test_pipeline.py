"""From batches to what Keras reads."""

import keras
import numpy as np
import pytest

from tests.batching.test_batch_arrays import crystals
from tfmat.batching.pipeline import Batches, BatchSequence
from tfmat.featurizers import CompositionFeaturizer

RECORDS = crystals([(2, 3, 4), (1, 2, 2), (4, 6, 9), (3, 1, 0), (2, 2, 2), (5, 6, 7), (1, 1, 1)])


def test_the_dataset_gives_the_batches_with_free_sizes():
    pytest.importorskip("tensorflow")
    batches = Batches.of(RECORDS, {"y": np.arange(7.0)}, 3, seed=0)
    dataset = batches.dataset(first_epoch=1, repeat=True)
    inputs, targets, weights = dataset.element_spec
    assert inputs["species"].shape == inputs["cosines"].shape == inputs["batch_sites"].shape == (None,)
    assert inputs["state"].shape == (None, 3)
    assert targets["y"].shape == (None, 1) and weights["y"].shape == (None,)
    expected = [batch for epoch in (1, 2) for batch in batches.epoch(epoch)]
    for batch, found in zip(expected, dataset.take(2 * batches.plan.steps), strict=True):
        for arrays, tensors in zip(batch, found, strict=True):
            assert set(arrays) == set(tensors)
            for key, value in arrays.items():
                np.testing.assert_array_equal(value, tensors[key].numpy())


def test_parts_are_the_rows_of_a_batch_in_order():
    batches = Batches.of(RECORDS, {"y": np.arange(7.0)}, 3)
    for whole, parts in zip(batches.epoch(0), zip(*[iter(batches.epoch(0, 2))] * 2, strict=True), strict=True):
        rows = len(whole[1]["y"])
        assert [len(y["y"]) for _, y, _ in parts] == [-(-rows // 2)] * 2
        values = np.concatenate([y["y"] for _, y, _ in parts])
        np.testing.assert_array_equal(values[:rows], whole[1]["y"])
        assert np.isnan(values[rows:]).all()
        sites = np.concatenate([inputs["species"][:-1] for inputs, *_ in parts])
        np.testing.assert_array_equal(sites, whole[0]["species"][:-1])
        total = sum(float(np.nansum(w["y"] * y["y"][:, 0])) for _, y, w in parts) / len(values)
        assert total == pytest.approx(float(np.mean(whole[2]["y"] * whole[1]["y"][:, 0])), rel=1e-6)


def test_keys_that_the_model_does_not_read_are_left_out():
    batches = Batches.of(RECORDS, {}, 3, inputs={"species": None, "site_multiplicity": None, "batch_sites": None})
    assert set(next(batches.epoch(0))[0]) == {"species", "site_multiplicity", "batch_sites"}


def test_jitter_keeps_padding_and_sum_and_repeats():
    records = CompositionFeaturizer().featurize(["Fe2O3", "NaCl", "Si", "SrTiO3", "Ca3Al2Si3O12"] * 4)
    noisy, again, plain = (Batches.of(records, {}, 6, seed=5, fraction_jitter=jitter) for jitter in (0.02, 0.02, 0.0))
    sequence = BatchSequence(again)
    sequence.begin(1)
    for step, ((a, *_), (b, *_)) in enumerate(zip(noisy.epoch(1), plain.epoch(1), strict=True)):
        x, y = a["fractions"], b["fractions"]
        assert ((x == 0) == (y == 0)).all()
        np.testing.assert_allclose(x.sum(axis=1), 1, atol=1e-6)
        assert np.abs(x - y).max() < 0.1
        np.testing.assert_array_equal(x, sequence[step][0]["fractions"])
    assert any(np.abs(a["fractions"] - b["fractions"]).max() > 0 for (a, *_), (b, *_) in zip(noisy.epoch(1), plain.epoch(1), strict=True))
    assert len(sequence) == noisy.plan.steps
    assert isinstance(sequence, keras.utils.PyDataset)
