"""The published optimizer stack against a plain numpy transcription of its equations."""

import keras
import numpy as np
import pytest

from tfmat.optimizers import LookaheadLamb, TriangularCycle
from tfmat.recipe import Recipe


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


def test_decay_spares_biases():
    optimizer = Recipe(weight_decay=0.5, schedule="constant", learning_rate=0.1).build_optimizer(1, 1)
    kernel, bias = keras.Variable(np.ones((2, 2), "float32"), name="kernel"), keras.Variable(np.ones(2, "float32"), name="bias")
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
    assert np.asarray(kernel).max() < 1
    assert (np.asarray(bias) == 1).all()


@pytest.mark.parametrize(
    "keywords", [{"optimizer": "sgd"}, {"schedule": "linear"}, {"learning_rate": 0}, {"epochs": -1}, {"ema": 0.9, "swa_epochs": 20}]
)
def test_wrong_recipe(keywords):
    with pytest.raises(ValueError, match=r"must be|both average"):
        Recipe(**keywords)


def test_recipe_round_trip():
    recipe = Recipe(ema=0.99, batch_range=(1, 2))
    assert Recipe.from_config(recipe.to_config()) == recipe
