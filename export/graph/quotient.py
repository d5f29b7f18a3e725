"""The quotient graph (`tfmat.featurizers.quotient`) of crystals, in the graph: equal sites, bonds and pairs of bonds once.

Colours are hashes of 64 bits, and the sum of the hashes of what arrives somewhere stands for the multiset (two that differ have the same
colour with a probability of 1e-9). Cosines are clustered once, in the first classes of bonds, and not again in finer ones.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmat.export.graph.checks import Tensors
from tfmat.export.graph.lists import expand, order_within
from tfmat.featurizers.quotient import WIDTH

_FACTORS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of splitmix64
_SHIFTS = (27, 31)


def classes_of(lists: Tensors, same: float) -> dict[str, Any]:
    """The same crystals, with equal sites, bonds and pairs of bonds once.

    Args:
        lists: the keys of sites and bonds, and of pairs if there are any, with multiplicities 1; other keys remain as they are.
        same: tolerance for distances [Å] and cosines, positive.
    """
    receivers, senders = lists["bond_receivers"], lists["bond_senders"]
    sites = _mixed(expand(lists["batch_sites"])[0], lists["species"])
    ends = _mixed(tf.gather(sites, receivers), tf.gather(sites, senders))
    bonds = _mixed(_clusters(ends, lists["distances"], same))
    pairs = None
    if "cosines" in lists:
        ends = _mixed(tf.gather(bonds, lists["pair_receivers"]), tf.gather(bonds, lists["pair_senders"]))
        pairs = _clusters(ends, lists["cosines"], same)
    sites, bonds = _refined(lists, sites, bonds, pairs)

    of_site, site_count, first = _numbered(sites)
    found = {"species": tf.gather(lists["species"], first), "site_multiplicity": site_count}
    crystals = tf.size(lists["batch_sites"])
    found["batch_sites"] = tf.math.bincount(tf.gather(expand(lists["batch_sites"])[0], first), minlength=crystals)
    of_bond, bond_count, first = _numbered(bonds)
    found["bond_receivers"] = tf.gather(of_site, tf.gather(receivers, first))
    found["bond_senders"] = tf.gather(of_site, tf.gather(senders, first))
    found["bond_multiplicity"] = bond_count // tf.gather(site_count, found["bond_receivers"])
    found["distances"] = _means(lists["distances"], of_bond, bond_count)
    if pairs is not None:
        ends = [tf.gather(of_bond, lists[key]) for key in ("pair_receivers", "pair_senders")]
        of_pair, pair_count, first = _numbered(_mixed(*ends, pairs))
        found["pair_receivers"], found["pair_senders"] = (tf.gather(end, first) for end in ends)
        found["pair_multiplicity"] = pair_count // tf.gather(bond_count, found["pair_receivers"])
        found["cosines"] = _means(lists["cosines"], of_pair, pair_count)
    return dict(lists) | found


def _refined(lists: Tensors, sites: Any, bonds: Any, pairs: Any | None) -> tuple[Any, Any]:
    """Colours of sites and bonds, int64 (S,) and (E,), refined until their number does not grow; `pairs` are clusters of cosines."""
    receivers, senders = lists["bond_receivers"], lists["bond_senders"]

    def body(before: Any, number: Any, sites: Any, bonds: Any) -> tuple[Any, Any, Any, Any]:
        arriving = []
        if pairs is not None:
            colors = _mixed(tf.gather(bonds, lists["pair_senders"]), pairs)
            arriving = [tf.math.unsorted_segment_sum(colors, lists["pair_receivers"], tf.size(bonds))]
        bonds = _mixed(bonds, tf.gather(sites, receivers), tf.gather(sites, senders), *arriving)
        sites = _mixed(sites, tf.math.unsorted_segment_sum(bonds, receivers, tf.size(sites)))
        return number, tf.size(tf.unique(sites).y) + tf.size(tf.unique(bonds).y), sites, bonds

    start = tf.constant(-1), tf.constant(0), sites, bonds
    _, _, sites, bonds = tf.while_loop(lambda before, number, *_: number > before, body, start, parallel_iterations=1)
    return sites, bonds


def _mixed(*numbers: Any) -> Any:
    """A hash of integers, int64."""
    result = tf.zeros_like(numbers[0], tf.int64)
    for number in numbers:
        result = tf.bitwise.bitwise_xor(result, tf.cast(number, tf.int64)) + 1
        for factor, shift in zip(_FACTORS, _SHIFTS, strict=True):
            result *= tf.constant(factor, tf.int64)
            result = tf.bitwise.bitwise_xor(result, tf.bitwise.right_shift(result, tf.constant(shift, tf.int64)))
    return result


def _clusters(colors: Any, values: Any, same: float) -> Any:
    """Number of the cluster of each value, int32 (n,), among those of the same colour.

    Sorted, they are cut where they are more than `same` apart; a cluster that reaches farther than `WIDTH` times this is cut by rounding.
    """
    groups, values = tf.unique(colors).idx, tf.cast(values, tf.float64)
    order = order_within(groups, values)
    groups, values = tf.gather(groups, order), tf.gather(values, order)

    def numbers(starts: Any) -> Any:
        return tf.cumsum(tf.cast(starts, tf.int32)) - 1

    other = tf.not_equal(groups, tf.pad(groups, [[1, 0]], constant_values=-1)[:-1])
    cluster = numbers(tf.logical_or(other, values - tf.pad(values, [[1, 0]])[:-1] > same))
    lowest, highest = tf.math.segment_min(values, cluster), tf.math.segment_max(values, cluster)
    step = tf.floor((values - tf.gather(lowest, cluster)) / same)
    step = tf.where(tf.gather(highest - lowest, cluster) > WIDTH * same, tf.cast(step, tf.int32), 0)
    columns = [tf.not_equal(column, tf.pad(column, [[1, 0]], constant_values=-1)[:-1]) for column in (cluster, step)]
    cluster = numbers(tf.logical_or(*columns))
    return tf.scatter_nd(order[:, None], cluster, tf.shape(order))


def _numbered(colors: Any) -> tuple[Any, Any, Any]:
    """Classes by their first members: the class of each, int32 (n,), how many it has, and the first, int32 (classes,)."""
    found = tf.unique_with_counts(colors)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(colors)), found.idx, tf.size(found.y))
    return found.idx, found.count, first


def _means(values: Any, classes: Any, counts: Any) -> Any:
    """The mean of the values of each class, float32."""
    sums = tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, tf.size(counts))
    return tf.cast(sums / tf.cast(counts, tf.float64), tf.float32)
