"""Whether a material is like those that a model has learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmat.elements import SYMBOLS
from tfmat.records import Records


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
