"""The stacked LSTM against Keras' own layers, its two implementations against each other; the norm over sites; the summed output."""

import keras
import numpy as np
import pytest

from tfmat.layers.normalization import LayerNorm
from tfmat.layers.recurrent import UNROLL_LIMIT, StackedLSTM
from tfmat.zoo.atom_list_lstm import NOWHERE, SitesNorm, SummedDense

RNG = np.random.default_rng(0)
LONG = UNROLL_LIMIT + 6


def arrays(outputs):
    return [np.asarray(output) for output in outputs]


@pytest.mark.parametrize("length", [1, 7, LONG])
def test_equals_layers_of_keras(length):
    inputs = RNG.normal(size=(3, length, 5)).astype("float32")
    ours = StackedLSTM(4, layers=3, initial_state=0.7)
    found = arrays(ours(inputs))
    finals, sequence = [], inputs
    for kernel, bias in zip(ours.kernels, ours.biases, strict=True):
        theirs = keras.layers.LSTM(4, return_sequences=True, return_state=True)
        theirs.build(sequence.shape)
        theirs.set_weights([np.asarray(kernel)[:-4], np.asarray(kernel)[-4:], np.asarray(bias)])
        start = np.full((3, 4), 0.7, "float32")
        sequence, hidden, carry = arrays(theirs(sequence, initial_state=[start, start]))
        finals.append((hidden, carry))
    np.testing.assert_allclose(found, np.mean(finals, axis=0), atol=2e-6)


@pytest.mark.parametrize("length", [6, LONG])
def test_padding_anywhere_is_skipped(length):
    inputs = RNG.normal(size=(4, length, 5)).astype("float32")
    real = (RNG.uniform(size=(4, length)) < 0.6).astype("float32")
    real[3] = 0
    layer = StackedLSTM(4, layers=2)
    found = arrays(layer(inputs, real))
    for row in range(3):
        alone = arrays(layer(inputs[row : row + 1, real[row] > 0]))
        np.testing.assert_allclose([output[row] for output in found], [output[0] for output in alone], atol=2e-6)
    assert all((output[3] == 1.0).all() for output in found)


def gradients(layer, inputs, real, dynamic, compiled):
    import tensorflow as tf

    shape = (None, None, inputs.shape[-1]) if dynamic else inputs.shape
    signature = [tf.TensorSpec(shape), tf.TensorSpec(shape[:2])]

    @tf.function(input_signature=signature, jit_compile=compiled)
    def step(inputs, real):
        with tf.GradientTape() as tape:
            hidden, carry = layer(inputs, real)
            loss = tf.reduce_sum(hidden * carry**2)
        return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    return [gradient.numpy() for gradient in step(tf.constant(inputs), tf.constant(real))]


@pytest.mark.parametrize(
    ("length", "dynamic", "compiled"),
    [(8, True, False), *(pytest.param(LONG, *how, marks=pytest.mark.slow) for how in ((True, False), (False, False), (False, True)))],
)
def test_gradients_of_loops_and_of_compiled_code(length, dynamic, compiled, monkeypatch):
    """A long sequence is a loop, as is one of dynamic length; each against the plain unrolled layer."""
    pytest.importorskip("tensorflow")
    inputs, real = RNG.normal(size=(3, length, 4)).astype("float32"), np.ones((3, length), "float32")
    real[0, 5:] = 0
    layer = StackedLSTM(3, layers=2)
    layer(inputs, real)
    found = gradients(layer, inputs, real, dynamic, compiled)
    monkeypatch.setattr("tfmat.layers.recurrent.UNROLL_LIMIT", LONG)
    expected = gradients(layer, inputs, real, dynamic=False, compiled=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert np.abs(other).max() > 0


def test_published_initial_weights():
    layer = StackedLSTM(64, layers=4)
    layer.build((None, 20, 32))
    first, second, third, _ = (np.asarray(kernel) for kernel in layer.kernels)
    assert [kernel.shape for kernel in (first, second)] == [(96, 256), (128, 256)]
    for part, rows in ((first[:32], 32), (second[:64], 64), (second[64:], 64)):
        assert part.std() == pytest.approx(np.sqrt(4 / (rows + 256)), rel=0.05) and np.abs(part).max() > 3 * part.std()
    for part in (first[32:], third, *(np.asarray(bias) for bias in layer.biases)):
        assert np.abs(part).max() <= 1 / 8 and part.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("keywords", [{"dim": 0}, {"dim": 4, "layers": 0}], ids=str)
def test_bad_sizes(keywords):
    with pytest.raises(ValueError, match="must be at least 1"):
        StackedLSTM(**keywords)


def test_norm_over_sites():
    """Of one site it is the layer norm; a site that stands for several counts as often, an empty one not at all."""
    x = RNG.normal(2.0, 3.0, size=(5, 5)).astype("float32")
    multiplicity, crystals = np.array([1, 3, 1, 1, 0], "float32")[:, None], np.array([0, 0, 0, 1, 2], "int32")
    layer, single = SitesNorm(), LayerNorm(1e-5)
    layer.build(x.shape)
    single.build(x.shape)
    values = [RNG.normal(size=5).astype("float32") for _ in range(2)]
    layer.set_weights(values)
    single.set_weights(values)
    found = np.asarray(layer(x, multiplicity, crystals, np.zeros(3, "int32")))
    of_all = x[[0, 1, 1, 1, 2]]
    np.testing.assert_allclose(found[:3], (x[:3] - of_all.mean()) / np.sqrt(of_all.var() + 1e-5) * values[0] + values[1], atol=1e-5)
    np.testing.assert_allclose(found[3], np.asarray(single(x[3])), atol=1e-5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("floor", [False, True])
def test_summed_output(floor):
    x = RNG.normal(size=(6, 5)).astype("float32")
    layer = SummedDense(columns=2, terms=3, floor=floor)
    layer.build(x.shape)
    terms = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
    expected = np.stack([terms[:, :3].sum(1), terms[:, 3:].sum(1)], axis=1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    if floor:
        assert float(layer.floor) == NOWHERE and not layer.floor.trainable
        middle = float(np.median(expected[:, 0]))
        layer.floor.assign(middle)
        for training in (False, True):
            output = np.asarray(layer(x, training=training))
            np.testing.assert_allclose(output, np.stack([np.maximum(expected[:, 0], middle), expected[:, 1]], axis=1), atol=1e-6)


def test_gradients_pass_the_floor():
    """In training; else a network that gives nothing but the floor would never learn again."""
    tf = pytest.importorskip("tensorflow")
    layer = SummedDense(floor=True)
    layer.build((None, 5))
    layer.floor.assign(100.0)
    x = tf.ones((2, 5))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True))
    np.testing.assert_array_equal(tape.gradient(loss, layer.kernel.value), np.full((5, 16), 2.0))
