"""Lists of atoms: each site with its nearest neighbours, as elements and distances. The input of the atom-list LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from tfmat.crystal import Crystal
from tfmat.elements import SYMBOLS
from tfmat.featurizers.base import Spec, featurize_one
from tfmat.featurizers.bonds import bond_at_cutoff
from tfmat.featurizers.nearest import Neighbors, nearest_neighbors, shells
from tfmat.featurizers.quotient import SITES, check_tolerance
from tfmat.featurizers.sites import block_by_block
from tfmat.records import Records

Order = Literal["canonical", "published"]

TOLERANCE = 0.01
"""Neighbours this much farther than the last one of a list are looked at too, so that the choice among equally far ones is a rule [Å]."""
STEP = 1e-4
"""Distances in the same place of two lists that are at most this far apart do not order them: files are rounded [Å]."""
DIGITS = 6
"""Decimals of the fractional coordinates by which ``order="published"`` sorts."""


@dataclass(frozen=True)
class AtomListFeaturizer:
    """A crystal as one list per site: the site itself, then its `n_list` - 1 nearest neighbours with their elements and distances.

    Ties within a list: neighbours whose distances, in ascending order, are at most 0.001 Å apart are one shell; a shell is sorted by atomic
    number, and the same elements in it by distance. Where the end of the list cuts through a shell, the light elements are kept. So a list
    does not depend on the order of the sites, the origin, the rotation or the choice of the cell. What remains: two distances that differ
    by 0.001 Å to within rounding, and a shell that spreads over more than 0.01 Å beyond the last neighbour, of which the far part is not
    looked at. Distances close to `cutoff` are cut as rounding has it.

    Equal lists are kept once: mp2018_subset's crystals with a gap have 33 sites on average and 12 different lists. Equal are those with the
    same elements and the same distances, to within `same` each, of which the mean is kept.

    Order of the sites, which matters to a recurrent network:

    - ``"canonical"``: by the element of the site, then by its list, entry by entry: distance, then element. Distances in the same place are
      compared in steps that begin where the values that occur leave a gap of more than 0.0001 Å, or `same` if larger; so noise well
      below decides nothing.
      Sites with equal lists are interchangeable. So the sequence depends on the crystal alone, but for a gap of just that width; lists that
      differ by less are sorted by the sum of their distances. A supercell repeats every list as often as it repeats the cell.
    - ``"published"``: by fractional x, then y, then z, each within [0, 1) and rounded to six decimals. It depends on origin, choice of the
      cell and orientation of its axes.

    Oxidation states are ignored.

    Attributes:
        n_list: entries of a list, the site itself included.
        cutoff: farthest neighbour [Å]; lists may then be shorter. None: as far as it takes.
        order: of the sites.
        heaviest: largest atomic number.
        same: distances that differ by at most this are equal [Å]. 0 keeps the list of every site.
    """

    n_list: int = 20
    cutoff: float | None = None
    order: Order = "canonical"
    heaviest: int = 95
    same: float = 1e-4

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.n_list, int) or not 2 <= self.n_list <= 256:
            raise ValueError(f"`n_list` must be a whole number from 2 to 256. Received: n_list={self.n_list}")
        if self.cutoff is not None and not 0.1 <= self.cutoff <= 100:
            raise ValueError(f"`cutoff` must be from 0.1 to 100 Å, or None. Received: cutoff={self.cutoff}")
        if self.order not in get_args(Order):
            raise ValueError(f"`order` must be one of {get_args(Order)}. Received: order={self.order!r}")
        if not isinstance(self.heaviest, int) or not 1 <= self.heaviest < len(SYMBOLS):
            raise ValueError(f"`heaviest` must be an atomic number from 1 to {len(SYMBOLS) - 1}. Received: heaviest={self.heaviest}")
        check_tolerance(self.same)

    @property
    def slots(self) -> int:
        """Neighbours in a list."""
        return self.n_list - 1

    @property
    def spec(self) -> Spec:
        """Key -> (dtype, shape of one example)."""
        slots = (None, self.slots)
        return SITES | {"elements": ("int32", slots), "distances": ("float32", slots), "lists": ("int32", (None,))}

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        """Key -> array, with N = `n_list` - 1 and S different lists. The site itself, at distance 0, is not repeated in its list.

        - ``species`` int32 (S,), atomic number of the sites that each list belongs to.
        - ``site_multiplicity`` int32 (S,), how many these are.
        - ``elements`` int32 (S, N), atomic numbers of their neighbours, the nearest first; 0 where `cutoff` ends a list earlier.
        - ``distances`` float32 (S, N), to these neighbours [Å]; 0 there.
        - ``lists`` int32 (A,), number of each site's list, counted from 1; the sites in `order`.
        """
        return featurize_one(self, material)

    def featurize(self, materials: Sequence[Any]) -> Records:
        """Many crystals (`Crystal`, `Crystals` or pymatgen's ``Structure``) at once.

        Raises:
            InputError: not an ordered crystal of elements up to `heaviest`, less than 2 Å3 per atom, or two atoms closer than 0.5 Å;
                ``index`` is the position of the bad one.
        """
        return block_by_block(materials, self.heaviest, lambda block: self._records(block, nearest_neighbors(block, self.slots, TOLERANCE)))

    def doubt(self, crystal: Crystal) -> str:
        """See `tfmat.featurizers.base.Doubts`."""
        return "" if self.cutoff is None else bond_at_cutoff(crystal, self.cutoff)

    def site_order(self, crystal: Crystal) -> np.ndarray:
        """Tell which site of the crystal each entry of ``lists`` stands for, int64 (A,)."""
        sites = self._sites([crystal], nearest_neighbors([crystal], self.slots, TOLERANCE))
        return self._published_order([crystal], sites) if self.order == "published" else sites.canonical_order(max(self.same, STEP))

    def _published_order(self, crystals: Sequence[Crystal], sites: _Sites) -> np.ndarray:
        coords = np.concatenate([*(crystal.frac_coords for crystal in crystals), np.zeros((0, 3))])
        steps = np.rint(coords * 10**DIGITS) % 10**DIGITS  # whole numbers: 2.3 % 1.0 is not 0.3
        return np.lexsort((*steps.T[::-1], sites.crystal))

    def _records(self, crystals: Sequence[Crystal], found: Neighbors) -> Records:
        sites = self._sites(crystals, found)
        order = sites.canonical_order(max(self.same, STEP))
        new_list = sites.differ_from_before(order, self.same)
        first = np.flatnonzero(new_list)
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.cumsum(new_list) - 1  # of each site's list, counted through all crystals
        crystal_ends = np.arange(len(crystals) + 1)
        list_offsets = np.searchsorted(sites.crystal[order[first]], crystal_ends)
        if self.order == "published":
            order = self._published_order(crystals, sites)
        multiplicity = np.bincount(numbers)
        mean = np.add.reduceat(sites.distances[np.argsort(numbers, kind="stable")], first, axis=0) / multiplicity[:, None]
        representative = np.unique(numbers, return_index=True)[1]
        values = {
            "species": sites.species[representative].astype(np.int32),
            "site_multiplicity": multiplicity.astype(np.int32),
            "elements": sites.elements[representative].astype(np.int32),
            "distances": mean.astype(np.float32),
            "lists": (numbers[order] - list_offsets[sites.crystal[order]] + 1).astype(np.int32),
        }
        site_offsets = np.searchsorted(sites.crystal, crystal_ends)
        return Records(values, {key: site_offsets if key == "lists" else list_offsets for key in values})

    def _sites(self, crystals: Sequence[Crystal], found: Neighbors) -> _Sites:
        lengths = [len(crystal) for crystal in crystals]
        crystal = np.repeat(np.arange(len(lengths)), lengths)
        first = np.cumsum([0, *lengths], dtype=np.int64)
        species = np.concatenate([*(crystal.species for crystal in crystals), np.zeros(0, np.int64)], dtype=np.int64)
        kinds = species[found.neighbors + first[crystal[found.centers]]]
        order = _by_shells(found, kinds)
        kept = found.ranks < self.slots  # sites keep their places, so the i-th of the ordered pairs has the rank of the i-th pair
        if self.cutoff is not None:
            kept &= found.distances[order] <= self.cutoff
        order = order[kept]
        place = found.centers[order], found.ranks[kept]
        elements, distances = np.zeros((len(species), self.slots), np.int64), np.zeros((len(species), self.slots))
        elements[place], distances[place] = kinds[order], found.distances[order]
        return _Sites(crystal, species, elements, distances)


def _by_shells(found: Neighbors, kinds: np.ndarray) -> np.ndarray:
    """Order of the pairs by site, shell, element and distance, int64 (P,).

    Args:
        found: P pairs.
        kinds: int (P,), elements of the neighbours.
    """
    by_distance = np.lexsort((found.distances, found.centers))
    distances, centers = found.distances[by_distance], found.centers[by_distance]
    return by_distance[np.lexsort((distances, shells(centers, distances) * len(SYMBOLS) + kinds[by_distance]))]


@dataclass(frozen=True)
class _Sites:
    """The sites of several crystals and their lists.

    Attributes:
        crystal: int (S,), which one a site belongs to, ascending.
        species: int (S,), its element.
        elements: int (S, N), of its neighbours.
        distances: float (S, N), of its neighbours [Å].
    """

    crystal: np.ndarray
    species: np.ndarray
    elements: np.ndarray
    distances: np.ndarray

    def canonical_order(self, step: float) -> np.ndarray:
        """The sites, crystal after crystal, in an order that their lists alone determine, int64 (S,); see `AtomListFeaturizer`.

        Args:
            step: distances that follow each other at most this closely do not order the lists [Å].
        """
        keys = [self.distances.sum(axis=1)]  # `np.lexsort` looks at its last key first
        for entry in reversed(range(self.distances.shape[1])):
            column = self.distances[:, entry]
            ascending = np.lexsort((column, self.crystal))
            level = np.empty(len(column), np.int64)
            level[ascending] = np.cumsum(np.diff(column[ascending], prepend=0.0) > step)  # compared within a crystal only
            keys.append(level * len(SYMBOLS) + self.elements[:, entry])
        return np.lexsort((*keys, self.species, self.crystal))

    def differ_from_before(self, order: np.ndarray, same: float) -> np.ndarray:
        """Tell whether each site, in this order, has another list than the one before it, bool (S,); where `same` is 0, each."""
        kinds = np.column_stack([self.crystal, self.species, self.elements])[order]
        distances = self.distances[order]
        other = (kinds[1:] != kinds[:-1]).any(axis=1) | (np.abs(np.diff(distances, axis=0)) > same).any(axis=1) | (same == 0)
        return np.concatenate([np.ones(min(len(order), 1), bool), other])
