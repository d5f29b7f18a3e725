"""Layers against plain numpy or Keras' own layers, and their masks."""

import itertools

import keras
import numpy as np
import pytest

from tfmat.layers.elements import ElementEmbedding
from tfmat.layers.recurrent import UNROLL_LIMIT, BidirectionalRNN
from tfmat.layers.sequence import MaskedConv1D
from tfmat.zoo.lgdcnn import FractionEncoding, GatedMeanHead, NeighbourMaxPooling, SoftAttentionResidual

RNG = np.random.default_rng(0)
LAYERS = [
    (BidirectionalRNN(4, "lstm"), (2, 5, 3)),
    (BidirectionalRNN(4, "gru", initial_state=1.0), (2, 5, 3)),
    (SoftAttentionResidual(), (2, 5, 3)),
    (MaskedConv1D(4, 3), (2, 5, 3)),
    (MaskedConv1D(4, 1), (2, 5, 3)),
    (NeighbourMaxPooling(), (2, 5, 3)),
]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layer_equals_keras(cell):
    """Same weights, same unmasked sequence: the same numbers as Keras' bidirectional layer, in both implementations."""
    inputs = RNG.normal(size=(3, 5, 6)).astype("float32")
    ours = BidirectionalRNN(4, cell)
    output = ours(inputs)
    kind = keras.layers.LSTM if cell == "lstm" else keras.layers.GRU
    theirs = keras.layers.Bidirectional(kind(4, return_sequences=True))
    theirs.build(inputs.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(output, theirs(inputs), atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layer_starts_backwards_at_the_last_real_slot(cell):
    inputs = RNG.normal(size=(2, 5, 6)).astype("float32")
    real = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "float32")
    layer = BidirectionalRNN(4, cell)
    masked = np.asarray(layer(inputs, real))
    np.testing.assert_allclose(masked[0, :3], np.asarray(layer(inputs[:1, :3]))[0], atol=1e-6)
    np.testing.assert_allclose(masked[1:], layer(inputs[1:]), atol=1e-6)
    assert (masked[0, 3:] == 0).all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_long_and_short_sequences_agree(cell):
    """Beyond the unroll limit the layer loops; the first slots of a causal direction must not notice."""
    inputs = RNG.normal(size=(2, UNROLL_LIMIT + 3, 6)).astype("float32")
    layer = BidirectionalRNN(4, cell)
    real = np.zeros(inputs.shape[:2], "float32")
    real[:, :5] = 1
    np.testing.assert_allclose(np.asarray(layer(inputs, real))[:, :5], layer(inputs[:, :5]), atol=1e-6)
    forward = np.asarray(layer(inputs))[:, :UNROLL_LIMIT, :4]
    np.testing.assert_allclose(forward, np.asarray(layer(inputs[:, :UNROLL_LIMIT]))[:, :, :4], atol=1e-6)


def values_and_gradients(call, inputs, real, upstream, *, dynamic, of=None, **options):
    """Output of a layer, or of what calls the layer `of`; and its gradients by inputs and weights for that of the output, `upstream`."""
    tf = pytest.importorskip("tensorflow")

    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = call(inputs, real, **options)
            total = tf.reduce_sum(output * upstream)
        return [output, *tape.gradient(total, [inputs, *(weight.value for weight in (of or call).trainable_weights)])]

    shape = (None, None, inputs.shape[2]) if dynamic else inputs.shape
    found = tf.function(run, input_signature=[tf.TensorSpec(shape, inputs.dtype)])(inputs)
    return [np.asarray(tf.convert_to_tensor(array)) for array in found]


WRITTEN = [("lstm", 0.0, True), ("gru", 1.0, False)]
"""Each cell, with a mask and without, and each initial state: the other six are mixtures of these."""
MIXED = [
    pytest.param(cell, initial, masked, marks=pytest.mark.slow)
    for cell, initial, masked in itertools.product(("lstm", "gru"), (0.0, 1.0), (True, False))
    if (cell, initial, masked) not in WRITTEN
]


@pytest.mark.parametrize(("cell", "initial", "masked"), [*WRITTEN, *MIXED])
def test_the_written_gradient_is_that_of_differentiation(cell, initial, masked):
    """In training, with the length known or not, as without: the outputs, and the gradients by inputs and weights."""
    rng = np.random.default_rng(1)
    inputs, upstream = rng.normal(size=(5, 4, 6)).astype("float32"), rng.normal(size=(5, 4, 8)).astype("float32")
    real = (np.arange(4) < np.array([[4], [3], [2], [1], [4]])).astype("float32") if masked else None
    layer = BidirectionalRNN(4, cell, initial)
    layer(inputs, real)
    expected = values_and_gradients(layer, inputs, real, upstream, training=False, dynamic=False)
    assert len(expected) == 8 and all(np.abs(array).max() > 1e-3 for array in expected)
    for training, dynamic in ((True, False), (True, True), (False, True)):
        found = values_and_gradients(layer, inputs, real, upstream, training=training, dynamic=dynamic)
        for array, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(array, other, atol=3e-6)


def test_recurrent_layer_refuses_an_unknown_cell():
    with pytest.raises(ValueError, match="`cell` must be"):
        BidirectionalRNN(4, "rnn")


@pytest.mark.parametrize("length", [1, 2, 5])
def test_convolution_equals_keras(length):
    inputs = RNG.normal(size=(3, length, 6)).astype("float32")
    ours, theirs = MaskedConv1D(4, 3), keras.layers.Conv1D(4, 3, padding="same")
    output = ours(inputs)
    theirs.build(inputs.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(output, theirs(inputs), atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_gradient_of_the_convolution_equals_that_of_keras(length, dynamic):
    inputs, upstream = RNG.normal(size=(3, length, 6)).astype("float32"), RNG.normal(size=(3, length, 4)).astype("float32")
    real = np.ones((3, length), "float32")
    ours, theirs = MaskedConv1D(4, 3), keras.layers.Conv1D(4, 3, padding="same")
    ours(inputs), theirs(inputs)
    theirs.set_weights(ours.get_weights())
    found = values_and_gradients(ours, inputs, real, upstream, dynamic=dynamic)
    expected = values_and_gradients(lambda inputs, *_, **__: theirs(inputs), inputs, real, upstream, dynamic=False, of=theirs)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-5)


def test_attention_weights_sum_to_one_over_the_real_slots():
    inputs = RNG.normal(size=(2, 4, 6)).astype("float32")
    real = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], "float32")
    layer = SoftAttentionResidual()
    layer(inputs, real)
    weights = np.asarray(layer.weights_of(inputs, real))[:, :, 0]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights[0, 2:] == 0).all()


def test_pooling_runs_across_features():
    output = np.asarray(NeighbourMaxPooling()(np.array([[[3.0, 1, 2, 0, -1]]], "float32")))
    np.testing.assert_array_equal(output[0, 0], [3, 3, 2, 2, 0])


def test_head_is_the_mean_over_real_elements():
    features = RNG.normal(size=(2, 3, 4)).astype("float32")
    real = np.array([[1, 1, 0], [0, 0, 0]], "float32")
    head = GatedMeanHead(("a", "b"))
    output = head(features, real)
    mean = np.asarray(head.contributions(features))[0, :2].mean(axis=0)
    for index, name in enumerate("ab"):
        v, s, g = mean[3 * index : 3 * index + 3]
        np.testing.assert_allclose(np.asarray(output[name])[0], [v / (1 + np.exp(-g)), s], atol=1e-6)
        np.testing.assert_array_equal(np.asarray(output[name])[1], 0)


def test_embedding_carries_its_table():
    layer = ElementEmbedding(8, "onehot")
    layer(np.array([[8, 0]], "int32"))
    table = next(w for w in layer.weights if w.name == "table")
    assert not table.trainable
    assert tuple(table.shape) == (119, 118)
    assert np.asarray(table)[8, 7] == 1
    assert not np.asarray(table)[0].any()


def test_fraction_encoding_checks_its_arguments():
    with pytest.raises(ValueError, match="`dim` must be even"):
        FractionEncoding(7)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "")
def test_shape_and_config(layer, shape):
    inputs = RNG.normal(size=shape).astype("float32")
    output = layer(inputs)
    assert tuple(output.shape) == tuple(layer.compute_output_shape(shape))
    copy = type(layer).from_config(layer.get_config())
    copy.build(shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(np.asarray(copy(inputs)), np.asarray(output))


@pytest.mark.parametrize("layer", [BidirectionalRNN(8, "lstm"), BidirectionalRNN(8, "gru"), SoftAttentionResidual(), MaskedConv1D(8)])
def test_no_two_weights_start_alike(layer):
    """A Keras initializer object repeats its numbers, so sharing one would tie the two directions together."""
    layer.build((None, None, 8))
    flat = [np.asarray(w).ravel()[:8] for w in layer.trainable_weights]
    assert all(not np.allclose(np.abs(a / a.max()), np.abs(b / b.max())) for i, a in enumerate(flat) for b in flat[:i] if len(a) == len(b))
