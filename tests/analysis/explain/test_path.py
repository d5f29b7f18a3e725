"""Integrated gradients of functions whose integral is known."""

import numpy as np
import pytest

from tfmat.analysis.explain.path import integrated_gradients

POINTS = np.random.default_rng(1).normal(size=(1, 5, 3))


def function(value_of, gradient_of):
    """`Gradients` of a function of the mean over the sites."""

    def run(points):
        (x,) = points
        mean = x.mean(axis=1)
        return value_of(mean), [np.repeat(gradient_of(mean)[:, None], x.shape[1], axis=1) / x.shape[1]]

    return run


def test_a_square():
    """f = |m|^2 of the mean m: what site i adds is x_i . m / A."""
    found = integrated_gradients(function(lambda m: (m**2).sum(axis=1), lambda m: 2 * m), [POINTS])
    np.testing.assert_allclose(found.parts[0], POINTS[0] @ POINTS[0].mean(axis=0) / 5, rtol=1e-5)
    assert found.start == 0 and not found.linear and abs(found.error) < 1e-6


def test_a_linear_function():
    w = np.array([1.0, -2.0, 0.5])
    found = integrated_gradients(function(lambda m: m @ w + 3.0, lambda m: np.broadcast_to(w, m.shape)), [POINTS])
    np.testing.assert_allclose(found.parts[0], POINTS[0] @ w / 5, rtol=1e-5)
    assert found.linear and found.start == pytest.approx(3.0)


def test_a_rectifier_is_not_linear_even_without_bias():
    def value(m):
        return np.maximum(m, 0).sum(axis=1)

    found = integrated_gradients(function(value, lambda m: (m > 0).astype(float)), [POINTS])
    assert not found.linear and abs(found.error) < 1e-6


@pytest.mark.parametrize("sharpness", [10.0, 1e4])
def test_a_step_close_to_zero_is_found(sharpness):
    """As behind a normalisation: everything happens where the inputs are small."""

    def value(m):
        return np.tanh(sharpness * m.sum(axis=1))

    def gradient(m):
        return np.repeat(sharpness / np.cosh(np.minimum(np.abs(sharpness * m.sum(axis=1)), 300))[:, None] ** 2, 3, axis=1)

    found = integrated_gradients(function(value, gradient), [POINTS])
    expected = POINTS[0].sum(axis=1) / POINTS[0].sum() * (found.end - found.start)
    np.testing.assert_allclose(found.parts[0], expected, atol=2e-3)
    assert abs(found.error) < 2e-3


def test_several_inputs_and_little_memory(monkeypatch):
    def run(points):
        x, y = points
        return (x.sum(axis=(1, 2)) * y.sum(axis=1)), [
            np.broadcast_to(y.sum(axis=1)[:, None, None], x.shape),
            np.broadcast_to(x.sum(axis=(1, 2))[:, None], y.shape),
        ]

    inputs = [POINTS, np.array([[2.0, 1.0]])]
    found = integrated_gradients(run, inputs)
    assert found.parts[0].shape == (5,) and found.parts[1].shape == ()
    np.testing.assert_allclose(found.parts[0].sum(), found.end / 2, rtol=1e-5)
    np.testing.assert_allclose(found.parts[1], found.end / 2, rtol=1e-5)
    monkeypatch.setattr("tfmat.analysis.explain.path.NUMBERS", 40)
    again = integrated_gradients(run, inputs)
    np.testing.assert_allclose(again.parts[0], found.parts[0])
