"""The interface of models of crystals that read nearest neighbours: sites, and of each the vectors to the atoms around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmat.export.graph.periodic_search import Sites
from tfmat.export.interfaces.base import BEFORE, Example, Fixed, Size
from tfmat.export.interfaces.crystals import CrystalInterface
from tfmat.export.interfaces.neighbor_graph import checked, harmless
from tfmat.export.interfaces.neighbor_search import neighbor_lists
from tfmat.export.interfaces.signatures import Input
from tfmat.featurizers.nearest import DIRECTION, SHELL, nearest_neighbors
from tfmat.featurizers.neighbors import HEAVIEST, NeighborFeaturizer
from tfmat.featurizers.sites import each_crystal

_SITES, _SLOTS = ("B", "A"), ("B", "A", "K")


class NeighborInterface(CrystalInterface):
    """`tfmat.featurizers.NeighborFeaturizer` in the graph."""

    featurizer: NeighborFeaturizer

    @property
    def heaviest(self) -> int:
        """See `CrystalInterface`."""
        return HEAVIEST

    def search(self, sites: Sites, crystals: Mapping[str, Any]) -> dict[str, Any]:
        """See `CrystalInterface.search`."""
        return neighbor_lists(sites, self.featurizer)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Sites and their neighbours."""
        neighbors = "of each neighbour the site that it is, or is a periodic image of, a position in `species` counted from 0; 0 in padding"
        vectors = (
            "Cartesian vector from the site to each neighbour (its periodic image), in the order of `neighbors`; three zeros = padding"
        )
        return {
            "species": Input("int32", _SITES, f"atomic numbers of the sites of the cell, 1 to {HEAVIEST}; 0 = padding"),
            "neighbors": Input("int32", _SLOTS, neighbors),
            "vectors": Input("float32", (*_SLOTS, 3), vectors, "Å"),
        }

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Sites of the cell, and neighbours of a site."""
        most = self.featurizer.slots
        return {
            "max_sites": Size("A", 32, 10_000, "sites"),
            "max_neighbors": Size("K", most, most, "neighbours of one site", lowest=self.featurizer.k),
        }

    @property
    def notes(self) -> Mapping[str, Any]:
        """How the client finds the neighbours."""
        given = self.featurizer
        kept = "the first `k` in `order`; `tolerance` and `max_neighbors` have no effect"
        if not given.strict:
            kept = (
                "all whose distance is at most that of the k-th nearest plus `tolerance`; where these are more than `max_neighbors`, the "
                "first so many in `order`"
            )
        definition = (
            "around site i are all other sites and the periodic images of all sites, each image on its own, those of site i itself "
            f"included; the neighbours of site i are {kept}. They may be sent in any order"
        )
        order = (
            f"by distance; neighbours whose distances, from one to the next, differ by at most {SHELL:g} Å by atomic number; and those of "
            f"one element among them by the component of the vector along {DIRECTION.tolist()}; each ascending"
        )
        policy = {"k": given.k, "tolerance": given.tolerance, "max_neighbors": given.max_neighbors, "strict": given.strict}
        return {"neighbors": policy | {"featurizer_version": given.version, "unit": "Å", "definition": definition, "order": order}}

    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """See `tfmat.export.interfaces.neighbor_graph.checked`."""
        return checked(arrays, self.featurizer)

    def prepare_static(self, arrays: Mapping[str, Any]) -> Fixed:
        """See `tfmat.export.interfaces.neighbor_graph.harmless`."""
        return harmless(arrays, self.featurizer)

    def arrays_of(self, material: Any) -> Example:
        """Every neighbour, as many slots as the fullest site needs."""
        (crystal,), given = each_crystal([material], HEAVIEST), self.featurizer
        found = nearest_neighbors([crystal], given.k, given.tolerance)
        kept = found.ranks < given.slots
        place = found.centers[kept], found.ranks[kept]
        neighbors = np.zeros((len(crystal), int(place[1].max()) + 1), np.int32)
        vectors = np.zeros((*neighbors.shape, 3), np.float32)
        neighbors[place], vectors[place] = found.neighbors[kept], found.vectors[kept]
        return {"species": crystal.species.astype(np.int32), "neighbors": neighbors, "vectors": vectors}

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Interface.displaced`; neighbours are the same sites as before."""
        neighbors = np.where(batch["vectors"].any(axis=-1), batch["neighbors"] + BEFORE, 0).astype(np.int32)
        return super().displaced(dict(batch) | {"neighbors": neighbors})
