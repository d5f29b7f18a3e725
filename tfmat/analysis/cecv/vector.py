"""The chemical environment classification vector (CECV): how many environments of an element a model tells apart.

H. Du, J. Hui, L. Zhang, H. Wang, J. Chem. Theory Comput. 2024, 20 (15), 6756-6771, doi 10.1021/acs.jctc.4c00187.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from tfmat.analysis.cecv.clustering import Clustering, count_clusters
from tfmat.analysis.cecv.environments import SIZES, check_composition_model, environments
from tfmat.analysis.readout import READOUT
from tfmat.data.featurize import RowsDone
from tfmat.elements import ATOMIC_NUMBERS
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.records import Records

TOLERANCES = tuple(round(0.05 * step, 2) for step in range(1, 9))
"""0.05, 0.10, ... 0.40: largest differences of correlations within a cluster."""


@dataclass(frozen=True)
class CECV:
    """The vector of one model, element and layer.

    Attributes:
        element: symbol of the probe element.
        layer: whose features were compared.
        clustering: how clusters were counted.
        compounds: K -> number of compounds of K elements that hold the probe element, K = 3 to 7.
        clusters: K -> int (8,), number of clusters at each of `TOLERANCES`.
    """

    element: str
    layer: str
    clustering: Clustering
    compounds: Mapping[int, int]
    clusters: Mapping[int, np.ndarray]

    @property
    def vector(self) -> np.ndarray:
        """Clusters of all K together, int (8,)."""
        return np.sum(list(self.clusters.values()), axis=0)

    @property
    def shares(self) -> np.ndarray:
        """The vector divided by the number of compounds, (8,)."""
        return self.vector / sum(self.compounds.values())

    @property
    def retention(self) -> np.ndarray:
        """The vector at each tolerance over that at the one before, (8,); the first is 1."""
        return np.concatenate([[1.0], self.vector[1:] / self.vector[:-1]])


def cecv(
    predictor: Predictor,
    materials: Sequence[Any],
    element: str = "Si",
    *,
    layer: str = READOUT,
    clustering: Clustering = "leader",
    batch_size: int = 256,
    report: RowsDone | None = None,
) -> CECV:
    """Count the environments of an element that a model tells apart.

    For every compound of K = 3 to 7 elements with the probe element: the features of its elements (K, D), each channel standardised over
    the K elements, and Pearson's correlation between the elements over the channels, (K, K), in the order of the model (descending
    amount). For each K the matrices are clustered, see `count_clusters`. Many clusters mean a local model, few a global one.

    With ``clustering="leader"`` the compounds are looked at in ascending order of their atomic numbers, as the model orders the elements,
    and of their fractions; so the order of `materials` does not matter. With ``"legacy"`` it is the order of `materials`.

    Args:
        predictor: a model of compositions.
        materials: formulas or other compositions; those without the element, or of another number of elements, are left out.
        element: symbol of the probe element.
        layer: name of a layer of the model, see `tfmat.analysis.readout.element_layers`; default: what its readout takes.
        clustering: see `count_clusters`.
        batch_size: compounds at a time.
        report: progress callback.

    Raises:
        InputError: a model of crystals, an unknown element, one that no compound holds, an unknown layer or way of clustering.
    """
    check_composition_model(predictor)
    if clustering not in get_args(Clustering):
        raise InputError(f"unknown clustering {clustering!r}", expected=f"one of {', '.join(get_args(Clustering))}")
    records, _ = probe_compounds(predictor, materials, element)
    if clustering == "leader":
        records = records.take(canonical_order(records))
    matrices = environments(predictor, records, layer, batch_size=batch_size, report=report)
    clusters = {
        size: np.array([count_clusters(found, tolerance, clustering) for tolerance in TOLERANCES]) for size, found in matrices.items()
    }
    return CECV(element, layer, clustering, {size: len(found) for size, found in matrices.items()}, clusters)


def probe_compounds(predictor: Predictor, materials: Sequence[Any], element: str) -> tuple[Records, np.ndarray]:
    """The featurized compounds of 3 to 7 elements that hold the probe element, in their order, and their positions, int64."""
    if element not in ATOMIC_NUMBERS:
        raise InputError(f"unknown element {element!r}", expected="a symbol from H to Og, for example Si")
    records = predictor.featurizer.featurize(materials)
    sizes, offsets = records.lengths("species"), records.offsets["species"]
    holds = np.add.reduceat(records.values["species"] == ATOMIC_NUMBERS[element], offsets[:-1]) > 0 if len(records) else np.zeros(0, bool)
    if not holds.any():
        raise InputError(f"none of the {len(records):,} compounds holds {element}", expected="an element that some of them hold")
    kept = holds & np.isin(sizes, SIZES)
    if not kept.any():
        problem = f"none of the {int(holds.sum()):,} compounds that hold {element} has {SIZES[0]} to {SIZES[-1]} elements"
        raise InputError(problem, expected="compounds of more elements: with two the correlation is always -1")
    positions = np.flatnonzero(kept)
    return records.take(positions), positions


def canonical_order(records: Records) -> np.ndarray:
    """Positions of the compounds in ascending order of atomic numbers, place by place, then of fractions, int64 (N,)."""
    sizes = records.lengths("species")
    place = (np.repeat(np.arange(len(records)), sizes), np.arange(sizes.sum()) - np.repeat(records.offsets["species"][:-1], sizes))
    keys = []
    for name in ("fractions", "species"):  # `np.lexsort` looks at its last key first
        table = np.zeros((len(records), int(sizes.max())), records.values[name].dtype)
        table[place] = records.values[name]
        keys += list(table.T[::-1])
    return np.lexsort(keys)
