"""Set2Set against NumPy: the published form, the proper one, and that of matgl."""

import itertools

import keras
import megnet_reference as reference
import numpy as np
import pytest
from megnet_cases import randomise, values

from tfmat.layers.set2set import Set2Set

NUMBER = np.array([1, 1, 2, 1, 3, 1, 2, 1, 1, 0, 0], "float32")[:, None]
OWNERS = np.array([0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 3], "int32")
SETS = (NUMBER, OWNERS, np.zeros(4, "int32"))


def items(width=6, seed=0):
    """Sets of 5, 1, 3 and 0 items, and two empty rows that are not zero."""
    return np.random.default_rng(seed).normal(size=(11, width)).astype("float32")


def copies_of(rows, row):
    """The items of one set, each as often as it counts, in float64."""
    kept = row == OWNERS
    return np.repeat(rows[kept].astype(float), NUMBER[kept, 0].astype(int), axis=0)


def made(layer, rows):
    """The layer with random weights, and what it makes of the sets."""
    layer(rows, *SETS)
    randomise(layer)
    return np.asarray(layer(rows, *SETS))


@pytest.mark.parametrize(("legacy", "project", "steps"), itertools.product([False, True], [False, True], [1, 2, 3]))
def test_every_form(legacy, project, steps):
    layer = Set2Set(4, steps, project=project, legacy=legacy, name="s")
    sets = items(6 if project else 4)
    output = made(layer, sets)
    assert output.shape == (4, 8) == layer.compute_output_shape(sets.shape, None, None, (4,))
    for row in range(3):
        expected = reference.set2set(values(layer), "s", copies_of(sets, row), steps, legacy)
        np.testing.assert_allclose(output[row], expected, rtol=0, atol=2e-6)


def test_the_forms_differ():
    """What the published weights need is neither a proper LSTM nor one with the gates of Keras 3."""
    sets = items()
    outputs = [made(Set2Set(4, 3, legacy=legacy), sets)[:3] for legacy in (False, True)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2
    layer = Set2Set(1, 1, legacy=True)
    layer(items(), *SETS)
    layer.kernel.assign(np.zeros((2, 4)))
    layer.bias.assign([100.0, 0.0, 100.0, 2.0])
    gate = np.asarray(layer(items(), *SETS))[0, 0] / np.tanh(1)
    assert gate == pytest.approx(0.9, abs=1e-6), "0.2 x + 0.5; in Keras 3 it is x / 6 + 0.5"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_lstm_of_pytorch(steps):
    """Two matrices and two biases, input [h; r], state (h, c): what is folded into one kernel and one bias."""
    n, rng = 4, np.random.default_rng(1)
    w_ih, w_hh, b_ih, b_hh = (rng.normal(0, 0.5, shape) for shape in ((4 * n, 2 * n), (4 * n, n), (4 * n,), (4 * n,)))
    sets = items(n)
    layer = Set2Set(n, steps, project=False)
    layer(sets, *SETS)
    kernel = w_ih.T.copy()
    kernel[:n] += w_hh.T
    layer.set_weights([kernel, b_ih + b_hh])
    output = np.asarray(layer(sets, *SETS))
    for row in range(3):
        rows, q_star, h, c = copies_of(sets, row), np.zeros(2 * n), np.zeros(n), np.zeros(n)
        for _ in range(steps):
            i, f, g, o = (w_ih @ q_star + b_ih + w_hh @ h + b_hh).reshape(4, n)
            c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
            h = reference.sigmoid(o) * np.tanh(c)
            attention = np.exp(rows @ h) / np.exp(rows @ h).sum()
            q_star = np.concatenate([h, attention @ rows])
        np.testing.assert_allclose(output[row], q_star, rtol=0, atol=2e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_small_sets(legacy):
    """Of one item the answer is this item; after one step the question is the layer's own; of no item the answer is zero."""
    sets = items(4)
    one_step, three = (made(Set2Set(4, steps, project=False, legacy=legacy), sets) for steps in (1, 3))
    for output in (one_step, three):
        np.testing.assert_allclose(output[1, 4:], sets[5], atol=1e-6)
        assert np.isfinite(output).all() and not output[3, 4:].any()
    np.testing.assert_array_equal(one_step[:, :4], np.tile(one_step[0, :4], (4, 1)))
    assert np.abs(three[0, :4] - three[2, :4]).max() > 1e-3


def test_order_and_empty_rows_do_not_matter():
    sets, layer = items(), Set2Set(4, 3)
    output = made(layer, sets)
    order = np.array([4, 3, 2, 1, 0, 5, 8, 7, 6, 10, 9])
    other = sets[order]
    other[9:] = 1e3
    np.testing.assert_allclose(np.asarray(layer(other, NUMBER[order], *SETS[1:])), output, rtol=0, atol=1e-6)


def test_attention():
    sets, layer = items(), Set2Set(4, 3)
    made(layer, sets)
    attention = np.asarray(layer.weights_of(sets, *SETS))
    assert attention.shape == (11, 1) and not attention[9:].any()
    np.testing.assert_allclose(np.bincount(OWNERS, attention[:, 0]), [1, 1, 1, 0], atol=1e-6)
    copies = np.repeat(np.arange(11), np.maximum(NUMBER[:, 0], 1).astype(int))
    each = np.asarray(layer.weights_of(sets[copies], np.minimum(NUMBER, 1)[copies], OWNERS[copies], SETS[2]))[:, 0]
    np.testing.assert_allclose(np.bincount(copies, each), attention[:, 0], atol=1e-6)


def test_scores_of_any_size():
    sets = items(4) * 1e4
    output = made(Set2Set(4, 3, project=False), sets)
    assert np.isfinite(output).all()
    np.testing.assert_allclose(output[1, 4:], sets[5], rtol=1e-6)


def test_the_forget_gate_begins_open():
    layer = Set2Set(3)
    layer(items(), *SETS)
    np.testing.assert_array_equal(np.asarray(layer.bias), [0] * 3 + [1] * 3 + [0] * 6)
    kernel = np.asarray(layer.kernel)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(6), atol=1e-5)


def test_l2_is_on_the_projection():
    layer = Set2Set(4, l2=0.1)
    made(layer, items())
    assert float(sum(layer.losses)) == pytest.approx(0.1 * (np.asarray(layer.projection_kernel) ** 2).sum(), rel=1e-5)
    for other in (Set2Set(4), Set2Set(6, project=False, l2=0.1)):
        made(other, items())
        assert not other.losses


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        Set2Set(4, 0)
    with pytest.raises(ValueError, match=r"without `project` the items must be 4 wide\. Received: 6"):
        Set2Set(4, project=False).build((None, None, 6))


@pytest.mark.parametrize(
    "layer", [Set2Set(), Set2Set(4, 2, legacy=True, l2=0.1), Set2Set(6, 1, project=False)], ids=["plain", "l2", "wide"]
)
def test_it_comes_back_from_its_configuration(layer):
    output = made(layer, items())
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(copy, Set2Set) and copy.get_config() == layer.get_config()
    copy(items(), *SETS)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(np.asarray(copy(items(), *SETS)), output)
