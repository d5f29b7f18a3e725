"""Targets of a table that cannot be learnt or scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.target import Target


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
