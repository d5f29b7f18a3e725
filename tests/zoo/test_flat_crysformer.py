"""Crysformer on the real sites of a batch: the numbers of the padded batch, and nothing but these sites."""

import keras
import numpy as np
import pytest
from small_models import make_crystal

import tfmat.batch
from tests.zoo.test_crysformer import SMALL, randomised
from tfmat.batch import pad
from tfmat.data.static_shapes import drops_padding, forward
from tfmat.data.table import Table
from tfmat.featurizers.neighbors import NeighborFeaturizer
from tfmat.layers.neighbors import NeighborGraph
from tfmat.layers.tracing import static_shapes_only
from tfmat.predictor import Predictor
from tfmat.recipe import Recipe
from tfmat.target import Target
from tfmat.zoo import Crysformer

tf = pytest.importorskip("tensorflow")
SIZES = (3, 8, 1, 5)
CRYSTALS = [make_crystal(range(3, 3 + sites), sites) for sites in SIZES]


def padded_batch():
    """The crystals with padding behind them all, in front of the first one, and a row of nothing else."""
    records = NeighborFeaturizer().featurize(CRYSTALS)
    batch = pad(records, np.arange(4), {key: 10 for key in records.values}, 5)
    for key in batch:
        batch[key][0] = np.roll(batch[key][0], 2, axis=0)
    batch["neighbors"][0] += np.where(batch["vectors"][0].any(-1), 2, 0)
    return batch


def both(function):
    """What `function` returns with real sites only, and with padding."""
    keras.utils.set_random_seed(3)
    flat = function()
    keras.utils.set_random_seed(3)
    with static_shapes_only(True):
        return flat, function()


KEYWORDS = [{}, {"elements": "learned", "head": "linear", "update_last_edges": True}, {"uncertainty": True, "cross_attention": False}]


@pytest.mark.parametrize("keywords", KEYWORDS, ids=["default", "published", "ablation"])
def test_the_outputs_are_those_of_padded_batches(keywords):
    model, batch = randomised(Crysformer(**SMALL, **keywords)), padded_batch()
    flat, padded = both(lambda: np.asarray(model(batch)["target"]))
    np.testing.assert_allclose(flat, padded, rtol=0, atol=1e-6)
    assert np.ptp(flat[:4, 0]) > 1e-2


def test_noise_and_gradients_are_those_of_padded_batches():
    batch = padded_batch()

    def trained():
        model = randomised(Crysformer(**SMALL, site_noise=0.1))
        with tf.GradientTape() as tape:
            output = model(batch, training=True)["target"][:4]
            loss = tf.reduce_sum(output * [[1.0], [-2.0], [3.0], [-4.0]])
        weights = {w.path: w.value for w in model.trainable_weights}
        return np.asarray(output), {k: tf.convert_to_tensor(g).numpy() for k, g in tape.gradient(loss, weights).items()}, model

    (flat, gradients, model), (padded, expected, _) = both(trained)
    np.testing.assert_allclose(flat, padded, rtol=0, atol=1e-6)
    assert np.abs(np.asarray(model(batch)["target"])[:4] - flat).max() > 1e-3, "there is no noise"
    for path, gradient in gradients.items():
        assert np.abs(gradient - expected[path]).max() <= 1e-5 * max(np.abs(expected[path]).max(), 1.0), path
    assert sum(np.abs(g).max() > 1e-3 for g in gradients.values()) > 0.8 * len(gradients)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_rounds_what_it_rounds_in_padded_batches(precision):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(precision)
        model = randomised(Crysformer(**SMALL))
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("flat_sites").compute_dtype == "float32"
    batch = padded_batch()
    flat, padded = both(lambda: np.asarray(model(batch)["target"]))
    np.testing.assert_allclose(flat, padded, rtol=0, atol=2e-3 if precision == "mixed_float16" else 2e-2)


def atoms_of(model):
    """The model, with the atoms as the last block gives them for output."""
    return keras.Model(model.input, {"atoms": model.get_layer("padded_sites").input[0]})


def test_real_sites_alone_reach_the_attention():
    batch = padded_batch()
    inside = atoms_of(Crysformer(**(SMALL | {"blocks": 1})))
    assert inside(batch)["atoms"].shape == (1, sum(SIZES), 16)
    assert forward(inside)(batch)["atoms"].shape == (1, sum(SIZES), 16)
    with static_shapes_only(True):
        assert inside(batch)["atoms"].shape == (5, 10, 16)
    nothing = {key: np.zeros_like(value) for key, value in batch.items()}
    assert inside(nothing)["atoms"].shape == (1, 1, 16)


def test_training_and_prediction_go_through_real_sites_alone(monkeypatch):
    """Two sizes of crystals with the same number of slots share batches."""
    seen, call = [], NeighborGraph.call

    def count(species):
        seen.append(species.size)
        return np.int32(0)

    def counted(self, species, neighbors, vectors):
        with tf.control_dependencies([tf.numpy_function(count, [species], tf.int32)]):
            return call(self, tf.identity(species), neighbors, vectors)

    monkeypatch.setattr(NeighborGraph, "call", counted)
    salt = make_crystal([11, 17], 1)
    crystals = [salt if number % 2 else CRYSTALS[1] for number in range(12)]
    table = Table(crystals, {"y": np.linspace(-1, 1, 12)}, [str(n) for n in range(12)], np.arange(12), "made.csv")
    predictor = Predictor.create("crysformer", [Target("y")], keywords=SMALL | {"blocks": 1, "k": 4, "strict": True})
    predictor.fit(table, recipe=Recipe(loss="mse", batch_size=8), epochs=2, seed=0)
    assert len(seen) == 4 and sum(seen) == 2 * 6 * (2 + 8)  # two batches an epoch
    assert not {6 * 2, 6 * 8} & set(seen)
    seen.clear()
    monkeypatch.setattr(tfmat.batch, "CALL", 0)
    predictor.predict(crystals)
    assert seen == [6 * (2 + 8)]


def test_layers_that_act_on_one_crystal_have_the_crystals_apart():
    assert drops_padding(Crysformer(**SMALL), False) and not drops_padding(Crysformer(**SMALL), True)
    for keywords in ({"remat": True}, {"stochastic_depth": 0.1}):
        assert not drops_padding(Crysformer(**SMALL, **keywords), False)


def test_weights_of_a_model_without_these_layers_fit(tmp_path):
    """Such were those that were saved before there were these layers."""
    batch, models = padded_batch(), [randomised(Crysformer(**SMALL, remat=True)), Crysformer(**SMALL)]
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    one, other = (np.asarray(model(batch)["target"]) for model in models)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert [w.path for w in models[0].weights] == [w.path for w in models[1].weights]
