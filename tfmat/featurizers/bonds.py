"""Bonds: all pairs of atoms within a radius, periodic images included. The graph of MEGNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tfmat.crystal import OVERLAP, Crystal
from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.base import Spec, featurize_one
from tfmat.featurizers.quotient import BONDS, MOST, SITE_CLASSES, SITES, Graphs, check_tolerance, quotient
from tfmat.featurizers.reach import ITSELF, Pairs, check_images, halves, within
from tfmat.featurizers.sites import at_position, block_by_block
from tfmat.records import Records

HEAVIEST = 94
"""Plutonium: the last element of MEGNet's table."""
TOLERANCE = ITSELF
"""A neighbour at the cut-off itself is kept, an atom at this distance or less from itself is not its own neighbour [Å]."""
CLOSE = 0.03
"""Where a distance is this close to the cut-off [Å], details of the cell decide which bonds there are."""


@dataclass(frozen=True)
class BondFeaturizer:
    """A crystal as sites and directed bonds, each kind of them once.

    There is a bond from site i to site j, or to a periodic image of it, wherever the distance is below ``cutoff + 1e-8`` Å: both (i, j)
    and (j, i), as often as there are images, an atom's own images included. Oxidation states are ignored. The definition of megnet's
    ``CrystalGraph`` (C. Chen et al., Chem. Mater. 2019, 31, 3564, doi 10.1021/acs.chemmater.9b01294).

    Sites and bonds that no network of message passing can tell apart are one class with a multiplicity, see `tfmat.featurizers.quotient`:
    crystals of matbench_phonons have 5 times fewer bonds then.

    Attributes:
        cutoff: bond radius [Å].
        state_dim: number of global state features that each crystal must carry (`Crystal.state`, or ``state`` of a pymatgen
            ``Structure``); 0 for none.
        fidelities: number of fidelities of a multi-fidelity model, whose state is one integer below this; 0 for none.
        state: state of the crystals that carry none; None refuses them.
        same: distances that differ by at most this within a crystal are one, where they join the same [Å]. 0 keeps every site and bond.
    """

    cutoff: float = 4.0
    state_dim: int = 0
    fidelities: int = 0
    state: tuple[float, ...] | None = None
    same: float = 1e-4

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 20:
            raise ValueError(f"`cutoff` must be positive and at most 20 Å. Received: cutoff={self.cutoff}")
        if self.state_dim < 0 or self.fidelities < 0 or (self.state_dim and self.fidelities):
            raise ValueError(
                f"`state_dim` and `fidelities` must not be negative, and one of them 0. Received: {self.state_dim}, {self.fidelities}"
            )
        check_tolerance(self.same)
        if self.state is not None:
            object.__setattr__(self, "state", tuple(float(x) for x in self.state))
            self._state_of(None)

    @property
    def spec(self) -> Spec:
        """Key -> (dtype, shape of one example)."""
        spec = SITES | BONDS
        if self.state_dim:
            spec["state"] = ("float32", (self.state_dim,))
        if self.fidelities:
            spec["state"] = ("int32", (1,))
        return spec

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        """Key -> array of one crystal, with S classes of sites and E of bonds (see `tfmat.featurizers.quotient`).

        - ``species`` int32 (S,), atomic numbers.
        - ``site_multiplicity`` int32 (S,), sites in each class.
        - ``bond_receivers`` int32 (E,), row of ``species`` of the site i whose bond this is, ascending.
        - ``bond_senders`` int32 (E,), row of ``species`` of the site j at its other end.
        - ``distances`` float32 (E,), between them, mean of the class [Å].
        - ``bond_multiplicity`` int32 (E,), bonds of the class at one site i.

        ``state`` is there if the featurizer has one: float32 (state_dim,), or int32 (1,) the fidelity.
        """
        return featurize_one(self, material)

    def featurize(self, materials: Sequence[Any]) -> Records:
        """Many crystals (`Crystal`, `Crystals` or pymatgen's ``Structure``) at once.

        Raises:
            InputError: not an ordered crystal of elements up to Pu, less than 2 Å3 per atom, two atoms closer than 0.5 Å, no bond at all or
                far too many, or no state where one is needed; ``index`` is the position of the bad one.
        """
        return block_by_block(materials, HEAVIEST, self._records)

    def doubt(self, crystal: Crystal) -> str:
        """See `tfmat.featurizers.base.Doubts`."""
        return bond_at_cutoff(crystal, self.cutoff)

    def site_classes(self, crystal: Crystal) -> np.ndarray:
        """Row of ``species`` that stands for each site of the crystal, int64 (A,)."""
        return self._quotients([crystal]).values[SITE_CLASSES]

    def _records(self, crystals: Sequence[Crystal]) -> Records:
        lists = self._quotients(crystals).select([*SITES, *BONDS])
        if "state" not in self.spec:
            return lists
        states = []
        for index, crystal in enumerate(crystals):
            with at_position(index):
                states.append(self._state_of(crystal.state))
        state = np.concatenate([*states, np.zeros(0)]).astype(self.spec["state"][0])
        return Records({**lists.values, "state": state}, {**lists.offsets, "state": np.arange(len(crystals) + 1) * (self.state_dim or 1)})

    def _quotients(self, crystals: Sequence[Crystal]) -> Records:
        bonds, sites = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))], 0
        for index, crystal in enumerate(crystals):
            with at_position(index):
                check_images(crystal, self.cutoff)
                centers, neighbors, distances = self._bonds(crystal, _within(crystal, self.cutoff))
            bonds.append((centers + sites, neighbors, distances))
            sites += len(crystal)
        return quotient(Graphs.of(crystals, *map(np.concatenate, zip(*bonds, strict=True))), self.same)

    def _bonds(self, crystal: Crystal, found: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leave out the pairs of an atom with itself."""
        centers, neighbors, distances = found.centers, found.neighbors, found.distances
        kept = (centers != neighbors) | (distances > TOLERANCE)
        centers, neighbors, distances = centers[kept], neighbors[kept], distances[kept]
        if not len(distances):
            raise InputError(f"no two atoms of {crystal} are within {self.cutoff:g} Å, so it has no bonds", expected="a denser crystal")
        closest = int(np.argmin(distances))
        if distances[closest] < OVERLAP:
            pair = f"sites {centers[closest] + 1} and {neighbors[closest] + 1}"
            raise InputError(f"{pair} of {crystal} are {distances[closest]:.3f} Å apart", expected=f"at least {OVERLAP:g} Å")
        return centers, neighbors, distances

    def _state_of(self, state: np.ndarray | None) -> np.ndarray:
        """Checked state of one crystal; of length 0 if there is none."""
        wanted = self.state_dim or min(self.fidelities, 1)
        if not wanted:
            return np.zeros(0, np.float32)
        values = np.asarray(self.state if state is None else state, np.float64)
        expected = f"{wanted} state features" if self.state_dim else f"a fidelity from 0 to {self.fidelities - 1}"
        if state is None and self.state is None:
            raise InputError("the crystal has no state", expected=expected)
        if values.shape != (wanted,) or not np.isfinite(values).all():
            raise InputError(f"the state is {values.tolist()}", expected=expected)
        if self.fidelities and not (values[0].is_integer() and 0 <= values[0] < self.fidelities):
            raise InputError(f"the fidelity is {values[0]:g}", expected=expected)
        return values


def _within(crystal: Crystal, radius: float) -> Pairs:
    """Sites, their neighbours (images included, an atom itself, too) within `radius` [Å], and the distances.

    The search ends early where there are more bonds than a crystal may have.
    """
    coords = (crystal.frac_coords - np.floor(crystal.frac_coords)) @ crystal.lattice
    pending: list[np.ndarray | None] = [None]
    found: list[Pairs] = []
    while pending and sum(len(pairs.centers) for pairs in found) <= MOST + len(crystal):  # each site finds itself
        sites = pending.pop()
        if parts := halves(coords, sites, radius, crystal):
            pending.extend(reversed(parts))
            continue
        pairs = within(coords, sites, radius, crystal.lattice)
        found.append(pairs if sites is None else pairs._replace(centers=sites[pairs.centers]))
    if len(found) == 1:
        return found[0]
    joined = Pairs(*map(np.concatenate, zip(*found, strict=True)))
    order = np.argsort(joined.centers, kind="stable")
    return Pairs(*(column[order] for column in joined))


def bond_at_cutoff(crystal: Crystal, cutoff: float) -> str:
    """Tell of two atoms that are about as far apart as bonds are counted, so that a slightly different cell has other bonds.

    Args:
        crystal: checked.
        cutoff: bond radius [Å].

    Returns:
        The pair and its distance; empty where no distance lies within `CLOSE` of the cut-off.
    """
    centers, neighbors, _, distances = _within(crystal, cutoff + CLOSE)
    if not len(distances):
        return ""
    nearest = int(np.argmin(np.abs(distances - cutoff)))
    if abs(distances[nearest] - cutoff) > CLOSE:
        return ""
    pair = "-".join(SYMBOLS[crystal.species[site]] for site in (centers[nearest], neighbors[nearest]))
    return f"{pair} is {distances[nearest]:.3f} Å, and atoms are bonded up to {cutoff:g} Å: a slightly other cell has other bonds"
