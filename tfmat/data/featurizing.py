"""Featurizing a table part by part, over all cores where that is worth it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tfmat.crystal import Crystals
from tfmat.data.table import Table, as_crystals, locate
from tfmat.data.workers import Request, Workers, cores
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer
from tfmat.records import Records

FORMULAS = 65_536
"""Formulas featurized at a time."""
CRYSTALS = 256
"""Crystals featurized at a time."""
TRIAL = 32
"""So many crystals are featurized and timed first, to decide whether other processes are worth their start."""
WORTH_SECONDS = 8.0
"""Expected work from which on other processes help."""

BLOCK = 1024
"""So many materials are searched at a time for those that a featurizer refuses."""
ATTEMPTS = 32
"""So many of them are found in a block by featurizing again what is before and after them; then the rest is featurized one by one."""

RowsDone = Callable[[int, int], None]
"""The progress callback of all work on rows: called as ``report(rows done, rows in all)``; 0 in all where that is not known beforehand."""
Refused = Callable[[int, InputError], None]
"""Takes the position of a material in its table, and why it cannot be featurized."""


def featurize_parts(
    table: Table,
    featurizer: Featurizer,
    *,
    processes: int | None = None,
    report: RowsDone | None = None,
    refused: Refused | None = None,
) -> Iterator[Records]:
    """Records of consecutive parts of `table`; at least one part, unless all materials are refused.

    Args:
        table: the materials. Formulas are featurized here; crystals in other processes if that is worth it.
        featurizer: what to do with them.
        processes: how many work on crystals; 1 stays in this process. Default: one a core, if more than some seconds are expected.
        report: progress callback.
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
    """Featurize what can be featurized. A bad material costs little: at worst, the others of its block are featurized again, together.

    Args:
        featurizer: what to do with them.
        materials: any materials.

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
                yield featurizer.featurize(_chosen(materials, piece)), piece
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


def _chosen(materials: Sequence[Any], positions: np.ndarray) -> Sequence[Any]:
    if len(positions) == len(materials):
        return materials
    return materials.subset(positions) if isinstance(materials, Crystals) else [materials[i] for i in positions.tolist()]


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
    """Whether another process can make the same featurizer."""
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
                yield (first, source), Request("tfmat.data.featurizing:featurize_file", arguments)

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
        featurizer: module, name and config.
        path: of the crystals, and then of the records.
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
    arrays = {f"values.{key}": value for key, value in records.values.items()}
    arrays |= {f"offsets.{key}": value for key, value in records.offsets.items()}
    np.savez(path, allow_pickle=False, **arrays)


def _load(path: str) -> Records:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    values = {name.removeprefix("values."): array for name, array in arrays.items() if name.startswith("values.")}
    return Records(values, {name.removeprefix("offsets."): array for name, array in arrays.items() if name.startswith("offsets.")})
