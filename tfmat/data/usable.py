"""The rows of a table that a featurizer accepts: what it refuses is rejected, and remembered."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from tfmat.data.cache import RecordCache, featurize_table, stored_records
from tfmat.data.featurized import Featurized
from tfmat.data.featurizing import RowsDone, featurize_parts
from tfmat.data.rejections import Rejections
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records

_LOGGER = logging.getLogger("tfmat")
_KEYS = {"index", "problem", "expected"}


@dataclass(frozen=True)
class Usable:
    """Featurized rows.

    Attributes:
        table: the rows.
        records: their arrays, which a model reads.
    """

    table: Table
    records: Records


def usable_table(
    table: Table,
    featurizer: Featurizer,
    rejections: Rejections,
    cache: RecordCache | None = None,
    *,
    processes: int | None = None,
    report: RowsDone | None = None,
) -> Table:
    """Featurize all materials of `table`, and leave out those that cannot be featurized (a crystal without a bond, say).

    The records of the usable rows are kept in `cache`, where `featurize_table` finds them for the table that is returned, and so is
    what was refused: the same table is not featurized again.

    Args:
        table: the materials.
        featurizer: what to do with them.
        rejections: takes the others, with file, row and id; if it is strict, the first one is an error.
        cache: where to look and to keep the result.
        processes: see `featurize_table`.
        report: progress callback.

    Returns:
        `table` itself if no row is refused.

    Raises:
        InputError: no row is usable; with strict rejections, a row is not.
    """
    if rejections.strict or not len(table) or isinstance(table.materials, Featurized):
        if len(table):
            featurize_table(table, featurizer, cache, processes=processes, report=report)
        return table
    refused = _remembered(table, featurizer, cache)
    if refused is None:
        if cache is not None and stored_records(table, featurizer, cache) is not None:
            return table
        refused = _featurize(table, featurizer, cache, processes, report)
        if cache is not None and refused:
            about = {"source": table.source, "featurizer": {"name": f"refused by {type(featurizer).__name__}"}}
            cache.save(_key(table, featurizer, cache), _to_records(refused), about)
    return _without(refused, table, rejections)


def featurize_usable(table: Table, featurizer: Featurizer, rejections: Rejections, cache: RecordCache | None = None) -> Usable:
    """The rows that `usable_table` returns, with their arrays; nothing is featurized twice, with or without a `cache`."""
    if cache is not None or rejections.strict or isinstance(table.materials, Featurized):
        table = usable_table(table, featurizer, rejections, cache)
        return Usable(table, featurize_table(table, featurizer, cache))
    refused: dict[int, InputError] = {}
    parts = list(featurize_parts(table, featurizer, refused=refused.__setitem__))
    _check_some_left(table, refused)
    return Usable(_without(refused, table, rejections), Records.join(parts))


def _without(refused: dict[int, InputError], table: Table, rejections: Rejections) -> Table:
    """The other rows of `table`; those that are refused are rejected."""
    for index, error in sorted(refused.items()):
        rejections.add(error, **table.place(index), identifier=table.ids[index])
    return table.subset(_others(refused, len(table))) if refused else table


def _featurize(
    table: Table, featurizer: Featurizer, cache: RecordCache | None, processes: int | None, report: RowsDone | None
) -> dict[int, InputError]:
    """What is refused; the records of the other rows are in the cache then."""
    refused: dict[int, InputError] = {}
    if cache is not None:
        about = {"source": table.source, "featurizer": configuration(featurizer)}

        def key() -> str:
            return cache.key(featurizer, table.subset(_others(refused, len(table))) if refused else table)

        try:
            with cache.building(key, about) as writer:
                for part in featurize_parts(table, featurizer, processes=processes, report=report, refused=refused.__setitem__):
                    writer.append(part)
                _check_some_left(table, refused)
            return refused
        except OSError as error:
            _LOGGER.warning("featurized data could not be kept in %s (%s)", cache.directory, error)
            refused.clear()
    for _ in featurize_parts(table, featurizer, processes=processes, report=report, refused=refused.__setitem__):
        pass
    _check_some_left(table, refused)
    return refused


def _others(refused: dict[int, InputError], rows: int) -> np.ndarray:
    return np.delete(np.arange(rows), list(refused))


def _check_some_left(table: Table, refused: dict[int, InputError]) -> None:
    if len(refused) < len(table):
        return
    first = refused[0]
    problem = first.problem if len(table) == 1 else f"none of {len(table):,} rows can be used; the first because: {first.problem}"
    raise InputError(problem, expected=first.expected, **table.place(0))


def _key(table: Table, featurizer: Featurizer, cache: RecordCache) -> str:
    return hashlib.sha256(f"refused {cache.key(featurizer, table)}".encode()).hexdigest()


def _to_records(refused: dict[int, InputError]) -> Records:
    """Positions int64, and text as UTF-8."""
    return Records.stack(
        [
            {"index": np.asarray([index], np.int64), "problem": _encoded(error.problem), "expected": _encoded(error.expected or "")}
            for index, error in sorted(refused.items())
        ]
    )


def _encoded(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(errors="replace"), np.uint8)


def _remembered(table: Table, featurizer: Featurizer, cache: RecordCache | None) -> dict[int, InputError] | None:
    """What was refused before; `None` where that is not known."""
    records = cache.load(_key(table, featurizer, cache)) if cache is not None else None
    if records is None or set(records.values) != _KEYS or not 0 < len(records) < len(table):
        return None
    found = {}
    for position in range(len(records)):
        example = records[position]
        problem, expected = (example[name].tobytes().decode() for name in ("problem", "expected"))
        found[int(example["index"][0])] = InputError(problem, expected=expected or None)
    return found if all(0 <= index < len(table) for index in found) else None
