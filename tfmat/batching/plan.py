"""Which examples form which batch, epoch by epoch.

Examples that are padded to the longest one of their batch (compositions; the sequences of sites of the atom-list LSTM) meet others of the
same length, so that there is next to no padding. Crystals as lists are not padded: there every batch gets small and large ones alike, so
that all batches of an epoch take about the same time and memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from tfmat.batching.arrays import padded_keys
from tfmat.records import Records

WORK = 2**18
"""Most numbers of the longest list (or padded array) in a batch of several examples. Training Crysformer keeps about 28 kB per pair (width
128, four blocks, float32), so 7 GB."""


class Plan(Protocol):
    """Every example once per epoch, in the same number of batches in every epoch."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        ...

    @property
    def rows(self) -> int:
        """Examples in the largest batch."""
        ...

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The examples of each batch, int64.

        The order depends on the plan's seed and `epoch` alone, so a resumed run sees the batches of an uninterrupted one.
        """
        ...


def plan_of(records: Records, batch_size: int, seed: int | None = None) -> Plan:
    """Plan the batches of `records`.

    Args:
        records: featurized examples, one at least.
        batch_size: most examples per batch; fewer where they are very large.
        seed: of the shuffling; None keeps the order of the data, or of their lengths.
    """
    if padded := padded_keys(records):
        return SortedPlan(np.max([records.lengths(key) for key in padded], axis=0), batch_size, seed)
    return EvenPlan(work_of(records), batch_size, seed) if seed is not None else ConsecutivePlan(work_of(records), batch_size)


def work_of(records: Records) -> np.ndarray:
    """Numbers in the largest array of each example, int64 (N,)."""
    return np.max([records.lengths(key) * int(np.prod(values.shape[1:], dtype=np.int64)) for key, values in records.values.items()], axis=0)


def _cut(work: np.ndarray, batch_size: int) -> list[tuple[int, int]]:
    """Bounds of consecutive batches: `batch_size` examples, or fewer if together they are more than `WORK`."""
    total, bounds, start = np.cumsum(work), [], 0
    while start < len(work):
        before = total[start - 1] if start else 0
        fitting = int(np.searchsorted(total, before + WORK, side="right"))
        end = min(start + batch_size, max(fitting, start + 1), len(work))
        bounds.append((start, end))
        start = end
    return bounds


class _CutPlan:
    """Batches of which each is a run of examples in some order."""

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self._bounds)

    @property
    def rows(self) -> int:
        """Examples in the largest batch."""
        return max(end - start for start, end in self._bounds)


@dataclass(frozen=True)
class ConsecutivePlan(_CutPlan):
    """Examples in the order of the data: for prediction and validation.

    Attributes:
        work: int (N,), see `work_of`.
        batch_size: most examples per batch.
    """

    work: np.ndarray
    batch_size: int

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        return _cut(self.work, self.batch_size)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The same in every epoch."""
        return [np.arange(start, end) for start, end in self._bounds]


@dataclass(frozen=True)
class SortedPlan(_CutPlan):
    """Examples in the order of their lengths, cut into batches; examples of the same length change places from epoch to epoch.

    Attributes:
        lengths: int (N,), of the padded axis.
        batch_size: most examples per batch.
        seed: of the shuffling; None: neither places nor the order of the batches change.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int | None = None

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        return _cut(np.sort(self.lengths), self.batch_size)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch, in random order if there is a seed."""
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        order = np.arange(len(self.lengths)) if rng is None else rng.permutation(len(self.lengths))
        order = order[np.argsort(self.lengths[order], kind="stable")]
        batches = [order[start:end] for start, end in self._bounds]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True)
class EvenPlan:
    """Batches of about the same work: the examples are sorted by work and cut into classes, and a batch takes one of each at random.

    Attributes:
        work: int (N,), see `work_of`.
        batch_size: most examples per batch.
        seed: of the shuffling.
    """

    work: np.ndarray
    batch_size: int
    seed: int

    @cached_property
    def steps(self) -> int:
        """Batches per epoch."""
        rows = max(1, min(self.batch_size, int(WORK / max(float(self.work.mean()), 1.0))))
        return -(-len(self.work) // rows)

    @property
    def rows(self) -> int:
        """Examples in the largest batch."""
        return -(-len(self.work) // self.steps)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch; where the examples do not divide evenly, some have one of the smallest less."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.work))
        order = order[np.argsort(self.work[order], kind="stable")]
        places = np.full(self.rows * self.steps, -1)
        places[len(places) - len(order) :] = order
        classes = rng.permuted(places.reshape(self.rows, self.steps), axis=1)
        return [column[column >= 0] for column in classes.T]
