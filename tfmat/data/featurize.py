"""Featurize a table: part by part, over all cores where that is worth it, into the cache, without the rows for which it is impossible."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tfmat.crystal import Crystals
from tfmat.data.cache import RecordCache, from_arrays, to_arrays
from tfmat.data.packed import Featurized
from tfmat.data.rejections import Rejections
from tfmat.data.table import Table, as_crystals, locate, materials_at
from tfmat.data.workers import Request, Workers, cores
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records

_LOGGER = logging.getLogger("tfmat")
FORMULAS = 65_536
"""Number of formulas that are featurized at a time."""
CRYSTALS = 256
"""Number of crystals that are featurized at a time."""
TRIAL = 32
"""Number of crystals that are featurized and timed first, to decide whether other processes are worth their start."""
WORTH_SECONDS = 8.0
"""Other processes help from this much expected work on [s]."""
BLOCK = 1024
"""Number of materials that are searched at a time for those that a featurizer refuses."""
ATTEMPTS = 32
"""Number of refused materials in a block that are found by featurizing again what is before and after them. Then the rest of the block is
featurized one by one."""

RowsDone = Callable[[int, int], None]
"""The progress callback of all work on rows: called as ``report(rows done, rows in all)``; 0 in all where that is not known beforehand."""
Refused = Callable[[int, InputError], None]
"""Takes the position of a material in its table, and why it cannot be featurized."""


def featurize_parts(
    table: Table, featurizer: Featurizer, *, processes: int | None = None, report: RowsDone | None = None, refused: Refused | None = None
) -> Iterator[Records]:
    """Records of consecutive parts of `table`; at least one part, unless all materials are refused.

    Args:
        table: the materials. Formulas are featurized here; crystals in other processes if that is worth it.
        featurizer: turns them into arrays.
        processes: how many work on crystals; 1 stays in this process. Default: one per core, if the work is expected to take some seconds.
        report: called with the rows done and the rows in all.
        refused: called for each material that cannot be featurized, which is then left out. Default: the first one is an error.

    Raises:
        InputError: a material cannot be featurized and `refused` is not given; it names the file and the row.
    """
    done = 0
    for rows, part in _parts(table, featurizer, processes, refused):
        done += rows
        if report is not None:
            report(done, len(table))
        if part is not None:
            yield part


def featurize_each(featurizer: Featurizer, materials: Sequence[Any]) -> tuple[Records | None, np.ndarray, dict[int, InputError]]:
    """Featurize the materials for which that is possible.

    A bad material costs little: at worst, the others of its block are featurized again, together.

    Args:
        featurizer: turns them into arrays.
        materials: formulas or crystals.

    Returns:
        The records of the good ones (`None` where there are none), their positions int64 in order, and the error of each other position.
    """
    errors: dict[int, InputError] = {}
    if len(materials) > BLOCK:
        with contextlib.suppress(InputError):
            return featurizer.featurize(materials), np.arange(len(materials)), errors
    found: list[tuple[Records, np.ndarray]] = []
    for start in range(0, len(materials), BLOCK):
        found += _block(featurizer, materials, np.arange(start, min(start + BLOCK, len(materials))), errors)
    if not found:
        return None, np.zeros(0, np.int64), errors
    return Records.join([records for records, _ in found]), np.concatenate([kept for _, kept in found]), errors


def _block(
    featurizer: Featurizer, materials: Sequence[Any], positions: np.ndarray, errors: dict[int, InputError]
) -> Iterator[tuple[Records, np.ndarray]]:
    """Records and positions of the good ones of `positions`, in pieces: around a bad one, what is before and what is after it."""
    pieces = [positions]
    attempts = ATTEMPTS
    while pieces:
        piece = pieces.pop()
        if attempts == 0 and len(piece) > 1:
            pieces += [piece[index : index + 1] for index in reversed(range(len(piece)))]
            continue
        try:
            if len(piece):
                yield featurizer.featurize(materials if len(piece) == len(materials) else materials_at(materials, piece)), piece
        except InputError as error:
            if len(piece) == 1:
                errors[int(piece[0])] = error
            elif error.index is None:
                attempts = 0
                pieces.append(piece)
            else:
                attempts -= 1
                errors[int(piece[error.index])] = error
                pieces += [piece[error.index + 1 :], piece[: error.index]]


def _parts(table: Table, featurizer: Featurizer, processes: int | None, refused: Refused | None) -> Iterator[tuple[int, Records | None]]:
    """Number of rows and records of each part."""
    crystals = as_crystals(table.materials)
    if crystals is None:
        for start in range(0, max(len(table), 1), FORMULAS):
            yield _here(table, featurizer, table.materials[start : start + FORMULAS], start, refused)
        return
    start = 0
    if processes is None:
        began = time.perf_counter()
        yield _here(table, featurizer, _slice(crystals, 0, TRIAL), 0, refused)
        start = min(TRIAL, len(crystals))
        expected = (time.perf_counter() - began) / start * (len(crystals) - start)
        processes = cores() if expected > WORTH_SECONDS else 1
    if processes > 1 and _importable(featurizer):
        yield from _elsewhere(table, featurizer, crystals, start, processes, refused)
        return
    for first in range(start, len(crystals), CRYSTALS):
        yield _here(table, featurizer, _slice(crystals, first, first + CRYSTALS), first, refused)


def _slice(crystals: Crystals, start: int, stop: int) -> Crystals:
    return Crystals(crystals.subset(np.arange(start, min(stop, len(crystals)))).records)


def _here(
    table: Table, featurizer: Featurizer, materials: Sequence[Any], start: int, refused: Refused | None
) -> tuple[int, Records | None]:
    if refused is None:
        try:
            return len(materials), featurizer.featurize(materials)
        except InputError as error:
            raise _located(error, table, start) from None
    records, _, errors = featurize_each(featurizer, materials)
    for index in sorted(errors):
        refused(start + index, errors[index])
    return len(materials), records


def _located(error: InputError, table: Table, start: int) -> InputError:
    index = None if error.index is None else error.index + start
    return locate(InputError(error.problem, expected=error.expected, index=index), table)


def _importable(featurizer: Featurizer) -> bool:
    """Tell whether another process can make the same featurizer."""
    kind = type(featurizer)
    return kind.__module__ != "__main__" and getattr(importlib.import_module(kind.__module__), kind.__qualname__, None) is kind


def _elsewhere(
    table: Table, featurizer: Featurizer, crystals: Crystals, start: int, processes: int, refused: Refused | None
) -> Iterator[tuple[int, Records | None]]:
    kind = type(featurizer)
    what = {"module": kind.__module__, "name": kind.__qualname__, "config": dataclasses.asdict(cast(Any, featurizer))}
    with tempfile.TemporaryDirectory(prefix="tfmat-") as folder, Workers(processes, warm_up=kind.__module__) as workers:

        def tasks() -> Iterator[tuple[tuple[int, str], Request]]:
            for first in range(start, len(crystals), CRYSTALS):
                source = os.path.join(folder, f"{first}.npz")
                _save(source, _slice(crystals, first, first + CRYSTALS).records)
                arguments = {"featurizer": what, "path": source, "each": refused is not None}
                yield (first, source), Request("tfmat.data.featurize:featurize_file", arguments)

        for (first, path), answer in workers.map(tasks(), ahead=2):
            if isinstance(answer, InputError):
                raise _located(answer, table, first)
            if refused is not None:
                for index, problem, expected in answer:
                    refused(first + index, InputError(problem, expected=expected))
            rows = min(CRYSTALS, len(crystals) - first)
            yield rows, _load(path) if len(answer) < rows else None
            Path(path).unlink(missing_ok=True)


def featurize_file(featurizer: dict[str, Any], path: str, each: bool = False) -> list[tuple[int, str, str | None]]:
    """Featurize the crystals of a file in a worker process; the result takes their place.

    Args:
        featurizer: its class, as ``module`` and ``name``, and its ``config``.
        path: the file of the crystals, which the records replace.
        each: leave out those that cannot be featurized. Default: the first one is an error.

    Returns:
        Position, problem and what was expected of each crystal that is left out, in order.
    """
    made = getattr(importlib.import_module(featurizer["module"]), featurizer["name"])(**featurizer["config"])
    crystals = Crystals(_load(path))
    records, _, errors = featurize_each(made, crystals) if each else (made.featurize(crystals), None, {})
    if records is not None:
        _save(path, records)
    return [(index, error.problem, error.expected) for index, error in sorted(errors.items())]


def _save(path: str, records: Records) -> None:
    np.savez(path, allow_pickle=False, **to_arrays(records))


def _load(path: str) -> Records:
    with np.load(path, allow_pickle=False) as stored:
        return from_arrays({name: stored[name] for name in stored.files})


def featurize_table(
    table: Table, featurizer: Featurizer, cache: RecordCache | None = None, *, processes: int | None = None, report: RowsDone | None = None
) -> Records:
    """Featurize all materials of `table`, or take them from `cache`.

    Args:
        table: the materials.
        featurizer: turns them into arrays.
        cache: where to look and to keep the result.
        processes: for crystals: how many work at once. Default: one per core, if the work is expected to take some seconds.
        report: called with the rows done and the rows in all.

    Raises:
        InputError: a material cannot be featurized; it names the file and the row. They are featurized already, by another one.
    """
    if isinstance(table.materials, Featurized):
        return table.materials.records_for(featurizer)
    found = None
    if cache is not None:
        found, key = stored_records(table, featurizer, cache), cache.key(featurizer, table)
        if found is None and _store(featurize_parts(table, featurizer, processes=processes, report=report), key, table, featurizer, cache):
            found = cache.load(key)
    return Records.join(list(featurize_parts(table, featurizer, processes=processes, report=report))) if found is None else found


def _store(parts: Iterator[Records], key: str | Callable[[], str], table: Table, featurizer: Featurizer, cache: RecordCache) -> bool:
    """Tell whether the parts could be written to the cache, as the entry of `key`; if not, that is logged."""
    try:
        with cache.building(key, {"source": table.source, "featurizer": configuration(featurizer)}) as writer:
            for part in parts:
                writer.append(part)
        return True
    except OSError as error:
        _LOGGER.warning("featurized data could not be kept in %s (%s)", cache.directory, error)
        return False


def stored_records(table: Table, featurizer: Featurizer, cache: RecordCache) -> Records | None:
    """The records of `table` if `cache` holds them; an entry that does not fit is removed."""
    key = cache.key(featurizer, table)
    found = cache.load(key)
    if found is None or (len(found) == len(table) and set(found.values) == set(featurizer.spec)):
        return found
    _LOGGER.warning("cache entry %s does not fit and will be rebuilt", cache.path(key))
    cache.clear([key])
    return None


@dataclass(frozen=True)
class Usable:
    """Rows that a featurizer accepts, and what it made of them.

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
        featurizer: turns them into arrays.
        rejections: takes the others, with file, row and id; if it is strict, the first one is an error.
        cache: where to look and to keep the result.
        processes: see `featurize_table`.
        report: called with the rows done and the rows in all.

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
        refused = _refused(table, featurizer, cache, processes=processes, report=report)
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
    parts = list(_accepted(table, featurizer, refused))
    return Usable(_without(refused, table, rejections), Records.join(parts))


def _accepted(table: Table, featurizer: Featurizer, refused: dict[int, InputError], **options: Any) -> Iterator[Records]:
    """The parts of `featurize_parts`, with its `options`; `refused` takes the other rows by position. Not all may be refused."""
    yield from featurize_parts(table, featurizer, refused=refused.__setitem__, **options)
    if refused and len(refused) == len(table):
        first = refused[0]
        problem = first.problem if len(table) == 1 else f"none of {len(table):,} rows can be used; the first because: {first.problem}"
        raise InputError(problem, expected=first.expected, **table.place(0))


def _without(refused: dict[int, InputError], table: Table, rejections: Rejections) -> Table:
    """The other rows of `table`; those that are refused are rejected."""
    for index, error in sorted(refused.items()):
        rejections.add(error, **table.place(index), identifier=table.ids[index])
    return _others(refused, table)


def _others(refused: dict[int, InputError], table: Table) -> Table:
    return table.subset(np.delete(np.arange(len(table)), list(refused))) if refused else table


def _refused(table: Table, featurizer: Featurizer, cache: RecordCache | None, **options: Any) -> dict[int, InputError]:
    """The materials that cannot be featurized; the records of the other rows are in the cache then."""
    refused: dict[int, InputError] = {}

    def key() -> str:
        return cache.key(featurizer, _others(refused, table))  # type: ignore[union-attr]

    if cache is None or not _store(_accepted(table, featurizer, refused, **options), key, table, featurizer, cache):
        refused.clear()
        for _ in _accepted(table, featurizer, refused, **options):
            pass
    return refused


def _key(table: Table, featurizer: Featurizer, cache: RecordCache) -> str:
    return hashlib.sha256(f"refused {cache.key(featurizer, table)}".encode()).hexdigest()


def _to_records(refused: dict[int, InputError]) -> Records:
    """Store refusals as `_remembered` reads them: positions int64, problems and what was expected as text in UTF-8."""
    rows = []
    for index, error in sorted(refused.items()):
        rows.append(
            {name: np.frombuffer((getattr(error, name) or "").encode(errors="replace"), np.uint8) for name in ("problem", "expected")}
        )
        rows[-1]["index"] = np.asarray([index], np.int64)
    return Records.stack(rows)


def _remembered(table: Table, featurizer: Featurizer, cache: RecordCache | None) -> dict[int, InputError] | None:
    """Read which materials were refused before; `None` where that is not known."""
    records = cache.load(_key(table, featurizer, cache)) if cache is not None else None
    if records is None or set(records.values) != {"index", "problem", "expected"} or not 0 < len(records) < len(table):
        return None
    found = {}
    for example in map(records.__getitem__, range(len(records))):
        problem, expected = (example[name].tobytes().decode() for name in ("problem", "expected"))
        found[int(example["index"][0])] = InputError(problem, expected=expected or None)
    return found if all(0 <= index < len(table) for index in found) else None
