"""The interface of models of crystals that read lists of atoms: of each site its nearest neighbours, as elements and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmat.export.graph.periodic_search import Sites
from tfmat.export.interfaces.atom_list_graph import checked, harmless
from tfmat.export.interfaces.atom_list_search import atom_lists
from tfmat.export.interfaces.base import BEFORE, Example, Fixed, Size
from tfmat.export.interfaces.crystals import CrystalInterface
from tfmat.export.interfaces.signatures import Input
from tfmat.featurizers.atom_list import DIGITS, STEP, AtomListFeaturizer
from tfmat.featurizers.nearest import SHELL
from tfmat.records import Records

_ORDERS = {
    "canonical": (
        "by the atomic number of the site, then by its list from the nearest neighbour on, each one's distance before its atomic number; "
        "distances in the same place that differ by at most {step:g} Å, from one to the next of those that occur, are equal"
    ),
    "published": f"by fractional x, then y, then z, each within [0, 1) and rounded to {DIGITS} decimals",
}


class AtomListInterface(CrystalInterface):
    """`tfmat.featurizers.AtomListFeaturizer` in the graph.

    There are never more different lists than sites, so in a LiteRT file there is room for as many.
    """

    featurizer: AtomListFeaturizer

    @property
    def heaviest(self) -> int:
        """See `CrystalInterface`."""
        return self.featurizer.heaviest

    def search(self, sites: Sites, crystals: Mapping[str, Any]) -> dict[str, Any]:
        """See `CrystalInterface.search`."""
        return atom_lists(sites, self.featurizer)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Lists, and which one each site has; ``lists`` first, so that a crystal of too many sites is named as one."""
        heaviest, entries = self.featurizer.heaviest, ("B", "U", self.featurizer.slots)
        lists = "of each site its list, a position in `species` counted from 1, the sites in the order that is defined; 0 = padding"
        species = f"of each list the atomic number of its site, 1 to {heaviest}; sites with equal lists may share one; 0 = padding"
        end = "" if self.featurizer.cutoff is None else ", and behind the last neighbour within the cut-off"
        return {
            "lists": Input("int32", ("B", "A"), lists),
            "species": Input("int32", ("B", "U"), species),
            "elements": Input("int32", entries, f"atomic numbers of the neighbours of that site, the nearest first; 0 in padding{end}"),
            "distances": Input("float32", entries, f"from that site to each of them; 0 in padding{end}", "Å"),
        }

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Sites of the cell."""
        return {"max_sites": Size("A", 32, 10_000, "sites")}

    def lengths(self, requested: Mapping[str, int], model: str) -> dict[str, int]:
        """See `Interface.lengths`."""
        lengths = super().lengths(requested, model)
        return lengths | {"U": lengths["A"]}

    @property
    def notes(self) -> Mapping[str, Any]:
        """How the client makes the lists."""
        given = self.featurizer
        limit = "" if given.cutoff is None else f" that are at most {given.cutoff:g} Å away"
        definition = (
            "around site i are all other sites and the periodic images of all sites, each image on its own, those of site i itself "
            f"included; the list of site i holds the first {given.slots} of them{limit}, by distance; neighbours whose distances, from one "
            f"to the next, differ by at most {SHELL:g} Å by atomic number, and those of one element among them by distance; each ascending"
        )
        policy = {"n_list": given.n_list, "cutoff": given.cutoff, "featurizer_version": given.version, "unit": "Å"}
        order = {"order": given.order, "order_of_sites": _ORDERS[given.order].format(step=max(given.same, STEP))}
        return {"atom_lists": policy | order | {"definition": definition}}

    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """See `tfmat.export.interfaces.atom_list_graph.checked`."""
        return checked(arrays, self.featurizer)

    def prepare_static(self, arrays: Mapping[str, Any]) -> Fixed:
        """See `tfmat.export.interfaces.atom_list_graph.harmless`."""
        return harmless(arrays, self.featurizer)

    def arrays_of(self, material: Any) -> Example:
        """The lists, without their multiplicities."""
        example = self.featurizer(material)
        return {name: example[name] for name in self.inputs}

    def records_of(self, materials: Sequence[Any]) -> Records:
        """Equal lists once, as the order of the sites depends on what is equal."""
        return self.featurizer.featurize(materials)

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Interface.displaced`; sites have the same lists as before."""
        lists = np.where(batch["lists"] > 0, batch["lists"] + BEFORE, 0).astype(np.int32)
        return super().displaced(dict(batch) | {"lists": lists})
