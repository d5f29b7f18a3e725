"""The published optimizer stack against a plain numpy transcription of its equations."""

import json

import keras
import numpy as np
import pytest

from tfmat.training.optimizers import LookaheadLamb, TriangularCycle
from tfmat.training.recipe import Recipe


def reference(weights, gradients, rate, period=6, slow_step=0.5):
    """Equations of Lamb without bias correction, in Lookahead; float64."""
    w, m, v, slow = weights.astype(float), 0.0, 0.0, None
    for step, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = m / (np.sqrt(v) + 1e-6)
        a, b = min(np.linalg.norm(w), 10.0), np.linalg.norm(u)
        w = w - rate * (a / b if a > 0 and b > 0 else 1.0) * u
        if step % period == 0:
            slow = w.copy() if slow is None else slow + slow_step * (w - slow)
            w = slow.copy()
    return w


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0], ids=["zero weights", "ordinary", "norm above 10"])
def test_lookahead_lamb(scale):
    rng = np.random.default_rng(0)
    start = (scale * rng.normal(size=(3, 4))).astype("float32")
    gradients = rng.normal(size=(20, 3, 4)).astype("float32")
    variable = keras.Variable(start)
    optimizer = LookaheadLamb(learning_rate=0.01)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    np.testing.assert_allclose(np.asarray(variable), reference(start, gradients, 0.01), rtol=2e-5, atol=2e-5)


def test_lookahead_lamb_of_an_embedding():
    """TensorFlow gives the gradient of a looked-up table as sparse slices."""
    tf = pytest.importorskip("tensorflow")
    start = np.ones((4, 2), "float32")
    variable = keras.Variable(start)
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([2, 0]), tf.constant([4, 2]))
    LookaheadLamb(learning_rate=0.01).apply([slices], [variable])
    dense = np.array([[3, 4], [0, 0], [1, 2], [0, 0]], "float32")
    np.testing.assert_allclose(np.asarray(variable), reference(start, [dense], 0.01), rtol=2e-5)


def test_lookahead_lamb_config():
    optimizer = LookaheadLamb(learning_rate=0.01, sync_period=4)
    assert LookaheadLamb.from_config(optimizer.get_config()).sync_period == 4
    with pytest.raises(ValueError, match="typo"):
        LookaheadLamb(typo=1)


def test_triangular_cycle():
    rate = TriangularCycle(1e-4, 6e-3, 10)
    values = [float(rate(step)) for step in (0, 5, 10, 15, 20, 30)]
    np.testing.assert_allclose(values, [1e-4, 3.05e-3, 6e-3, 3.05e-3, 1e-4, 6e-3], rtol=1e-5)
    with pytest.raises(ValueError, match="`half_period`"):
        TriangularCycle(0, 1, 0)


@pytest.mark.parametrize(("rows", "size"), [(3428, 256), (19_330, 1024), (39_663, 2048), (59_509, 4096), (239_125, 4096), (100, 128)])
def test_published_batch_sizes(rows, size):
    assert Recipe(batch_shift=4, batch_range=(128, 4096)).batch_size_for(rows) == size


def test_cosine_schedule_warms_up_and_ends_at_zero():
    schedule = Recipe(learning_rate=1e-3, warmup=0.1).build_optimizer(10, 10)._learning_rate
    values = np.array([float(schedule(step)) for step in range(101)])
    assert values.argmax() == 10
    assert values[10] == pytest.approx(1e-3)
    assert values[0] < 2e-4
    assert values[100] == pytest.approx(0, abs=1e-9)


def test_a_cosine_of_its_own_length_and_end():
    recipe = Recipe(learning_rate=1e-3, warmup=0.1, cosine_epochs=10, final_rate=2e-4)
    schedule = recipe.build_optimizer(10, 30)._learning_rate
    values = np.array([float(schedule(step)) for step in range(301)])
    assert values.argmax() == 10
    middle = 10 + 45
    assert values[middle] == pytest.approx((1e-3 + 2e-4) / 2)
    assert values[100:] == pytest.approx(2e-4)


def test_steps_down():
    schedule = Recipe(learning_rate=1e-3, schedule="step", step_epochs=3, step_factor=0.2).build_optimizer(10, 80)._learning_rate
    values = np.array([float(schedule(step)) for step in range(70)])
    np.testing.assert_allclose(values, np.repeat([1e-3, 2e-4, 4e-5], 30)[:70], rtol=1e-5)


def test_decay_spares_biases():
    optimizer = Recipe(weight_decay=0.5, schedule="constant", learning_rate=0.1).build_optimizer(1, 1)
    kernel, bias = keras.Variable(np.ones((2, 2), "float32"), name="kernel"), keras.Variable(np.ones(2, "float32"), name="bias")
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
    assert np.asarray(kernel).max() < 1
    assert (np.asarray(bias) == 1).all()


@pytest.mark.parametrize(
    "keywords",
    [
        {"optimizer": "sgd"}, {"schedule": "linear"}, {"learning_rate": 0}, {"epochs": -1}, {"ema": 0.9, "swa_epochs": 20},
        {"loss": "huber"}, {"keep": "first"}, {"clip_norm": 1, "clip_norm_each": 1}, {"cosine_epochs": 0}, {"final_rate": -1},
        {"final_rate": 1}, {"keep": "best", "swa_epochs": 20}, {"patience": 3}, {"patience": 0, "keep": "best"},
        {"optimizer": "adam", "weight_decay": 0.1}, {"rates": "head"}, {"rates": [("head", -1)]}, {"rates": {"head": "x"}},
        {"rates": [("head",)]}, {"rates": [("head", float("nan"))]}, {"step_epochs": 0}, {"step_factor": -0.1},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_recipe(keywords):
    with pytest.raises(ValueError, match=r"must be|both|needs"):
        Recipe(**keywords)


def test_recipe_round_trip():
    recipe = Recipe(ema=0.99, batch_range=(1, 2), rates={"head": 2, "block*": 0.1})
    assert recipe.rates == (("head", 2.0), ("block*", 0.1))
    assert Recipe.from_config(recipe.to_config()) == recipe
    assert Recipe.from_config(json.loads(json.dumps(recipe.to_config()))) == recipe


def test_a_config_without_the_newer_options():
    new = {"loss", "rates", "cosine_epochs", "final_rate", "clip_norm_each", "keep", "patience", "step_epochs", "step_factor"}
    old = {key: value for key, value in Recipe(ema=0.9).to_config().items() if key not in new}
    assert Recipe.from_config(old) == Recipe(ema=0.9)


def test_adam_and_clipping():
    optimizer = Recipe(optimizer="adam", clip_norm_each=0.5).build_optimizer(1, 1)
    assert isinstance(optimizer, keras.optimizers.Adam) and not optimizer.weight_decay
    assert (optimizer.epsilon, optimizer.clipnorm, optimizer.global_clipnorm) == (1e-7, 0.5, None)
    assert Recipe(clip_norm=2.0).build_optimizer(1, 1).global_clipnorm == 2.0


RATES = [
    Recipe(optimizer="adam", schedule="constant", learning_rate=0.01),
    Recipe(optimizer="adamw", schedule="constant", learning_rate=0.01, weight_decay=0.3),
    Recipe(optimizer="lookahead_lamb", schedule="constant", learning_rate=0.01),
]


def moves(recipe, factors, steps=1, compiled=False):
    """How far three equal kernels move under equal gradients."""
    start = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    gradients = np.random.default_rng(1).normal(size=(steps, 3, 4)).astype("float32")
    variables = [keras.Variable(start, name=f"kernel{i}") for i in range(3)]
    optimizer = recipe.build_optimizer(10, 10)
    optimizer.build(variables)
    if factors is not None:
        optimizer.set_factors(factors)

    def step(gradient):
        optimizer.apply([gradient] * 3, variables)

    if compiled:
        step = pytest.importorskip("tensorflow").function(step)
    for gradient in gradients:
        step(keras.ops.convert_to_tensor(gradient))
    return [variable.numpy() - start for variable in variables]


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "XLA"])
@pytest.mark.parametrize("recipe", RATES, ids=lambda recipe: recipe.optimizer)
def test_rates_by_part(recipe, compiled):
    plain = moves(recipe, None, compiled=compiled)[0]
    full, tenth, none = moves(recipe, (1.0, 0.1, 0.0), compiled=compiled)
    np.testing.assert_array_equal(full, plain)
    assert np.abs(plain).min() > 0
    np.testing.assert_allclose(tenth, 0.1 * plain, rtol=0, atol=3e-7)  # float32 of weights of size 1
    assert not none.any()
    assert not moves(recipe, (1.0, 0.1, 0.0), steps=14, compiled=compiled)[2].any()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_one_pass_takes_the_steps_of_keras(clip, decay):
    """Adam, AdamW and clipping in as few passes as there are: the moments and weights after 20 steps."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), ()]
    gradients = [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(20)]
    recipe = Recipe(optimizer="adamw" if decay else "adam", schedule="constant", learning_rate=0.01, weight_decay=decay, clip_norm=clip)
    ours = recipe.build_optimizer(10, 10)
    kind = keras.optimizers.AdamW if decay else keras.optimizers.Adam
    theirs = kind(0.01, epsilon=1e-7, global_clipnorm=clip, **({"weight_decay": decay} if decay else {}))
    states = []
    for optimizer in (ours, theirs):
        variables = [keras.Variable(np.ones(shape, "float32"), name=f"kernel{i}") for i, shape in enumerate(shapes)]
        optimizer.build(variables)
        for step in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in step], variables)
        states.append([np.asarray(variable) for variable in (*variables, *optimizer.variables)])
    for array, expected in zip(*states, strict=True):
        np.testing.assert_allclose(array, expected, rtol=2e-5, atol=1e-7)


def test_one_pass_on_an_embedding():
    """TensorFlow gives the gradient of a looked-up table as sparse slices; rows that were not looked up have a zero gradient."""
    tf = pytest.importorskip("tensorflow")
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([2, 0]), tf.constant([4, 2]))
    dense = keras.ops.convert_to_tensor(np.array([[3, 4], [0, 0], [1, 2], [0, 0]], "float32"))
    found = []
    for gradient in (slices, dense):
        variable = keras.Variable(np.ones((4, 2), "float32"))
        optimizer = Recipe(optimizer="adam", schedule="constant", learning_rate=0.01, clip_norm=1.0).build_optimizer(1, 1)
        for _ in range(2):
            optimizer.apply([gradient], [variable])
        found.append(np.asarray(variable))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("ema", "steps", "period"), [(0.995, 10_000, 4), (0.995, 100, 1), (0.99, 10_000, 2), (0.9, 10**4, 1), (None, 10, 1)]
)
def test_moving_average_is_updated_as_seldom_as_it_may(ema, steps, period):
    """Every n-th step with the n-th power of the momentum: for a weight that stays, the average of every step."""
    optimizer = Recipe(optimizer="adam", schedule="constant", learning_rate=1e-3, ema=ema).build_optimizer(1, steps)
    assert optimizer.average_period == period
    if ema is None:
        return
    variable = keras.Variable(np.zeros(2, "float32"))
    optimizer.build([variable])
    apply = pytest.importorskip("tensorflow").function(lambda: optimizer.apply([keras.ops.zeros(2)], [variable]))
    apply()
    variable.assign(np.ones(2, "float32"))
    momentum, seen = optimizer.ema_momentum, []
    for _ in range(3 * period - 1):
        apply()
        seen.append(float(np.asarray(optimizer._model_variables_moving_average[0])[0]))
    powers = [step - 1 if period == 1 else period * (step // period) for step in range(2, 3 * period + 1)]
    expected = 1 - momentum ** np.array(powers)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_rates_are_no_part_of_the_config():
    optimizer = RATES[1].build_optimizer(1, 1)
    before = optimizer.get_config()
    optimizer.build([keras.Variable(np.ones(2, "float32"))])
    optimizer.set_factors([0.5])
    assert optimizer.get_config() == before
    assert type(optimizer).from_config(before).weight_decay == 0.3
    with pytest.raises(ValueError, match="must have 1 values"):
        optimizer.set_factors([1, 2])
