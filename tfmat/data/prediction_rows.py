"""Turns materials as a user hands them over into the rows of a prediction, those that cannot be featurized included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.crystal import THINNEST_GAS, Crystal, Crystals, Material
from tfmat.data.featurize import featurize_each
from tfmat.data.materials import GivenMaterial, read_materials
from tfmat.data.packed import Featurized
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.base import Doubts, Featurizer
from tfmat.featurizers.sites import each_crystal
from tfmat.records import Records

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PredictionRows:
    """Materials as rows of a prediction, and the records of those that can be featurized.

    Attributes:
        materials: what each row is about; where it could not be read, the name of the file.
        records: of the rows that can be featurized; None if there are none.
        kept: positions of these rows, int64.
        errors: of each row, why it cannot be read or featurized, else None.
        identifiers: of each row, the id in its file or the file's name; None where no material comes from a file.
        warnings: of each row, what is odd about the crystal, or what reading changed; None: no crystals.
        cells: column -> of each row, what else a table holds; None where its material comes from no table with that column.
        index: of each row, where a pandas object was handed over, the label that it has there; else None.
    """

    materials: Sequence[Any]
    records: Records | None
    kept: np.ndarray
    errors: list[str | None]
    identifiers: list[str] | None = None
    warnings: list[str] | None = None
    cells: Mapping[str, list[Any]] = field(default_factory=dict)
    index: Any = None

    def frame(self, names: Mapping[str, np.ndarray], *, sites: bool, elements: Sequence[int] | None) -> pd.DataFrame:
        """The rows as `tfmat.Predictor.predict` returns them.

        Args:
            names: column of numbers -> its values for the rows in `kept`; empty arrays if there are none.
            sites: with the number of sites.
            elements: atomic numbers that occurred in training; None: all that there are.
        """
        import pandas as pd

        frame = pd.DataFrame({"material": [name_of(material) for material in self.materials]})
        for name, values in names.items():
            frame[name] = np.nan
            if len(self.kept):
                frame.loc[self.kept, name] = values
        if sites:
            frame["sites"] = pd.array([sites_of(material) for material in self.materials], dtype="Int64")
        inside, unseen = known_elements(self.records, elements)
        frame["in_domain"], frame["unseen_elements"] = False, ""
        frame.loc[self.kept, "in_domain"], frame.loc[self.kept, "unseen_elements"] = inside, unseen
        if sites:
            frame["warning"] = self.warnings or ""
        frame["error"] = pd.Series(self.errors, dtype=object)
        for name, column in self.cells.items():
            frame[name if name not in frame and name != "id" else f"{name}_given"] = pd.Series(column, dtype=object)
        if self.identifiers is not None:
            frame.insert(0, "id", self.identifiers)
        if self.index is not None:
            frame.index = self.index
        return frame


def prediction_rows(materials: Any, featurizer: Featurizer, *, kind: Material, model: str, max_sites: int | None = None) -> PredictionRows:
    """Read and featurize materials; those for which that is not possible are rows with an error.

    Args:
        materials: what `tfmat.data.materials.read_materials` takes, `Crystals`, or what a packed file holds.
        featurizer: turns them into arrays.
        kind: what the model takes.
        model: its name, for errors.
        max_sites: most sites of a crystal in a file. Default: 1,000; for a model of compositions as many as there are.
    """
    if isinstance(materials, Featurized):
        return PredictionRows(materials, materials.records_for(featurizer), np.arange(len(materials)), [None] * len(materials))
    if isinstance(materials, Crystals):
        given = None
        values: Sequence[Any] = materials
        errors: list[str | None] = [None] * len(materials)
    else:
        given = read_materials(materials, kind, max_sites=max_sites)
        values, errors = [material.value for material in given], [material.error for material in given]
    if kind == "crystal":
        for index, material in enumerate(values):
            if isinstance(material, str) and errors[index] is None:
                problem = f"{' '.join(material[:60].split())!r} is no crystal, and {model} predicts crystals"
                expected = "a structure file such as NaCl.cif or POSCAR, or a table with a column 'structure'"
                errors[index] = str(InputError(problem, expected=expected))
    offered = np.flatnonzero([error is None for error in errors])
    chosen = values if len(offered) == len(values) else [values[index] for index in offered.tolist()]
    records, kept, refused = featurize_each(featurizer, chosen)
    for position, error in refused.items():
        errors[offered[position]] = str(InputError(error.problem, expected=error.expected))
    named = given is not None and any(material.identifier is not None for material in given)
    identifiers = [material.identifier or "" for material in given or ()] if named else None
    good, cells = offered[kept], _cells(given or ())
    warnings = _warnings(values, good, featurizer) if kind == "crystal" else None
    return PredictionRows(values, records, good, errors, identifiers, warnings, cells, _labels(materials, given))


def _warnings(values: Sequence[Any], kept: np.ndarray, featurizer: Featurizer) -> list[str]:
    """Of each row what is odd about its crystal, empty where nothing is."""
    found = [""] * len(values)
    for position in kept.tolist():
        crystal = next(each_crystal([values[position]], len(SYMBOLS) - 1))
        volume = crystal.volume / len(crystal)
        told = [crystal.note, featurizer.doubt(crystal) if isinstance(featurizer, Doubts) else ""]
        if volume > THINNEST_GAS:
            told.append(f"{volume:.4g} Å3 per atom: not the volume of a crystal")
        found[position] = "; ".join(filter(None, told))
    return found


def _cells(given: Sequence[GivenMaterial]) -> dict[str, list[Any]]:
    """The further columns of the tables that materials come from, without those that are empty."""
    names = dict.fromkeys(name for material in given for name in material.cells)
    columns = {name: [material.cells.get(name) for material in given] for name in names}
    return {name: column for name, column in columns.items() if any(cell not in (None, "") for cell in column)}


def _labels(materials: Any, given: Sequence[GivenMaterial] | None) -> Any:
    """The label of each row, where `materials` is a pandas object that has them."""
    index: Any = getattr(materials, "index", None)
    if given is None or not hasattr(index, "take"):
        return None
    return index.take([material.entry for material in given])


def sites_of(material: Any) -> int | None:
    """Number of sites of a crystal; None for anything else."""
    return len(material) if isinstance(material, Crystal) else getattr(material, "num_sites", None)


def name_of(material: Any) -> str:
    """What the prediction's row is called."""
    if isinstance(material, str):
        return material
    formula = getattr(material, "formula", None)  # of a Structure it is worked out at every call
    return str(material) if formula is None else str(formula)


def known_elements(records: Records | None, elements: Sequence[int] | None) -> tuple[np.ndarray, list[str]]:
    """Which materials hold elements of the training set alone.

    Args:
        records: featurized materials (N); None for none.
        elements: atomic numbers that occurred in training; None: all that there are.

    Returns:
        Bool (N,), and the other elements of each material as text, such as ``Tc, Pm``.
    """
    if records is None:
        return np.zeros(0, bool), []
    known = np.zeros(len(SYMBOLS), bool)
    known[list(range(len(SYMBOLS)) if elements is None else elements)] = True
    species, offsets = records.values["species"], records.offsets["species"]
    inside, unseen = np.logical_and.reduceat(known[species], offsets[:-1]), [""] * len(records)
    for place in np.flatnonzero(~inside):
        present = np.unique(species[offsets[place] : offsets[place + 1]])
        unseen[place] = ", ".join(SYMBOLS[z] for z in present if not known[z])
    return inside, unseen
