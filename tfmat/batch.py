"""The batch layout: zero-padded arrays with the leading axis B, bucketed by size.

0 means padding; masks are derived from the data, never stored. Every batch has exactly `batch_size` rows: the last one of a bucket
is filled with empty examples, whose targets are missing, so XLA compiles one program a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfmat.records import Records

Arrays = dict[str, np.ndarray]


def choose_buckets(sizes: np.ndarray, batch_size: int, limit: int = 4, gain: float = 0.05) -> tuple[int, ...]:
    """Upper bounds of the buckets that need the fewest padded slots for an epoch.

    Args:
        sizes: int (N,), size of each example.
        batch_size: rows of a batch.
        limit: most buckets to use.
        gain: a further bucket must save this share of the slots (each one costs XLA a compilation).

    Returns:
        Ascending bounds; the last one is the largest size.
    """
    values, counts = np.unique(np.asarray(sizes), return_counts=True)
    cumulative = np.concatenate([[0], np.cumsum(counts)])

    def cost(first: int, last: int) -> float:
        return float(-(-(cumulative[last + 1] - cumulative[first]) // batch_size) * batch_size * values[last])

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
        if best[used, number - 1][0] <= (1 - gain) * chosen[0]:
            chosen = best[used, number - 1]
    return chosen[1]


@dataclass(frozen=True)
class BatchPlan:
    """Which examples form which batch, for every epoch of a run.

    Attributes:
        sizes: int (N,), size of each example: the length of the bucketed axis.
        batch_size: rows of every batch.
        buckets: ascending upper bounds of the sizes.
        seed: of the shuffling; None keeps the order of the data within each bucket.
    """

    sizes: np.ndarray
    batch_size: int
    buckets: tuple[int, ...]
    seed: int | None = None

    @property
    def steps(self) -> int:
        """Batches an epoch, the same for every epoch."""
        return sum(-(-int(count) // self.batch_size) for count in np.bincount(self._bucket_of(), minlength=len(self.buckets)))

    def _bucket_of(self) -> np.ndarray:
        return np.searchsorted(self.buckets, self.sizes)

    def epoch(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        """Batches of one epoch: (indices of at most `batch_size` examples, width to pad to).

        The order depends on `seed` and `epoch` alone, so a resumed run sees the batches of an uninterrupted one.
        """
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        order = np.arange(len(self.sizes)) if rng is None else rng.permutation(len(self.sizes))
        bucket_of = self._bucket_of()[order]
        batches = []
        for bucket, width in enumerate(self.buckets):
            members = order[bucket_of == bucket]
            batches += [(members[start : start + self.batch_size], width) for start in range(0, len(members), self.batch_size)]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


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
