"""What only exports of models with lists of atoms have; the rest is in `test_crystal_interfaces`."""

import atom_list_cases
import numpy as np
import pytest
import tensorflow as tf
from exported_crystals import arrays, make, same

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export import export_model
from tfmat.export.formats.litert import custom_operations
from tfmat.export.formats.saved_model import as_module
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.atom_lists import AtomListInterface
from tfmat.export.interfaces.base import BEFORE, BEHIND
from tfmat.export.interfaces.crystals import EXAMPLES
from tfmat.export.results import ExportError
from tfmat.export.verify import compare
from tfmat.featurizers import AtomListFeaturizer
from tfmat.layers.recurrent import UNROLL_LIMIT
from tfmat.predictor import Predictor
from tfmat.target import Target

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def predictor():
    return make("atom_list_lstm, uncertainty")


def sound(arrays, featurizer):
    return {
        sentence: bool(holds.numpy().all())
        for sentence, holds in AtomListInterface(featurizer).row_checks({key: tf.constant(value) for key, value in arrays.items()}).items()
    }


@pytest.mark.parametrize("keywords", [{}, {"cutoff": 2.82}, {"cutoff": 3.988082}, {"order": "published", "n_list": 5}])
def test_what_the_featurizer_makes_is_sound(keywords):
    """At the cut-off too, however float32 rounds it."""
    featurizer = AtomListFeaturizer(**keywords)
    interface = AtomListInterface(featurizer)
    batch = interface.pad([interface.arrays_of(crystal) for crystal in EXAMPLES])
    for given in (batch, interface.displaced(batch)):
        assert all(sound(given, featurizer).values())


def test_gaps_are_refused():
    """With a cut-off lists are shorter, and their end is where the first empty entry is."""
    featurizer = AtomListFeaturizer(cutoff=3.0)
    interface = AtomListInterface(featurizer)
    batch = interface.pad([interface.arrays_of(EXAMPLES[0])])
    for key in ("elements", "distances"):
        batch[key][0, 0, 2] = 0
    assert [sentence for sentence, holds in sound(batch, featurizer).items() if not holds] == [
        "every list must be filled from the front; see row"
    ]


def test_padding():
    interface = AtomListInterface(AtomListFeaturizer())
    examples = [interface.arrays_of(crystal) for crystal in (EXAMPLES[1], EXAMPLES[2])]  # 8 sites with 2 lists, 1 site
    assert [interface.lengths_of(example) for example in examples] == [{"A": 8, "U": 2}, {"A": 1, "U": 1}]
    assert interface.lengths({"max_sites": 5}, "x") == {"A": 5, "U": 5}
    batch = interface.pad(examples)
    moved = interface.displaced(batch)
    between = slice(BEFORE, -BEHIND)
    assert moved["lists"].shape == (2, 15) and moved["elements"].shape == (2, 9, 19) and moved["lists"].dtype == np.int32
    np.testing.assert_array_equal(moved["elements"][:, between], batch["elements"])
    present = batch["lists"] > 0
    np.testing.assert_array_equal(moved["lists"][:, between][present], batch["lists"][present] + BEFORE)
    assert np.count_nonzero(moved["lists"]) == present.sum()


def test_a_list_for_every_site(predictor):
    """A client need not look for equal lists."""
    serve = as_module(predictor, {"featurized": interface_of(predictor).signatures()["featurized"]})[1]["featurized"]
    batch = arrays(predictor, [EXAMPLES[1]])
    repeated = {key: np.take_along_axis(batch[key], batch["lists"].reshape(1, -1, *[1] * (batch[key].ndim - 2)) - 1, 1) for key in batch}
    repeated["lists"] = np.arange(1, 9, dtype=np.int32)[None]
    assert len(set(batch["lists"][0].tolist())) == 2
    same(serve(**{key: tf.constant(value) for key, value in repeated.items()}), predictor.predict([EXAMPLES[1]]))


@pytest.mark.parametrize("pooling", ["lstm", pytest.param("mean", marks=pytest.mark.slow)])
def test_many_sites(pooling, tmp_path):
    """More than are unrolled: a loop of built-in operations in LiteRT. Naive conversion of LSTMs gives NaN without a word."""
    keywords = atom_list_cases.SMALL | {"pooling": pooling}
    predictor = Predictor.create("atom_list_lstm", [Target("gap", "eV", mean=1.0, std=2.0)], keywords=keywords)
    random = np.random.default_rng(0)
    predictor.model.set_weights([w + 0.1 * random.normal(size=w.shape).astype("float32") for w in predictor.model.get_weights()])
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3) / 3
    large = Crystal(random.integers(1, 95, 27).astype(np.int32), 8.1 * np.eye(3), grid + random.normal(0, 0.01, grid.shape))
    assert len(large) > UNROLL_LIMIT
    report = export_model(predictor, tmp_path / "model.tflite", "litert", examples=[large, *EXAMPLES], max_sites=30)
    assert report.max_difference <= 1e-5 and custom_operations(report.path.read_bytes()) == []
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(report.path)).get_signature_runner("serving_default")
    interface = AtomListInterface(predictor.featurizer)
    for crystal in (large, EXAMPLES[5]):
        gap = run(**interface.pad([interface.arrays_of(crystal)], {"A": 30, "U": 30}))["gap"]
        assert np.isfinite(gap).all() and gap[0, 0] == pytest.approx(predictor.predict([crystal])["gap"][0], rel=1e-5, abs=1e-5)


def test_nan_is_refused(predictor, tmp_path, monkeypatch):
    """By the comparison, and so by the export: nothing is written."""
    expected = {"energy": np.array([[1.0]], np.float32)}
    alone = Predictor.create("atom_list_lstm", [Target("energy", "eV/atom")], keywords=atom_list_cases.SMALL)
    with pytest.raises(ExportError, match="not finite"):
        compare(alone, {"the LiteRT model": {"energy": np.array([[np.nan]], np.float32)}}, expected)

    def batched(run, batch, batch_size):
        return {name: np.full((len(batch["lists"]), 1), np.nan, np.float32) for name in ("energy", "metal", "energy_uncertainty")}

    monkeypatch.setattr("tfmat.export.formats.fixed_sizes.in_batches", batched)
    with pytest.raises(ExportError, match="not finite; nothing was written"):
        export_model(predictor, tmp_path / "x", "litert", max_sites=2)
    assert not any(tmp_path.iterdir())


def test_definition():
    notes = AtomListInterface(AtomListFeaturizer(n_list=12, cutoff=6.0)).notes["atom_lists"]
    assert notes.items() >= {"n_list": 12, "cutoff": 6.0, "order": "canonical", "featurizer_version": AtomListFeaturizer.version}.items()
    assert (
        "the first 11 of them that are at most 6 + 5e-07 Å away" in notes["definition"]
        and "by the atomic number" in notes["order_of_sites"]
    )
    assert "by fractional x" in AtomListInterface(AtomListFeaturizer(order="published")).notes["atom_lists"]["order_of_sites"]


def test_refused_requests(predictor, tmp_path):
    out = tmp_path / "x"
    with pytest.raises(InputError, match=r"`max_bonds` has no meaning for atom_list_lstm, which takes crystals\. Expected `max_sites`"):
        export_model(predictor, out, "litert", max_bonds=4)
    with pytest.raises(InputError, match=r"example Ti2O4 holds 6 sites\. Expected at most 5"):
        export_model(predictor, out, "litert", max_sites=5, examples=[EXAMPLES[5]])
    assert not any(tmp_path.iterdir())
