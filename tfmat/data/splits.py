"""Training, validation and test rows: at random, by the hash of the formula, by whole groups of one formula, as a column or file says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tfmat.atomic import write_csv
from tfmat.data.read.rows import csv_rows, text_lines
from tfmat.data.table import as_crystals
from tfmat.errors import InputError
from tfmat.featurizers.composition import CompositionFeaturizer

SPLITS = ("train", "validation", "test")
Method = Literal["random", "hash", "formula", "chemical_system", "column", "file"]
SPELLINGS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
"""What a column or file of splits may hold (in any case), and what is meant."""
_FRACTION_STEP = 1e-5


def split_by_hash(
    materials: Sequence[Any], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), salt: str = ""
) -> dict[str, np.ndarray]:
    """Assign every material by the SHA-256 of its formula.

    The same formula text (without white space) always lands in the same split, whatever else the dataset holds, so repeated formulas
    never straddle splits and a dataset may grow without moving rows. ``NaCl`` and ``ClNa`` are different texts. For pymatgen objects the
    text is their ``formula``. The split sizes only approximate `fractions`.

    Args:
        materials: formulas or pymatgen objects.
        fractions: of training, validation and test; positive, sum 1.
        salt: another text gives another split.

    Returns:
        ``train``, ``validation`` and ``test`` -> sorted int64 positions.
    """
    _check(fractions)
    draws = np.asarray([_draw(material, salt) for material in materials], dtype=np.float64)
    bounds = (fractions[0], fractions[0] + fractions[1])
    assigned = np.searchsorted(bounds, draws, side="right")
    splits = {name: np.flatnonzero(assigned == i) for i, name in enumerate(SPLITS)}
    for name, rows in splits.items():
        if not rows.size:
            raise InputError(
                f"too few materials to split by formula: {len(materials)} give no {name} row", expected="more different formulas"
            )
    return splits


def split_random(n: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0) -> dict[str, np.ndarray]:
    """Assign `n` rows at random; validation and test get the rounded number of rows, but at least one, and training the rest.

    Args:
        n: number of rows.
        fractions: of training, validation and test; positive, sum 1.
        seed: the same seed gives the same split.

    Returns:
        ``train``, ``validation`` and ``test`` -> sorted int64 positions.
    """
    _check(fractions)
    validation, test = (max(1, round(n * fraction)) for fraction in fractions[1:])
    train = n - validation - test
    if train < 1:
        raise InputError(f"too few rows to split: {n} cannot give training, validation and test one row each", expected="at least 3 rows")
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, [train, train + validation])
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}


def _check(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or not all(fraction > 0 for fraction in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"`fractions` must be three positive numbers with sum 1. Received: fractions={fractions}")


def _draw(material: Any, salt: str) -> float:
    """A number in [0, 1) that depends on the formula's text alone."""
    text = "".join(str(material if isinstance(material, str) else getattr(material, "formula", material)).split())
    return (int.from_bytes(hashlib.sha256(f"{salt}{text}".encode()).digest()[:8], "big") >> 11) / 2.0**53


@dataclass(frozen=True)
class SplitSpec:
    """How a table is split; JSON-able, so that it is stored beside a model and the split repeated.

    Attributes:
        method: ``random`` (by row), ``hash`` (by the formula's text, whatever else the table holds), ``formula`` (rows of the same reduced
            composition together), ``chemical_system`` (rows of the same set of elements together), ``column`` or ``file`` (as they say).
        fractions: of training, validation and test.
        seed: the same seed and data give the same split; without effect on ``hash``, ``column`` and ``file``.
        column: of ``column``: its name; it holds train, validation (or val), test.
        file: of ``file``: a CSV file with the columns id and split.
        folds: for ``random``, ``formula`` and ``chemical_system``: so many folds, of which number `fold` is the test split, and validation
            is taken from the rest in the ratio of `fractions`. 0: no folds.
        fold: 0 to folds - 1.
    """

    method: Method = "random"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    column: str = "split"
    file: str = ""
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", tuple(float(fraction) for fraction in self.fractions))
        if self.method not in get_args(Method):
            raise InputError(f"unknown split {self.method!r}", expected="column, random, hash, formula, chemical_system or file")
        if len(self.fractions) != 3 or not all(f > 0 for f in self.fractions) or abs(sum(self.fractions) - 1) > 1e-6:
            raise InputError(f"the split fractions are {self.fractions}", expected="three positive numbers with sum 1")
        if self.folds and (self.folds < 2 or not 0 <= self.fold < self.folds):
            raise InputError(f"fold {self.fold} of {self.folds} folds", expected="at least 2 folds, and a fold from 0 to folds - 1")
        if self.folds and self.method not in ("random", "formula", "chemical_system"):
            raise InputError(f"split {self.method!r} has no folds", expected="random, formula or chemical_system")
        if self.method == "file" and not self.file:
            raise InputError("no split file", expected="a CSV file with the columns id and split")

    @classmethod
    def parse(cls, text: str, *, seed: int = 0, folds: int = 0, fold: int = 0) -> SplitSpec:
        """Read what a user types: a method, ``column:NAME`` or ``file:PATH``; ``chemical-system`` means ``chemical_system``."""
        method, _, rest = text.partition(":")
        method = method.strip().lower().replace("-", "_")
        if rest and method not in ("column", "file"):
            raise InputError(f"unknown split {text!r}", expected="column:NAME or file:PATH")
        chosen = {"column": rest} if method == "column" and rest else {"file": rest} if method == "file" else {}
        return cls(method, seed=seed, folds=folds, fold=fold, **chosen)  # type: ignore[arg-type]

    def to_config(self) -> dict[str, Any]:
        """The settings as values that JSON can hold, for `from_config`."""
        return asdict(self) | {"fractions": list(self.fractions)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SplitSpec:
        """Read what `to_config` gave."""
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError(f"the stored split is malformed ({error})", expected="what SplitSpec.to_config gives") from None

    def rows(self, materials: Sequence[Any], ids: Sequence[str], column: Sequence[Any] | None = None) -> dict[str, np.ndarray]:
        """Split a table.

        Args:
            materials: formulas or crystals.
            ids: one per material.
            column: of ``column``: its cells.

        Returns:
            ``train``, ``validation`` and ``test`` -> sorted int64 positions, together every position once. Only ``test`` may be
            empty, where a column or file names no test row.
        """
        if self.method == "hash":
            return split_by_hash(materials, self.fractions)
        if self.method == "column":
            if column is None:
                raise InputError(f"no column {self.column!r}", expected="a column of train, validation and test", row=1)
            return assigned_rows(column, f"column {self.column!r}")
        if self.method == "file":
            named = read_split_file(self.file)
            return assigned_rows(_look_up(named, ids, self.file), self.file)
        if self.method == "random" and not self.folds:
            return split_random(len(materials), self.fractions, self.seed)
        groups = np.arange(len(materials)) if self.method == "random" else group_ids(materials, self.method)
        return _fold(groups, self) if self.folds else split_groups(groups, self.fractions, self.seed)


def assigned_rows(cells: Sequence[Any], where: str) -> dict[str, np.ndarray]:
    """The rows of each split, by what `cells` say. An `InputError` for an unknown word carries the ``index`` of its row."""
    names = []
    for index, cell in enumerate(cells):
        name = SPELLINGS.get(str(cell).strip().lower())
        if name is None:
            raise InputError(f"{where} holds {str(cell)[:60]!r}", expected="train, validation (or val) or test", index=index)
        names.append(name)
    rows = {name: np.flatnonzero(np.asarray(names) == name) for name in SPLITS}
    for name, chosen in rows.items():
        if not chosen.size and name != "test":
            raise InputError(f"{where} gives no {name} row", expected="at least one row for train and one for validation")
    return rows


def group_ids(materials: Sequence[Any], method: str) -> np.ndarray:
    """int64 (N,): equal for materials with the same `composition_keys`. The numbers follow the order of the keys, not that of the rows."""
    keys = composition_keys(materials, method)
    number = {key: position for position, key in enumerate(sorted(set(keys)))}
    return np.asarray([number[key] for key in keys], np.int64)


def composition_keys(materials: Sequence[Any], method: str = "formula") -> list[bytes]:
    """A key for each material, the same for the same reduced composition (``formula``) or set of elements (``chemical_system``).

    Fractions that agree to 1e-5 are the same: ``NaCl``, ``ClNa`` and ``Na2Cl2``.
    """
    crystals = as_crystals(materials)
    records = CompositionFeaturizer(max_elements=118).featurize(crystals if crystals is not None else materials)
    offsets, species = records.offsets["species"], records.values["species"].astype(np.int64)
    owner = np.repeat(np.arange(len(records)), np.diff(offsets))
    order = np.lexsort((species, owner))
    cells = species[order] << 32
    if method == "formula":
        # The odd shift keeps fractions such as 1/64 away from the edge of a step, where rounding errors would part them.
        cells += np.floor(records.values["fractions"][order].astype(np.float64) / _FRACTION_STEP + 0.3765433).astype(np.int64)
    content = cells.astype(">i8").tobytes()
    return [content[8 * start : 8 * stop] for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def split_groups(groups: np.ndarray, fractions: tuple[float, float, float], seed: int) -> dict[str, np.ndarray]:
    """Assign whole groups of rows at random; test and validation take groups that still fit, so large groups go to training.

    Args:
        groups: int (N,), the group of each row.
        fractions: of training, validation and test, in rows.
        seed: the same seed and groups give the same split, in whichever order the rows come.
    """
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 3:
        raise InputError(f"too few groups to split: the rows hold {len(sizes)} different ones", expected="at least 3")
    order = np.random.default_rng(seed).permutation(len(sizes))
    assigned = np.zeros(len(sizes), np.int64)
    for split in (2, 1):
        wanted = fractions[split] * len(groups)
        free = order[assigned[order] == 0]
        taken = _fill(sizes[free], wanted)
        if not taken.size:
            taken = np.asarray([int(np.argmin(sizes[free]))])
        assigned[free[taken[: len(free) - split]]] = split
    return {name: np.flatnonzero(assigned[members] == number) for number, name in enumerate(SPLITS)}


def _fill(sizes: np.ndarray, wanted: float) -> np.ndarray:
    """Positions of groups, in order, that together hold at most `wanted` rows (rounded)."""
    room, taken = round(wanted), []
    for position, size in enumerate(sizes.tolist()):
        if room <= 0:
            break
        if size <= room:
            taken.append(position)
            room -= size
    return np.asarray(taken, np.int64)


def fold_of(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, int64 (N,): whole groups, the largest first, each to the smallest fold; equal sizes in random order."""
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < folds:
        raise InputError(f"too few groups for {folds} folds: the rows hold {len(sizes)} different ones", expected="at least one a fold")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    assigned, filled = np.zeros(len(sizes), np.int64), np.zeros(folds, np.int64)
    for group in order.tolist():
        smallest = int(np.argmin(filled))
        assigned[group] = smallest
        filled[smallest] += sizes[group]
    return assigned[members]


def _fold(groups: np.ndarray, spec: SplitSpec) -> dict[str, np.ndarray]:
    test = fold_of(groups, spec.folds, spec.seed) == spec.fold
    rest = np.flatnonzero(~test)
    train, validation = spec.fractions[0], spec.fractions[1]
    _, members, sizes = np.unique(groups[rest], return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError("too few groups for training and validation beside the test fold", expected="more different rows")
    order = np.random.default_rng((spec.seed, spec.fold)).permutation(len(sizes))
    taken = _fill(sizes[order], len(rest) * validation / (train + validation))
    chosen = np.zeros(len(sizes), bool)
    chosen[order[taken[: len(sizes) - 1]] if taken.size else [int(np.argmin(sizes))]] = True
    return {"train": rest[~chosen[members]], "validation": rest[chosen[members]], "test": np.flatnonzero(test)}


def write_split_file(path: str | os.PathLike[str], ids: Mapping[str, Sequence[str]]) -> Path:
    """Write the ids of each split to a CSV file with the columns id and split, complete or not at all."""
    return write_csv(path, ["id", "split"], ([identifier, split] for split, members in ids.items() for identifier in members))


def read_split_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """Id -> split of a file as `write_split_file` writes it."""
    source = Path(path)
    found: dict[str, str] = {}
    rows = csv_rows(text_lines(source), str(path), "columns id and split")
    if [cell.strip().lower() for cell in next(rows, (1, [""]))[1]] != ["id", "split"]:
        raise InputError("does not begin with the header id,split", expected="columns id and split", file=str(path), row=1)
    for number, row in rows:
        if len(row) != 2 or row[1].strip().lower() not in SPELLINGS:
            raise InputError(f"holds {','.join(row)[:60]!r}", expected="an id and train, validation or test", file=str(path), row=number)
        if row[0] in found:
            raise InputError(f"id {row[0][:60]!r} stands twice", expected="one row per id", file=str(path), row=number)
        found[row[0]] = row[1].strip()
    return found


def _look_up(named: Mapping[str, str], ids: Sequence[str], file: str) -> list[str]:
    for identifier in ids:
        if identifier not in named:
            raise InputError(f"id {identifier[:60]!r} of the data is not in the split file", expected="every id", file=file)
    if len(named) > len(ids):
        other = next(iter(set(named) - set(ids)), "")
        raise InputError(f"id {other[:60]!r} of the split file is not in the data", expected="the data that it was made for", file=file)
    return [named[identifier] for identifier in ids]
