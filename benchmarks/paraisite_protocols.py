"""What `benchmarks.paraisite_matrix` trains on: the sets, their random splits, and the two treatments of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SETS = ("Dataset1", "Dataset2", "MIX", "AFLOW")
FILES = {"Dataset1": ("Dataset1",), "Dataset2": ("Dataset2",), "MIX": ("Dataset1", "Dataset2"), "AFLOW": ("AFLOW_icsd_5578",)}
KEYS = {"AFLOW_icsd_5578": "kappa_agl_300K"}
TARGET = "thermal_conductivity"


@dataclass(frozen=True)
class Part:
    """Rows of one set: featurized crystals, conductivity [W/(m K)] and the file each row is of."""

    records: Any
    values: np.ndarray
    files: np.ndarray

    def take(self, rows: np.ndarray) -> Part:
        return Part(self.records.take(rows), self.values[rows], self.files[rows])

    @classmethod
    def join(cls, parts: list[Part]) -> Part:
        from tfmat.records import Records

        columns = zip(*((part.values, part.files) for part in parts), strict=True)
        return cls(Records.join([part.records for part in parts]), *(np.concatenate(column) for column in columns))


def load() -> dict[str, Part]:
    """File -> all its rows, in the order of the file."""
    from tfmat.data.featurize import featurize_each
    from tfmat.datasets.crystal_files import read_lines, table_of
    from tfmat.datasets.thermal_conductivity import paraisite_file
    from tfmat.featurizers import BondFeaturizer

    parts = {}
    for stem in ("Dataset1", "Dataset2", "AFLOW_icsd_5578"):
        key = KEYS.get(stem, TARGET)
        rows = [row for row, record in read_lines(paraisite_file(stem, stem), {TARGET: key}) if record[key] is not None]
        table = table_of(rows, [TARGET], stem)
        records, kept, _ = featurize_each(BondFeaturizer(), table.materials)  # some of AFLOW's crystals have no bond
        parts[stem] = Part(records, table.targets[TARGET][kept], np.full(len(kept), stem))
    return parts


def split(parts: Mapping[str, Part], name: str, run: int) -> tuple[Part, Part]:
    """The 80 % and the 20 % of a set in one run; MIX joins those of its two files."""
    halves: tuple[list[Part], list[Part]] = ([], [])
    for stem in FILES[name]:
        order = np.random.RandomState(run).permutation(len(parts[stem].values))
        first = int(np.floor(0.8 * len(order)))
        halves[0].append(parts[stem].take(order[:first]))
        halves[1].append(parts[stem].take(order[first:]))
    return Part.join(halves[0]), Part.join(halves[1])


class Paper:
    """The published treatment of the labels."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        joined = {name: np.concatenate([parts[stem].values for stem in FILES[name]]) for name in SETS}
        self.scalers = {name: scaler_of(values, ddof=0) for name, values in joined.items()}

    def scaler(self, name: str, training: Part, source: Any) -> Any:
        return source or self.scalers[name]

    def seen(self, part: Part, scaler: Any) -> np.ndarray:
        """Labels as the published code sees them: standardised with their own file, inverted with the model's scaler."""
        own = {FILES[name][0]: self.scalers[name] for name in ("Dataset1", "Dataset2", "AFLOW")}
        z = np.empty(len(part.values))
        for stem in np.unique(part.files):
            z[part.files == stem] = own[stem].scale(part.values[part.files == stem])
        return 10.0 ** (z * scaler.std + scaler.mean) - 1.0

    def selection(self, training: Part, test: Part, run: int) -> tuple[Part, Part]:
        return training, test


class Honest:
    """Scales from the training rows, selection on a part of them, labels as they are."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        pass

    def scaler(self, name: str, training: Part, source: Any) -> Any:
        return source or scaler_of(training.values, ddof=1)

    def seen(self, part: Part, scaler: Any) -> np.ndarray:
        return part.values

    def selection(self, training: Part, test: Part, run: int) -> tuple[Part, Part]:
        order = np.random.RandomState(1000 + run).permutation(len(training.values))
        held_out = max(1, len(order) // 5)
        return training.take(order[held_out:]), training.take(order[:held_out])


PROTOCOLS = {"paper": Paper, "honest": Honest}


def scaler_of(values: np.ndarray, ddof: int) -> Any:
    from tfmat.target import Target

    logs = np.log10(values + 1.0)
    return Target(TARGET, "W/(m K)", transform="log10_1p", mean=float(logs.mean()), std=float(logs.std(ddof=ddof)))


def best_constant(values: np.ndarray) -> float:
    """The constant with the lowest MAPE: the median weighted by 1/value."""
    order = np.argsort(values)
    weights = np.cumsum(1.0 / values[order])
    return float(values[order][np.searchsorted(weights, weights[-1] / 2)])


def mape(predicted: np.ndarray, values: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted - values) / np.maximum(np.abs(values), 1.17e-6)))
