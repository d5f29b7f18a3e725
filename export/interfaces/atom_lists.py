"""The interface of models of crystals that read lists of atoms: of each site its nearest neighbours, as elements and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import OVERLAP
from tfmat.export.graph.checks import LARGEST, Tensors, atomic_numbers, leads_to_site, of_whole_rows
from tfmat.export.graph.lists import fixed_sites_of, order_within, padded_rows, sites_of
from tfmat.export.graph.neighbor_search import CUTOFF_SLACK, Nearest, Sites, search_nearest
from tfmat.export.interfaces.base import BEFORE, Example, Grids, Input, Size
from tfmat.export.interfaces.crystals import NO_SITE, ROUNDING, CrystalInterface
from tfmat.featurizers.atom_list import DIGITS, STEP, TOLERANCE, AtomListFeaturizer
from tfmat.featurizers.nearest import SHELL
from tfmat.records import Records

_ORDERS = {
    "canonical": (
        "by the atomic number of the site, then by its list from the nearest neighbour on, each one's distance before its atomic number; "
        "distances in the same place that differ by at most {step:g} Å, from one to the next of those that occur, are equal"
    ),
    "published": f"by fractional x, then y, then z, each within [0, 1) and rounded to {DIGITS} decimals",
}
_KINDS = 128  # more than there are elements


class AtomListInterface(CrystalInterface):
    """`tfmat.featurizers.AtomListFeaturizer` in the graph.

    There are never more different lists than sites, so in a file of fixed sizes there is room for as many.
    """

    featurizer: AtomListFeaturizer

    @property
    def heaviest(self) -> int:
        return self.featurizer.heaviest

    @property
    def inputs(self) -> Mapping[str, Input]:
        """See `Interface.inputs`. ``lists`` comes first, so that a crystal of too many sites is named as one."""
        entries = ("B", "U", self.featurizer.slots)
        lists = "of each site its list, a position in `species` counted from 1, the sites in the order that is defined; 0 = padding"
        species = f"of each list the atomic number of its site, 1 to {self.heaviest}; sites with equal lists may share one; 0 = padding"
        end = "" if self.featurizer.cutoff is None else ", and behind the last neighbour within the cut-off"
        return {
            "lists": Input("int32", ("B", "A"), lists),
            "species": Input("int32", ("B", "U"), species),
            "elements": Input("int32", entries, f"atomic numbers of the neighbours of that site, the nearest first; 0 in padding{end}"),
            "distances": Input("float32", entries, f"from that site to each of them; 0 in padding{end}", "Å"),
        }

    def shape_checks(self, arrays: Tensors) -> list[Any]:
        species, elements, distances, lists = (tf.shape(arrays[key]) for key in ("species", "elements", "distances", "lists"))
        return [
            tf.debugging.assert_equal(elements[:2], species, "`elements` must have a list for every one in `species`"),
            tf.debugging.assert_equal(distances, elements, "there must be one distance for every element"),
            tf.debugging.assert_equal(lists[0], species[0], "`lists` must have a row for every crystal"),
        ]

    def row_checks(self, arrays: Tensors) -> dict[str, Any]:
        species, elements, distances, lists = (arrays[key] for key in ("species", "elements", "distances", "lists"))
        given = self.featurizer
        is_list, filled = species > 0, elements > 0
        farthest = LARGEST if given.cutoff is None else given.cutoff + ROUNDING
        proper = tf.logical_and(distances >= OVERLAP - ROUNDING, distances <= farthest)
        shell = SHELL * given.slots  # within a shell the order is by element
        ascending = tf.where(filled[:, :, 1:], distances[:, :, 1:] - distances[:, :, :-1] >= -(shell + ROUNDING), True)
        if given.cutoff is None:
            complete = tf.reduce_all(filled, axis=-1)
            sentence = f"every list must have {given.slots} neighbours; see row"
        else:
            complete = tf.reduce_all(tf.logical_or(filled[:, :, :-1], tf.logical_not(filled[:, :, 1:])), axis=-1)
            sentence = "every list must be filled from the front; see row"
        limits = f"from {OVERLAP:g} Å" + (" on" if given.cutoff is None else f" to {given.cutoff:g} Å")
        numbers = atomic_numbers("species", species, given.heaviest) | atomic_numbers("elements", elements, given.heaviest)
        checks = numbers | {
            f"`distances` must be {limits} where `elements` is not 0, and 0 where it is; see row": tf.where(
                filled, proper, tf.equal(distances, 0)
            ),
            "`elements` must be 0 where `species` is 0; see row": tf.logical_or(is_list, tf.logical_not(tf.reduce_any(filled, axis=-1))),
            sentence: tf.logical_or(complete, tf.logical_not(is_list)),
            "`distances` must be sorted, the nearest first; see row": ascending,
            "`lists` must be positions in `species`, counted from 1, with 0 as padding; see row": tf.logical_or(
                leads_to_site(lists - 1, species), tf.equal(lists, 0)
            ),
        }
        return of_whole_rows(checks) | {NO_SITE: tf.reduce_any(lists > 0, axis=1)}

    def lists(self, arrays: Tensors) -> dict[str, Any]:
        """See `CrystalInterface.lists`. Padding goes, and lists are counted without it."""
        real = arrays["species"] > 0
        sites = sites_of(arrays["species"])
        kept = {key: tf.boolean_mask(arrays[key], real) for key in ("elements", "distances")}
        counted = tf.pad(tf.cumsum(tf.cast(real, tf.int32), axis=1), [[0, 0], [1, 0]])
        lists = tf.gather(counted, arrays["lists"], batch_dims=1)
        first = tf.cumsum(sites["batch_sites"], exclusive=True)[:, None]
        number = tf.boolean_mask(lists - 1 + first, lists > 0)
        return sites | kept | {"site_multiplicity": tf.math.bincount(number, minlength=tf.size(sites["species"])), "lists": lists}

    def fixed_lists(self, arrays: Tensors) -> tuple[dict[str, Any], Grids]:
        entries = {key: tf.reshape(arrays[key], [-1, self.featurizer.slots]) for key in ("elements", "distances")}
        crystals, lists = (int(n) for n in arrays["species"].shape)
        counted = arrays["lists"] + np.arange(crystals, dtype=np.int32)[:, None] * (lists + 1)  # padding by itself
        ones = tf.ones([crystals * int(arrays["lists"].shape[1]), 1])
        counts = tf.reshape(tf.math.unsorted_segment_sum(ones, tf.reshape(counted, [-1]), crystals * (lists + 1)), [crystals, lists + 1])
        sites = fixed_sites_of(arrays["species"]) | {"site_multiplicity": tf.cast(tf.reshape(counts[:, 1:], [-1]), tf.int32)}
        return sites | entries | {"lists": arrays["lists"]}, {(crystals, crystals * lists)}

    def search(self, sites: Sites, crystals: Tensors) -> dict[str, Any]:
        """See `CrystalInterface.search`. Equal lists are found too: ``lists`` int32 (B, A) with 0 as padding."""
        given = self.featurizer
        nearest = search_nearest(sites, given.slots, TOLERANCE, given.slots, lambda found: found.distances)
        elements, distances = self._entries(sites, nearest)
        order = _canonical_order(sites, elements, distances, max(given.same, STEP))
        new = _differ_from_before(sites, elements, distances, order, given.same)
        number = tf.cumsum(tf.cast(new, tf.int32)) - 1  # of the list of each site in this order, counted through all crystals
        first = tf.gather(order, tf.where(new)[:, 0])
        mean = tf.math.segment_mean(tf.gather(distances, order), number)
        rows = tf.size(sites.counts)
        lists = tf.math.bincount(tf.gather(sites.crystal, first), minlength=rows)
        within = number - tf.gather(tf.cumsum(lists, exclusive=True), tf.gather(sites.crystal, order)) + 1
        counted = tf.scatter_nd(order[:, None], within, tf.shape(order))
        if given.order == "published":
            order = _published_order(sites)
        return {
            "species": tf.gather(sites.species, first),
            "site_multiplicity": tf.math.bincount(number),
            "elements": tf.gather(elements, first),
            "distances": tf.cast(mean, tf.float32),
            "batch_sites": lists,
            "lists": padded_rows(tf.gather(counted, order), sites.crystal, rows),
        }

    def _entries(self, sites: Sites, found: Nearest) -> tuple[Any, Any]:
        """Elements int32 (S, N) and distances float64 (S, N) [Å] of each site's neighbours."""
        kinds, distances = tf.gather(sites.species, found.neighbors), found.distances
        place = tf.stack([found.centers, found.ranks], axis=1)
        if self.featurizer.cutoff is not None:
            near = tf.where(distances <= self.featurizer.cutoff + CUTOFF_SLACK)[:, 0]
            place, kinds, distances = (tf.gather(column, near) for column in (place, kinds, distances))
        slots = self.featurizer.slots
        shape = tf.stack([tf.size(sites.crystal), slots])
        elements, lengths = tf.scatter_nd(place, kinds, shape), tf.scatter_nd(place, distances, shape)
        return tf.ensure_shape(elements, [None, slots]), tf.ensure_shape(lengths, [None, slots])

    @property
    def sizes(self) -> Mapping[str, Size]:
        return {"max_sites": Size("A", 32, 10_000, "sites")}

    def lengths(self, requested: Mapping[str, int], model: str) -> dict[str, int]:
        lengths = super().lengths(requested, model)
        return lengths | {"U": lengths["A"]}

    @property
    def notes(self) -> Mapping[str, Any]:
        given = self.featurizer
        limit = "" if given.cutoff is None else f" that are at most {given.cutoff:g} + {CUTOFF_SLACK:g} Å away"
        definition = (
            "around site i are all other sites and the periodic images of all sites, each image on its own, those of site i itself "
            f"included; the list of site i holds the first {given.slots} of them{limit}, by distance; neighbours whose distances, from one "
            f"to the next, differ by at most {SHELL:g} Å by atomic number, and those of one element among them by distance; each ascending"
        )
        policy = {"n_list": given.n_list, "cutoff": given.cutoff, "featurizer_version": given.version, "unit": "Å"}
        order = {"order": given.order, "order_of_sites": _ORDERS[given.order].format(step=max(given.same, STEP))}
        return {"atom_lists": policy | order | {"definition": definition}}

    def arrays_of(self, material: Any) -> Example:
        """The lists, without their multiplicities."""
        example = self.featurizer(material)
        return {name: example[name] for name in self.inputs}

    def records_of(self, materials: Sequence[Any]) -> Records:
        """See `Interface.records_of`. Equal lists stand once, as the order of the sites depends on what is equal."""
        return self.featurizer.featurize(materials)

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        lists = np.where(batch["lists"] > 0, batch["lists"] + BEFORE, 0).astype(np.int32)
        return super().displaced(dict(batch) | {"lists": lists})


def _canonical_order(sites: Sites, elements: Any, distances: Any, step: float) -> Any:
    """The canonical order of `AtomListFeaturizer`: by crystal, species, and the entries of the list; int32 (S,)."""

    def refined(entry: Any, order: Any) -> tuple[Any, Any]:
        """The order, now by this entry in the first place."""
        column = distances[:, entry]
        ascending = order_within(sites.crystal, column)
        values = tf.gather(column, ascending)
        steps = tf.cast(values - tf.pad(values, [[1, 0]])[:-1] > step, tf.int32)
        level = tf.scatter_nd(ascending[:, None], tf.cumsum(steps), tf.shape(steps))
        return entry - 1, _then(level * _KINDS + elements[:, entry], order)

    last = tf.constant(distances.shape[1] - 1)
    start = tf.argsort(tf.reduce_sum(distances, axis=1), stable=True)
    shapes = [last.shape, tf.TensorShape([None])]
    _, order = tf.while_loop(lambda entry, _: entry >= 0, refined, [last, start], shapes, parallel_iterations=1)
    return _then(sites.crystal * _KINDS + sites.species, order)


def _then(keys: Any, order: Any) -> Any:
    """The order, int32 (S,), sorted by keys, int32 (S,); what has the same key stays in its order."""
    return tf.gather(order, tf.argsort(tf.gather(keys, order), stable=True))


def _differ_from_before(sites: Sites, elements: Any, distances: Any, order: Any, same: float) -> Any:
    """Whether each site, in this order, has another list than the one before it, bool (S,); where `same` is 0, each has."""
    if not same:
        return tf.ones_like(order, tf.bool)
    kinds = tf.gather(tf.concat([sites.crystal[:, None], sites.species[:, None], elements], axis=1), order)
    lengths = tf.gather(distances, order)
    other = tf.reduce_any(tf.not_equal(kinds[1:], kinds[:-1]), axis=1)
    other = tf.logical_or(other, tf.reduce_any(tf.abs(lengths[1:] - lengths[:-1]) > same, axis=1))
    return tf.concat([tf.ones_like(order[:1], tf.bool), other], 0)


def _published_order(sites: Sites) -> Any:
    """The order by crystal, then fractional x, y, z, rounded and within [0, 1); int32 (S,)."""
    scale = 10**DIGITS
    coords = tf.math.floormod(tf.cast(tf.round(sites.coords * scale), tf.int64), tf.constant(scale, tf.int64))
    order = tf.range(tf.size(sites.crystal))
    for axis in (2, 1, 0):
        order = _then(coords[:, axis], order)
    return _then(sites.crystal, order)
