"""A model as a function of NumPy arrays, on whichever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

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
