"""Checks inside the graph: what a client sends wrongly is refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def require(holds: Any, sentence: str, culprits: Any) -> Any:
    """Operation that fails with the sentence and the first of the `culprits` (N,), string or int32, for which `holds` (N,) is false."""
    return tf.raw_ops.Assert(condition=tf.reduce_all(holds), data=[sentence, tf.boolean_mask(culprits, tf.logical_not(holds))[:1]])


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
