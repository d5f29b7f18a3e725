"""Crystals as lists of atoms in the TensorFlow graph: what makes a row a crystal, with assertions and without, and the network's lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import Arrays, by_rows, checked_rows, harmless_rows
from tfmat.export.graph.lists import fixed_sites_of, sites_of
from tfmat.export.interfaces.base import Fixed
from tfmat.featurizers.atom_list import AtomListFeaturizer
from tfmat.featurizers.nearest import SHELL

SLACK = 1e-4
"""How far beyond the smallest distance or the cut-off a distance may lie that a client computed in float32 [Å]."""


def row_checks(arrays: Arrays, featurizer: AtomListFeaturizer) -> dict[str, Any]:
    """What every row must satisfy -> whether it does, bool (B,). A NaN satisfies nothing.

    Args:
        arrays: ``species`` int32 (B, U), ``elements`` int32 (B, U, N), ``distances`` float32 (B, U, N) [Å], ``lists`` int32 (B, A).
        featurizer: gives the elements, the cut-off and the length of a list.
    """
    species, elements, distances, lists = (arrays[key] for key in ("species", "elements", "distances", "lists"))
    is_list, filled = species > 0, elements > 0
    farthest = float(np.finfo(np.float32).max) if featurizer.cutoff is None else featurizer.cutoff + SLACK
    proper = tf.logical_and(distances >= OVERLAP - SLACK, distances <= farthest)
    shell = SHELL * featurizer.slots  # within a shell the order is by element
    ascending = tf.where(filled[:, :, 1:], distances[:, :, 1:] - distances[:, :, :-1] >= -(shell + SLACK), True)
    if featurizer.cutoff is None:
        complete = tf.reduce_all(filled, axis=-1)
        sentence = f"every list must have {featurizer.slots} neighbours; see row"
    else:
        complete = tf.reduce_all(tf.logical_or(filled[:, :, :-1], tf.logical_not(filled[:, :, 1:])), axis=-1)
        sentence = "every list must be filled from the front; see row"

    width = tf.shape(species)[1]
    occupied = tf.pad(species, [[0, 0], [1, 1]])  # list 0 is none, and what lies outside is looked up behind the last one
    inside = tf.logical_and(lists >= 0, lists <= width)
    leads_to_list = tf.gather(occupied, tf.where(inside, lists, width + 1), batch_dims=1) > 0
    limits = f"from {OVERLAP:g} Å" + (" on" if featurizer.cutoff is None else f" to {featurizer.cutoff:g} Å")
    checks = {
        f"`species` must be atomic numbers from 1 to {featurizer.heaviest}, with 0 as padding; see row": _within(species, featurizer),
        f"`elements` must be atomic numbers from 1 to {featurizer.heaviest}, with 0 as padding; see row": _within(elements, featurizer),
        f"`distances` must be {limits} where `elements` is not 0, and 0 where it is; see row": tf.where(
            filled, proper, tf.equal(distances, 0)
        ),
        "`elements` must be 0 where `species` is 0; see row": tf.logical_or(is_list, tf.logical_not(tf.reduce_any(filled, axis=-1))),
        sentence: tf.logical_or(complete, tf.logical_not(is_list)),
        "`distances` must be sorted, the nearest first; see row": ascending,
        "`lists` must be positions in `species`, counted from 1, with 0 as padding; see row": tf.logical_or(
            leads_to_list, tf.equal(lists, 0)
        ),
    }
    return by_rows(checks) | {"a crystal needs at least one site; see row": tf.reduce_any(lists > 0, axis=1)}


def _within(numbers: Any, featurizer: AtomListFeaturizer) -> Any:
    return tf.logical_and(numbers >= 0, numbers <= featurizer.heaviest)


def checked(arrays: Arrays, featurizer: AtomListFeaturizer) -> dict[str, Any]:
    """The lists of the network, once every row is a crystal.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    species, elements, distances, lists = (tf.shape(arrays[key]) for key in ("species", "elements", "distances", "lists"))
    shapes = [
        tf.debugging.assert_equal(elements[:2], species, "`elements` must have a list for every one in `species`"),
        tf.debugging.assert_equal(distances, elements, "there must be one distance for every element"),
        tf.debugging.assert_equal(lists[0], species[0], "`lists` must have a row for every crystal"),
    ]
    return _lists(checked_rows(arrays, shapes, lambda given: row_checks(given, featurizer)))


def _lists(arrays: Arrays) -> dict[str, Any]:
    """Padding goes; lists are counted without it."""
    real = arrays["species"] > 0
    sites = sites_of(arrays["species"])
    kept = {key: tf.boolean_mask(arrays[key], real) for key in ("elements", "distances")}
    counted = tf.pad(tf.cumsum(tf.cast(real, tf.int32), axis=1), [[0, 0], [1, 0]])
    lists = tf.gather(counted, arrays["lists"], batch_dims=1)
    first = tf.cumsum(sites["batch_sites"], exclusive=True)[:, None]
    number = tf.boolean_mask(lists - 1 + first, lists > 0)
    return sites | kept | {"site_multiplicity": tf.math.bincount(number, minlength=tf.size(sites["species"])), "lists": lists}


def harmless(arrays: Arrays, featurizer: AtomListFeaturizer) -> Fixed:
    """The lists of the network, with zeros in the rows that are no crystal; without assertions."""
    arrays, sound = harmless_rows(arrays, lambda given: row_checks(given, featurizer))
    entries = {key: tf.reshape(arrays[key], [-1, featurizer.slots]) for key in ("elements", "distances")}
    crystals, lists = (int(n) for n in arrays["species"].shape)
    counted = arrays["lists"] + np.arange(crystals, dtype=np.int32)[:, None] * (lists + 1)  # padding by itself
    ones = tf.ones([crystals * int(arrays["lists"].shape[1]), 1])
    counts = tf.reshape(tf.math.unsorted_segment_sum(ones, tf.reshape(counted, [-1]), crystals * (lists + 1)), [crystals, lists + 1])
    sites = fixed_sites_of(arrays["species"]) | {"site_multiplicity": tf.cast(tf.reshape(counts[:, 1:], [-1]), tf.int32)}
    return Fixed(sites | entries | {"lists": arrays["lists"]}, sound, {(crystals, crystals * lists)})
