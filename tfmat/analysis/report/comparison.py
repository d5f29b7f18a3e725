"""Several runs on the same rows: paired differences of their errors, with intervals from a bootstrap over the rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tfmat.analysis.report.results import Result, Run
from tfmat.errors import InputError
from tfmat.training.scores import binary_scores, regression_scores

RESAMPLES = 5000
LEVEL = 0.95
SEED = 0
_TOLERANCE = 1e-4
"""Relative: values of a file are written with 7 digits."""


@dataclass(frozen=True)
class Paired:
    """One target of K runs on the N rows that all of them have.

    Attributes:
        results: one a run, each with the same rows in the same order.
        available: number of rows of each run.
        by: how rows were found to be the same.
        differing: rows that are the same by id and composition, but not by their true value; they are left out.
    """

    results: Sequence[Result]
    available: Sequence[int]
    by: str
    differing: int

    @cached_property
    def errors(self) -> np.ndarray:
        """Absolute errors [unit], or 100 where a class is wrong [%] (K, N)."""
        return np.stack([result.errors for result in self.results]).astype(float)

    @cached_property
    def _resampled(self) -> np.ndarray:
        return bootstrap_means(self.errors)

    def mean_error(self, run: int) -> tuple[float, float, float]:
        """Mean of a run's errors, and its interval."""
        return float(self.errors[run].mean()), *_interval(self._resampled[:, run])

    def difference(self, run: int, reference: int = 0) -> tuple[float, float, float]:
        """Mean error of a run minus that of the reference, and its interval; negative: the run is better."""
        means = self._resampled
        return float((self.errors[run] - self.errors[reference]).mean()), *_interval(means[:, run] - means[:, reference])

    def better(self, run: int, reference: int = 0) -> tuple[float, float]:
        """Shares of rows on which the run's error is smaller, and larger, than that of the reference."""
        difference = self.errors[run] - self.errors[reference]
        return float((difference < 0).mean()), float((difference > 0).mean())

    def scores(self, run: int) -> dict[str, float]:
        """Scores of one run on these rows, by name, as `tfmat evaluate` gives them."""
        result = self.results[run]
        return (binary_scores if result.binary else regression_scores)(result.true, result.predicted)


def compare(runs: Sequence[Run]) -> list[Paired]:
    """Each target that all runs have, on their common rows.

    Rows are the same if id, composition and true value agree. Where more rows agree in composition and true value, each being the only such
    row of its run, ids are not looked at.

    Raises:
        InputError: no common target, different units or tasks, or fewer than two common rows of every target.
    """
    names = [result.target.name for result in runs[0].results if all(run.result(result.target.name) for run in runs)]
    if not names:
        said = "; ".join(f"{run.name}: {', '.join(result.target.name for result in run.results)}" for run in runs)
        raise InputError(f"the runs have no common target ({said})", expected="runs that predict the same quantity")
    found = []
    for name in names:
        results = [result for run in runs if (result := run.result(name)) is not None]
        _check_same_quantity(runs, results)
        found.append(_paired(results))
    enough = [paired for paired in found if len(paired.results[0]) >= 2]
    if not enough:
        rows, differing = max(len(paired.results[0]) for paired in found), max(paired.differing for paired in found)
        sizes = ", ".join(f"{run.name} {max(len(result) for result in run.results):,}" for run in runs)
        reason = f"; {differing:,} rows with the same id and composition have another true value" if differing else ""
        problem = f"the runs have {rows or 'no'} common row{'' if rows == 1 else 's'} (rows: {sizes}){reason}"
        raise InputError(problem, expected="runs that were evaluated on the same rows, two at least")
    return enough


def bootstrap_means(errors: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means of rows drawn with replacement, the same rows for every run.

    Args:
        errors: (K, N).
        resamples: number of draws R.
        seed: of the draws.

    Returns:
        (R, K).
    """
    rng, rows = np.random.default_rng(seed), errors.shape[1]
    means = np.empty((resamples, len(errors)))
    together = max(1, 2_000_000 // rows)
    for start in range(0, resamples, together):
        drawn = rng.integers(0, rows, (min(together, resamples - start), rows))
        for run, column in enumerate(errors):
            means[start : start + len(drawn), run] = column[drawn].mean(axis=1)
    return means


def _interval(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _check_same_quantity(runs: Sequence[Run], results: Sequence[Result]) -> None:
    first = results[0].target
    for run, result in zip(runs, results, strict=True):
        target = result.target
        if (target.unit, target.task) != (first.unit, first.task):
            kinds = [f"{t.unit or 'no unit'}{' (binary)' if t.task == 'binary' else ''}" for t in (first, target)]
            problem = f"{first.name} is in {kinds[0]} in {runs[0].name} and in {kinds[1]} in {run.name}"
            raise InputError(problem, expected="runs with the same units: values are never converted")


def _paired(results: Sequence[Result]) -> Paired:
    """The common rows: by id, unless more are found without."""
    contents = [_contents(result) for result in results]
    rows = _common([_unique(list(zip(result.ids, keys, strict=True))) for result, keys in zip(results, contents, strict=True)])
    values = np.stack([result.true[rows[:, k]] for k, result in enumerate(results)])
    same = np.isclose(values, values[:1], rtol=_TOLERANCE, atol=1e-9).all(axis=0)
    differing, by = int((~same).sum()), "id, composition and true value"
    rows = rows[same]
    valued = [[(key, f"{v:.5g}") for key, v in zip(keys, r.true.tolist(), strict=True)] for r, keys in zip(results, contents, strict=True)]
    without = _common([_unique(keys) for keys in valued])
    if len(without) > len(rows):
        rows, by, differing = without, "composition and true value, because ids differ", 0
    return Paired([result.take(rows[:, k]) for k, result in enumerate(results)], [len(result) for result in results], by, differing)


def _contents(result: Result) -> list[Hashable]:
    """Bring a composition in any notation into the same form."""
    found: list[Hashable] = []
    for material, amounts in zip(result.materials, result.amounts, strict=True):
        total = sum(amounts.values())
        found.append(tuple(sorted((symbol, round(amount / total, 4)) for symbol, amount in amounts.items())) if amounts else material)
    return found


def _unique(keys: Sequence[Hashable]) -> dict[Hashable, int]:
    """Key -> its row, where it occurs once."""
    places: dict[Hashable, int] = {}
    repeated = set()
    for row, key in enumerate(keys):
        if key in places:
            repeated.add(key)
        places[key] = row
    return {key: row for key, row in places.items() if key not in repeated}


def _common(keys: Sequence[dict[Hashable, int]]) -> np.ndarray:
    """Rows of the keys that all have, in the order of the first, int64 (N, K)."""
    shared = [key for key in keys[0] if all(key in other for other in keys[1:])]
    return np.array([[rows[key] for rows in keys] for key in shared], np.int64).reshape(len(shared), len(keys))
