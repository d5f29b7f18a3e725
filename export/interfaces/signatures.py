"""The signatures of exported models: their names, their inputs, and how those become the network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

SERVING = "serving_default"
"""The signature that every exported model has and that clients call if they name none."""

FEATURIZED = "featurized"
"""The signature that takes padded arrays of what the search finds, where `SERVING` takes the materials themselves."""

ABOUT = "about"
"""The signature that tells a client what ``tfmat.json`` tells, in models that were exported for a server."""


@dataclass(frozen=True)
class Input:
    """One input of a signature.

    Attributes:
        dtype: such as ``int32``.
        axes: a letter for an axis of any length, a number for a fixed one; the first is ``"B"``, the materials of a call.
        meaning: for the client.
        unit: of a physical quantity.
    """

    dtype: str
    axes: tuple[str | int, ...]
    meaning: str
    unit: str = ""

    def shape(self, lengths: Mapping[str, int]) -> list[str | int]:
        """The axes, with numbers for those that have a length."""
        return [lengths.get(axis, axis) if isinstance(axis, str) else axis for axis in self.axes]

    def spec(self, name: str, lengths: Mapping[str, int]) -> tf.TensorSpec:
        """The same for TensorFlow."""
        return tf.TensorSpec([None if isinstance(n, str) else n for n in self.shape(lengths)], self.dtype, name)

    def describe(self, lengths: Mapping[str, int]) -> dict[str, Any]:
        """The same for ``tfmat.json``."""
        unit = {"unit": self.unit} if self.unit else {}
        return {"dtype": self.dtype, "shape": self.shape(lengths), "meaning": self.meaning} | unit


@dataclass(frozen=True)
class Entry:
    """A signature of a SavedModel.

    Attributes:
        inputs: by name.
        prepare: tensors by name -> the network's inputs; a material that cannot be read fails with a sentence.
        encode: what a client sends for these materials.
        displaced: a batch of `encode` -> the same materials, sent in another way, on which the export is verified too.
        resources: what the exported module must hold, such as lookup tables.
        counts_sites: whether `inputs` has the ``species`` of all sites, so that their number can be told.
        limit: largest relative difference from Keras that its outputs may have; None: `tfmat.export.verify.LIMIT`.
    """

    inputs: Mapping[str, Input]
    prepare: Callable[[Mapping[str, Any]], dict[str, Any]]
    encode: Callable[[Sequence[Any]], dict[str, np.ndarray]]
    displaced: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    resources: tuple[Any, ...] = ()
    counts_sites: bool = False
    limit: float | None = None
