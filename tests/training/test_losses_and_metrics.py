"""Losses, metrics and scores against hand-made numbers."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tfmat.target import Target
from tfmat.training.losses import BinaryCrossentropyWithLogits, RobustL1, loss_for
from tfmat.training.metrics import PhysicalMAE
from tfmat.training.scores import LAPLACE_COVERAGE, binary_scores, calibration, coverage, regression_scores


def column(*values):
    return np.array(values, "float32")[:, None]


def test_robust_l1_equals_the_published_code():
    loss = RobustL1()(column(0, 1), np.array([[0.3, 0.1], [-0.2, -0.4]], "float32"))
    assert float(loss) == pytest.approx(1.3078002343, abs=1e-6)


def test_missing_targets_cost_nothing():
    prediction = np.array([[0.3, 0.1], [-0.2, -0.4], [5.0, 5.0]], "float32")
    weights = np.array([1.5, 1.5, 0], "float32")
    masked = RobustL1()(column(0, 1, np.nan), prediction, sample_weight=weights)
    assert float(masked) == pytest.approx(1.3078002343, abs=1e-6)


def test_missing_targets_give_no_gradient():
    tf = pytest.importorskip("tensorflow")
    prediction = tf.Variable([[0.3, 0.1], [-0.2, -0.4]])
    with tf.GradientTape() as tape:
        value = RobustL1()(column(0, np.nan), prediction)
    gradient = tape.gradient(value, prediction).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()
    assert gradient[0].all()


def test_binary_crossentropy_equals_scikit_learn():
    logits, classes = np.array([[3.0, 9], [-2, 9], [50, 9], [-0.5, 9]], "float32"), column(1, 0, 1, 1)
    expected = log_loss(classes[:, 0], 1 / (1 + np.exp(-logits[:, 0].astype("float64"))))
    assert float(BinaryCrossentropyWithLogits()(classes, logits)) == pytest.approx(expected, rel=1e-5)


LABELS = np.array([0.4, 2.0, np.nan, 30.0, 7.0])
SCALED = {
    "mae": lambda error: np.abs(error),
    "mse": lambda error: error**2,
}
PHYSICAL = {
    "mape": lambda prediction, label: np.abs(prediction - label) / np.maximum(np.abs(label), 1.17e-6),
    "mse_physical": lambda prediction, label: (prediction - label) ** 2,
}


def unscaled(target, values):
    """Target.unscale once more, in float64."""
    values = np.asarray(values, float) * target.std + target.mean
    return {"none": values, "log10": 10.0**values, "log10_1p": 10.0**values - 1}[target.transform]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("transform", ["none", "log10", "log10_1p"])
@pytest.mark.parametrize("kind", [*SCALED, *PHYSICAL])
def test_losses_equal_their_definition(kind, transform, columns):
    target = Target("y", "GPa", transform=transform).fit(LABELS)
    labels, present = target.scale(LABELS), np.isfinite(LABELS)
    output = np.random.default_rng(0).normal(size=(5, columns)).astype("float32")
    if kind in SCALED:
        errors = SCALED[kind](output[:, 0] - labels)
    else:
        errors = PHYSICAL[kind](unscaled(target, output[:, 0]), LABELS)
    weight = np.full(5, 5 / present.sum(), "float32")  # as the batches have it
    value = loss_for(kind, target)(labels[:, None], output, sample_weight=weight)
    assert float(value) == pytest.approx(errors[present].mean(), rel=1e-4)


def test_mape_near_zero_has_a_floor():
    loss = loss_for("mape", Target("y"))
    assert float(loss(column(0, -1e-7), column(1e-6, 1e-6))) == pytest.approx((1e-6 + 1.1e-6) / 2 / 1.17e-6, rel=1e-4)
    assert float(loss(column(-2, 4), column(-1, 5))) == pytest.approx((0.5 + 0.25) / 2)


@pytest.mark.parametrize("kind", list(PHYSICAL))
@pytest.mark.parametrize("transform", ["log10", "log10_1p"])
def test_wild_logarithmic_predictions_do_not_overflow(kind, transform):
    tf = pytest.importorskip("tensorflow")
    output = tf.Variable([[4000.0], [-4000.0], [14.0], [0.1]])
    with tf.GradientTape() as tape:
        value = loss_for(kind, Target("y", transform=transform))(column(1, 1, 1, 1), output)
    gradient = tape.gradient(value, output).numpy()
    assert np.isfinite(float(value)) and np.isfinite(gradient).all()
    assert gradient[2, 0] > 0 > gradient[3, 0], "what is not wild is still learnt"


@pytest.mark.parametrize("kind", ["laplace", *SCALED, *PHYSICAL])
def test_a_binary_target_has_the_cross_entropy(kind):
    assert isinstance(loss_for(kind, Target("metal", task="binary")), BinaryCrossentropyWithLogits)


def test_missing_targets_give_no_gradient_in_any_loss():
    tf = pytest.importorskip("tensorflow")
    for kind in (*SCALED, *PHYSICAL):
        output = tf.Variable([[0.3, 0.1], [-0.2, -0.4]])
        with tf.GradientTape() as tape:
            value = loss_for(kind, Target("y", transform="log10"))(column(1, np.nan), output)
        gradient = tape.gradient(value, output).numpy()
        assert np.isfinite(gradient).all() and gradient[0, 0] and not gradient[1].any() and not gradient[:, 1].any()


def test_a_physical_loss_carries_its_target():
    loss = loss_for("mape", Target("y", "eV", transform="log10", mean=1.0, std=2.0))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.target == loss.target
    assert float(again(column(0.3), column(0.5))) == float(loss(column(0.3), column(0.5)))


def test_mae_is_in_the_targets_unit():
    target = Target("kappa", "W/(m K)", transform="log10", mean=1.0, std=0.5)
    metric = PhysicalMAE(target)
    metric.update_state(column(0, 0, np.nan), np.array([[0, 0], [2, 0], [9, 9]], "float32"))
    assert float(metric.result()) == pytest.approx((0 + 90) / 2, rel=1e-5)


def test_binary_metric_is_the_share_of_wrong_classes():
    metric = PhysicalMAE(Target("metal", task="binary"))
    metric.update_state(column(1, 0, 1, np.nan), np.array([[2, 0], [1, 0], [-1, 0], [1, 0]], "float32"))
    assert float(metric.result()) == pytest.approx(2 / 3)


def test_regression_scores():
    scores = regression_scores(np.array([1.0, 2, 3, np.nan]), np.array([1.0, 2, 6, 1]))
    assert scores["n"] == 3
    assert scores["MAE"] == pytest.approx(1)
    assert scores["RMSE"] == pytest.approx(np.sqrt(3))
    assert scores["R2"] == pytest.approx(1 - 3 / (2 / 3))
    assert scores["MAD/MAE"] == pytest.approx(2 / 3)


def test_scores_of_nothing():
    assert regression_scores(np.array([np.nan]), np.array([1.0])) == {"n": 0}
    assert binary_scores(np.array([np.nan]), np.array([1.0])) == {"n": 0}
    assert "ROC-AUC" not in binary_scores(np.array([1.0, 1.0]), np.array([0.2, 0.9]))


def test_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    classes, probabilities = rng.integers(0, 2, 200).astype(float), rng.integers(0, 10, 200) / 10
    assert binary_scores(classes, probabilities)["ROC-AUC"] == pytest.approx(roc_auc_score(classes, probabilities))


def test_coverage_of_a_laplace_distribution():
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2, 200_000)
    errors = rng.laplace(scale=spread / np.sqrt(2))
    assert coverage(errors, np.zeros_like(errors), spread) == pytest.approx(LAPLACE_COVERAGE, abs=0.005)


def test_calibration_restores_the_coverage():
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2, 20_000)
    errors = rng.laplace(scale=3 * spread / np.sqrt(2))
    zeros = np.zeros_like(errors)
    factor = calibration(errors, zeros, spread)
    assert factor == pytest.approx(3, rel=0.03)
    assert coverage(errors, zeros, factor * spread) == pytest.approx(LAPLACE_COVERAGE, abs=1e-3)
    assert calibration(errors[:5], zeros[:5], spread[:5]) == 1.0
