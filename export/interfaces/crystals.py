"""What the interfaces of all models of crystals share: the signature that takes lattices, coordinates and species, and example crystals."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfmat.crystal import DENSEST, THINNEST, Crystal
from tfmat.elements import ATOMIC_NUMBERS
from tfmat.export.client.arrays import crystal_arrays
from tfmat.export.graph.checks import Tensors, atomic_numbers, checked_rows, of_whole_rows, one_row_each, require, zeroed_rows
from tfmat.export.graph.lists import sites_of
from tfmat.export.graph.neighbor_search import Sites
from tfmat.export.interfaces.base import BEFORE, BEHIND, FEATURIZED, SERVING, Entry, Grids, Input, Interface
from tfmat.featurizers.sites import each_crystal
from tfmat.records import Records

LIMIT = 1e-4
"""Largest relative difference from Keras of a signature that takes crystals: their coordinates are float32."""
ROUNDING = 1e-4
"""How far beyond a limit a distance may lie that a client computed in float32 [Å]."""
FARTHEST = 100
"""Largest fractional coordinate: beyond, float32 has too few digits left."""
LONGEST = 10_000
"""Largest component of a lattice vector [Å], for the same reason."""

NO_SITE = "a crystal needs at least one site; see row"
_RANKS = {"lattice": "(B, 3, 3)", "frac_coords": "(B, A, 3)", "species": "(B, A)"}


class CrystalInterface(Interface):
    """A featurizer of crystals in the graph.

    In a SavedModel `SERVING` takes crystals and does what the featurizer does, `FEATURIZED` takes padded arrays of sites and what is around
    them. A file of fixed sizes takes the latter.
    """

    materials: ClassVar[str] = "crystals"
    arrays_signature: ClassVar[str] = FEATURIZED

    @property
    @abstractmethod
    def heaviest(self) -> int:
        """The largest atomic number that the model knows."""

    @abstractmethod
    def search(self, sites: Sites, crystals: Tensors) -> dict[str, Any]:
        """The network's lists, but for those of the sites if these are as in `sites`; see `Interface.prepare`.

        Args:
            sites: the sites of all crystals.
            crystals: tensors of the inputs of `entries`, checked.

        Raises:
            tf.errors.InvalidArgumentError: the featurizer would refuse a crystal; with a sentence.
        """

    @abstractmethod
    def shape_checks(self, arrays: Tensors) -> list[Any]:
        """Operations that fail where the shapes of `arrays`, tensors of `inputs`, disagree."""

    @abstractmethod
    def row_checks(self, arrays: Tensors) -> dict[str, Any]:
        """What makes a row of `arrays`, tensors of `inputs`, a crystal: sentence -> whether it holds, bool (B,). No NaN satisfies any."""

    @abstractmethod
    def lists(self, arrays: Tensors) -> dict[str, Any]:
        """The network's lists from `arrays`, checked tensors of `inputs`; see `Interface.prepare`."""

    @abstractmethod
    def fixed_lists(self, arrays: Tensors) -> tuple[dict[str, Any], Grids]:
        """The network's lists from `arrays`, tensors of `inputs` of known shapes, with an entry for each slot, and the grids in them."""

    def prepare(self, arrays: Tensors) -> dict[str, Any]:
        return self.lists(checked_rows(arrays, self.shape_checks(arrays), self.row_checks))

    def prepare_fixed(self, arrays: Tensors) -> tuple[dict[str, Any], Any, Grids]:
        arrays, sound = zeroed_rows(arrays, self.row_checks)
        lists, grids = self.fixed_lists(arrays)
        return lists, sound, grids

    @cached_property
    def every_copy(self) -> Any:
        """The featurizer, with a class of its own for each site, bond and pair of bonds, as in the graph."""
        return dataclasses.replace(self.featurizer, same=0.0)

    def records_of(self, materials: Sequence[Any]) -> Records:
        return self.every_copy.featurize(materials)

    def species_input(self) -> Input:
        """The input ``species`` int32 (B, A)."""
        return Input("int32", ("B", "A"), f"atomic numbers of the sites of the cell, 1 to {self.heaviest}; 0 = padding")

    def more_inputs(self) -> Mapping[str, Input]:
        """What must be sent beside the crystal, by name."""
        return {}

    def more_checks(self, arrays: Tensors) -> Mapping[str, Any]:
        """The checks of `more_inputs` in `arrays`: sentence -> whether it holds, bool (B,)."""
        return {}

    def entries(self) -> Mapping[str, Entry]:
        def prepare(arrays: Tensors) -> dict[str, Any]:
            with tf.device("CPU:0"):  # many small operations, whose sizes the next ones need
                crystals = self._checked_crystals(arrays)
                sites = Sites.of(*(crystals[key] for key in ("lattice", "frac_coords", "species")))
                return sites_of(crystals["species"]) | self.search(sites, crystals)

        def encode(materials: Sequence[Any]) -> dict[str, np.ndarray]:
            crystals = crystal_arrays(list(each_crystal(materials, self.heaviest)))
            return crystals | {name: np.stack([self.arrays_of(material)[name] for material in materials]) for name in self.more_inputs()}

        coords = f"fractional coordinates of the sites, inside the cell or not, of at most {FARTHEST}; 0 in padding"
        inputs = {
            "lattice": Input("float32", ("B", 3, 3), "lattice vectors as rows, of any cell", "Å"),
            "frac_coords": Input("float32", ("B", "A", 3), coords),
            "species": self.species_input(),
        }
        return {SERVING: Entry(inputs | dict(self.more_inputs()), prepare, encode, displaced, counts_sites=True, limit=LIMIT)}

    def _checked_crystals(self, arrays: Tensors) -> dict[str, Any]:
        """The same arrays, once every row is a crystal that may be searched."""
        with tf.control_dependencies(_ranks(arrays)):
            lattice, coords, species = (tf.shape(arrays[key]) for key in ("lattice", "frac_coords", "species"))
        same = tf.debugging.assert_equal
        shapes = [
            same(lattice[1:], [3, 3], "`lattice` must be three vectors of three components for every crystal"),
            same(coords, tf.concat([species, [3]], 0), "`frac_coords` must be three numbers for every one in `species`"),
            *one_row_each(arrays, [key for key in arrays if key not in ("frac_coords", "species")]),
        ]
        return checked_rows(arrays, shapes, self._crystal_checks)

    def _crystal_checks(self, arrays: Tensors) -> dict[str, Any]:
        lattice, coords, species = arrays["lattice"], arrays["frac_coords"], arrays["species"]
        is_site = species > 0
        checks = atomic_numbers("species", species, self.heaviest) | {
            f"`lattice` must be numbers [Å] of at most {LONGEST:,}; see row": tf.abs(lattice) <= LONGEST,
            f"`frac_coords` must be numbers of at most {FARTHEST}; see row": tf.abs(coords) <= FARTHEST,
            "`frac_coords` must be 0 where `species` is 0; see row": tf.logical_or(is_site[:, :, None], tf.equal(coords, 0)),
        }
        vectors, sites = tf.cast(lattice, tf.float64), tf.math.count_nonzero(is_site, axis=1)
        sentence = f"`lattice` must span a volume, with the planes (100), (010) and (001) at least {THINNEST:g} Å apart; see row"
        spanned = {sentence: _spacing(vectors) >= THINNEST, NO_SITE: sites > 0}
        dense = _volumes(vectors) >= DENSEST * tf.cast(sites, tf.float64)
        spanned |= {f"`lattice` must have a volume of at least {DENSEST:g} Å3 for each site; see row": dense}
        return of_whole_rows(checks) | spanned | dict(self.more_checks(arrays))

    def examples(self) -> Sequence[Crystal]:
        return EXAMPLES


def _spacing(lattices: Any) -> Any:
    """The smallest distance of the lattice planes (100), (010), (001), (B,) [Å]; NaN or 0 if there is no volume."""
    return tf.reduce_min(_volumes(lattices)[:, None] / tf.norm(_normals(lattices), axis=2), axis=1)


def _volumes(lattices: Any) -> Any:
    """Of each cell (B, 3, 3), (B,) [Å3]."""
    return tf.abs(tf.reduce_sum(_normals(lattices)[:, 0] * lattices[:, 0], axis=1))


def _normals(lattices: Any) -> Any:
    """The products of the second and third, third and first, first and second vectors, (B, 3, 3)."""
    return tf.linalg.cross(*(tf.roll(lattices, -shift, axis=1) for shift in (1, 2)))


def _ranks(arrays: Tensors) -> list[Any]:
    """Assertions of the ranks. A server does not compare what it is sent with the shapes of the signature, so they are forgotten here."""
    operations = []
    for key, shape in _RANKS.items():
        rank = tf.rank(tf.raw_ops.PlaceholderWithDefault(input=arrays[key], shape=None))
        holds = tf.equal(rank, shape.count(",") + 1)
        operations.append(require(holds[None], f"`{key}` must have the shape {shape}, but the number of axes is", rank[None]))
    return operations


def displaced(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The crystals of a `batch` with padding on both sides, and each site in another cell."""
    cells = np.arange(batch["frac_coords"].size).reshape(batch["frac_coords"].shape) % 4 - 2
    moved = np.where(batch["species"][..., None] > 0, batch["frac_coords"] + cells, 0).astype(np.float32)
    sides = (BEFORE, BEHIND)
    padded = {"frac_coords": np.pad(moved, [(0, 0), sides, (0, 0)]), "species": np.pad(batch["species"], [(0, 0), sides])}
    return dict(batch) | padded


_FACE_CENTERED = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
_BODY_CENTERED = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])
_CORNERS = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
_CUBE = np.eye(3)


def _crystal(symbols: str, lattice: np.ndarray, *sites: tuple[float, float, float]) -> Crystal:
    species = np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols.split()], np.int32)
    return Crystal(species, np.asarray(lattice, np.float64), np.asarray(sites, np.float64))


def _rutile(metal: str, a: float, c: float, u: float) -> Crystal:
    oxygen = ((u, u, 0), (1 - u, 1 - u, 0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5))
    return _crystal(f"{metal} {metal} O O O O", np.diag([a, a, c]), (0, 0, 0), (0.5, 0.5, 0.5), *oxygen)


EXAMPLES: tuple[Crystal, ...] = (
    _crystal("Na Cl", 5.64 * _FACE_CENTERED, (0, 0, 0), (0.5, 0.5, 0.5)),
    _crystal("Na Na Na Na Cl Cl Cl Cl", 5.64 * _CUBE, *_CORNERS, *((x + 0.5, y, z) for x, y, z in _CORNERS)),
    _crystal("Fe", 2.866 * _BODY_CENTERED, (0, 0, 0)),
    _crystal("C C", 3.567 * _FACE_CENTERED, (0, 0, 0), (0.25, 0.25, 0.25)),
    _crystal("Cs Cl", 4.12 * _CUBE, (0, 0, 0), (0.5, 0.5, 0.5)),
    _rutile("Ti", 4.594, 2.959, 0.305),
    _crystal("Sr Ti O O O", 3.905 * _CUBE, (0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    _crystal("Pu O O", 5.396 * _FACE_CENTERED, (0, 0, 0), (0.25, 0.25, 0.25), (0.75, 0.75, 0.75)),
)
"""Rocksalt (primitive and conventional cell), bcc iron, diamond, CsCl, rutile, a perovskite, and an oxide of the heaviest element that
MEGNet knows: ordinary crystals, because trained networks magnify rounding where they have seen nothing (an atom without bonds)."""
