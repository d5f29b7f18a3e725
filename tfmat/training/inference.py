"""A model as a function of NumPy arrays, on whichever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from tfmat.batching.pipeline import Batches
from tfmat.records import Records

Forward = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def forward(model: keras.Model) -> Forward:
    """A function from a batch to the model's outputs in inference mode, both as NumPy arrays.

    TensorFlow traces it once, whatever the sizes of the batches; JAX compiles it once per combination of sizes.

    Args:
        model: whose weights are read at every call.
    """
    if keras.backend.backend() == "jax":
        return _forward_jax(model)
    if keras.backend.backend() != "tensorflow":
        return lambda inputs: {name: keras.ops.convert_to_numpy(output) for name, output in model(inputs, training=False).items()}
    import tensorflow as tf

    signature = {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in model.input.items()}
    call = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature], autograph=False)
    return lambda inputs: {
        name: output.numpy() for name, output in call({key: tf.convert_to_tensor(inputs[key]) for key in signature}).items()
    }


def outputs_of(
    run: Forward, records: Records, inputs: Collection[str], *, batch_size: int = 256, report: Callable[[int, int], None] | None = None
) -> dict[str, np.ndarray]:
    """Run a network on featurized materials: target -> float32 (N, 1 or 2), scaled.

    Args:
        run: the network, see `forward`.
        records: featurized materials.
        inputs: names of the network's inputs.
        batch_size: rows at a time.
        report: progress callback, called as ``report(rows done, rows in all)``.
    """
    batches = Batches.of(records, {}, batch_size, inputs=inputs)
    results: dict[str, np.ndarray] = {}
    done = 0
    for (arrays, *_), indices in zip(batches.epoch(0), batches.plan.epoch(0), strict=True):
        for name, output in run(arrays).items():
            column = results.setdefault(name, np.empty((len(records), output.shape[1]), np.float32))
            column[indices] = output[: len(indices)]
        done += len(indices)
        if report is not None:
            report(done, len(records))
    return results


def _forward_jax(model: keras.Model) -> Forward:
    """`forward` for the JAX backend; Keras' ``predict_on_batch`` frees the weights there."""
    import jax

    call = jax.jit(lambda weights, rest, inputs: model.stateless_call(weights, rest, inputs, training=False)[0])

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {key: inputs[key] for key in model.input}
        outputs: dict[str, Any] = call(
            [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables], given
        )
        return {name: np.asarray(output) for name, output in outputs.items()}

    return run
