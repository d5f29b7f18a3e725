"""Featurizing a table part by part, over all cores where that is worth it."""

from __future__ import annotations

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

Report = Callable[[int, int], None]
"""Progress callback: called as ``report(rows done, rows in all)``."""


def featurize_parts(
    table: Table, featurizer: Featurizer, *, processes: int | None = None, report: Report | None = None
) -> Iterator[Records]:
    """Records of consecutive parts of `table`, at least one part.

    Args:
        table: the materials. Formulas are featurized here; crystals in other processes if that is worth it.
        featurizer: what to do with them.
        processes: how many work on crystals; 1 stays in this process. Default: one a core, if more than some seconds are expected.
        report: progress callback.

    Raises:
        InputError: a material cannot be featurized; it names the file and the row.
    """
    done = 0
    for part in _parts(table, featurizer, processes):
        done += len(part)
        if report is not None:
            report(done, len(table))
        yield part


def _parts(table: Table, featurizer: Featurizer, processes: int | None) -> Iterator[Records]:
    crystals = as_crystals(table.materials)
    if crystals is None:
        for start in range(0, max(len(table), 1), FORMULAS):
            yield _here(table, featurizer, table.materials[start : start + FORMULAS], start)
        return
    start = 0
    if processes is None:
        began = time.perf_counter()
        yield _here(table, featurizer, _slice(crystals, 0, TRIAL), 0)
        start = min(TRIAL, len(crystals))
        expected = (time.perf_counter() - began) / start * (len(crystals) - start)
        processes = cores() if expected > WORTH_SECONDS else 1
    if processes > 1 and _importable(featurizer):
        yield from _elsewhere(table, featurizer, crystals, start, processes)
        return
    for first in range(start, len(crystals), CRYSTALS):
        yield _here(table, featurizer, _slice(crystals, first, first + CRYSTALS), first)


def _slice(crystals: Crystals, start: int, stop: int) -> Crystals:
    return Crystals(crystals.subset(np.arange(start, min(stop, len(crystals)))).records)


def _here(table: Table, featurizer: Featurizer, materials: Sequence[Any], start: int) -> Records:
    try:
        return featurizer.featurize(materials)
    except InputError as error:
        raise _located(error, table, start) from None


def _located(error: InputError, table: Table, start: int) -> InputError:
    index = None if error.index is None else error.index + start
    return locate(InputError(error.problem, expected=error.expected, index=index), table)


def _importable(featurizer: Featurizer) -> bool:
    """Whether another process can make the same featurizer."""
    kind = type(featurizer)
    return kind.__module__ != "__main__" and getattr(importlib.import_module(kind.__module__), kind.__qualname__, None) is kind


def _elsewhere(table: Table, featurizer: Featurizer, crystals: Crystals, start: int, processes: int) -> Iterator[Records]:
    kind = type(featurizer)
    what = {"module": kind.__module__, "name": kind.__qualname__, "config": dataclasses.asdict(cast(Any, featurizer))}
    with tempfile.TemporaryDirectory(prefix="tfmat-") as folder, Workers(processes, warm_up=kind.__module__) as workers:

        def tasks() -> Iterator[tuple[int, Request]]:
            for first in range(start, len(crystals), CRYSTALS):
                source = os.path.join(folder, f"{first}.npz")
                _save(source, _slice(crystals, first, first + CRYSTALS).records)
                yield first, Request("tfmat.data.featurizing:featurize_file", {"featurizer": what, "path": source})

        for first, answer in workers.map(tasks(), ahead=2):
            if isinstance(answer, InputError):
                raise _located(answer, table, first)
            yield _load(answer)
            Path(answer).unlink(missing_ok=True)


def featurize_file(featurizer: dict[str, Any], path: str) -> str:
    """Featurize the crystals of a file in a worker process; returns the file of the result, which takes the place of `path`."""
    kind = getattr(importlib.import_module(featurizer["module"]), featurizer["name"])
    _save(path, kind(**featurizer["config"]).featurize(Crystals(_load(path))))
    return path


def _save(path: str, records: Records) -> None:
    arrays = {f"values.{key}": value for key, value in records.values.items()}
    arrays |= {f"offsets.{key}": value for key, value in records.offsets.items()}
    np.savez(path, allow_pickle=False, **arrays)


def _load(path: str) -> Records:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    values = {name.removeprefix("values."): array for name, array in arrays.items() if name.startswith("values.")}
    return Records(values, {name.removeprefix("offsets."): array for name, array in arrays.items() if name.startswith("offsets.")})
