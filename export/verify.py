"""Comparing an exported model with the Keras model that it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.batching.arrays import batch_arrays, padded_keys
from tfmat.export.interfaces.base import Example
from tfmat.export.outputs import DOMAIN, SITES, UNCERTAINTY, known_table, physical_outputs
from tfmat.export.results import ExportError
from tfmat.records import Records

if TYPE_CHECKING:
    from tfmat.predictor import Predictor
    from tfmat.target import Target

LIMIT = 1e-5
"""Largest relative difference that an export may have, unless its inputs are rounded or its runtime sums in another order."""

Outputs = Mapping[str, np.ndarray]


def keras_outputs(predictor: Predictor, records: Records) -> dict[str, np.ndarray]:
    """Predict N featurized `records` with `predictor`, (N, 1) by name, materials of equal size together, so that nothing is padded."""
    groups: dict[tuple[int, ...], list[int]] = {}
    lengths = [records.lengths(key) for key in padded_keys(records)]
    for index in range(len(records)):
        groups.setdefault(tuple(int(length[index]) for length in lengths), []).append(index)
    outputs: dict[str, np.ndarray] = {}
    for chosen in groups.values():
        batch = batch_arrays(records, np.array(chosen), len(chosen))
        for name, value in physical_outputs(predictor, {key: batch[key] for key in predictor.model.input}).items():
            outputs.setdefault(name, np.empty((len(records), 1), np.float32))[chosen] = np.asarray(value)
    return outputs


def expected_of_materials(predictor: Predictor, examples: Sequence[Example], sites: Sequence[int] | None) -> dict[str, np.ndarray]:
    """The facts that an export must give about the materials themselves, (N, 1) by name.

    Args:
        predictor: the model, which knows the elements of the training data.
        examples: N featurized materials.
        sites: number of sites of each, if the export gives it.
    """
    known = known_table(predictor)
    facts = {DOMAIN: np.array([[bool(known[example["species"]].all())] for example in examples])}
    return facts if sites is None else facts | {SITES: np.array(sites)[:, None]}


def _floor(target: Target) -> float:
    """The smallest magnitude that differences of a value are divided by.

    A plain target passes through zero, where float32 rounds like it does for numbers of the size of its spread: ``std``. ``10**x - 1`` is
    as precise as 1 is, and so is a probability. ``10**x`` never comes near zero and needs no floor.
    """
    if target.task == "binary" or target.transform == "log10_1p":
        return 1.0
    return target.std if target.transform == "none" else 0.0


def largest_difference(predictor: Predictor, exported: Outputs, expected: Outputs) -> float:
    """Largest ``|exported - expected| / max(|expected|, floor)`` over all outputs, see `_floor`; NaN if anything is not finite.

    Uncertainties are positive and have no floor. Both are (N, 1) by name, and `predictor` knows the targets.
    """
    if set(exported) != set(expected):
        raise ExportError(f"the exported model gives {sorted(exported)} instead of {sorted(expected)}")
    floors = {target.name: _floor(target) for target in predictor.targets}
    differences = []
    for name, wanted in expected.items():
        found = np.asarray(exported[name], np.float64)
        if found.shape != wanted.shape:
            raise ExportError(f"the exported output {name!r} has the shape {found.shape} instead of {wanted.shape}")
        if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
            return float("nan")
        floor = 0.0 if name.endswith(UNCERTAINTY) else floors.get(name, 0.0)
        size = np.maximum(np.abs(wanted.astype(np.float64)), max(floor, float(np.finfo(np.float32).tiny)))
        differences.append(float(np.max(np.abs(found - wanted) / size)))
    return max(differences)


def compare(
    predictor: Predictor, outputs: Mapping[str, Outputs], expected: Outputs, facts: Outputs | None = None, limit: float = LIMIT
) -> float:
    """Compare outputs of an exported model with those of the Keras model.

    Args:
        predictor: the Keras model.
        outputs: the outputs of one or more calls, each call named for error messages.
        expected: values that they must give, (N, 1) by name.
        facts: numbers of sites and flags that they must give exactly, (N, 1) by name.
        limit: largest relative difference.

    Returns:
        The largest relative difference.

    Raises:
        ExportError: it exceeds the limit, or something is not a number.
    """
    worst, exact = 0.0, facts or {}
    for what, found in outputs.items():
        for name, wanted in exact.items():
            if name not in found or not np.array_equal(found[name], wanted):
                raise ExportError(f"{what} gives another {name!r} than the Keras model; nothing was written")
        difference = largest_difference(predictor, {name: value for name, value in found.items() if name not in exact}, expected)
        if np.isnan(difference):
            raise ExportError(f"the comparison of {what} with the Keras model met a value that is not finite; nothing was written")
        if difference > limit:
            allowed = f"{difference:.1e} relative, more than the allowed {limit:g}"
            raise ExportError(f"{what} differs from the Keras model by {allowed}; nothing was written")
        worst = max(worst, difference)
    return worst


def median_seconds(call: Callable[[], Any], repeats: int = 20) -> float:
    """The median time of `repeats` calls [s], after three calls that do not count."""
    times = []
    for turn in range(repeats + 3):
        start = time.perf_counter()
        call()
        if turn >= 3:
            times.append(time.perf_counter() - start)
    return float(np.median(times))
