"""The sites of a batch in one row, and back."""

import keras
import numpy as np
import pytest
from keras import ops

from tfmat.layers.flat_sites import FlatSites, PaddedSites
from tfmat.layers.neighbors import MeanOverSites, NeighborGraph
from tfmat.layers.tracing import static_shapes_only
from tfmat.target import Target
from tfmat.training import compile_model

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="sizes depend on values under TensorFlow only")
SPECIES = np.array([[0, 0, 3, 4, 0], [0, 0, 0, 0, 0], [5, 6, 7, 8, 9], [0, 1, 0, 2, 0]], np.int32)


def batch(species, slots=3, seed=0):
    """Neighbours at random among the real sites of each crystal; every second slot of a site is empty."""
    rng = np.random.default_rng(seed)
    neighbors = np.zeros((*species.shape, slots), np.int32)
    vectors = np.zeros((*species.shape, slots, 3), np.float32)
    for row, site in np.argwhere(species > 0):
        neighbors[row, site, ::2] = rng.choice(np.flatnonzero(species[row]), len(neighbors[row, site, ::2]))
        vectors[row, site, ::2] = rng.normal(1, 3, vectors[row, site, ::2].shape)
    return species, neighbors, vectors


def flat(*arrays):
    return {key: np.asarray(value) for key, value in FlatSites()(*arrays).items()}


def test_one_row_of_real_sites_and_back():
    species, neighbors, vectors = batch(SPECIES)
    found = flat(species, neighbors, vectors)
    np.testing.assert_array_equal(found["species"], [[3, 4, 5, 6, 7, 8, 9, 1, 2]])
    np.testing.assert_array_equal(found["vectors"][0], vectors[species > 0])
    held = np.take_along_axis(species[:, :, None], neighbors.reshape(4, -1, 1), axis=1).reshape(neighbors.shape)  # the elements there
    filled = found["vectors"].any(axis=-1)
    assert filled.sum() == 18
    np.testing.assert_array_equal(found["species"][0][found["neighbors"]][filled], held[species > 0][filled[0]])
    np.testing.assert_array_equal(found["real_sites"][..., 0], species > 0)
    atoms = np.random.default_rng(1).normal(size=(1, 9, 4)).astype(np.float32)
    back = np.asarray(PaddedSites()(atoms, found["rows"], found["real_sites"]))
    np.testing.assert_array_equal(back[species > 0], atoms[0])
    assert back.shape == (4, 5, 4) and not back[species == 0].any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2)])
def test_without_sites_there_is_one_of_padding(shape):
    found = flat(*batch(np.zeros(shape, np.int32)))
    np.testing.assert_array_equal(found["species"], [[0]])
    assert found["vectors"].shape == (1, 1, 3, 3) and found["neighbors"].shape == (1, 1, 3)
    back = np.asarray(PaddedSites()(np.ones((1, 1, 4), np.float32), found["rows"], found["real_sites"]))
    np.testing.assert_array_equal(back, np.zeros((*shape, 4)))


def test_where_sizes_must_be_known_all_stays_as_it_is():
    species, neighbors, vectors = batch(SPECIES)
    with static_shapes_only(True):
        found = flat(species, neighbors, vectors)
        atoms = np.random.default_rng(1).normal(size=(4, 5, 4)).astype(np.float32)
        back = np.asarray(PaddedSites()(atoms, found["rows"], found["real_sites"]))
    for key, value in (("species", species), ("neighbors", neighbors), ("vectors", vectors)):
        np.testing.assert_array_equal(found[key], value)
    np.testing.assert_array_equal(back, atoms)
    np.testing.assert_array_equal(found["real_sites"][..., 0], species > 0)


def test_nothing_is_rounded_in_mixed_precision():
    """From 257 on bfloat16 cannot count the sites."""
    species, neighbors, vectors = batch(np.tile(np.arange(1, 81, dtype=np.int32), (5, 1)))
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        forth, back = FlatSites(), PaddedSites()
    finally:
        keras.config.set_dtype_policy(before)
    found = {key: np.asarray(value) for key, value in forth(species, neighbors, vectors).items()}
    np.testing.assert_array_equal(found["vectors"][0], vectors.reshape(-1, 3, 3))
    np.testing.assert_array_equal(found["neighbors"][0], (neighbors + 80 * np.arange(5)[:, None, None]).reshape(-1, 3))
    atoms = np.arange(400.0, dtype=np.float32)[None, :, None] % 256
    padded = back(atoms, found["rows"], found["real_sites"])
    assert keras.backend.standardize_dtype(padded.dtype) == back.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(np.asarray(padded).astype(np.float32).reshape(-1), atoms.reshape(-1))


def test_symbolic_shapes():
    inputs = [keras.Input((None,), dtype="int32"), keras.Input((None, None), dtype="int32"), keras.Input((None, None, 3))]
    found = FlatSites()(*inputs)
    assert {key: (value.shape, value.dtype) for key, value in found.items()} == {
        "species": ((None, None), "int32"),
        "neighbors": ((None, None, None), "int32"),
        "vectors": ((None, None, None, 3), "float32"),
        "rows": ((None, None), "int32"),
        "real_sites": ((None, None, 1), "float32"),
    }
    atoms = keras.KerasTensor((None, None, 8))
    assert PaddedSites()(atoms, found["rows"], found["real_sites"]).shape == (None, None, 8)


def test_keras_does_not_compile_it_with_xla_and_tfmat_does():
    """On a GPU `keras.Model.compile` would by default, with the dynamic shapes of its `fit`."""
    inputs = {"species": keras.Input((None,), dtype="int32", name="species")}
    inputs["neighbors"] = keras.Input((None, None), dtype="int32", name="neighbors")
    inputs["vectors"] = keras.Input((None, None, 3), name="vectors")
    sites = FlatSites()(**inputs)
    graph = NeighborGraph()(*(sites[key] for key in inputs))
    atoms = keras.layers.Embedding(99, 4)(graph["elements"]) * ops.sum(graph["real_bonds"], axis=2)
    crystal = MeanOverSites()(PaddedSites()(atoms, sites["rows"], sites["real_sites"]), sites["real_sites"])
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, name="a")(crystal)})
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        model.compile("adam", "mse")
    arrays = dict(zip(("species", "neighbors", "vectors"), batch(SPECIES), strict=True))
    losses = model.fit(arrays, {"a": np.ones((4, 1), np.float32)}, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    compile_model(model, (Target("a"),), keras.optimizers.Adam(1e-3), True, loss="mse")  # without a warning
    assert model.jit_compile
