"""Featurized examples of ragged size, stored column by column.

A `Records` holds all examples of a dataset in a few flat arrays: for each key the rows of all examples one after the other,
and the offsets where each example begins. It is compact (no padding), pickle-free and quick to gather batches from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Records:
    """Ragged columns.

    Attributes:
        values: key -> array (sum of lengths, ...), the examples one after the other along axis 0.
        offsets: key -> int64 (N + 1,): example i is ``values[key][offsets[key][i]:offsets[key][i + 1]]``.
    """

    values: Mapping[str, np.ndarray]
    offsets: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if set(self.values) != set(self.offsets):
            raise ValueError(f"`values` and `offsets` must have the same keys. Received: {sorted(self.values)} and {sorted(self.offsets)}")
        if len({len(offset) for offset in self.offsets.values()}) > 1:
            raise ValueError("every key of `offsets` must describe the same number of examples")

    def __len__(self) -> int:
        return len(next(iter(self.offsets.values()))) - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        index %= len(self)
        return {key: value[self.offsets[key][index] : self.offsets[key][index + 1]] for key, value in self.values.items()}

    def lengths(self, key: str) -> np.ndarray:
        """Length of axis 0 of `key` in each example, int64 (N,)."""
        return np.diff(self.offsets[key])

    def select(self, keys: Sequence[str]) -> Records:
        """The same examples with these keys alone."""
        return Records({key: self.values[key] for key in keys}, {key: self.offsets[key] for key in keys})

    def take(self, indices: np.ndarray) -> Records:
        """The examples at integer positions `indices`, in that order, copied."""
        rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # keys share their offsets
        values, offsets = {}, {}
        for key, value in self.values.items():
            if id(self.offsets[key]) not in rows:
                first, last = self.offsets[key][indices], self.offsets[key][np.asarray(indices) + 1]
                rows[id(self.offsets[key])] = ranges(first, last), starts_of(last - first)
            places, offsets[key] = rows[id(self.offsets[key])]
            values[key] = value[places]
        return Records(values, offsets)

    @classmethod
    def join(cls, parts: Sequence[Records]) -> Records:
        """The examples of all `parts` (at least one), one after the other."""
        if len(parts) == 1:
            return parts[0]
        values = {key: np.concatenate([part.values[key] for part in parts]) for key in parts[0].values}
        joined: dict[tuple[int, ...], np.ndarray] = {}  # keys share their offsets
        offsets = {}
        for key in values:
            shared = tuple(id(part.offsets[key]) for part in parts)
            if shared not in joined:
                joined[shared] = starts_of(np.concatenate([part.lengths(key) for part in parts]))
            offsets[key] = joined[shared]
        return cls(values, offsets)

    @property
    def nbytes(self) -> int:
        """Size of the arrays [bytes]."""
        return sum(array.nbytes for array in (*self.values.values(), *self.offsets.values()))

    @classmethod
    def stack(cls, examples: Sequence[Mapping[str, np.ndarray]]) -> Records:
        """Columns from a list of single examples (at least one)."""
        keys = list(examples[0])
        values = {key: np.concatenate([example[key] for example in examples]) for key in keys}
        offsets = {key: np.cumsum([0, *(len(example[key]) for example in examples)], dtype=np.int64) for key in keys}
        return cls(values, offsets)


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Compute where each of several runs of these lengths begins and the last one ends, int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The whole numbers from each first one up to the last, without it, int64."""
    ends = np.cumsum(last - first)
    numbers = np.arange(ends[-1] if len(ends) else 0)
    numbers += np.repeat(last - ends, last - first)
    return numbers
