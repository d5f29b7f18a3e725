"""The batch layout: zero-padded arrays with the leading axis B, bucketed by size.

0 means padding; masks are derived from the data, never stored. In training every batch of a bucket has the same shape: the last one
is filled up with empty examples, whose targets are missing, so XLA compiles one program a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tfmat.records import Records

Arrays = dict[str, np.ndarray]


SLOTS = 2**18
"""Most padded slots (rows x longest axis) of a batch: bounds the memory where single examples are very large."""
DISTINCT = 256
"""Bucket bounds are chosen among so many sizes at most, which bounds the time of the choice."""


CALL = 4096
"""What starting one more batch costs without XLA, in slots."""


def rows_of(width: int, batch_size: int, count: int | None = None, multiple: int = 8) -> int:
    """Rows of a batch whose longest axis is `width`.

    `batch_size`, halved until the batch has at most `SLOTS` slots; and where there are only `count` examples, no more than the next
    `multiple`, if the rows are one.
    """
    rows = batch_size
    while rows > 1 and rows * width > SLOTS:
        rows = (rows + 1) // 2
    step = multiple if rows % multiple == 0 else 1
    return rows if count is None else min(rows, -(-max(count, 1) // step) * step)


def choose_buckets(
    sizes: np.ndarray, batch_size: int, limit: int = 8, gain: float = 0.05, least: float = 0.0, multiple: int = 8
) -> tuple[int, ...]:
    """Upper bounds of the buckets that need the fewest padded slots for an epoch.

    Args:
        sizes: int (N,), size of each example.
        batch_size: rows of a batch.
        limit: most buckets to use.
        gain: a further bucket must save this share of the slots (each one costs XLA a compilation),
        least: and so many slots.
        multiple: see `rows_of`.

    Returns:
        Ascending bounds; the last one is the largest size.
    """
    values, counts = np.unique(np.asarray(sizes), return_counts=True)
    if len(values) > DISTINCT:
        bounds = np.unique(np.quantile(sizes, np.linspace(0, 1, DISTINCT + 1)[1:], method="higher"))
        counts = np.bincount(np.searchsorted(bounds, values), counts, len(bounds)).astype(np.int64)
        values = bounds
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    full = [rows_of(int(value), batch_size) for value in values]

    def cost(first: int, last: int) -> float:
        count = int(cumulative[last + 1] - cumulative[first])
        rows = full[last] if count >= full[last] else rows_of(int(values[last]), batch_size, count, multiple)
        return float(-(-count // rows) * rows * int(values[last]))

    number = len(values)
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
    for last in range(number):
        best[1, last] = (cost(0, last), (int(values[last]),))
        for used in range(2, min(limit, last + 1) + 1):
            options = [(best[used - 1, cut][0] + cost(cut + 1, last), cut) for cut in range(used - 2, last)]
            total, cut = min(options)
            best[used, last] = (total, (*best[used - 1, cut][1], int(values[last])))
    chosen = best[1, number - 1]
    for used in range(2, min(limit, number) + 1):
        if best[used, number - 1][0] <= (1 - gain) * chosen[0] - least * (used - len(chosen[1])):
            chosen = best[used, number - 1]
    return chosen[1]


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

    Every batch of a bucket has the same shape: `batch_size` rows, or fewer where examples are very large or few (see `rows_of`).

    Attributes:
        sizes: int (N,), size of each example: the length of the bucketed axis.
        batch_size: rows of a batch.
        buckets: ascending upper bounds of the sizes.
        seed: of the shuffling; None keeps the order of the data within each bucket.
        multiple: see `rows_of`.
    """

    sizes: np.ndarray
    batch_size: int
    buckets: tuple[int, ...]
    seed: int | None = None
    multiple: int = 8

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the batches of each bucket."""
        counts = np.bincount(self.bucket_of(), minlength=len(self.buckets))
        pairs = zip(self.buckets, counts.tolist(), strict=True)
        return tuple(rows_of(width, self.batch_size, count, self.multiple) for width, count in pairs)

    @property
    def steps(self) -> int:
        """Batches an epoch, the same for every epoch."""
        counts = np.bincount(self.bucket_of(), minlength=len(self.buckets))
        return sum(-(-int(count) // rows) for count, rows in zip(counts, self.rows, strict=True))

    def bucket_of(self) -> np.ndarray:
        """Number of the bucket of each example, int (N,)."""
        return np.searchsorted(self.buckets, self.sizes)

    def epoch(self, epoch: int) -> list[PlannedBatch]:
        """Batches of one epoch.

        The order depends on `seed` and `epoch` alone, so a resumed run sees the batches of an uninterrupted one.
        """
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        order = np.arange(len(self.sizes)) if rng is None else rng.permutation(len(self.sizes))
        bucket_of = self.bucket_of()[order]
        batches = []
        for bucket, rows in enumerate(self.rows):
            members = order[bucket_of == bucket]
            batches += [PlannedBatch(members[start : start + rows], rows, bucket) for start in range(0, len(members), rows)]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True)
class SortedPlan:
    """Batches of examples of about the same size, each as short and as wide as its examples: little padding, but many shapes.

    For prediction without XLA, where a new shape costs little. From the largest example to the smallest, a batch ends when it is full, or
    when its padding has cost as much as another batch would.

    Attributes:
        sizes: int (N,), size of each example.
        batch_size: most rows of a batch.
    """

    sizes: np.ndarray
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

    def bucket_of(self) -> np.ndarray:
        """Number of the batch of each example, int (N,)."""
        buckets = np.empty(len(self.sizes), np.int64)
        for batch in self._batches:
            buckets[batch.indices] = batch.bucket
        return buckets

    def epoch(self, epoch: int) -> list[PlannedBatch]:
        """The batches, from the largest examples to the smallest, the same in every epoch."""
        return self._batches

    @cached_property
    def _batches(self) -> list[PlannedBatch]:
        order = np.argsort(-self.sizes, kind="stable")
        batches: list[PlannedBatch] = []
        start = 0
        while start < len(order):
            width = int(self.sizes[order[start]])
            most = order[start : start + rows_of(width, self.batch_size)]
            padding = np.cumsum(width - self.sizes[most])
            chosen = most[: max(1, int(np.searchsorted(padding, CALL, side="right")))]
            batches.append(PlannedBatch(chosen, len(chosen), len(batches)))
            start += len(chosen)
        return batches


def pad(records: Records, indices: np.ndarray, widths: Mapping[str, int], rows: int) -> Arrays:
    """The examples at `indices` as zero-padded arrays.

    Args:
        records: the data.
        indices: at most `rows` positions.
        widths: key -> length of axis 1 of the result.
        rows: length of axis 0; rows beyond the examples stay zero.

    Returns:
        key -> array (rows, widths[key], ...).
    """
    batch = {}
    for key, values in records.values.items():
        offsets = records.offsets[key]
        starts, lengths = offsets[indices], offsets[indices + 1] - offsets[indices]
        padded = np.zeros((rows, widths[key], *values.shape[1:]), values.dtype)
        row = np.repeat(np.arange(len(indices)), lengths)
        column = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        padded[row, column] = values[np.repeat(starts, lengths) + column]
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
