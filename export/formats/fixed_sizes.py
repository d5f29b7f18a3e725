"""What the formats of fixed sizes, LiteRT and ONNX, have in common: one function of padded arrays, without assertions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.errors import InputError
from tfmat.export.interfaces.base import Interface
from tfmat.export.outputs import physical_outputs
from tfmat.layers.tracing import static_shapes_only

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

Run = Callable[..., Mapping[str, np.ndarray]]
"""An exported model: arrays of the fixed sizes by name -> outputs by name."""


def fixed_lengths(interface: Interface, model: str, sizes: Mapping[str, int | None], batch_size: int) -> dict[str, int]:
    """Length of every axis of the inputs.

    Args:
        interface: of the model's featurizer.
        model: name of its architecture, for errors.
        sizes: what the user asked for, see `Interface.sizes`; None: the default.
        batch_size: materials in a call.

    Raises:
        InputError: a size is out of range or not one of this model.
    """
    lengths = interface.lengths({name: size for name, size in sizes.items() if size is not None}, model)
    if batch_size < 1:
        raise InputError(f"`batch_size` must be positive. Received: batch_size={batch_size}")
    return lengths | {"B": batch_size}


def specs(interface: Interface, lengths: Mapping[str, int]) -> dict[str, tf.TensorSpec]:
    """Shapes and types of the inputs, by name."""
    return {name: given.spec(name, lengths) for name, given in interface.inputs.items()}


def serve_fixed(predictor: Predictor, interface: Interface, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs for arrays of fixed sizes, float32 (B, 1) each; NaN in the rows that are no material."""
    inputs, sound, grids = interface.prepare_static(arrays)
    with static_shapes_only(True, grids):
        outputs = physical_outputs(predictor, {name: inputs[name] for name in predictor.model.input})
    return {name: tf.where(sound[:, None], value, float("nan")) for name, value in outputs.items()}


def in_batches(run: Run, batch: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """All N rows, `batch_size` at a time; the last batch is filled up with its last row."""
    count = len(next(iter(batch.values())))
    parts = []
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        parts.append(run(**{key: value[rows] for key, value in batch.items()}))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def one_call(run: Run, batch: Mapping[str, np.ndarray], batch_size: int) -> Callable[[], Any]:
    """A call with the first row of a batch in every place, to be timed."""
    first = {key: np.repeat(value[:1], batch_size, axis=0) for key, value in batch.items()}
    return lambda: run(**first)
