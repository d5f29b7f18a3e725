"""Materials with their measured or computed properties: what readers return, datasets hold, and models learn once it is checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmat.crystal import Crystal, Crystals
from tfmat.data.packed import Featurized
from tfmat.errors import InputError
from tfmat.records import Records
from tfmat.target import Target


@dataclass(frozen=True)
class Table:
    """N materials in order.

    Attributes:
        materials: formulas, `Crystals`, a list of `Crystal` or pymatgen objects, or `Featurized` ones.
        targets: name -> float64 (N,), NaN where a value is missing.
        ids: one identifier per material.
        rows: int64 (N,), where each stands in `source`, as a spreadsheet counts: the header is row 1. In JSON lines, the line.
        source: the file or dataset.
        origins: of rows that were merged from several files or datasets, the name of each row's; None: all are from `source`.
    """

    materials: Sequence[Any]
    targets: dict[str, np.ndarray]
    ids: list[str]
    rows: np.ndarray
    source: str
    origins: list[str] | None = None

    def __post_init__(self) -> None:
        lengths = {"materials": len(self.materials), "ids": len(self.ids), "rows": len(self.rows)}
        lengths |= {f"targets[{name!r}]": len(values) for name, values in self.targets.items()}
        if self.origins is not None:
            lengths["origins"] = len(self.origins)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"all columns of a table must have the same length. Received: {lengths}")

    def __len__(self) -> int:
        return len(self.materials)

    def __repr__(self) -> str:
        return f"Table({len(self):,} materials of {self.source}, targets: {', '.join(self.targets) or 'none'})"

    def subset(self, indices: Sequence[int] | np.ndarray) -> Table:
        """The rows at integer positions `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Table(
            materials_at(self.materials, chosen),
            {name: values[chosen] for name, values in self.targets.items()},
            [self.ids[i] for i in chosen],
            self.rows[chosen],
            self.source,
            None if self.origins is None else [self.origins[i] for i in chosen],
        )

    @classmethod
    def join(cls, tables: Sequence[Table]) -> Table:
        """The rows of all `tables` (at least one), which have the same targets, one after the other."""
        if len(tables) == 1:
            return tables[0]
        merged = any(table.origins is not None for table in tables)
        return cls(
            _joined([table.materials for table in tables]),
            {name: np.concatenate([table.targets[name] for table in tables]) for name in tables[0].targets},
            [identifier for table in tables for identifier in table.ids],
            np.concatenate([table.rows for table in tables]),
            " + ".join(dict.fromkeys(table.source for table in tables)) if merged else tables[0].source,
            [origin for table in tables for origin in table.origins or [table.source] * len(table)] if merged else None,
        )

    def place(self, index: int) -> dict[str, Any]:
        """File and row of the material at a position, as arguments of an `InputError`."""
        return {"file": self.source if self.origins is None else self.origins[index], "row": int(self.rows[index])}

    def content_hash(self) -> str:
        """SHA-256 over materials, ids and targets in order; the same on every machine. File name and rows do not enter."""
        digest = hashlib.sha256(json.dumps([_content(self.materials), self.ids]).encode())
        for name in sorted(self.targets):
            values = np.array(self.targets[name], dtype="<f8")
            values[np.isnan(values)] = np.nan  # one bit pattern for every NaN
            digest.update(json.dumps(name).encode() + values.tobytes())
        return digest.hexdigest()

    def materials_hash(self) -> str:
        """SHA-256 over the materials alone, in order."""
        return hashlib.sha256(json.dumps(_content(self.materials)).encode()).hexdigest()


def locate(error: InputError, table: Table) -> InputError:
    """An error that carries the position of a material in `table` as one that tells file and row."""
    return error.located(file=table.source) if error.index is None else error.located(**table.place(error.index))


def materials_at(materials: Sequence[Any], positions: np.ndarray) -> Sequence[Any]:
    """The materials at integer `positions`, in that order."""
    return materials.subset(positions) if isinstance(materials, (Crystals, Featurized)) else [materials[i] for i in positions]


def _joined(materials: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if all(isinstance(part, Featurized) for part in materials):
        return Featurized.join(materials)  # type: ignore[arg-type]
    if all(isinstance(part, Crystals) for part in materials):
        records = [part.records for part in materials if isinstance(part, Crystals)]
        if all(set(part.values) == set(records[0].values) for part in records):
            return Crystals(Records.join(records))
    return [material for part in materials for material in part]


def as_crystals(materials: Sequence[Any]) -> Crystals | None:
    """`materials` as columns if all of them are crystals, else `None`."""
    if isinstance(materials, Crystals):
        return materials
    if len(materials) and all(isinstance(material, Crystal) for material in materials):
        return Crystals.of(materials)
    return None


def _content(materials: Sequence[Any]) -> list[str] | str:
    """Turn `materials` into what is hashed of them."""
    if isinstance(materials, Featurized):
        return materials.content_hash()
    crystals = as_crystals(materials)
    return [_text(material) for material in materials] if crystals is None else _crystals_hash(crystals)


def _crystals_hash(crystals: Crystals, rows: int = 8192) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(crystals), rows):
        records = crystals.subset(np.arange(start, min(start + rows, len(crystals)))).records
        digest.update(records.lengths("species").astype("<i8").tobytes())
        for key, dtype in (("species", "<i4"), ("lattice", "<f8"), ("frac_coords", "<f8")):
            digest.update(records.values[key].astype(dtype).tobytes())
    return digest.hexdigest()


def _text(material: Any) -> str:
    if isinstance(material, str):
        return material
    if isinstance(material, Crystal):
        return _crystals_hash(Crystals.of([material]))
    if hasattr(material, "as_dict"):
        return json.dumps(material.as_dict(), sort_keys=True, default=str)
    return repr(material)


def check_targets(targets: Sequence[Target], table: Table, *, learnable: bool = False) -> None:
    """Refuse what cannot be scored, or, if it is to be learned, what cannot be transformed.

    Raises:
        InputError: `table` lacks a target or has no value of it, a class is not 0 or 1, or a value is outside the transform's range.
    """
    for target in targets:
        if target.name not in table.targets:
            raise InputError(f"no target {target.name!r}", file=table.source, expected=f"one of {', '.join(table.targets)}")
        values = table.targets[target.name]
        if not np.isfinite(values).any():
            raise InputError(f"target {target.name!r} has no value", file=table.source, expected="at least one number")
        wrong, expected = np.zeros(len(values), bool), ""
        if target.task == "binary":
            wrong, expected = ~np.isin(values, (0.0, 1.0)), "0 or 1 for a binary target"
        elif learnable:
            wrong, expected = values <= target.lowest, f"values above {target.lowest:g} for the transform {target.transform}"
        found = np.flatnonzero(wrong & np.isfinite(values))
        if found.size:
            first = int(found[0])
            raise InputError(f"target {target.name!r} is {values[first]:g}", **table.place(first), expected=expected)
