"""Arrays of rows of different lengths, one after the other, as TensorFlow operations."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_HALF = 32  # bits


def expand(counts: Any) -> tuple[Any, Any]:
    """Each number as often as its count says.

    Args:
        counts: int32 (N,).

    Returns:
        int32 (sum of the counts,): 0 `counts[0]` times, 1 `counts[1]` times, ...; and, for each, how many of its kind came before.
    """
    starts = tf.bitwise.left_shift(tf.range(tf.size(counts, tf.int64)), tf.constant(_HALF, tf.int64))
    both = tf.raw_ops.RaggedRange(starts=starts, limits=starts + tf.cast(counts, tf.int64), deltas=tf.constant(1, tf.int64))
    values = both.rt_dense_values  # owner and place in one number
    owner = tf.bitwise.right_shift(values, tf.constant(_HALF, tf.int64))
    return tf.cast(owner, tf.int32), tf.cast(tf.bitwise.bitwise_and(values, tf.constant(2**_HALF - 1, tf.int64)), tf.int32)


def order_within(groups: Any, values: Any) -> Any:
    """Order by group, then by value, int32 (N,).

    Sorted once, by one number for both: values of a group that differ by less than about 1e-15 of the largest value, times the number of
    groups, keep their order.

    Args:
        groups: int (N,), not negative.
        values: float64 (N,).
    """
    span = tf.maximum(tf.reduce_max(tf.abs(values)), 1.0)
    return tf.argsort(tf.cast(groups, tf.float64) + values / (2.5 * span), stable=True)


def by_rows(values: Any, rows: Any, number: Any) -> Any:
    """Values (N, ...) with their ascending rows int32 (N,) -> (`number`, largest number in a row, at least 1, ...), 0 at the end."""
    sizes = tf.math.bincount(rows, minlength=number)
    place = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(sizes, exclusive=True), rows)
    width = tf.reduce_max(tf.pad(sizes, [[0, 1]], constant_values=1))
    shape = tf.concat([tf.stack([number, width]), tf.shape(values)[1:]], 0)
    return tf.ensure_shape(tf.scatter_nd(tf.stack([rows, place], axis=1), values, shape), [None, None, *values.shape[1:]])
