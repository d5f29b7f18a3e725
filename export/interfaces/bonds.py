"""The interface of models of crystals that read bonds: sites, pairs of them within a radius, and their distances."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.crystal import Crystal
from tfmat.export.graph.periodic_search import Sites
from tfmat.export.interfaces.base import BEFORE, Example, Fixed, Size
from tfmat.export.interfaces.bond_graph import checked, harmless, state_checks
from tfmat.export.interfaces.bond_search import bond_lists
from tfmat.export.interfaces.crystals import CrystalInterface
from tfmat.export.interfaces.example_crystals import EXAMPLES
from tfmat.export.interfaces.signatures import Input
from tfmat.featurizers.bonds import HEAVIEST, BondFeaturizer

_SITES, _BONDS = ("B", "A"), ("B", "E")


class BondInterface(CrystalInterface):
    """`tfmat.featurizers.bonds.BondFeaturizer` in the graph."""

    featurizer: BondFeaturizer

    @property
    def heaviest(self) -> int:
        """See `CrystalInterface`."""
        return HEAVIEST

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Sites and bonds, and the state of models that have one."""
        cutoff = self.featurizer.cutoff
        return {
            "species": Input("int32", _SITES, f"atomic numbers of the sites of the cell, 1 to {HEAVIEST}; 0 = padding"),
            "centers": Input("int32", _BONDS, "of each bond the site it starts from, a position in `species` counted from 0; 0 in padding"),
            "neighbors": Input("int32", _BONDS, "of each bond the site it leads to, or to a periodic image of it; 0 in padding"),
            "distances": Input("float32", _BONDS, f"lengths of the bonds, at most {cutoff:g}; 0 = padding", "Å"),
        } | self.more_inputs()

    def more_inputs(self) -> dict[str, Input]:
        """The state of models that have one."""
        if self.featurizer.state_dim:
            return {"state": Input("float32", ("B", self.featurizer.state_dim), "state features, in the order of the training data")}
        if self.featurizer.fidelities:
            return {"state": Input("int32", ("B", 1), f"fidelity, from 0 to {self.featurizer.fidelities - 1}")}
        return {}

    def more_checks(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """See `tfmat.export.interfaces.bond_graph.state_checks`."""
        return state_checks(arrays, self.featurizer)

    def search(self, sites: Sites, crystals: Mapping[str, Any]) -> dict[str, Any]:
        """See `CrystalInterface.search`."""
        return bond_lists(sites, self.featurizer.cutoff) | {key: crystals[key] for key in self.more_inputs()}

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Sites of the cell, and directed bonds."""
        return {"max_sites": Size("A", 32, 10_000, "sites"), "max_bonds": Size("E", 1024, 1_000_000, "bonds")}

    @property
    def notes(self) -> Mapping[str, Any]:
        """How the client finds the bonds."""
        definition = (
            "a bond leads from site i to site j, or to a periodic image of it, wherever their distance is at most the cut-off: (i, j) and "
            "(j, i) both, as often as there are images within reach, images of site i itself included, site i itself not; in any order"
        )
        return {"bonds": {"cutoff": self.featurizer.cutoff, "unit": "Å", "definition": definition}}

    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """See `tfmat.export.interfaces.bond_graph.checked`."""
        return checked(arrays, self.featurizer)

    def prepare_static(self, arrays: Mapping[str, Any]) -> Fixed:
        """See `tfmat.export.interfaces.bond_graph.harmless`."""
        return harmless(arrays, self.featurizer)

    def examples(self) -> Sequence[Crystal]:
        """`EXAMPLES`, each with another state if the model needs one."""
        if "state" not in self.featurizer.spec:
            return EXAMPLES
        return [dataclasses.replace(crystal, state=self._state(index)) for index, crystal in enumerate(EXAMPLES)]

    def _state(self, index: int) -> np.ndarray:
        if self.featurizer.fidelities:
            return np.array([index % self.featurizer.fidelities], np.float64)
        return np.cos(index + np.arange(self.featurizer.state_dim, dtype=np.float64))

    def arrays_of(self, material: Any) -> Example:
        """Every bond."""
        lists = self.every_copy(material)
        names = {"species": "species", "centers": "bond_receivers", "neighbors": "bond_senders", "distances": "distances", "state": "state"}
        return {name: lists[names[name]] for name in self.inputs}

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Interface.displaced`; bonds join the same sites as before."""
        real = batch["distances"] > 0
        moved = {key: np.where(real, batch[key] + BEFORE, 0).astype(np.int32) for key in ("centers", "neighbors")}
        return super().displaced(dict(batch) | moved)
