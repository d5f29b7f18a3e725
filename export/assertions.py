"""Checks inside the graph: what a client sends wrongly is refused with a sentence."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def require(holds: Any, sentence: str, culprits: Any) -> Any:
    """Operation that fails with the sentence and the first of the `culprits` (N,), string or int32, for which `holds` (N,) is false."""
    return tf.raw_ops.Assert(condition=tf.reduce_all(holds), data=[sentence, tf.boolean_mask(culprits, tf.logical_not(holds))[:1]])
