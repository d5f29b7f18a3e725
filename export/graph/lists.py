"""The lists of crystals that the networks read (`tfmat.batching.arrays`), made in the graph from padded rows.

Every site, bond and pair of bonds of a client is an entry of its own, with multiplicity 1, until `tfmat.export.graph.quotient` joins equal
ones. Where sizes may depend on values the lists hold what is real and nothing else, and `in_parts` adds the empty entries at their ends. In
files of fixed sizes the lists hold every slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import tensorflow as tf

from tfmat.batching.arrays import PADDED, ROWS_OF, STACKED
from tfmat.export.graph.checks import Tensors, require_rows
from tfmat.featurizers.quotient import DISTINCT

Network = Callable[[Tensors], Tensors]

WORK = 2**13
"""About so many numbers of the longest list go through the network together, or all of one crystal: arrays that fit into the cache."""
AT_ONCE = 4
"""Most parts that go through the network at the same time, where there are threads."""
_HALF = 32  # bits


def expand(counts: Any) -> tuple[Any, Any]:
    """Each number as often as its count says.

    Args:
        counts: int32 (N,).

    Returns:
        int32 (sum of the counts,): 0 `counts[0]` times, 1 `counts[1]` times, ...; and, for each, how many of its kind came before.
    """
    starts = tf.bitwise.left_shift(tf.range(tf.size(counts, tf.int64)), tf.constant(_HALF, tf.int64))
    both = tf.raw_ops.RaggedRange(starts=starts, limits=starts + tf.cast(counts, tf.int64), deltas=tf.constant(1, tf.int64))
    values = both.rt_dense_values  # owner and place in one number
    owner = tf.bitwise.right_shift(values, tf.constant(_HALF, tf.int64))
    return tf.cast(owner, tf.int32), tf.cast(tf.bitwise.bitwise_and(values, tf.constant(2**_HALF - 1, tf.int64)), tf.int32)


def order_within(groups: Any, values: Any) -> Any:
    """The order by group, then by value, int32 (N,).

    It is sorted once, by one number for both, so values of a group that differ by less than about 1e-15 of the largest value, times the
    number of groups, keep their order.

    Args:
        groups: int (N,), not negative.
        values: float64 (N,).
    """
    span = tf.maximum(tf.reduce_max(tf.abs(values)), 1.0)
    return tf.argsort(tf.cast(groups, tf.float64) + values / (2.5 * span), stable=True)


def padded_rows(values: Any, rows: Any, number: Any) -> Any:
    """The `values` (N, ...), whose `rows` int32 (N,) ascend, as (`number`, largest number in a row, at least 1, ...) with 0 at the end."""
    sizes = tf.math.bincount(rows, minlength=number)
    place = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(sizes, exclusive=True), rows)
    width = tf.reduce_max(tf.pad(sizes, [[0, 1]], constant_values=1))
    shape = tf.concat([tf.stack([number, width]), tf.shape(values)[1:]], 0)
    return tf.ensure_shape(tf.scatter_nd(tf.stack([rows, place], axis=1), values, shape), [None, None, *values.shape[1:]])


def site_numbers(real: Any) -> Any:
    """The number of each real site among all real ones, int32 (B, A), from whether a slot is one, bool (B, A)."""
    return tf.reshape(tf.cumsum(tf.cast(tf.reshape(real, [-1]), tf.int32)) - 1, tf.shape(real))


def sites_of(species: Any) -> dict[str, Any]:
    """The network's keys of sites, from the atomic numbers `species`, int32 (B, A), 0 = padding."""
    real = species > 0
    flat = tf.boolean_mask(species, real)
    counts = tf.math.count_nonzero(real, axis=1, dtype=tf.int32)
    return {"species": flat, "site_multiplicity": tf.ones_like(flat), "batch_sites": counts}


def fixed_sites_of(species: Any) -> dict[str, Any]:
    """The same with a site for every slot of `species`, whose shape must be known; its multiplicity is 0 where there is no site."""
    crystals, width = (int(n) for n in species.shape)
    flat = tf.reshape(species, [-1])
    real = tf.cast(flat > 0, tf.int32)
    return {"species": flat, "site_multiplicity": real, "batch_sites": tf.constant(width, tf.int32, [crystals])}


def bonds_of(receivers: Any, senders: Any, distances: Any) -> dict[str, Any]:
    """The network's keys of bonds.

    Args:
        receivers: int32 (E,), numbers of the sites at which bonds arrive, ascending.
        senders: int32 (E,), numbers of the sites from which they come.
        distances: float32 (E,), their lengths [Å].
    """
    ends = {"bond_receivers": receivers, "bond_senders": senders}
    return ends | {"distances": distances, "bond_multiplicity": tf.ones_like(receivers)}


def bonds_and_pairs_of(
    receivers: Any, senders: Any, vectors: Any, sites: Any, angle_neighbors: int | None = None, tolerance: float = 0.0
) -> dict[str, Any]:
    """The network's keys of bonds and of pairs of bonds.

    Args:
        receivers: int32 (E,), numbers of the sites at which bonds arrive, ascending.
        senders: int32 (E,), numbers of the sites from which they come.
        vectors: float32 (E, 3), from the receiver to the sender [Å].
        sites: int32, number of sites.
        angle_neighbors: pairs are of bonds from so many nearest neighbours of a site alone, as of `NeighborFeaturizer`; None for all.
        tolerance: and from those at most this much farther than the last of them [Å].
    """
    distances = tf.norm(vectors, axis=1)
    arrows = vectors / distances[:, None]
    arriving = tf.math.bincount(receivers, minlength=sites)
    first = tf.cumsum(arriving, exclusive=True)
    pair_receivers, place = expand(tf.gather(arriving, senders))
    pair_senders = tf.gather(tf.gather(first, senders), pair_receivers) + place
    if angle_neighbors is not None:
        nearest_first = tf.gather(distances, order_within(receivers, tf.cast(distances, tf.float64)))
        limits = tf.gather(nearest_first, tf.gather(first, receivers) + angle_neighbors - 1) + tolerance
        paired = distances <= limits
        kept = tf.logical_and(tf.gather(paired, pair_receivers), tf.gather(paired, pair_senders))
        pair_receivers, pair_senders = (tf.boolean_mask(column, kept) for column in (pair_receivers, pair_senders))
    cosines = -tf.reduce_sum(tf.gather(arrows, pair_receivers) * tf.gather(arrows, pair_senders), axis=1)
    ends = {"pair_receivers": pair_receivers, "pair_senders": pair_senders}
    pairs = ends | {"cosines": cosines, "pair_multiplicity": tf.ones_like(pair_receivers)}
    return bonds_of(receivers, senders, distances) | pairs


def in_parts(network: Network, lists: Tensors, names: Sequence[str]) -> dict[str, Any]:
    """The network's outputs for all crystals, so many at a time that memory is bounded.

    Args:
        network: gives the outputs, float32 (B, 1) by name, of a batch.
        lists: B crystals, without empty entries at the end.
        names: the outputs.

    Returns:
        Outputs (B, 1) by name.

    Raises:
        tf.errors.InvalidArgumentError: a crystal has too many different bonds or pairs of bonds, with the number of the row.
    """
    ends = _ends(lists)
    work = [of * max(math.prod(lists[name].shape[1:]) for name in lists if _kind(name, ends) == kind) for kind, of in ends.items()]
    part = (tf.reduce_max(tf.stack(work), axis=0) - 1) // WORK  # of each crystal, ascending
    with tf.control_dependencies(require_rows(_distinct(ends))):
        part = tf.identity(part)
    cuts = tf.concat([[0], tf.cumsum(tf.unique_with_counts(part).count)], 0)

    def body(turn: Any, *outputs: Any) -> list[Any]:
        found = network(_part(lists, ends, cuts[turn], cuts[turn + 1]))
        return [turn + 1, *(output.write(turn, found[name]) for output, name in zip(outputs, names, strict=True))]

    parts = tf.size(cuts) - 1
    outputs = [tf.TensorArray(tf.float32, parts, infer_shape=False, element_shape=(None, 1)) for _ in names]
    _, *outputs = tf.while_loop(lambda turn, *_: turn < parts, body, [tf.constant(0), *outputs], parallel_iterations=AT_ONCE)
    return {name: output.concat() for name, output in zip(names, outputs, strict=True)}


def _ends(lists: Tensors) -> dict[str, Any]:
    """Give where each crystal ends in each kind of list, int32 (B,)."""
    ends = {"species": tf.cumsum(lists["batch_sites"])}
    for receivers, kind in (("bond_receivers", "distances"), ("pair_receivers", "cosines")):
        if receivers in lists:
            ends[kind] = tf.searchsorted(lists[receivers], ends[ROWS_OF[receivers]])
    return ends


def _distinct(ends: Tensors) -> dict[str, Any]:
    """Checks that no crystal has too many different bonds and pairs: sentence -> whether it holds, bool (B,)."""
    checks = {}
    for key, (most, kind) in DISTINCT.items():
        if key in ends:
            checks[f"a crystal must have at most {most:,} different {kind}; see row"] = ends[key] - tf.pad(ends[key], [[1, 0]])[:-1] <= most
    return checks


def _kind(name: str, kinds: Collection[str]) -> str | None:
    """Give one of the `kinds`, the key of another array with a row for each entry; None where there is one for each crystal."""
    if name in (*PADDED, *STACKED, "batch_sites"):
        return None
    if name in kinds:
        return name
    return {"bond": "distances", "pair": "cosines"}.get(name.split("_")[0], "species")


def _part(lists: Tensors, ends: Tensors, first: Any, last: Any) -> dict[str, Any]:
    """The crystals from `first` up to `last`, with an empty entry at the end of each list."""
    bounds = {kind: (tf.where(first > 0, of[tf.maximum(first - 1, 0)], 0), of[last - 1]) for kind, of in ends.items()}
    part = {}
    for name, values in lists.items():
        kind = _kind(name, ends)
        start, end = (first, last) if kind is None else bounds[kind]
        rows, empty = values[start:end], 0
        if name in ROWS_OF:
            start, end = bounds[ROWS_OF[name]]
            rows, empty = rows - start, end - start
        behind = [[0, 0]] * (values.shape.rank - 1)
        part[name] = rows if kind is None else tf.pad(rows, [[0, 1], *behind], constant_values=tf.cast(empty, rows.dtype))
    return part
