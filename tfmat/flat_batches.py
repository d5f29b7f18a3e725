"""Batches whose sites stand in one row, without padding (`tfmat.layers.flat_sites`): how many crystals they hold, and what they cost.

Only slots are padded then. So a batch costs the sum of its lengths times the square of its most slots, and besides what `STEP` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP = 1 / 8
"""What one more batch costs, as a share of a full one: more than its time, which is the optimizer's, but a batch of three crystals
counts as much in training as one of 64. So the few crystals with a rare number of slots join those with more. With 1/8 instead of 1/50, in
batches of 64, there is 1 % more padding, and an epoch of matbench_phonons has 5 % fewer steps, one of mp2018_subset 8 %."""


def flat_rows(lengths: np.ndarray, slots: int, batch_size: int, most: int) -> int:
    """Rows of the batches of a bucket.

    `batch_size`, or as many as are within `most` whichever they are; then fewer, so that all batches of the bucket are about equal.

    Args:
        lengths: int (N,), sites of its crystals.
        slots: most slots of a site.
        batch_size: most rows.
        most: sites x slots x slots of a batch of more than one crystal.
    """
    together = np.cumsum(np.sort(lengths)[::-1]) * slots * slots
    rows = max(1, min(batch_size, int(np.searchsorted(together, most, side="right"))))
    batches = -(-len(lengths) // rows)
    return -(-len(lengths) // batches)


@dataclass(frozen=True)
class FlatHistogram:
    """How many examples there are of which size, and what buckets of them cost.

    Attributes:
        lengths: int (L,), ascending.
        slots: int (S,), ascending.
        counts: int (S, L).
        sites: int (S, L), of all these examples.
        batch_size: most rows.
        most: see `flat_rows`.
    """

    lengths: np.ndarray
    slots: np.ndarray
    counts: np.ndarray
    sites: np.ndarray
    batch_size: int
    most: int

    @property
    def step(self) -> float:
        """Cost of a batch, whatever it holds."""
        mean = float((self.sites.sum(axis=1) * self.slots**2).sum() / self.counts.sum())
        return STEP * min(self.batch_size * mean, self.most)

    def costs(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """The n lengths of a class, as positions; cost (n, n) of a bucket from the first to the last of them, infinite if none."""
        counts = self.counts[low : high + 1]
        present = np.flatnonzero(counts.any(axis=0))
        examples = np.concatenate([[0], np.cumsum(counts[:, present].sum(axis=0))])
        sites = np.concatenate([[0], np.cumsum(self.sites[low : high + 1, present].sum(axis=0))])
        top = high - (counts[::-1, present] > 0).argmax(axis=0)
        top = np.maximum.accumulate(np.triu(np.broadcast_to(top, (len(present), len(present)))), axis=1)
        count = np.maximum(examples[1:] - examples[:-1, None], 1)
        total = (sites[1:] - sites[:-1, None]) * self.slots[top] ** 2
        rows = np.where(total <= self.most, self.batch_size, np.take_along_axis(self._largest(present, examples, sites), top, axis=0))
        cost = total + self.step * -(-count // rows)
        cost[np.tril_indices(len(present), -1)] = np.inf
        return present, cost

    def _largest(self, present: np.ndarray, examples: np.ndarray, sites: np.ndarray) -> np.ndarray:
        """How many examples are within `most` whichever they are, int (S, n): for each number of slots, of the first lengths up to each."""
        budget = self.most // self.slots[:, None] ** 2
        first = np.searchsorted(sites[1:], sites[1:] - budget)  # of this length the last ones, and of longer ones all
        rest = budget - (sites[1:] - sites[1 + first])
        rows = examples[1:] - examples[1 + first] + rest // self.lengths[present[first]]
        return np.clip(rows, 1, self.batch_size)
