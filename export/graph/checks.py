"""Checks inside the graph of an exported model: what a client sends wrongly is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

LARGEST = float(np.finfo(np.float32).max)
"""The largest finite number of float32."""

Tensors = Mapping[str, Any]
"""Tensors by name."""
RowChecks = Callable[[Tensors], Mapping[str, Any]]
"""Takes arrays and gives, for each sentence that must hold, whether it holds for each row, bool (B,)."""


def require(holds: Any, sentence: str, culprits: Any) -> Any:
    """Operation that fails with the sentence and the first of the `culprits` (N,), string or int32, for which `holds` (N,) is false."""
    return tf.raw_ops.Assert(condition=tf.reduce_all(holds), data=[sentence, tf.boolean_mask(culprits, tf.logical_not(holds))[:1]])


def require_rows(checks: Mapping[str, Any]) -> list[Any]:
    """Operations, one after the other: the first check that a row fails is named by its sentence and the number of the row.

    Args:
        checks: sentence -> whether it holds for each row, bool (B,).
    """
    operations: list[Any] = []
    for sentence, holds in checks.items():
        with tf.control_dependencies(operations[-1:]):
            operations.append(require(holds, sentence, tf.range(tf.shape(holds)[0])))
    return operations


def one_row_each(arrays: Tensors, keys: Iterable[str]) -> list[Any]:
    """Operations that fail where one of the arrays `keys` has not as many rows as ``species``."""
    rows = tf.shape(arrays["species"])[0]
    return [tf.debugging.assert_equal(tf.shape(arrays[key])[0], rows, f"`{key}` must have a row for every crystal") for key in keys]


def atomic_numbers(name: str, numbers: Any, heaviest: int) -> dict[str, Any]:
    """The check of the input `name`: sentence -> whether the numbers, int32, are from 0 to the largest atomic number `heaviest`, bool."""
    sentence = f"`{name}` must be atomic numbers from 1 to {heaviest}, with 0 as padding; see row"
    return {sentence: tf.logical_and(numbers >= 0, numbers <= heaviest)}


def leads_to_site(positions: Any, species: Any) -> Any:
    """Tell whether each of the `positions`, int32 (B, ...) counted from 0, is that of a site in `species`, int32 (B, A), 0 = padding."""
    sites = tf.shape(species)[1]
    occupied = tf.pad(species, [[0, 0], [0, 1]])  # what lies outside is looked up in this slot, which is none
    inside = tf.logical_and(positions >= 0, positions < sites)
    return tf.gather(occupied, tf.where(inside, positions, sites), batch_dims=1) > 0


def of_whole_rows(checks: Tensors) -> dict[str, Any]:
    """The `checks`, sentence -> whether it holds, bool (B, ...), as sentence -> whether it holds for all of a row, bool (B,)."""
    return {sentence: tf.reduce_all(holds, axis=list(range(1, holds.shape.rank))) for sentence, holds in checks.items()}


def checked_rows(arrays: Tensors, shapes: Sequence[Any], row_checks: RowChecks) -> dict[str, Any]:
    """The same arrays, once their shapes agree and every row satisfies its checks.

    Args:
        arrays: each (B, ...).
        shapes: operations that fail where shapes disagree; they run before `row_checks`.
        row_checks: what every row must satisfy.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    with tf.control_dependencies(shapes):
        arrays = {key: tf.identity(value) for key, value in arrays.items()}
        checks = require_rows(row_checks(arrays))
    with tf.control_dependencies(checks):
        return {key: tf.identity(value) for key, value in arrays.items()}


def zeroed_rows(arrays: Tensors, row_checks: RowChecks) -> tuple[dict[str, Any], Any]:
    """The same `arrays` with zeros in the rows that fail one of `row_checks`, and whether each row fails none, bool (B,); no assertions."""
    sound = tf.reduce_all(tf.stack(list(row_checks(arrays).values())), axis=0)
    kept = {key: tf.reshape(sound, [-1] + [1] * (value.shape.rank - 1)) for key, value in arrays.items()}
    return {key: tf.where(kept[key], value, tf.zeros_like(value)) for key, value in arrays.items()}, sound
