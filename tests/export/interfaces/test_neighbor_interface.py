"""What only exports of models with nearest neighbours have; the rest is in `test_crystal_interfaces`."""

import numpy as np
import pytest
import tensorflow as tf
from exported_crystals import CASES, arrays, crystals, make, same
from neighbor_cases import SMALL

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.export import export_model
from tfmat.export.formats.saved_model import as_module
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.base import BEFORE, BEHIND
from tfmat.export.interfaces.crystals import EXAMPLES
from tfmat.export.interfaces.neighbors import NeighborInterface
from tfmat.featurizers.nearest import DIRECTION
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer
from tfmat.predictor import Predictor

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def predictor():
    return make("crysformer, uncertainty", blocks=1)


@pytest.fixture(scope="module")
def strict():
    return make("crysformer, strict")


def row(counts, slots):
    """One crystal of hydrogen, whose sites have so many neighbours each."""
    filled = np.arange(slots) < np.array(counts)[:, None]
    vectors = np.where(filled[..., None], np.float32([0, 0, 1.5]), 0)
    return {"species": np.ones((1, len(counts)), np.int32), "neighbors": np.zeros((1, *filled.shape), np.int32), "vectors": vectors[None]}


def sound(arrays, featurizer):
    checks = NeighborInterface(featurizer).row_checks({key: tf.constant(value) for key, value in arrays.items()})
    return all(bool(holds.numpy().all()) for holds in checks.values())


@pytest.mark.parametrize(
    ("featurizer", "counts", "expected"),
    [
        (NeighborFeaturizer(), [12, 24, 17], True),
        (NeighborFeaturizer(), [12, 11], False),
        (NeighborFeaturizer(), [25, 12], False),
        (NeighborFeaturizer(k=1, max_neighbors=2), [1, 2], True),
        (NeighborFeaturizer(k=1, max_neighbors=2), [1, 0], False),
        (NeighborFeaturizer(k=3, strict=True), [3, 3], True),
        (NeighborFeaturizer(k=3, strict=True), [3, 4], False),
        (NeighborFeaturizer(k=3, strict=True), [2, 3], False),
    ],
)
def test_number_of_neighbors(featurizer, counts, expected):
    assert sound(row(counts, max(counts)), featurizer) is expected
    assert sound(row(counts, 30), featurizer) is expected  # more slots are no more neighbours


@pytest.mark.parametrize("length", [0.5, 0.7, 2.5, 500.0])
def test_what_the_featurizer_keeps_is_sound(length):
    """However float32 rounds it: a vector of the smallest distance, and a crystal of the heaviest element."""
    diagonal = (length / np.sqrt(3) * np.array([1, -1, 1])).astype(np.float32)
    featurizer = NeighborFeaturizer(k=1)
    lattice = np.diag([length, length, max(length, 2.1 / length**2)])  # no denser than a crystal may be
    crystal = Crystal(np.array([HEAVIEST], np.int32), lattice, np.zeros((1, 3)))
    smallest = row([1], 24)
    smallest["vectors"][0, 0, 0] = diagonal
    assert sound(smallest, featurizer)
    assert sound({key: value[None] for key, value in NeighborInterface(featurizer).arrays_of(crystal).items()}, featurizer)


def test_padding():
    """Slots that no site fills are cut off, put back on demand, and moved where the exporter looks for models that see them."""
    interface = NeighborInterface(NeighborFeaturizer())
    examples = [interface.arrays_of(crystal) for crystal in (EXAMPLES[0], EXAMPLES[2])]
    assert [interface.lengths_of(example) for example in examples] == [{"A": 2, "K": 18}, {"A": 1, "K": 14}]
    batch = interface.pad(examples)
    assert batch["species"].shape == (2, 2) and batch["neighbors"].shape == (2, 2, 18) and batch["vectors"].shape == (2, 2, 18, 3)
    full = interface.pad(examples, {"A": 3, "K": 24})
    for key, value in examples[0].items():
        np.testing.assert_array_equal(full[key][0, :2] if key == "species" else full[key][0, :2, :18], value)
        assert not full[key][0, 2:].any() and not full[key][1, 1:].any()
        assert key == "species" or not full[key][0, :, 18:].any()

    moved = interface.displaced(batch)
    sites, slots = slice(BEFORE, -BEHIND), slice(BEFORE, -BEHIND)
    assert moved["vectors"].shape == (2, 9, 25, 3)
    assert moved["neighbors"].dtype == np.int32
    np.testing.assert_array_equal(moved["species"][:, sites], batch["species"])
    np.testing.assert_array_equal(moved["vectors"][:, sites, slots], batch["vectors"])
    filled = batch["vectors"].any(axis=-1)
    np.testing.assert_array_equal(moved["neighbors"][:, sites, slots][filled], batch["neighbors"][filled] + BEFORE)
    assert np.count_nonzero(moved["neighbors"]) == filled.sum()
    assert sound(moved, interface.featurizer)


@pytest.mark.slow
def test_fewer_slots(predictor, tmp_path):
    """A SavedModel takes any number of them, and a LiteRT file of fewer gives the same numbers for what fits."""
    chosen = [EXAMPLES[2], EXAMPLES[4]]  # bcc and CsCl: 14 neighbours
    interface = NeighborInterface(predictor.featurizer)
    batch = interface.pad([interface.arrays_of(crystal) for crystal in chosen])
    assert batch["neighbors"].shape == (2, 2, 14)
    frame = predictor.predict(chosen)
    export_model(predictor, tmp_path / "1", examples=chosen)
    serve = tf.saved_model.load(str(tmp_path / "1")).signatures["featurized"]
    same(serve(**{key: tf.constant(value) for key, value in batch.items()}), frame)
    same(serve(**{key: tf.constant(value) for key, value in arrays(predictor, chosen).items()}), frame)

    from ai_edge_litert.interpreter import Interpreter

    export_model(predictor, tmp_path / "model.tflite", "litert", examples=chosen, max_sites=2, max_neighbors=14, batch_size=2)
    run = Interpreter(model_path=str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    assert list(run.get_input_details()["vectors"]["shape"]) == [2, 2, 14, 3]
    same(run(**batch), frame)


@pytest.fixture(scope="module")
def near():
    """A model of which only the six nearest neighbours make angles, six crystals, and their arrays with the neighbours in another order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "near angles", ("crysformer", SMALL | {"angle_neighbors": 6}))
        predictor = make("near angles", blocks=1)
    chosen = crystals(predictor)
    batch = arrays(predictor, chosen)
    order = np.random.default_rng(0).permutation(batch["neighbors"].shape[2])
    return predictor, chosen, {key: value if key == "species" else value[:, :, order] for key, value in batch.items()}


def test_angles_of_the_nearest_alone(near):
    """The graph finds by itself which of the neighbours, in whatever order, make angles."""
    predictor, chosen, mixed = near
    frame = predictor.predict(chosen)
    every = Predictor.create("crysformer", predictor.targets, keywords=predictor.keywords | {"angle_neighbors": None})
    every.model.set_weights(predictor.model.get_weights())
    assert np.abs(every.predict(chosen)["energy"] - frame["energy"]).max() > 1e-3

    signatures = as_module(predictor, interface_of(predictor).signatures())[1]
    same(signatures["featurized"](**{key: tf.constant(value) for key, value in mixed.items()}), frame)
    raw = interface_of(predictor).entries()["serving_default"].encode(chosen)
    same(signatures["serving_default"](**{key: tf.constant(value) for key, value in raw.items()}), frame)


@pytest.mark.slow
def test_angles_of_the_nearest_alone_in_litert(near, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    predictor, chosen, mixed = near
    export_model(predictor, tmp_path / "model.tflite", "litert", examples=chosen, batch_size=len(chosen), **lengths_of(mixed))
    run = Interpreter(model_path=str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    same(run(**mixed), predictor.predict(chosen))


def lengths_of(batch):
    """The sizes of a LiteRT file for these arrays."""
    return dict(zip(("max_sites", "max_neighbors"), batch["neighbors"].shape[1:], strict=True))


def test_definition():
    tied = NeighborInterface(NeighborFeaturizer(k=9, tolerance=0.02, max_neighbors=20)).notes["neighbors"]
    strict = NeighborInterface(NeighborFeaturizer(k=9, strict=True)).notes["neighbors"]
    version = NeighborFeaturizer.version
    assert tied.items() >= {"k": 9, "tolerance": 0.02, "max_neighbors": 20, "strict": False, "featurizer_version": version}.items()
    assert "at most that of the k-th nearest plus `tolerance`" in tied["definition"]
    assert strict["strict"] is True and "the first `k` in `order`" in strict["definition"]
    assert "at most 0.001 Å by atomic number" in strict["order"]


@pytest.mark.parametrize(
    "featurizer", [NeighborFeaturizer(), NeighborFeaturizer(k=3, max_neighbors=4), NeighborFeaturizer(k=3, strict=True)]
)
def test_a_client_finds_the_neighbors_by_the_definition(featurizer):
    """As `definition` and `order` in ``tfmat.json`` say it, by brute force."""
    interface = NeighborInterface(featurizer)
    notes = interface.notes["neighbors"]
    for crystal in EXAMPLES:
        example = interface.arrays_of(crystal)
        coords = crystal.frac_coords @ crystal.lattice
        images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3) @ crystal.lattice
        for site, start in enumerate(coords):
            vectors = (coords[:, None] + images - start).reshape(-1, 3)
            sites = np.repeat(np.arange(len(coords)), len(images))
            others = np.linalg.norm(vectors, axis=1) > 1e-6
            vectors, sites = vectors[others], sites[others]
            distances = np.linalg.norm(vectors, axis=1)
            by_distance = np.argsort(distances)
            shell = np.empty(len(distances), int)
            shell[by_distance] = np.cumsum(np.diff(distances[by_distance], prepend=0) > 0.001)
            order = np.lexsort((vectors @ DIRECTION, crystal.species[sites], shell))
            count = notes["k"]
            if not notes["strict"]:
                farthest = distances[by_distance[count - 1]] + notes["tolerance"]
                count = min(int((distances <= farthest).sum()), notes["max_neighbors"])
            np.testing.assert_array_equal(example["neighbors"][site, :count], sites[order[:count]])
            np.testing.assert_allclose(example["vectors"][site, :count], vectors[order[:count]], atol=1e-5)
            assert not example["vectors"][site, count:].any()


def test_refused_requests(predictor, strict, tmp_path):
    out = tmp_path / "x"
    for options, expected in (
        ({"max_neighbors": 11}, "from 12 to 24"),
        ({"max_neighbors": 25}, "from 12 to 24"),
        ({"max_sites": 0}, "from 1 to"),
    ):
        with pytest.raises(InputError, match=f"`{next(iter(options))}` is out of range.*{expected}"):
            export_model(predictor, out, "litert", **options)
    with pytest.raises(InputError, match="from 6 to 6"):
        export_model(strict, out, "litert", max_neighbors=7)
    with pytest.raises(
        InputError, match=r"`max_bonds` has no meaning for crysformer, which takes crystals\. Expected `max_sites` or `max_n"
    ):
        export_model(predictor, out, "litert", max_bonds=100)
    with pytest.raises(
        InputError, match=r"`max_neighbors` has no meaning for megnet, which takes crystals\. Expected `max_sites` or `max_b"
    ):
        export_model(make("megnet, state features"), out, "litert", max_neighbors=12)
    with pytest.raises(InputError, match=r"a savedmodel takes any number of materials of any size, so `max_neighbors` has no meaning"):
        export_model(predictor, out, max_neighbors=12)
    with pytest.raises(InputError, match=r"example Na1Cl1 holds 18 neighbours of one site\. Expected at most 16, the exported size"):
        export_model(predictor, out, "litert", max_neighbors=16, examples=[EXAMPLES[2], EXAMPLES[0]])
    assert not any(tmp_path.iterdir())


def test_command(predictor, tmp_path, monkeypatch, capfd):
    from tfmat import cli

    monkeypatch.chdir(tmp_path)
    predictor.save("model")
    assert cli.run(["export", "model", "--format", "litert", "--max-sites", "2", "--max-neighbors", "16"]) == 0
    assert "3 crystals, largest relative difference" in capfd.readouterr().out and (tmp_path / "model.tflite").is_file()
    assert cli.run(["export", "model", "--format", "litert", "--max-neighbors", "40", "--out", "other"]) == 2
    assert "from 12 to 24" in capfd.readouterr().err and not (tmp_path / "other").exists()
