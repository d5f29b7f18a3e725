"""What the interfaces of all models of crystals share: a signature that takes lattices, coordinates and species."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfmat.crystal import Crystal
from tfmat.export.client.arrays import crystal_arrays
from tfmat.export.graph.lists import sites_of
from tfmat.export.graph.periodic_search import Sites
from tfmat.export.interfaces import raw_crystals
from tfmat.export.interfaces.base import Interface
from tfmat.export.interfaces.example_crystals import EXAMPLES
from tfmat.export.interfaces.signatures import FEATURIZED, SERVING, Entry, Input
from tfmat.featurizers.sites import each_crystal
from tfmat.records import Records

LIMIT = 1e-4
"""Largest relative difference from Keras of a signature that takes crystals: their coordinates are float32."""


class CrystalInterface(Interface):
    """A featurizer of crystals in the graph.

    In a SavedModel `SERVING` takes crystals and does what the featurizer does, `FEATURIZED` takes padded arrays of sites and what is around
    them. A LiteRT file takes the latter.

    Attributes:
        heaviest: largest atomic number that the model knows.
    """

    materials: ClassVar[str] = "crystals"
    arrays_signature: ClassVar[str] = FEATURIZED

    @property
    @abstractmethod
    def heaviest(self) -> int:
        """See the class."""

    @abstractmethod
    def search(self, sites: Sites, crystals: Mapping[str, Any]) -> dict[str, Any]:
        """The network's lists in the graph, but for those of the sites if these are as in `sites`; see `Interface.prepare`.

        A crystal that the featurizer refuses fails with a sentence.

        Args:
            sites: of all crystals.
            crystals: tensors of the inputs of `entries`, checked.
        """

    @cached_property
    def every_copy(self) -> Any:
        """The featurizer, with a class of its own for each site, bond and pair of bonds, as in the graph."""
        return dataclasses.replace(self.featurizer, same=0.0)

    def records_of(self, materials: Sequence[Any]) -> Records:
        """See `Interface.records_of`."""
        return self.every_copy.featurize(materials)

    def more_inputs(self) -> Mapping[str, Input]:
        """What must be sent beside the crystal, by name."""
        return {}

    def more_checks(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of `more_inputs`: sentence -> whether each row satisfies it, bool (B,)."""
        return {}

    def entries(self) -> Mapping[str, Entry]:
        """`SERVING`: crystals."""

        def prepare(arrays: Mapping[str, Any]) -> dict[str, Any]:
            with tf.device("CPU:0"):  # many small operations, whose sizes the next ones need
                crystals = raw_crystals.checked(arrays, self.heaviest, self.more_checks)
                sites = Sites.of(*(crystals[key] for key in ("lattice", "frac_coords", "species")))
                return sites_of(crystals["species"]) | self.search(sites, crystals)

        def encode(materials: Sequence[Any]) -> dict[str, np.ndarray]:
            crystals = crystal_arrays(list(each_crystal(materials, self.heaviest)))
            more = self.more_inputs()
            return crystals | {name: np.stack([self.arrays_of(material)[name] for material in materials]) for name in more}

        inputs = raw_crystals.raw_inputs(self.heaviest) | dict(self.more_inputs())
        return {SERVING: Entry(inputs, prepare, encode, raw_crystals.displaced, counts_sites=True, limit=LIMIT)}

    def examples(self) -> Sequence[Crystal]:
        """`EXAMPLES`."""
        return EXAMPLES
