"""The arrays of one batch.

Crystals stand in lists, one after the other, without padding: ``species`` (S,) of all S sites, ``distances`` (E,) of all E bonds, and the
like. Keys in `ROWS_OF` hold rows of another list. ``batch_sites`` int32 (B,) says how many sites each crystal has. Every list ends with an
empty entry, of multiplicity 0, and an empty bond (pair) goes from the last site (bond) to the last one; so no list is empty, and no crystal
ends one. Compositions are padded with 0 to (B, E), as are the keys `PADDED`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfmat.records import Records

Arrays = dict[str, np.ndarray]

ROWS_OF = {"bond_receivers": "species", "bond_senders": "species", "pair_receivers": "distances", "pair_senders": "distances"}
"""Keys whose numbers are rows of another key's list, counted within the crystal; in a batch, within the whole list."""
PADDED = ("lists",)
"""Keys of crystals that are sequences: (B, longest), padded with 0."""
STACKED = ("state",)
"""Keys of crystals that have one row per crystal: (B, D)."""
STEP = 1.25
"""Where shapes must be few, each list's length is one of a series that grows by this factor, the same power of it for all lists."""
MULTIPLE = 64
"""These lengths, and the numbers of rows, are multiples of this, so that several devices can share a list."""


def is_lists(records: Records) -> bool:
    """Tell whether the examples are crystals in lists; else they are padded."""
    return "site_multiplicity" in records.values


def padded_keys(records: Records) -> list[str]:
    """Keys whose arrays are padded to the longest example of the batch."""
    return [key for key in records.values if not is_lists(records) or key in PADDED]


def wide(dtype: np.dtype) -> np.dtype:
    """The type of a batch's array: int32 and float32 for what a packed file keeps narrower."""
    return np.result_type(dtype, np.int32 if dtype.kind in "iu" else np.float32)


def batch_arrays(records: Records, indices: np.ndarray, rows: int, filled: bool = False) -> Arrays:
    """The examples at `indices` as arrays.

    Args:
        records: the data.
        indices: at most `rows` positions.
        rows: B; rows beyond the examples are empty.
        filled: fill lists and padded axes up to one of few lengths.
    """
    if not is_lists(records):
        longest = max((int(records.lengths(key)[indices].max(initial=1)) for key in records.values), default=1)
        return {key: _padded(records, key, indices, rows, _power_of_two(longest) if filled else longest) for key in records.values}
    arrays = _lists(records, indices, _filled_lengths(records, indices, rows) if filled else {})
    for key in set(PADDED) & set(records.values):
        longest = int(records.lengths(key)[indices].max(initial=1))
        arrays[key] = _padded(records, key, indices, rows, _power_of_two(longest) if filled else longest)
    for key in set(STACKED) & set(records.values):
        values, width = records.values[key], int(records.offsets[key][1])
        arrays[key] = np.zeros((rows, width), wide(values.dtype))
        arrays[key][: len(indices)] = values.reshape(-1, width)[indices]
    arrays["batch_sites"] = np.zeros(rows, np.int32)
    arrays["batch_sites"][: len(indices)] = records.lengths("species")[indices]
    return arrays


def _power_of_two(length: int) -> int:
    return 1 << max(length - 1, 1).bit_length()


def _list_keys(records: Records) -> list[str]:
    return [key for key in records.values if key not in PADDED + STACKED]


def _filled_lengths(records: Records, indices: np.ndarray, rows: int) -> dict[str, int]:
    """Length of each list: `rows` times the mean of all examples, times the least power of `STEP` for which all lists are long enough."""
    usual = {key: max(rows * len(records.values[key]) / max(len(records), 1), 1.0) for key in _list_keys(records)}
    needed = max((records.lengths(key)[indices].sum() + 1) / length for key, length in usual.items())
    power = max(int(np.ceil(np.log(needed) / np.log(STEP) - 1e-9)), 0)
    return {key: -(-int(np.ceil(length * STEP**power) + 1) // MULTIPLE) * MULTIPLE for key, length in usual.items()}


def _lists(records: Records, indices: np.ndarray, filled: Mapping[str, int]) -> Arrays:
    """The lists of all examples, one after the other, with at least one empty entry behind."""
    arrays: Arrays = {}
    places: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # keys with the same offsets share them
    lengths = {}
    for key in _list_keys(records):
        offsets = records.offsets[key]
        if id(offsets) not in places:
            starts = offsets[indices]
            counts = offsets[indices + 1] - starts
            ends = np.cumsum(counts)
            places[id(offsets)] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts), counts
        rows, lengths[key] = places[id(offsets)]
        values = records.values[key]
        arrays[key] = np.zeros((filled.get(key, len(rows) + 1), *values.shape[1:]), wide(values.dtype))
        arrays[key][: len(rows)] = values[rows]
    for key, listed in ROWS_OF.items():
        if key in arrays:
            count = int(lengths[key].sum())
            arrays[key][:count] += np.repeat(np.cumsum(lengths[listed]) - lengths[listed], lengths[key]).astype(np.int32)
            arrays[key][count:] = len(arrays[listed]) - 1
    return arrays


def _padded(records: Records, key: str, indices: np.ndarray, rows: int, width: int) -> np.ndarray:
    """Put one key of the examples into a zero-padded array (rows, width, ...)."""
    values, offsets = records.values[key], records.offsets[key]
    starts, lengths = offsets[indices], offsets[indices + 1] - offsets[indices]
    row = np.repeat(np.arange(len(indices)), lengths)
    column = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded = np.zeros((rows, width, *values.shape[1:]), wide(values.dtype))
    padded[row, column] = values[np.repeat(starts, lengths) + column]
    return padded


def target_arrays(targets: Mapping[str, np.ndarray], indices: np.ndarray, rows: int, missing: float = np.nan) -> tuple[Arrays, Arrays]:
    """Scaled targets (rows, 1), `missing` where there is none, and loss weights (rows,).

    The weights are 0 for missing targets and otherwise rows / (number of present ones), so that the mean over all `rows` of
    weight x loss is the mean loss of the present targets, on one device and split over several.
    """
    values, weights = {}, {}
    for name, column in targets.items():
        chosen = np.full((rows, 1), np.nan, np.float32)
        chosen[: len(indices), 0] = column[indices]
        present = np.isfinite(chosen[:, 0])
        values[name] = np.where(present[:, None], chosen, np.float32(missing))
        weights[name] = (present * (rows / max(int(present.sum()), 1))).astype(np.float32)
    return values, weights
