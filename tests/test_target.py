"""Scaling and unscaling."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmat.target import Target


@given(st.lists(st.floats(0.01, 1e4), min_size=2, max_size=20), st.sampled_from(["none", "log10", "log10_1p"]))
def test_unscale_inverts_scale(values, transform):
    values = np.array(values)
    target = Target("y", "GPa", transform=transform).fit(values)
    output = np.stack([target.scale(values), np.zeros(len(values))], axis=1).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(target.unscale(output))[:, 0], values, rtol=1e-3, atol=1e-3 * np.abs(values).max()
    )


def test_fit_uses_the_unbiased_deviation_and_ignores_missing_values():
    target = Target("y").fit(np.array([1.0, 3.0, np.nan]))
    assert (target.mean, target.std) == (2.0, pytest.approx(np.sqrt(2)))


def test_a_constant_target_can_be_fitted():
    assert Target("y").fit(np.array([5.0, 5.0])).std == 1.0


def test_uncertainty_behind_a_logarithm_is_the_derivative():
    target = Target("y", transform="log10", mean=0.3, std=0.7, uncertainty_scale=1.0)
    output = np.array([[0.4, np.log(1e-3)]], "float32")
    shifted = output + np.array([[1e-3, 0]], "float32")
    difference = float(target.unscale(shifted)[0, 0] - target.unscale(output)[0, 0])
    assert float(target.unscale_uncertainty(output)[0, 0]) == pytest.approx(difference, rel=5e-3)
    wider = dataclasses.replace(target, uncertainty_scale=2.0)
    assert float(wider.unscale_uncertainty(output)[0, 0]) == pytest.approx(2 * difference, rel=5e-3)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"name": "band gap"}, "`name` must be a valid identifier"),
        ({"name": "y", "task": "ranking"}, "`task` must be"),
        ({"name": "y", "transform": "ln"}, "`transform` must be"),
        ({"name": "y", "std": 0.0}, "`std` positive"),
        ({"name": "y", "uncertainty_scale": 0.0}, "`uncertainty_scale` must be positive"),
        ({"name": "y", "task": "binary", "mean": 1.0}, "neither transformed nor scaled"),
    ],
)
def test_wrong_arguments(keywords, message):
    with pytest.raises(ValueError, match=message):
        Target(**keywords)


def test_logarithm_needs_positive_values():
    with pytest.raises(ValueError, match="needs values > 0"):
        Target("y", transform="log10").fit(np.array([1.0, -1.0]))


def test_no_value_at_all():
    with pytest.raises(ValueError, match="no finite value"):
        Target("y").fit(np.array([np.nan]))


def test_config_round_trip():
    target = Target("y", "eV", transform="log10", mean=1.5, std=2.5)
    assert Target(**target.to_config()) == target
