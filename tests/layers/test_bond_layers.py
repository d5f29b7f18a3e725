"""The layers of MEGNet against NumPy, and what padding must not change."""

import itertools

import keras
import megnet_reference as reference
import numpy as np
import pytest
from megnet_cases import randomise, values

from tfmat.layers.bonds import BondGraph, GaussianExpansion, JointDense, MEGNetBlock, softplus2
from tfmat.layers.constants import ConstantState

RNG = np.random.default_rng(0)
ENDS = ["centers", "neighbors"]
DIM, HIDDEN = 6, 5
# A batch of 3: all 5 sites and 9 bonds, 3 sites and 4 bonds, nothing. Bonds are no pairs here, so that the ends differ.
SPECIES = np.array([[3, 8, 8, 26, 1], [11, 17, 9, 0, 0], [0, 0, 0, 0, 0]], "int32")
CENTERS = np.array([[0, 0, 0, 1, 2, 2, 3, 3, 1], [0, 1, 1, 2, 0, 0, 0, 0, 0], [0] * 9], "int32")
NEIGHBORS = np.array([[1, 0, 2, 3, 3, 3, 2, 0, 0], [2, 2, 0, 2, 0, 0, 0, 0, 0], [0] * 9], "int32")
"""Site 4 of the first crystal has no bond at all, site 1 of the second receives none as a neighbour."""
BONDS = (9, 4, 0)
SITES = (5, 3, 0)
DISTANCES = np.array([[2.5] * 9, [3.0] * 4 + [0.0] * 5, [0.0] * 9], "float32")
GRAPH = (SPECIES, CENTERS, NEIGHBORS, DISTANCES)


def features(seed=0):
    """Atoms, bonds and state; the padding is not zero."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, *shape)).astype("float32") for shape in ((5, DIM), (9, DIM), (DIM,))]


def test_softplus2_and_its_derivative():
    tf = pytest.importorskip("tensorflow")
    x = np.concatenate([np.linspace(-30, 30, 121), [0.0, -0.0, 1e-12, -1e-12, 1e-3, -1e-3, 700, -700, 1e5, -1e5]])
    variable = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        result = softplus2(variable)
    assert result.dtype == tf.float64
    np.testing.assert_allclose(result, np.logaddexp(x, 0) - np.log(2), rtol=1e-13, atol=1e-15)
    gradient = tape.gradient(result, variable).numpy()
    np.testing.assert_allclose(gradient, 0.5 * (1 + np.tanh(x / 2)), rtol=1e-9, atol=1e-15)
    assert (gradient[x == 0] == 0.5).all() and (np.asarray(result)[x == 0] == 0).all()
    assert np.asarray(softplus2(np.float32(1e30))) == np.float32(1e30)


@pytest.mark.parametrize(("highest", "number", "width"), [(5.0, 100, 0.5), (6.0, 100, 0.5), (5.0, 100, 2**0.5), (3.0, 2, 1.0)])
def test_gaussian_expansion(highest, number, width):
    distances = RNG.uniform(0, 4, (2, 7)).astype("float32")
    distances[0, 0] = 0.0
    layer = GaussianExpansion(highest, number, width)
    output = np.asarray(layer(distances))
    step = highest / (number - 1)
    for k in (0, 1, number // 2, number - 1):
        np.testing.assert_allclose(output[..., k], np.exp(-((distances.astype(float) - k * step) ** 2) / width**2), atol=2e-6)
    assert output.shape == (2, 7, number) == layer.compute_output_shape((2, 7)) and not layer.weights


def test_gaussian_expansion_has_the_width_of_each_package():
    """exp(-d^2 / 0.25) in megnet, exp(-0.5 d^2) in matgl."""
    one = np.ones((1, 1), "float32")
    assert float(GaussianExpansion(5.0)(one)[0, 0, 0]) == pytest.approx(np.exp(-4.0), rel=1e-6)
    assert float(GaussianExpansion(5.0, width=2**0.5)(one)[0, 0, 0]) == pytest.approx(np.exp(-0.5), rel=1e-6)


@pytest.mark.parametrize("wrong", [{"highest": 0.0}, {"highest": 5.0, "number": 1}, {"highest": 5.0, "width": 0.0}])
def test_gaussian_expansion_refuses(wrong):
    with pytest.raises(ValueError, match="`highest` must be above `lowest`, `width` positive, `number` at least 2"):
        GaussianExpansion(**wrong)


@pytest.mark.parametrize("receive", ENDS)
def test_graph(receive):
    graph = {key: np.asarray(value) for key, value in BondGraph(receive)(*GRAPH).items()}
    for key, ends in (("centers", CENTERS), ("neighbors", NEIGHBORS)):
        np.testing.assert_array_equal(graph[key], (ends + [[0], [5], [10]]).ravel())
    np.testing.assert_array_equal(graph["real_atoms"][..., 0], SPECIES > 0)
    np.testing.assert_array_equal(graph["real_bonds"][..., 0], DISTANCES > 0)
    degree = {"centers": [[3, 2, 2, 2, 1], [1, 2, 1, 1, 1], [1] * 5], "neighbors": [[3, 1, 2, 3, 1], [1, 1, 3, 1, 1], [1] * 5]}
    np.testing.assert_array_equal(graph["degree"][..., 0], degree[receive])


def test_graph_tells_its_shapes():
    rows = {"centers": 27, "neighbors": 27, "degree": (3, 5, 1), "real_atoms": (3, 5, 1), "real_bonds": (3, 9, 1)}
    inputs = [keras.KerasTensor(array.shape, array.dtype) for array in GRAPH]
    told, real = BondGraph().compute_output_spec(*inputs), BondGraph()(*GRAPH)
    assert told.keys() == real.keys() == rows.keys()
    for key, tensor in told.items():
        assert tuple(tensor.shape) == tuple(real[key].shape) == ((rows[key],) if isinstance(rows[key], int) else rows[key])
        assert tensor.dtype == keras.backend.standardize_dtype(real[key].dtype)
    assert BondGraph()(*(keras.Input((None,), dtype=array.dtype) for array in GRAPH))["centers"].shape == (None,)


def test_joint_dense_is_a_dense_layer_of_the_concatenation():
    parts = [RNG.normal(size=(2, 7, width)).astype("float32") for width in (3, 1, 5)]
    joint = JointDense(4, keras.regularizers.L2(0.1), name="joint")
    joint.build(*(part.shape for part in parts))
    weights = randomise(joint)
    assert list(weights) == ["joint/kernel", "joint/bias"] and weights["joint/kernel"].shape == (9, 4)
    plain = keras.layers.Dense(4)
    plain.build((None, 9))
    plain.set_weights(joint.get_weights())
    np.testing.assert_allclose(joint(*parts), plain(np.concatenate(parts, -1)), atol=1e-6)
    contributions = sum(np.asarray(joint.part(part, index)) for index, part in enumerate(parts)) + np.asarray(joint.shift)
    np.testing.assert_allclose(joint(*parts), contributions, atol=1e-6)
    assert float(sum(joint.losses)) == pytest.approx(0.1 * (weights["joint/kernel"] ** 2).sum(), rel=1e-5)


def block_of(inputs, graph=None, seed=0, **options):
    """A block with random weights, and what it makes of the inputs."""
    block = MEGNetBlock(DIM, HIDDEN, **({"name": "block"} | options))
    graph = graph or BondGraph(options.get("receive", "centers"))(*GRAPH)
    block(*inputs, graph)
    randomise(block, seed)
    return block, [np.asarray(output) for output in block(*inputs, graph)]


@pytest.mark.parametrize(("receive", "activate_last", "feed_forward"), itertools.product(ENDS, [False, True], [False, True]))
def test_block(receive, activate_last, feed_forward):
    atoms, bonds, state = features()
    block, output = block_of((atoms, bonds, state), receive=receive, activate_last=activate_last, feed_forward=feed_forward)
    weights = values(block)
    assert any("_ff_" in path for path in weights) == feed_forward
    for row, (sites, count) in enumerate(zip(SITES[:2], BONDS[:2], strict=True)):
        centers, neighbors = CENTERS[row, :count], NEIGHBORS[row, :count]
        receivers = {"centers": centers, "neighbors": neighbors}[receive]
        streams = (atoms[row, :sites], bonds[row, :count], state[row])
        expected = reference.block(weights, "block", *streams, centers, receivers, neighbors, activate_last)
        for got, wanted in zip((output[0][row, :sites], output[1][row, :count], output[2][row]), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    assert np.abs(output[0][0, 4] - atoms[0, 4]).max() > 1e-3, "an atom without bonds is updated too, by a message of zero"


@pytest.mark.parametrize("receive", ENDS)
def test_padding_of_a_block_is_never_read(receive):
    first, second = features(1), features(2)
    for one, other, lengths in zip(first[:2], second[:2], (SITES, BONDS), strict=True):
        for row, length in enumerate(lengths):
            other[row, :length] = one[row, :length]
    second[2][:] = first[2]
    block, output = block_of(first, receive=receive)
    again = [np.asarray(x) for x in block(*second, BondGraph(receive)(*GRAPH))]
    for lengths, one, other, before in zip((SITES, BONDS), output, again, first, strict=False):
        for row, length in enumerate(lengths):
            np.testing.assert_array_equal(one[row, :length], other[row, :length])
            np.testing.assert_array_equal(one[row, length:], before[row, length:])
    np.testing.assert_array_equal(output[2], again[2])
    assert all(np.isfinite(x).all() for x in output), "also where there is nothing but padding"


@pytest.mark.parametrize("feed_forward", [False, True])
def test_l2_of_a_block(feed_forward):
    block, _ = block_of(features(), l2=0.01, feed_forward=feed_forward)
    kernels = [value for path, value in values(block).items() if path.endswith("kernel")]
    assert len(kernels) == (15 if feed_forward else 9)
    assert float(sum(block.losses)) == pytest.approx(0.01 * sum((kernel**2).sum() for kernel in kernels), rel=1e-5)
    assert not block_of(features())[0].losses


def test_dropout_of_a_block():
    """It is there in training alone, and on the update, not on what the residual carries."""
    inputs, graph = features(), BondGraph()(*GRAPH)
    block, output = block_of(inputs, dropout=0.5)
    _, plain = block_of(inputs)
    for one, other, training, before in zip(output, plain, block(*inputs, graph, training=True), inputs, strict=True):
        np.testing.assert_array_equal(one, other)
        update = np.asarray(training) - before
        dropped = np.abs(update) < 1e-7
        real = np.abs(one - before) > 1e-7
        assert 0.1 < dropped[real].mean() < 0.9
        np.testing.assert_allclose(update[~dropped], 2 * (one - before)[~dropped], rtol=1e-3, atol=1e-5)


def test_constant_state():
    layer = ConstantState(3)
    output = np.asarray(layer(SPECIES))
    assert output.shape == (3, 3) == layer.compute_output_shape(SPECIES.shape) and not output.any() and output.dtype == np.float32


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (BondGraph("neighbors"), GRAPH),
        (GaussianExpansion(6.0, 7, 0.7), (DISTANCES,)),
        (ConstantState(3), (SPECIES,)),
        (MEGNetBlock(DIM, HIDDEN), None),
        (MEGNetBlock(DIM, HIDDEN, feed_forward=False, activate_last=True, receive="neighbors", dropout=0.3, l2=0.1), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "",
)
def test_a_layer_comes_back_from_its_configuration(layer, inputs):
    if inputs is None:
        inputs = (*features(), BondGraph(layer.get_config()["receive"])(*GRAPH))
    layer(*inputs)
    randomise(layer)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer) and copy.get_config() == layer.get_config()
    copy(*inputs)
    copy.set_weights(layer.get_weights())
    assert values(copy).keys() == values(layer).keys() and len(copy.losses) == len(layer.losses)
    one, other = (keras.tree.flatten(each(*inputs)) for each in (layer, copy))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_activation_comes_back_by_its_name():
    config = keras.saving.serialize_keras_object(keras.layers.Dense(2, softplus2))
    assert keras.saving.deserialize_keras_object(config).activation is softplus2
