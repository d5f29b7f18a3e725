"""Checks inside the graph: what a client sends wrongly is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf


def require(holds: Any, sentence: str, culprits: Any) -> Any:
    """Operation that fails with the sentence and the first of the `culprits` (N,), string or int32, for which `holds` (N,) is false."""
    return tf.raw_ops.Assert(condition=tf.reduce_all(holds), data=[sentence, tf.boolean_mask(culprits, tf.logical_not(holds))[:1]])


Arrays = Mapping[str, Any]
RowChecks = Callable[[Arrays], Mapping[str, Any]]
"""Arrays -> sentence -> whether each row satisfies it, bool (B,)."""


def by_rows(checks: Arrays) -> dict[str, Any]:
    """Sentence -> whether all of a row satisfies it, bool (B,); from bool (B, ...)."""
    return {sentence: tf.reduce_all(holds, axis=list(range(1, holds.shape.rank))) for sentence, holds in checks.items()}


def checked_rows(arrays: Arrays, shapes: Sequence[Any], row_checks: RowChecks) -> dict[str, Any]:
    """The same arrays, once their shapes agree and every row satisfies its checks.

    Args:
        arrays: each (B, ...).
        shapes: operations that fail where shapes disagree; they run before `row_checks`.
        row_checks: see `RowChecks`.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    with tf.control_dependencies(shapes):
        arrays = {key: tf.identity(value) for key, value in arrays.items()}
        checks = require_rows(row_checks(arrays))
    with tf.control_dependencies(checks):
        return {key: tf.identity(value) for key, value in arrays.items()}


def harmless_rows(arrays: Arrays, row_checks: RowChecks) -> tuple[dict[str, Any], Any]:
    """The same arrays with zeros in the rows that fail a check, and whether a row fails none, bool (B,); without assertions."""
    sound = tf.reduce_all(tf.stack(list(row_checks(arrays).values())), axis=0)
    kept = {key: tf.reshape(sound, [-1] + [1] * (value.shape.rank - 1)) for key, value in arrays.items()}
    return {key: tf.where(kept[key], value, tf.zeros_like(value)) for key, value in arrays.items()}, sound


def require_rows(checks: Mapping[str, Any]) -> list[Any]:
    """Operations, one after the other: the first check that a row fails is told by its sentence and the number of the row.

    Args:
        checks: sentence -> whether each row satisfies it, bool (B,).
    """
    operations: list[Any] = []
    for sentence, holds in checks.items():
        with tf.control_dependencies(operations[-1:]):
            operations.append(require(holds, sentence, tf.range(tf.shape(holds)[0])))
    return operations
