"""Layers of a model by name: single ones, patterns, or the parts that an architecture names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import keras

from tfmat.errors import InputError

Parts = Mapping[str, tuple[str, ...]]


def layer_of(weight: Any) -> str:
    """Name of the model's layer that holds a weight: the first part of the weight's path."""
    return str(weight.path).split("/")[0]


def layer_names(model: keras.Model) -> list[str]:
    """Names of the layers that have weights, in the model's order."""
    return list(dict.fromkeys(layer_of(weight) for weight in model.weights))


def matching_layers(model: keras.Model, pattern: str, parts: Parts) -> set[str]:
    """Layers with weights that a pattern means.

    Args:
        model: a functional model.
        pattern: name of one of `parts`, or of a layer, in which ``*``, ``?`` and ``[...]`` stand for others as in `fnmatch`.
        parts: of the architecture.

    Raises:
        InputError: there is no such layer.
    """
    names = layer_names(model)
    patterns: Iterable[str] = parts.get(pattern, (pattern,))
    found = {name for name in names if any(fnmatchcase(name, each) for each in patterns)}
    if not found:
        known = (f"one of the parts {', '.join(parts)}, or " if parts else "") + f"a layer of {', '.join(names)}"
        raise InputError(f"{pattern!r} matches no layer of {model.name}", expected=known)
    return found


def rate_factors(model: keras.Model, rates: Iterable[tuple[str, float]], parts: Parts) -> dict[str, float]:
    """Layer -> factor on its learning rate, for the layers that one of `rates` matches; the first that does counts.

    Raises:
        InputError: one of them matches no layer.
    """
    factors: dict[str, float] = {}
    for pattern, factor in rates:
        for name in matching_layers(model, pattern, parts):
            factors.setdefault(name, factor)
    return factors
