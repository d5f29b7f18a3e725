"""The batch layout: zero-padded arrays with the leading axis B, bucketed by size (`tfmat.buckets`).

0 means padding; masks are derived from the data, never stored. In training every batch of a bucket has the same shape: the last one
is filled up with empty examples, whose targets are missing, so XLA compiles one program a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tfmat.buckets import PAIRS, SLOTTED, Sizes, largest, rows_of
from tfmat.flat_batches import flat_rows
from tfmat.records import Records

Arrays = dict[str, np.ndarray]
CALL = 4096
"""What starting one more batch costs without XLA, in the unit of `tfmat.buckets`."""


class PlannedBatch(NamedTuple):
    """One batch.

    Attributes:
        indices: of at most `rows` examples.
        rows: of the arrays.
        bucket: number of the bucket, which fixes the lengths of the other axes.
    """

    indices: np.ndarray
    rows: int
    bucket: int


@dataclass(frozen=True)
class BatchPlan:
    """Which examples form which batch, for every epoch of a run.

    Every batch of a bucket has the same shape: `batch_size` rows, or fewer where examples are very large or few (see `rows_of`; where only
    real sites count, `flat_rows`).

    Attributes:
        sizes: of the N examples.
        bucket_of: int (N,), number of the bucket of each example, see `tfmat.buckets.choose_buckets`.
        batch_size: rows of a batch.
        seed: of the shuffling; None keeps the order of the data within each bucket.
        multiple: see `rows_of`.
    """

    sizes: Sizes
    bucket_of: np.ndarray
    batch_size: int
    seed: int | None = None
    multiple: int = 8

    @cached_property
    def buckets(self) -> tuple[int, ...]:
        """Longest length in each bucket."""
        return tuple(largest(self.sizes.lengths, self.bucket_of, len(self._counts)).tolist())

    @cached_property
    def slots(self) -> tuple[int, ...] | None:
        """Most neighbour slots in each bucket; None for examples without slots."""
        return None if self.sizes.slots is None else tuple(largest(self.sizes.slots, self.bucket_of, len(self._counts)).tolist())

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Rows of the batches of each bucket."""
        if self.sizes.flat:
            lengths = [self.sizes.lengths[self.bucket_of == bucket] for bucket in range(len(self._counts))]
            slotted = zip(lengths, self.slots or [1] * len(lengths), strict=True)
            return tuple(flat_rows(members, slots, self.batch_size, PAIRS) for members, slots in slotted)
        shapes = zip(self.buckets, self._counts, self.slots or [None] * len(self._counts), strict=True)
        return tuple(rows_of(width, self.batch_size, count, self.multiple, slots) for width, count, slots in shapes)

    @property
    def steps(self) -> int:
        """Batches an epoch, the same for every epoch."""
        return sum(-(-count // rows) for count, rows in zip(self._counts, self.rows, strict=True))

    @cached_property
    def _counts(self) -> list[int]:
        return np.bincount(self.bucket_of).tolist()

    def epoch(self, epoch: int) -> list[PlannedBatch]:
        """Batches of one epoch.

        The order depends on `seed` and `epoch` alone, so a resumed run sees the batches of an uninterrupted one.
        """
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        order = np.arange(len(self.sizes)) if rng is None else rng.permutation(len(self.sizes))
        bucket_of = self.bucket_of[order]
        batches = []
        for bucket, rows in enumerate(self.rows):
            members = order[bucket_of == bucket]
            batches += [PlannedBatch(members[start : start + rows], rows, bucket) for start in range(0, len(members), rows)]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True)
class SortedPlan:
    """Batches of examples of about the same size, each as short and as wide as its examples: little padding, but many shapes.

    For prediction without XLA, where a new shape costs little. From the examples with most neighbour slots, and of these the longest,
    down to the smallest, a batch ends when it is full, or when its padding has cost as much as another batch would.

    Attributes:
        sizes: of the N examples.
        batch_size: most rows of a batch.
    """

    sizes: Sizes
    batch_size: int
    seed: None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each batch."""
        return tuple(batch.rows for batch in self._batches)

    @property
    def steps(self) -> int:
        """Number of batches."""
        return len(self._batches)

    @cached_property
    def bucket_of(self) -> np.ndarray:
        """Number of the batch of each example, int64 (N,)."""
        buckets = np.empty(len(self.sizes), np.int64)
        for batch in self._batches:
            buckets[batch.indices] = batch.bucket
        return buckets

    @cached_property
    def slots(self) -> tuple[int, ...] | None:
        """Most neighbour slots in each batch; None for examples without slots."""
        return None if self.sizes.slots is None else tuple(largest(self.sizes.slots, self.bucket_of, self.steps).tolist())

    def epoch(self, epoch: int) -> list[PlannedBatch]:
        """The batches, from the largest examples to the smallest, the same in every epoch."""
        return self._batches

    @cached_property
    def _batches(self) -> list[PlannedBatch]:
        lengths, pairs, slots, flat = self.sizes.lengths, self.sizes.pairs, self.sizes.slots, self.sizes.flat
        order = np.lexsort((-lengths, -pairs))
        batches: list[PlannedBatch] = []
        start = 0
        while start < len(order):
            first = order[start]
            if flat:
                most = order[start : start + self.batch_size]
                padded = np.cumsum(lengths[most]) * pairs[first]
                most = most[: max(1, int(np.searchsorted(padded, PAIRS, side="right")))]
            else:
                rows = rows_of(int(lengths[first]), self.batch_size, slots=None if slots is None else int(slots[first]))
                most = order[start : start + rows]
                padded = np.arange(1, len(most) + 1) * np.maximum.accumulate(lengths[most]) * pairs[first]
            padding = padded[: len(most)] - np.cumsum(lengths[most] * pairs[most])  # only ever grows
            chosen = most[: max(1, int(np.searchsorted(padding, CALL, side="right")))]
            batches.append(PlannedBatch(chosen, len(chosen), len(batches)))
            start += len(chosen)
        return batches


def wide(dtype: np.dtype) -> np.dtype:
    """The type of a batch's array: int32 and float32 for what a packed file keeps narrower."""
    return np.result_type(dtype, np.int32 if dtype.kind in "iu" else np.float32)


def pad(records: Records, indices: np.ndarray, widths: Mapping[str, int], rows: int, slots: int | None = None) -> Arrays:
    """The examples at `indices` as zero-padded arrays.

    Args:
        records: the data.
        indices: at most `rows` positions.
        widths: key -> length of axis 1 of the result.
        rows: length of axis 0; rows beyond the examples stay zero.
        slots: length of axis 2 of the keys `tfmat.buckets.SLOTTED`: neighbour slots from here on are cut off; None for records without.

    Returns:
        key -> array (rows, widths[key], ...).
    """
    batch = {}
    for key, values in records.values.items():
        offsets = records.offsets[key]
        starts, lengths = offsets[indices], offsets[indices + 1] - offsets[indices]
        row = np.repeat(np.arange(len(indices)), lengths)
        column = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = values if slots is None or key not in SLOTTED else values[:, :slots]
        padded = np.zeros((rows, widths[key], *kept.shape[1:]), wide(values.dtype))
        padded[row, column] = kept[np.repeat(starts, lengths) + column]
        batch[key] = padded
    return batch


def pad_targets(targets: Mapping[str, np.ndarray], indices: np.ndarray, rows: int) -> tuple[Arrays, Arrays]:
    """Scaled targets (rows, 1), NaN where missing, and loss weights (rows,).

    The weights are 0 for missing targets and otherwise rows / (number of present ones), so that the mean over all `rows` of
    weight x loss is the mean loss of the present targets, on one device and split over several.
    """
    values, weights = {}, {}
    for name, column in targets.items():
        chosen = np.full((rows, 1), np.nan, np.float32)
        chosen[: len(indices), 0] = column[indices]
        present = np.isfinite(chosen[:, 0])
        values[name] = chosen
        weights[name] = (present * (rows / max(int(present.sum()), 1))).astype(np.float32)
    return values, weights
