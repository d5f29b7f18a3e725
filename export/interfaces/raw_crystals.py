"""Crystals as a client has them, lattice, coordinates and species, in the TensorFlow graph: the inputs and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.crystal import THINNEST
from tfmat.export.graph.checks import Arrays, RowChecks, by_rows, checked_rows, require
from tfmat.export.interfaces.base import BEFORE, BEHIND
from tfmat.export.interfaces.signatures import Input

FARTHEST = 100
"""Largest fractional coordinate: beyond, float32 has too few digits left."""
LONGEST = 10_000
"""Largest component of a lattice vector [Å], for the same reason."""

_RANKS = {"lattice": "(B, 3, 3)", "frac_coords": "(B, A, 3)", "species": "(B, A)"}


def raw_inputs(heaviest: int) -> dict[str, Input]:
    """Inputs of a signature that takes crystals; `heaviest` is the largest atomic number."""
    species = f"atomic numbers of the sites of the cell, 1 to {heaviest}; 0 = padding"
    coords = f"fractional coordinates of the sites, inside the cell or not, of at most {FARTHEST}; 0 in padding"
    return {
        "lattice": Input("float32", ("B", 3, 3), "lattice vectors as rows, of any cell", "Å"),
        "frac_coords": Input("float32", ("B", "A", 3), coords),
        "species": Input("int32", ("B", "A"), species),
    }


def row_checks(arrays: Arrays, heaviest: int) -> dict[str, Any]:
    """What every row must satisfy -> whether it does, bool (B,). A NaN satisfies nothing."""
    lattice, coords, species = arrays["lattice"], arrays["frac_coords"], arrays["species"]
    is_site = species > 0
    checks = {
        f"`species` must be atomic numbers from 1 to {heaviest}, with 0 as padding; see row": tf.logical_and(
            species >= 0, species <= heaviest
        ),
        f"`lattice` must be numbers [Å] of at most {LONGEST:,}; see row": tf.abs(lattice) <= LONGEST,
        f"`frac_coords` must be numbers of at most {FARTHEST}; see row": tf.abs(coords) <= FARTHEST,
        "`frac_coords` must be 0 where `species` is 0; see row": tf.logical_or(is_site[:, :, None], tf.equal(coords, 0)),
    }
    sentence = f"`lattice` must span a volume, with the planes (100), (010) and (001) at least {THINNEST:g} Å apart; see row"
    return (
        by_rows(checks)
        | {sentence: _spacing(tf.cast(lattice, tf.float64)) >= THINNEST}
        | {"a crystal needs at least one site; see row": tf.reduce_any(is_site, axis=1)}
    )


def _spacing(lattices: Any) -> Any:
    """The smallest distance of the lattice planes (100), (010), (001), (B,) [Å]; NaN or 0 if there is no volume."""
    rolled = [tf.roll(lattices, -shift, axis=1) for shift in (1, 2)]
    normals = tf.linalg.cross(*rolled)
    volumes = tf.abs(tf.reduce_sum(normals * lattices, axis=2))
    return tf.reduce_min(volumes / tf.norm(normals, axis=2), axis=1)


def checked(arrays: Arrays, heaviest: int, more: RowChecks) -> dict[str, Any]:
    """The same arrays, once every row is a crystal that may be searched.

    Args:
        arrays: `raw_inputs` and possibly others.
        heaviest: largest atomic number.
        more: checks of the others.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence and the number of the row, counted from 0.
    """
    with tf.control_dependencies(_ranks(arrays)):
        lattice, coords, species = (tf.shape(arrays[key]) for key in ("lattice", "frac_coords", "species"))
    shapes = [
        tf.debugging.assert_equal(lattice[1:], [3, 3], "`lattice` must be three vectors of three components for every crystal"),
        tf.debugging.assert_equal(coords, tf.concat([species, [3]], 0), "`frac_coords` must be three numbers for every one in `species`"),
    ]
    shapes += [
        tf.debugging.assert_equal(tf.shape(array)[0], species[0], f"`{key}` must have a row for every crystal")
        for key, array in arrays.items()
        if key not in ("frac_coords", "species")
    ]
    return checked_rows(arrays, shapes, lambda given: row_checks(given, heaviest) | dict(more(given)))


def _ranks(arrays: Arrays) -> list[Any]:
    """Assertions of the ranks. A server does not compare what it is sent with the shapes of the signature, so they are forgotten here."""
    operations = []
    for key, shape in _RANKS.items():
        rank = tf.rank(tf.raw_ops.PlaceholderWithDefault(input=arrays[key], shape=None))
        holds = tf.equal(rank, shape.count(",") + 1)
        operations.append(require(holds[None], f"`{key}` must have the shape {shape}, but the number of axes is", rank[None]))
    return operations


def displaced(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same crystals with padding on both sides, and each site in another cell."""
    cells = np.arange(batch["frac_coords"].size).reshape(batch["frac_coords"].shape) % 4 - 2
    moved = np.where(batch["species"][..., None] > 0, batch["frac_coords"] + cells, 0).astype(np.float32)
    sides = (BEFORE, BEHIND)
    return dict(batch) | {
        "frac_coords": np.pad(moved, [(0, 0), sides, (0, 0)]),
        "species": np.pad(batch["species"], [(0, 0), sides]),
    }
