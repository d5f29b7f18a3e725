"""The interface of models of crystals that read bonds: sites, pairs of them within a radius, and their distances."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP, Crystal
from tfmat.export.graph.checks import LARGEST, Tensors, atomic_numbers, leads_to_site, of_whole_rows, one_row_each, require_rows
from tfmat.export.graph.lists import bonds_of, fixed_sites_of, site_numbers, sites_of
from tfmat.export.graph.neighbor_search import CUTOFF_SLACK, Choice, Found, Sites, search
from tfmat.export.interfaces.base import BEFORE, Example, Grids, Input, Size
from tfmat.export.interfaces.crystals import EXAMPLES, ROUNDING, CrystalInterface
from tfmat.featurizers.bonds import HEAVIEST, TOLERANCE, BondFeaturizer
from tfmat.featurizers.quotient import MOST

_COLUMNS = [tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int32, tf.float32)]


class BondInterface(CrystalInterface):
    """`tfmat.featurizers.bonds.BondFeaturizer` in the graph."""

    featurizer: BondFeaturizer
    heaviest = HEAVIEST

    @property
    def inputs(self) -> Mapping[str, Input]:
        axes, cutoff = ("B", "E"), self.featurizer.cutoff
        return {
            "species": self.species_input(),
            "centers": Input("int32", axes, "of each bond the site it starts from, a position in `species` counted from 0; 0 in padding"),
            "neighbors": Input("int32", axes, "of each bond the site it leads to, or to a periodic image of it; 0 in padding"),
            "distances": Input("float32", axes, f"lengths of the bonds, at most {cutoff:g} + {TOLERANCE:g}; 0 = padding", "Å"),
        } | self.more_inputs()

    def more_inputs(self) -> dict[str, Input]:
        if self.featurizer.state_dim:
            return {"state": Input("float32", ("B", self.featurizer.state_dim), "state features, in the order of the training data")}
        if self.featurizer.fidelities:
            return {"state": Input("int32", ("B", 1), f"fidelity, from 0 to {self.featurizer.fidelities - 1}")}
        return {}

    def more_checks(self, arrays: Tensors) -> dict[str, Any]:
        checks = {}
        if self.featurizer.state_dim:
            checks["`state` must be finite numbers; see row"] = tf.abs(arrays["state"]) <= LARGEST
        if self.featurizer.fidelities:
            sentence = f"`state` must be a fidelity from 0 to {self.featurizer.fidelities - 1}; see row"
            checks[sentence] = tf.logical_and(arrays["state"] >= 0, arrays["state"] < self.featurizer.fidelities)
        return of_whole_rows(checks)

    def shape_checks(self, arrays: Tensors) -> list[Any]:
        bonds = tf.shape(arrays["centers"])
        alike = [
            tf.debugging.assert_equal(tf.shape(arrays[key]), bonds, "there must be one of each for every bond")
            for key in ("neighbors", "distances")
        ]
        return alike + one_row_each(arrays, [key for key in arrays if key != "species"])

    def row_checks(self, arrays: Tensors) -> dict[str, Any]:
        species, distances, cutoff = arrays["species"], arrays["distances"], self.featurizer.cutoff
        is_bond = tf.not_equal(distances, 0)
        within = tf.logical_and(distances >= OVERLAP, distances <= cutoff + ROUNDING)
        sentence = f"`distances` must be from {OVERLAP:g} to {cutoff:g} Å, with 0 as padding; see row"
        checks = atomic_numbers("species", species, HEAVIEST) | {sentence: tf.logical_or(within, tf.logical_not(is_bond))}
        for key in ("centers", "neighbors"):
            sentence = f"`{key}` must be positions of sites in `species`, counted from 0, and 0 where `distances` is 0; see row"
            checks[sentence] = tf.where(is_bond, leads_to_site(arrays[key], species), tf.equal(arrays[key], 0))
        bonded = {"a crystal needs at least one bond; see row": tf.reduce_any(is_bond, axis=1)}
        return of_whole_rows(checks) | self.more_checks(arrays) | bonded

    def lists(self, arrays: Tensors) -> dict[str, Any]:
        number = site_numbers(arrays["species"] > 0)
        real = tf.where(tf.not_equal(arrays["distances"], 0))
        rows = tf.cast(real[:, 0], tf.int32)
        receivers, senders = (
            tf.gather_nd(number, tf.stack([rows, tf.gather_nd(arrays[key], real)], axis=1)) for key in ("centers", "neighbors")
        )
        columns = [receivers, senders, tf.gather_nd(arrays["distances"], real)]
        order = tf.argsort(receivers, stable=True)
        return sites_of(arrays["species"]) | bonds_of(*(tf.gather(column, order) for column in columns)) | self._state_of(arrays)

    def _state_of(self, arrays: Tensors) -> dict[str, Any]:
        return {key: arrays[key] for key in self.more_inputs()}

    def fixed_lists(self, arrays: Tensors) -> tuple[dict[str, Any], Grids]:
        """See `CrystalInterface.fixed_lists`. Slots without a bond have multiplicity 0.

        They arrive at all sites alike, so that where a converter makes a table of the bonds of each site, it stays small.
        """
        (crystals, sites), bonds = (int(n) for n in arrays["species"].shape), int(arrays["distances"].shape[1])
        real = tf.not_equal(arrays["distances"], 0)
        first, spread = np.arange(crystals, dtype=np.int32)[:, None] * sites, np.arange(bonds, dtype=np.int32) % sites
        ends = {
            "bond_receivers": tf.where(real, arrays["centers"], spread) + first,
            "bond_senders": tf.where(real, arrays["neighbors"], spread) + first,
            "distances": arrays["distances"],
            "bond_multiplicity": tf.cast(real, tf.int32),
        }
        lists = fixed_sites_of(arrays["species"]) | {key: tf.reshape(value, [-1]) for key, value in ends.items()}
        return lists | self._state_of(arrays), {(crystals, crystals * sites), (crystals, crystals * bonds)}

    def search(self, sites: Sites, crystals: Tensors) -> dict[str, Any]:
        def choose(found: Found) -> Choice:
            columns = tf.gather(found.sites, found.centers), found.neighbors, tf.cast(found.distances, tf.float32)
            return columns, tf.zeros([0], tf.int32), tf.zeros([0], tf.float64)

        cutoff = self.featurizer.cutoff
        radii = tf.fill(tf.shape(sites.crystal), tf.constant(cutoff + CUTOFF_SLACK, tf.float64))
        centers, neighbors, distances = search(sites, radii, _COLUMNS, choose)
        bonds = tf.math.bincount(tf.gather(sites.crystal, centers), minlength=tf.size(sites.counts))
        sentence = f"no two atoms are within {cutoff:g} Å, so the crystal has no bonds; see row"
        checks = {sentence: bonds > 0, f"a crystal must have at most {MOST:,} bonds; see row": bonds <= MOST}
        with tf.control_dependencies(require_rows(checks)):
            return bonds_of(tf.identity(centers), neighbors, distances) | self._state_of(crystals)

    @property
    def sizes(self) -> Mapping[str, Size]:
        return {"max_sites": Size("A", 32, 10_000, "sites"), "max_bonds": Size("E", 1024, 1_000_000, "bonds")}

    @property
    def notes(self) -> Mapping[str, Any]:
        definition = (
            "a bond leads from site i to site j, or to a periodic image of it, wherever their distance is at most `cutoff` plus "
            "`tolerance`, which those right at the cut-off need because distances are rounded (compute them in float64): (i, j) and "
            "(j, i) both, as often as there are images within reach, images of site i itself included, site i itself not; in any order"
        )
        return {"bonds": {"cutoff": self.featurizer.cutoff, "tolerance": TOLERANCE, "unit": "Å", "definition": definition}}

    def examples(self) -> Sequence[Crystal]:
        """The built-in crystals, each with another state if the model needs one."""
        given, numbers = self.featurizer, np.arange(len(EXAMPLES), dtype=np.float64)[:, None]
        if "state" not in given.spec:
            return EXAMPLES
        states = numbers % given.fidelities if given.fidelities else np.cos(numbers + np.arange(given.state_dim))
        return [dataclasses.replace(crystal, state=state) for crystal, state in zip(EXAMPLES, states, strict=True)]

    def arrays_of(self, material: Any) -> Example:
        lists = self.every_copy(material)
        names = {"species": "species", "centers": "bond_receivers", "neighbors": "bond_senders", "distances": "distances", "state": "state"}
        return {name: lists[names[name]] for name in self.inputs}

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        real = batch["distances"] > 0
        moved = {key: np.where(real, batch[key] + BEFORE, 0).astype(np.int32) for key in ("centers", "neighbors")}
        return super().displaced(dict(batch) | moved)
