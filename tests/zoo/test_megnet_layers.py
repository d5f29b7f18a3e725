"""The layers of MEGNet against NumPy, and what empty rows and other crystals must not change."""

import itertools

import keras
import megnet_reference as reference
import numpy as np
import pytest
from megnet_cases import randomise, values

from tfmat.layers.activations import softplus2
from tfmat.layers.gaussians import GaussianExpansion
from tfmat.layers.joint_dense import JointDense
from tfmat.zoo.megnet import BondGraph, ConstantState, MEGNetBlock

RNG = np.random.default_rng(0)
ENDS = ["centers", "neighbors"]
DIM, HIDDEN = 6, 5
# A batch of 3: 5 sites and 9 bonds, 3 sites and 4 bonds, nothing; then two empty sites and bonds. Bonds are no pairs here.
SITES, BONDS = (5, 3, 0), (9, 4, 0)
RECEIVERS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 5, 6, 6, 7, 9, 9], "int32")
SENDERS = np.array([1, 0, 2, 3, 0, 3, 3, 2, 0, 7, 7, 5, 7, 9, 9], "int32")
"""Site 4 of the first crystal has no bond at all."""
MULTIPLICITY = np.array([1, 2, 1, 3, 1, 1, 1, 6, 1, 2, 1, 4, 1, 0, 0], "int32")
SITE_MULTIPLICITY = np.array([1] * 8 + [0] * 2, "int32")
GRAPH = {
    "species": np.array([3, 8, 8, 26, 1, 11, 17, 9, 0, 0], "int32"),
    "site_multiplicity": SITE_MULTIPLICITY,
    "bond_receivers": RECEIVERS,
    "bond_senders": SENDERS,
    "bond_multiplicity": MULTIPLICITY,
    "batch_sites": np.array(SITES, "int32"),
}


def features(seed=0):
    """Atoms, bonds and state; the empty rows are not zero."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, DIM)).astype("float32") for rows in (len(SITE_MULTIPLICITY), len(RECEIVERS), 3)]


def rows_of(lengths, row):
    """Those of one crystal."""
    return slice(sum(lengths[:row]), sum(lengths[: row + 1]))


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


def test_graph():
    sites = np.array([2, 1, 3, 1, 1, 4, 1, 5, 0, 0], "int32")
    graph = BondGraph()(GRAPH | {"site_multiplicity": sites})
    crystals = np.array([0] * 5 + [1] * 3 + [2] * 2)
    np.testing.assert_array_equal(graph["crystals"], crystals)
    np.testing.assert_array_equal(graph["bond_crystals"], crystals[RECEIVERS])
    np.testing.assert_array_equal(np.asarray(graph["bond_counts"])[:, 0], sites[RECEIVERS] * MULTIPLICITY)
    degree = np.bincount(RECEIVERS, MULTIPLICITY, 10)
    weights = {
        "message_share": (MULTIPLICITY, RECEIVERS),
        "site_share": (sites, crystals),
        "bond_share": (sites * degree, crystals),
    }
    for key, (weight, owner) in weights.items():
        expected = weight / np.maximum(np.bincount(owner, weight)[owner], 1)
        np.testing.assert_allclose(np.asarray(graph[key])[:, 0], expected, rtol=1e-6)


def test_graph_tells_its_shapes():
    inputs = {key: keras.KerasTensor(array.shape, array.dtype) for key, array in GRAPH.items()}
    told, real = BondGraph().compute_output_spec(inputs), BondGraph()(GRAPH)
    keras.tree.assert_same_structure(told, real)
    for tensor, array in zip(keras.tree.flatten(told), keras.tree.flatten(real), strict=True):
        assert tuple(tensor.shape) == tuple(array.shape)
        assert tensor.dtype == keras.backend.standardize_dtype(array.dtype)
    assert BondGraph()({key: keras.Input((), dtype=array.dtype) for key, array in GRAPH.items()})["bond_counts"].shape == (None, 1)


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


def block_of(inputs, seed=0, **options):
    """A block with random weights, and what it makes of the inputs."""
    block, graph = MEGNetBlock(DIM, HIDDEN, **({"name": "block"} | options)), BondGraph()(GRAPH)
    block(*inputs, graph)
    randomise(block, seed)
    return block, [np.asarray(output) for output in block(*inputs, graph)]


@pytest.mark.parametrize(("receive", "activate_last", "feed_forward"), itertools.product(ENDS, [False, True], [False, True]))
def test_block(receive, activate_last, feed_forward):
    """A bond that stands for several counts as often."""
    atoms, bonds, state = features()
    block, output = block_of((atoms, bonds, state), receive=receive, activate_last=activate_last, feed_forward=feed_forward)
    weights = values(block)
    assert any("_ff_" in path for path in weights) == feed_forward
    for row in (0, 1):
        of_sites, of_bonds = rows_of(SITES, row), rows_of(BONDS, row)
        copies = np.repeat(np.arange(len(RECEIVERS))[of_bonds], MULTIPLICITY[of_bonds])
        here, there = (ends[copies] - of_sites.start for ends in (RECEIVERS, SENDERS))
        centers, neighbors = (here, there) if receive == "centers" else (there, here)
        streams = (atoms[of_sites], bonds[copies], state[row])
        expected = reference.block(weights, "block", *streams, centers, here, neighbors, activate_last)
        for got, wanted in zip((output[0][of_sites], output[1][copies], output[2][row]), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    assert np.abs(output[0][4] - atoms[4]).max() > 1e-3, "an atom without bonds is updated too, by a message of zero"


def test_empty_rows_of_a_block_are_never_read():
    first, second = features(1), features(2)
    for one, other, lengths in zip(first[:2], second[:2], (SITES, BONDS), strict=True):
        other[: sum(lengths)] = one[: sum(lengths)]
    second[2][:] = first[2]
    block, output = block_of(first)
    again = [np.asarray(x) for x in block(*second, BondGraph()(GRAPH))]
    for lengths, one, other in zip((SITES, BONDS), output, again, strict=False):
        np.testing.assert_array_equal(one[: sum(lengths)], other[: sum(lengths)])
    np.testing.assert_array_equal(output[2], again[2])
    assert all(np.isfinite(x).all() for x in output), "also where there is nothing"


@pytest.mark.parametrize("activate_last", [False, True])
def test_gradients_of_a_block(activate_last):
    """Against finite differences in double precision: of its inputs and of all weights."""
    tf = pytest.importorskip("tensorflow")
    block = MEGNetBlock(DIM, HIDDEN, activate_last=activate_last, dtype="float64")
    graph = BondGraph(dtype="float64")(GRAPH)
    inputs = [tf.constant(x.astype(float)) for x in features()]
    block(*inputs, graph)
    randomise(block)
    parts = [*inputs, *(weight.value for weight in block.trainable_weights)]
    directions = [RNG.normal(size=part.shape) for part in parts]
    real = [np.arange(len(x))[:, None] < n for x, n in zip(inputs, (sum(SITES), sum(BONDS), 3), strict=True)]

    def loss(shift):
        moved = [x + shift * d for x, d in zip(inputs, directions, strict=False)]
        for weight, part, direction in zip(block.trainable_weights, parts[3:], directions[3:], strict=True):
            weight.assign(part + shift * direction)
        return sum(tf.reduce_sum(tf.sin(x) * r) for x, r in zip(block(*moved, graph), real, strict=True))

    parts = [tf.identity(part) for part in parts]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(0.0)
    gradients = tape.gradient(value, [*inputs, *(weight.value for weight in block.trainable_weights)])
    slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradients, directions, strict=True))
    assert slope == pytest.approx(float(loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-6)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("feed_forward", [False, True])
def test_l2_of_a_block(feed_forward):
    block, _ = block_of(features(), l2=0.01, feed_forward=feed_forward)
    kernels = [value for path, value in values(block).items() if path.endswith("kernel")]
    assert len(kernels) == (15 if feed_forward else 9)
    assert float(sum(block.losses)) == pytest.approx(0.01 * sum((kernel**2).sum() for kernel in kernels), rel=1e-5)
    assert not block_of(features())[0].losses


def test_dropout_of_a_block():
    """It is there in training alone, and on the update, not on what the residual carries."""
    inputs, graph = features(), BondGraph()(GRAPH)
    block, output = block_of(inputs, dropout=0.5)
    _, plain = block_of(inputs)
    for one, other, training, before in zip(output, plain, block(*inputs, graph, training=True), inputs, strict=True):
        np.testing.assert_array_equal(one, other)
        update = np.asarray(training) - before
        dropped = np.abs(update) < 1e-7
        assert 0.1 < dropped.mean() < 0.9
        np.testing.assert_allclose(update[~dropped], 2 * (one - before)[~dropped], rtol=1e-3, atol=1e-5)


def test_constant_state():
    layer = ConstantState(3)
    output = np.asarray(layer(GRAPH["batch_sites"]))
    assert output.shape == (3, 3) == layer.compute_output_shape((3,)) and not output.any() and output.dtype == np.float32


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (BondGraph(), (GRAPH,)),
        (GaussianExpansion(6.0, 7, 0.7), (np.linspace(0, 5, 9, dtype="float32"),)),
        (ConstantState(3), (GRAPH["batch_sites"],)),
        (MEGNetBlock(DIM, HIDDEN), None),
        (MEGNetBlock(DIM, HIDDEN, feed_forward=False, activate_last=True, receive="neighbors", dropout=0.3, l2=0.1), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "",
)
def test_a_layer_comes_back_from_its_configuration(layer, inputs):
    if inputs is None:
        inputs = (*features(), BondGraph()(GRAPH))
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
