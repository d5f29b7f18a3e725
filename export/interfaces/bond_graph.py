"""Crystals as lists of bonds in the TensorFlow graph: what makes a row a crystal, with assertions and without, and its lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import Arrays, by_rows, checked_rows, harmless_rows
from tfmat.export.graph.lists import bonds_of, fixed_sites_of, site_numbers, sites_of
from tfmat.export.interfaces.base import Fixed
from tfmat.featurizers.bonds import HEAVIEST, BondFeaturizer

SLACK = 1e-4
"""How far above the cut-off a distance may lie that a client computed in float32 [Å]."""

BOND_KEYS = ("centers", "neighbors", "distances")


def row_checks(arrays: Arrays, featurizer: BondFeaturizer) -> dict[str, Any]:
    """What every row must satisfy -> whether it does, bool (B,). A NaN satisfies nothing.

    Args:
        arrays: ``species`` int32 (B, A), ``centers`` and ``neighbors`` int32 (B, E), ``distances`` float32 (B, E) [Å], 0 = padding;
            ``state`` float32 (B, state_dim) or int32 (B, 1) if the featurizer has one.
        featurizer: gives the cut-off and the state.
    """
    species, distances = arrays["species"], arrays["distances"]
    is_bond = tf.not_equal(distances, 0)
    within = tf.logical_and(distances >= OVERLAP, distances <= featurizer.cutoff + SLACK)
    checks = {
        f"`species` must be atomic numbers from 1 to {HEAVIEST}, with 0 as padding; see row": tf.logical_and(
            species >= 0, species <= HEAVIEST
        ),
        f"`distances` must be from {OVERLAP:g} to {featurizer.cutoff:g} Å, with 0 as padding; see row": tf.logical_or(
            within, tf.logical_not(is_bond)
        ),
    }
    sites = tf.shape(species)[1]
    occupied = tf.pad(species, [[0, 0], [0, 1]])  # what lies outside is looked up in this slot, which is none
    for key in ("centers", "neighbors"):
        index = arrays[key]
        inside = tf.logical_and(index >= 0, index < sites)
        is_site = tf.gather(occupied, tf.where(inside, index, sites), batch_dims=1) > 0
        sentence = f"`{key}` must be positions of sites in `species`, counted from 0, and 0 where `distances` is 0; see row"
        checks[sentence] = tf.where(is_bond, is_site, tf.equal(index, 0))
    return (
        by_rows(checks) | state_checks(arrays, featurizer) | {"a crystal needs at least one bond; see row": tf.reduce_any(is_bond, axis=1)}
    )


def state_checks(arrays: Arrays, featurizer: BondFeaturizer) -> dict[str, Any]:
    """What the state of every row must satisfy, if there is one -> whether it does, bool (B,)."""
    checks = {}
    if featurizer.state_dim:
        checks["`state` must be finite numbers; see row"] = tf.abs(arrays["state"]) <= float(np.finfo(np.float32).max)
    if featurizer.fidelities:
        sentence = f"`state` must be a fidelity from 0 to {featurizer.fidelities - 1}; see row"
        checks[sentence] = tf.logical_and(arrays["state"] >= 0, arrays["state"] < featurizer.fidelities)
    return by_rows(checks)


def checked(arrays: Arrays, featurizer: BondFeaturizer) -> dict[str, Any]:
    """The lists of the network, once every row is a crystal.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    rows = tf.shape(arrays["species"])[0]
    shapes = [
        tf.debugging.assert_equal(tf.shape(arrays[key]), tf.shape(arrays["centers"]), "there must be one of each for every bond")
        for key in BOND_KEYS[1:]
    ]
    shapes += [
        tf.debugging.assert_equal(tf.shape(arrays[key])[0], rows, f"`{key}` must have a row for every crystal")
        for key in arrays
        if key != "species"
    ]
    return _lists(checked_rows(arrays, shapes, lambda given: row_checks(given, featurizer)))


def _lists(arrays: Arrays) -> dict[str, Any]:
    number = site_numbers(arrays["species"] > 0)
    real = tf.where(tf.not_equal(arrays["distances"], 0))
    receivers, senders = (_sites_at(number, real[:, 0], tf.gather_nd(arrays[key], real)) for key in ("centers", "neighbors"))
    columns = [receivers, senders, tf.gather_nd(arrays["distances"], real)]
    order = tf.argsort(receivers, stable=True)
    return sites_of(arrays["species"]) | bonds_of(*(tf.gather(column, order) for column in columns)) | _state(arrays)


def _sites_at(number: Any, rows: Any, positions: Any) -> Any:
    return tf.gather_nd(number, tf.stack([tf.cast(rows, tf.int32), positions], axis=1))


def _state(arrays: Arrays) -> dict[str, Any]:
    return {key: array for key, array in arrays.items() if key == "state"}


def harmless(arrays: Arrays, featurizer: BondFeaturizer) -> Fixed:
    """The lists of the network, with zeros in the rows that are no crystal; without assertions.

    Slots without a bond have multiplicity 0, and arrive at all sites alike: where a converter makes a table of the bonds of each site, it
    stays small.
    """
    arrays, sound = harmless_rows(arrays, lambda given: row_checks(given, featurizer))
    (crystals, sites), bonds = (int(n) for n in arrays["species"].shape), int(arrays["distances"].shape[1])
    real = tf.not_equal(arrays["distances"], 0)
    first, spread = np.arange(crystals, dtype=np.int32)[:, None] * sites, np.arange(bonds, dtype=np.int32) % sites
    ends = {
        "bond_receivers": tf.where(real, arrays["centers"], spread) + first,
        "bond_senders": tf.where(real, arrays["neighbors"], spread) + first,
        "distances": arrays["distances"],
        "bond_multiplicity": tf.cast(real, tf.int32),
    }
    lists = fixed_sites_of(arrays["species"]) | {key: tf.reshape(value, [-1]) for key, value in ends.items()} | _state(arrays)
    return Fixed(lists, sound, {(crystals, crystals * sites), (crystals, crystals * bonds)})
