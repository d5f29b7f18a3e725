"""The results of CECV for several models as a folder of tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.analysis import figures
from tfmat.analysis.cecv.environments import Environment
from tfmat.analysis.cecv.vector import CECV, TOLERANCES, canonical_order, probe_compounds
from tfmat.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from tfmat.data.table import Table

TABLE = "cecv.csv"
"""The file by which such a folder is known."""


def example_compound(predictor: Predictor, table: Table, element: str) -> str:
    """The compound with the probe element and most elements, up to 7, that comes first in the canonical order of CECV."""
    records, positions = probe_compounds(predictor, table.materials, element)
    order = canonical_order(records)
    return str(table.materials[int(positions[order[np.argmax(records.lengths("species")[order])]])])


def write_results(
    folder: Path, found: Mapping[str, CECV], roles: Mapping[str, str], maps: Mapping[str, Environment], compound: str
) -> None:
    """Write the vectors, the clusters by number of elements, the environments in one compound and, with matplotlib, plots of them.

    Args:
        folder: an existing one.
        found: model -> its vector.
        roles: model -> ``local`` or ``global``, for those that are a reference.
        maps: model -> environment in one compound.
        compound: the formula of that one.
    """
    import pandas as pd

    vectors, parts = _frames(found, roles)
    vectors.to_csv(folder / TABLE, index=False, float_format="%.7g")
    parts.to_csv(folder / "cecv_by_elements.csv", index=False)
    taken: set[str] = set()
    for name, one in maps.items():
        frame = pd.DataFrame(one.correlations, index=list(one.elements), columns=list(one.elements))
        path = folder / f"{figures.file_name(f'environment-{compound}-{name}', taken)}.csv"
        frame.to_csv(path, index_label="element", float_format="%.7g")
    if figures.can_plot():
        from tfmat.analysis.cecv.plots import environment_maps, retention_curves, tolerance_curves

        tolerance_curves(found, roles, folder / "cecv.png")
        retention_curves(found, roles, folder / "retention.png")
        environment_maps(maps, compound, folder / (figures.file_name(f"environment-{compound}", taken) + ".png"))


def _frames(found: Mapping[str, CECV], roles: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The vectors, one row per model and tolerance, and the clusters, one per model, number of elements and tolerance."""
    import pandas as pd

    vectors, parts = [], []
    for name, one in found.items():
        about = {"model": name, "reference": roles.get(name, ""), "element": one.element, "layer": one.layer, "clustering": one.clustering}
        columns: dict[str, Any] = {"tolerance": TOLERANCES, "compounds": sum(one.compounds.values()), "clusters": one.vector}
        vectors.append(pd.DataFrame(about | columns | {"clusters_per_compound": one.shares, "retention_rate": one.retention}))
        for size, clusters in one.clusters.items():
            columns = {"elements": size, "compounds": one.compounds[size], "tolerance": TOLERANCES, "clusters": clusters}
            parts.append(pd.DataFrame(about | columns))
    return pd.concat(vectors), pd.concat(parts)
