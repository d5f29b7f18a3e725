"""Integrated gradients: what each input of a function adds to its value on the way from zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Gradients = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, list[np.ndarray]]]
"""A function that takes S values of each input, (S, ...), and gives the outputs (S,) and their gradients (S, ...)."""

EDGES = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Intervals that the path is cut into at first."""
POINTS = 8
"""Points of the integral in each."""
ROUNDS = 13
"""Number of times that intervals are looked at and halved; a step of the function is in the end between two points 1e-4 apart."""
CONVERGED = 1e-4
"""Largest error of one interval, as a part of the whole difference or absolute, whichever is larger."""
NUMBERS = 4_000_000
"""Most numbers that are fed to the function at once."""
LINEAR = 1e-4
"""Gradients that differ by less than this part are those of a linear function."""


@dataclass(frozen=True)
class PathIntegral:
    """Integrated gradients.

    Attributes:
        parts: of each input, float64 (...) shaped as the input without its last axis: what it adds.
        start: output where all inputs are zero.
        end: output.
        error: ``end - start - sum of parts``.
        linear: whether the gradients are the same everywhere.
    """

    parts: tuple[np.ndarray, ...]
    start: float
    end: float
    error: float
    linear: bool


def integrated_gradients(gradients: Gradients, inputs: Sequence[np.ndarray]) -> PathIntegral:
    """``x . integral_0^1 df/dx(a x) da`` for every input x, summed over its last axis.

    M. Sundararajan et al., arXiv:1703.01365. The integral of each interval is known: it is the difference of the function at its ends. So
    intervals are halved until Gauss' rule gives that.

    Args:
        gradients: of the function f, evaluated at many points at once.
        inputs: arrays (1, ...).
    """
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    nodes, weights = (nodes + 1) / 2, weights / 2
    totals = [np.zeros(value.shape[1:-1]) for value in inputs]
    lower, upper = np.array(EDGES[:-1]), np.array(EDGES[1:])
    start, end = 0.0, 0.0
    for number in range(ROUNDS):
        edges = np.unique(np.concatenate([lower, upper]))
        outputs, parts = _along(gradients, inputs, np.concatenate([edges, (lower[:, None] + (upper - lower)[:, None] * nodes).ravel()]))
        if number == 0:
            start, end = float(outputs[0]), float(outputs[len(edges) - 1])
        differences = outputs[np.searchsorted(edges, upper)] - outputs[np.searchsorted(edges, lower)]
        integrals = [
            np.einsum("ip...,p,i->i...", part[len(edges) :].reshape(len(lower), POINTS, *part.shape[1:]), weights, upper - lower)
            for part in parts
        ]
        errors = differences - sum(integral.reshape(len(lower), -1).sum(axis=1) for integral in integrals)
        done = (np.abs(errors) <= CONVERGED * max(1.0, abs(end - start))) | (number == ROUNDS - 1)
        for total, integral in zip(totals, integrals, strict=True):
            total += integral[done].sum(axis=0)
        lower, upper = lower[~done], upper[~done]
        if not len(lower):
            break
        middle = (lower + upper) / 2
        lower, upper = np.concatenate([lower, middle]), np.concatenate([middle, upper])
    error = end - start - sum(float(total.sum()) for total in totals)
    return PathIntegral(tuple(totals), start, end, error, _is_linear(gradients, inputs))


def _is_linear(gradients: Gradients, inputs: Sequence[np.ndarray]) -> bool:
    """Tell whether the gradients at the inputs, at their negatives and at random places agree."""
    rng = np.random.default_rng(0)
    places = [[value, -value, *(rng.normal(size=(2, *value.shape)) * (np.std(value) or 1.0))] for value in inputs]
    for found in gradients([np.concatenate(several) for several in places])[1]:
        if np.ptp(found, axis=0).max(initial=0.0) > LINEAR * np.abs(found).max(initial=0.0):
            return False
    return True


def _along(gradients: Gradients, inputs: Sequence[np.ndarray], factors: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The outputs (S,) at the inputs times each of S factors, and x . df/dx of each input, (S, ...), summed over the last axis."""
    at_once = max(1, NUMBERS // sum(value.size for value in inputs))
    outputs, parts = [], []
    for start in range(0, len(factors), at_once):
        piece = factors[start : start + at_once]
        output, found = gradients([value * piece.reshape(-1, *(1,) * (value.ndim - 1)) for value in inputs])
        outputs.append(output)
        parts.append([(gradient * value).sum(axis=-1) for gradient, value in zip(found, inputs, strict=True)])
    return np.concatenate(outputs), [np.concatenate(column) for column in zip(*parts, strict=True)]
