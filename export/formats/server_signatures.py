"""What a model behind TensorFlow Serving needs beyond its own signatures: safety when requests are joined, and units.

With ``pad_variable_length_inputs`` the server joins requests of different sizes along the batch axis and makes them equally long by
repeating the first element of each array, not by zeros (``AddPadding`` in its ``batching_util.h``): ``species`` [22, 8, 8] would become
[22, 8, 8, 22, 22], another material. So here every row begins with an empty slot, 0, which is what is repeated then; a row that does not is
refused, and a joined request cannot give a plausible number for a material that nobody sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmat.export.graph.checks import require
from tfmat.export.interfaces.signatures import Entry, Input

NOTE = "every row begins with an empty slot: 0"
"""What ``tfmat.json`` says of such an input."""

METADATA = "tfmat_json"
"""The output of the signature ``about``."""


def _grows(given: Input) -> bool:
    """Whether it has an axis of any length beside that of the materials."""
    return any(isinstance(axis, str) for axis in given.axes[1:])


def batchable(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The same signatures, refusing rows that do not begin with an empty slot."""
    return {name: _batchable(entry) if any(map(_grows, entry.inputs.values())) else entry for name, entry in entries.items()}


def _batchable(entry: Entry) -> Entry:
    displaced = entry.displaced
    if displaced is None:
        raise ValueError("a signature whose inputs grow must have `displaced`")
    growing = [name for name, given in entry.inputs.items() if _grows(given)]
    inputs = {
        name: dataclasses.replace(given, meaning=f"{given.meaning}; {NOTE}") if name in growing else given
        for name, given in entry.inputs.items()
    }

    def prepare(arrays: Mapping[str, Any]) -> dict[str, Any]:
        with tf.control_dependencies([_begins_empty(name, arrays[name]) for name in growing]):
            given = {name: tf.identity(array) for name, array in arrays.items()}
        return entry.prepare(given)

    def encode(materials: Sequence[Any]) -> dict[str, np.ndarray]:
        return displaced(entry.encode(materials))

    return dataclasses.replace(entry, inputs=inputs, prepare=prepare, encode=encode)


def _begins_empty(name: str, array: Any) -> Any:
    """Operation that fails where the first element of a row is not 0; whatever shape a client sends."""
    array = tf.raw_ops.PlaceholderWithDefault(input=array, shape=None)
    rows = tf.maximum(tf.reduce_prod(tf.shape(array)[:1]), 1)
    width = tf.maximum(tf.size(array) // rows, 1)
    first = tf.gather(tf.reshape(array, [-1]), tf.range(0, tf.size(array), width))
    return require(tf.equal(first, 0), f"every row of `{name}` must begin with an empty slot, 0; see row", tf.range(tf.size(first)))


def about(metadata: str) -> Any:
    """A signature that tells a text: ``row`` int32 (B,), any numbers -> `METADATA` string (B, 1).

    TensorFlow Serving serves no files beside the model, and every request must have an input.
    """

    def tell(row: Any) -> dict[str, Any]:
        return {METADATA: tf.fill([tf.size(row), 1], metadata)}

    return tf.function(tell, autograph=False).get_concrete_function(row=tf.TensorSpec([None], tf.int32, "row"))
