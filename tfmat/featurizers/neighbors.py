"""Nearest neighbours: of each site, those up to the k-th, and all that are as far as that one. The graph of Crysformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tfmat.crystal import Crystal
from tfmat.featurizers.base import Spec, featurize_one
from tfmat.featurizers.nearest import Neighbors, nearest_neighbors
from tfmat.featurizers.sites import block_by_block
from tfmat.records import Records

HEAVIEST = 95
"""Americium: the last element of Crysformer's table."""


@dataclass(frozen=True)
class NeighborFeaturizer:
    """A crystal as sites, each with its nearest neighbours.

    The neighbours of a site are all atoms and periodic images, its own included, that are at most `tolerance` farther than its k-th
    nearest one: k or more, nearest first. In 82 % of matbench_phonons' crystals there is a site whose 12th and 13th neighbours are equally
    far, so that 12 of them could only be chosen arbitrarily. With all of them, the neighbours do not depend on the order of the sites,
    rotation, origin or choice of the cell, unless one is right at the limit, to within rounding.

    A site with more than `max_neighbors` of them loses the farthest. Where this cuts through a shell of equally far neighbours (the guest
    of a large cage), the heavier elements of the shell go first, then those along a fixed direction in space; so what is kept still depends
    on nothing but the rotation. No site in matbench_phonons has more than 22; 45 of mp2018_subset's 38,885 crystals have sites with more
    than 24, at most 32.

    With `strict`, exactly k are kept, chosen in the same way: less work, but a rotation can change the prediction.

    Oxidation states are ignored.

    Attributes:
        k: number of neighbours.
        tolerance: how much farther than the k-th one a neighbour may be [Å]. Much larger than rounding.
        max_neighbors: number of slots, at least `k`; without effect if `strict`.
        strict: keep exactly `k` neighbours.
    """

    k: int = 12
    tolerance: float = 0.01
    max_neighbors: int = 24
    strict: bool = False

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or not 1 <= self.k <= 128:
            raise ValueError(f"`k` must be a whole number from 1 to 128. Received: k={self.k}")
        if not 1e-6 <= self.tolerance <= 1:
            raise ValueError(f"`tolerance` must be from 1e-6 to 1 Å. Received: tolerance={self.tolerance}")
        if not self.strict and (not isinstance(self.max_neighbors, int) or not self.k <= self.max_neighbors <= 256):
            raise ValueError(
                f"`max_neighbors` must be a whole number from `k` to 256. Received: max_neighbors={self.max_neighbors}, k={self.k}"
            )

    @property
    def slots(self) -> int:
        """Length of the neighbour axis."""
        return self.k if self.strict else self.max_neighbors

    @property
    def spec(self) -> Spec:
        """Key -> (dtype, shape of one example)."""
        return {
            "species": ("int32", (None,)),
            "neighbors": ("int32", (None, self.slots)),
            "vectors": ("float32", (None, self.slots, 3)),
        }

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        """Key -> array, with K = `slots`.

        - ``species`` int32 (A,), atomic numbers.
        - ``neighbors`` int32 (A, K), number of each neighbour's site, the nearest first; 0 in empty slots, which come last.
        - ``vectors`` float32 (A, K, 3), from the site to that image of the neighbour [Å]; all zero in empty slots.
        """
        return featurize_one(self, material)

    def featurize(self, materials: Sequence[Any]) -> Records:
        """Many crystals (`Crystal`, `Crystals` or pymatgen's ``Structure``) at once.

        Raises:
            InputError: not an ordered crystal of elements up to Am, or two atoms closer than 0.1 Å; ``index`` is the position of the bad
                one.
        """
        return block_by_block(materials, HEAVIEST, lambda block: self._records(block, nearest_neighbors(block, self.k, self.tolerance)))

    def _records(self, crystals: Sequence[Crystal], found: Neighbors) -> Records:
        lengths = [len(crystal) for crystal in crystals]
        kept = found.ranks < self.slots
        place = found.centers[kept], found.ranks[kept]
        neighbors = np.zeros((sum(lengths), self.slots), np.int32)
        neighbors[place] = found.neighbors[kept]
        vectors = np.zeros((sum(lengths), self.slots, 3), np.float32)
        vectors[place] = found.vectors[kept]
        species = np.concatenate([*(crystal.species for crystal in crystals), np.zeros(0, np.int32)], dtype=np.int32, casting="same_kind")
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        values = {"species": species, "neighbors": neighbors, "vectors": vectors}
        return Records(values, dict.fromkeys(values, offsets))
