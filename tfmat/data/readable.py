"""Materials as a user hands them to a prediction: what they are called, and which of them can be featurized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmat.crystal import Crystal
from tfmat.data.featurized import Featurized
from tfmat.data.featurizing import featurize_each
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer
from tfmat.records import Records


def featurize_readable(
    materials: Sequence[Any], featurizer: Featurizer, *, crystals: bool, model: str
) -> tuple[Records | None, np.ndarray, list[str | None]]:
    """Records of the readable materials (None if there are none), their positions, and why each other one cannot be read.

    Args:
        materials: formulas, `Crystal`, pymatgen objects, or what a packed file holds.
        featurizer: what to do with them.
        crystals: the model takes no formulas.
        model: its name, for errors.
    """
    errors: list[str | None] = [None] * len(materials)
    if isinstance(materials, Featurized):
        return materials.records_for(featurizer), np.arange(len(materials)), errors
    offered = np.arange(len(materials))
    if crystals:
        for index, material in enumerate(materials):
            if isinstance(material, str):
                errors[index] = str(_no_crystal(material, model))
        offered = np.flatnonzero([error is None for error in errors])
    chosen = materials if len(offered) == len(materials) else [materials[index] for index in offered.tolist()]
    records, kept, refused = featurize_each(featurizer, chosen)
    for index, error in refused.items():
        errors[offered[index]] = str(InputError(error.problem, expected=error.expected))
    return records, offered[kept], errors


def sites_of(material: Any) -> int | None:
    """Number of sites of a crystal; None for anything else."""
    return len(material) if isinstance(material, Crystal) else getattr(material, "num_sites", None)


def name_of(material: Any) -> str:
    """What the prediction's row is called."""
    if isinstance(material, str):
        return material
    formula = getattr(material, "formula", None)  # of a Structure it is worked out at every call
    return str(material) if formula is None else str(formula)


def _no_crystal(text: str, model: str) -> InputError:
    problem = f"{' '.join(text[:60].split())!r} is no crystal, and {model} predicts crystals"
    return InputError(problem, expected="a structure file such as NaCl.cif or POSCAR, or a table with a column 'structure'")
