"""The trials of a search: run in this process, or given out to others."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from tfmat.data.cache import RecordCache
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.tuning import cluster
from tfmat.tuning.configuration import Configuration
from tfmat.tuning.folder import SearchFolder, identity
from tfmat.tuning.oracles import Durable, oracle_for
from tfmat.tuning.results import SearchResult, TrialResult, best_of
from tfmat.tuning.search import Search
from tfmat.tuning.trial import Fitting, remove_checkpoints
from tfmat.tuning.tuner import Tuner, Watcher, read_trial, result_of, results_of


def run(
    search: Search,
    tables: tuple[Table, Table],
    out: Path,
    *,
    cache: RecordCache | None = None,
    watcher: Watcher | None = None,
    about: Mapping[str, Any] | None = None,
    waiting: Callable[[list[str]], None] | None = None,
) -> SearchResult | None:
    """Run the trials that are missing in `out`.

    Args:
        search: what to do.
        tables: training and validation rows that every featurizer of the search accepts.
        out: results folder.
        cache: where featurized data is kept.
        watcher: is told how it goes.
        about: JSON-able content for ``best.json``.
        waiting: called by a chief when only running trials are left, with their names.

    Returns:
        None in a worker: the chief has the results.

    Raises:
        InputError: see `tfmat.tuning.search.search`.
    """
    role = cluster.role()
    if role == "worker":
        cluster.await_chief()
    folder = SearchFolder(out, search.reader, search.objective, {"seed": search.seed} | dict(about or {}))
    folder.enter(identity(search), create=role != "worker")
    oracle = oracle_for(search.tuner, search.hp.copy(), trials=search.trials, epochs=search.epochs, seed=search.seed)
    if role != "worker":
        oracle.open(out)
        oracle.began, oracle.ended = _listeners(oracle, folder, search, watcher)
        if watcher is not None:
            watcher.opened(results_of(oracle))
    fitting = Fitting(dataclasses.replace(search, training=tables[0], validation=tables[1]), cache)
    with _plain_errors():
        if role == "chief":
            cluster.serve(oracle, waiting)
        else:
            Tuner(oracle, out, search.reader, fitting, watcher, folder.logs).search()
    return None if role == "worker" else _result(oracle, folder, search, fitting)


def _listeners(
    oracle: Durable, folder: SearchFolder, search: Search, watcher: Watcher | None
) -> tuple[Callable[[Trial], None], Callable[[Trial], None]]:
    """Make what is called when a trial begins, and when it has ended."""

    def began(trial: Trial) -> None:
        if watcher is not None:
            watcher.began(result_of(trial, oracle.workers[trial.trial_id]))

    def ended(trial: Trial) -> None:
        remove_checkpoints(lambda name: Path(oracle._get_trial_dir(name)), oracle.obsolete())
        _write(oracle, folder, search)
        if watcher is not None:
            watcher.ended(result_of(trial, oracle.workers[trial.trial_id]))

    return began, ended


def _write(oracle: Durable, folder: SearchFolder, search: Search) -> tuple[list[TrialResult], TrialResult | None, Configuration | None]:
    results = results_of(oracle)
    best = best_of(results)
    configuration = None if best is None else read_trial(search.reader, oracle.trials[best.name])
    folder.write(results, configuration)
    return results, best, configuration


def _result(oracle: Durable, folder: SearchFolder, search: Search, fitting: Fitting) -> SearchResult:
    results, best, configuration = _write(oracle, folder, search)
    if best is None or configuration is None:
        errors = [result.error for result in results if result.error]
        problem = f"all {len(results)} trials failed; the first: {errors[0]}" if errors else "no trial was completed"
        raise InputError(problem, file=str(folder.path), expected="at least one trial without an error")
    remove_checkpoints(lambda name: Path(oracle._get_trial_dir(name)), list(oracle.trials))
    logarithmic = tuple(parameter.name for parameter in search.hp.space if getattr(parameter, "sampling", "linear") != "linear")
    return SearchResult(results, best, configuration, search.objective.name, search.objective.unit, folder.path, fitting, logarithmic)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """The errors behind those that KerasTuner lets through, and a chief that is gone."""
    try:
        yield
    except keras_tuner.errors.FatalError as error:
        cause = error.__cause__ or error
        raise cause from cause.__cause__
    except Exception as error:
        if cluster.is_lost_chief(error):
            raise cluster.lost_chief() from None
        raise
