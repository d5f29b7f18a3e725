"""Which examples share the shape of a batch: the choice that costs least padding.

An example with neighbour slots has two sizes, sites and used slots; any other one has one. What a padded batch costs is taken to be
rows x longest axis, times the square of the slots where there are some: the work of a model on pairs of neighbours, its line graph. Where a
model works on real sites only, they count instead of rows x longest axis (`tfmat.flat_batches`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from tfmat.flat_batches import FlatHistogram
from tfmat.records import Records

SLOTTED = ("neighbors", "vectors")
"""Keys of records with neighbour slots. Axis 1 of their ``values`` is slots, filled from the front; zero ``vectors`` mark an empty one."""
SLOTS = 2**18
"""Most padded places (rows x longest axis) of a batch: bounds the memory where single examples are very large."""
PAIRS = 2**18
"""The same for examples with neighbour slots, in rows x sites x slots x slots. Training Crysformer keeps about 28 kB a pair (width 128,
four blocks, float32), so 7 GB; 64 crystals of 16 sites with 16 neighbours fit. Where real sites count, rows x sites are those of the
largest crystals that may meet in a batch."""
DISTINCT = 256
"""Bucket bounds are chosen among so many lengths at most, which bounds the time of the choice,"""
LEVELS = 24
"""and among so many numbers of slots."""
GAIN, FLAT_GAIN = 0.05, 0.001
"""Share of the cost that a further bucket must save: each one costs XLA a compilation, but none where real sites count."""
CHUNK = 2**14
"""Sites whose slots are counted at a time."""
_Parts = tuple[tuple[int, int, int], ...]  # classes as (low, high, buckets)


def has_slots(keys: Collection[str]) -> bool:
    """Whether records, or a model, with these keys have neighbour slots: with all of `SLOTTED`, so a list of bonds has none."""
    return all(key in keys for key in SLOTTED)


@dataclass(frozen=True)
class Sizes:
    """Sizes of N examples.

    Attributes:
        lengths: int (N,), length of the longest key.
        slots: int (N,), neighbour slots in use, 1 at least; None for examples without slots.
        flat: whether the model leaves out padded sites, so that they cost nothing.
    """

    lengths: np.ndarray
    slots: np.ndarray | None = None
    flat: bool = False

    @classmethod
    def of(cls, records: Records, flat: bool = False) -> Sizes:
        """Sizes of the examples of `records`."""
        lengths = np.max([records.lengths(key) for key in records.values], axis=0)
        slots = used_slots(records.values["vectors"], records.offsets["vectors"]) if has_slots(records.values) else None
        return cls(lengths, slots, flat)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def pairs(self) -> np.ndarray:
        """Pairs of slots of a site, int (N,); 1 without slots."""
        return np.ones(len(self), np.int64) if self.slots is None else self.slots * self.slots


def used_slots(vectors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Neighbour slots that the sites of each example use at most, int64 (N,); 1 where they use none.

    Args:
        vectors: (sum of A, K, 3), zero in an empty slot; may be mapped from a file.
        offsets: int (N + 1,), see `Records`.
    """
    used = np.zeros(len(vectors), np.int64)
    components = int(np.prod(vectors.shape[2:]))
    for start in range(0, len(vectors), CHUNK):
        filled = vectors[start : start + CHUNK].reshape(-1, vectors.shape[1] * components) != 0
        behind = filled[:, ::-1].argmax(axis=1)  # zeros behind the last entry
        last = np.where(filled.any(axis=1), filled.shape[1] - behind, 0)
        used[start : start + CHUNK] = -(-last // components)
    example = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.maximum(largest(used[offsets[0] : offsets[-1]], example, len(offsets) - 1), 1)


def largest(values: np.ndarray, group_of: np.ndarray, groups: int) -> np.ndarray:
    """Largest of the non-negative `values` in each group, int64 (groups,); 0 in an empty one."""
    result = np.zeros(groups, np.int64)
    np.maximum.at(result, group_of, values)
    return result


def rows_of(width: int, batch_size: int, count: int | None = None, multiple: int = 8, slots: int | None = None) -> int:
    """Rows of a batch whose longest axis is `width`, with `slots` neighbour slots or without any.

    `batch_size`, halved until the batch is within `SLOTS` or `PAIRS`; and where there are only `count` examples, no more than the next
    `multiple`, if the rows are one.
    """
    each, most = (width, SLOTS) if slots is None else (width * slots * slots, PAIRS)
    rows = batch_size
    while rows > 1 and rows * each > most:
        rows = (rows + 1) // 2
    step = multiple if rows % multiple == 0 else 1
    return rows if count is None else min(rows, -(-max(count, 1) // step) * step)


def choose_buckets(
    sizes: Sizes, batch_size: int, limit: int = 8, gain: float | None = None, least: float = 0.0, multiple: int = 8
) -> np.ndarray:
    """The buckets that cost least in an epoch.

    Examples are cut into classes by their slots, as many as pay, and each class by length; both cuts are the best ones.

    Args:
        sizes: of the examples, one at least.
        batch_size: rows of a batch.
        limit: most buckets to use.
        gain: a further bucket must save this share of the cost; None: `GAIN` or `FLAT_GAIN`,
        least: and so much of it.
        multiple: see `rows_of`; without meaning if `sizes` are flat.

    Returns:
        Number of the bucket of each example, int64 (N,); ascending with the slots, then with the length. No bucket is empty.
    """
    lengths, length_of = _grid(sizes.lengths, DISTINCT)
    slots, slots_of = (np.ones(1, np.int64), np.zeros(len(sizes), np.int64)) if sizes.slots is None else _grid(sizes.slots, LEVELS)
    if gain is None:
        gain = FLAT_GAIN if sizes.flat else GAIN
    counts, sites = np.zeros((2, len(slots), len(lengths)), np.int64)
    np.add.at(counts, (slots_of, length_of), 1)
    np.add.at(sites, (slots_of, length_of), sizes.lengths)
    if sizes.flat:
        costs = FlatHistogram(lengths, slots, counts, sites, batch_size, PAIRS).costs
    else:
        full = [[rows_of(w, batch_size, slots=k if sizes.slots is not None else None) for w in lengths.tolist()] for k in slots.tolist()]
        costs = _Histogram(lengths, slots, counts, np.array(full), multiple).costs
    classes = _classes(costs, len(slots), limit)
    best = _cheapest_classes(classes, len(slots), limit)
    chosen = best[1]
    for used in range(2, limit + 1):
        if used in best and best[used][0] <= (1 - gain) * chosen[0] - least * (used - sum(number for *_, number in chosen[1])):
            chosen = best[used]
    bucket_of, first = np.zeros(len(sizes), np.int64), 0
    for low, high, number in chosen[1]:
        members = (low <= slots_of) & (slots_of <= high)
        bucket_of[members] = first + np.searchsorted(classes[low, high].bounds(number), length_of[members])
        first += number
    return bucket_of


def _grid(sizes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of the sizes, ascending and the largest among them, and for each size the position of the next one up."""
    values = np.unique(sizes)
    if len(values) > most:
        values = np.unique(np.quantile(sizes, np.linspace(0, 1, most + 1)[1:], method="higher"))
    return values, np.searchsorted(values, sizes)


@dataclass(frozen=True)
class _Class:
    """The cheapest cuts of a class by length.

    Attributes:
        present: the n lengths that occur, as positions, ascending.
        totals: cost of 1, 2, ... buckets.
        cuts: for 2, 3, ... buckets of the first lengths up to each one: position in `present` of the last but one bound, int (n,).
    """

    present: np.ndarray
    totals: list[float]
    cuts: list[np.ndarray]

    def bounds(self, number: int) -> np.ndarray:
        """Longest length of each of `number` buckets."""
        last = [len(self.present) - 1]
        for cut in self.cuts[: number - 1][::-1]:
            last.append(int(cut[last[-1]]))
        return self.present[last[::-1]]


@dataclass(frozen=True)
class _Histogram:
    """How many examples there are of which size.

    Attributes:
        lengths: int (L,), ascending.
        slots: int (S,), ascending.
        counts: int (S, L).
        full: int (S, L), rows of a batch of which there are enough examples.
        multiple: see `rows_of`.
    """

    lengths: np.ndarray
    slots: np.ndarray
    counts: np.ndarray
    full: np.ndarray
    multiple: int

    def costs(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """The n lengths of a class, as positions; cost (n, n) of a bucket from the first to the last of them, infinite if none."""
        counts = self.counts[low : high + 1]
        present = np.flatnonzero(counts.any(axis=0))
        ends = np.cumsum(counts[:, present].sum(axis=0))
        count = np.maximum(ends - np.concatenate([[0], ends[:-1]])[:, None], 1)
        most = high - (counts[::-1, present] > 0).argmax(axis=0)
        most = np.maximum.accumulate(np.triu(np.broadcast_to(most, count.shape)), axis=1)
        full = self.full[most, present]
        step = np.where(full % self.multiple == 0, self.multiple, 1)
        rows = np.minimum(full, -(-count // step) * step)
        cost = (-(-count // rows) * rows * self.lengths[present] * self.slots[most] ** 2).astype(np.float64)
        cost[np.tril_indices(len(present), -1)] = np.inf
        return present, cost


def _classes(costs: Callable[[int, int], tuple[np.ndarray, np.ndarray]], levels: int, limit: int) -> dict[tuple[int, int], _Class]:
    """For all positions low <= high of the numbers of slots: the examples with as many slots as from low to high."""
    ranges = [(low, high) for high in range(levels) for low in range(high + 1)]
    return {(low, high): _cheapest_cuts(*costs(low, high), limit) for low, high in ranges}


def _cheapest_cuts(present: np.ndarray, cost: np.ndarray, limit: int) -> _Class:
    best, totals, cuts = cost[0], [float(cost[0, -1])], []
    for _ in range(2, min(limit, len(present)) + 1):
        options = best[:-1, None] + cost[1:]
        cuts.append(options.argmin(axis=0))
        best = options.min(axis=0)
        totals.append(float(best[-1]))
    return _Class(present, totals, cuts)


def _cheapest_classes(classes: dict[tuple[int, int], _Class], levels: int, limit: int) -> dict[int, tuple[float, _Parts]]:
    """Number of buckets -> least cost, and the classes that have it."""
    best: list[dict[int, tuple[float, _Parts]]] = [{} for _ in range(levels + 1)]
    best[0][0] = (0.0, ())
    for (low, high), cheapest in classes.items():
        for before, (spent, parts) in best[low].items():
            for number, total in enumerate(cheapest.totals[: limit - before], 1):
                found = best[high + 1].get(before + number)
                if found is None or spent + total < found[0]:
                    best[high + 1][before + number] = (spent + total, (*parts, (low, high, number)))
    return best[levels]
