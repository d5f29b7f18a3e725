"""One compiled program a batch shape, where that pays, and how many there are.

JAX always works so. Under the TensorFlow backend Keras traces `fit` once with the dataset's dynamic shape (B, None). For XLA and for short
sequences that is the slow way: XLA cannot plan and recurrent layers become loops. There each bucket's shape is traced and compiled on its
own; there are only a handful. Other models run in one program for all shapes unless XLA compiles them: a shape of its own would cost
seconds and bring nothing.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfmat.buckets import has_slots
from tfmat.errors import InputError
from tfmat.layers.activations import element_wise_fused
from tfmat.layers.tracing import static_shapes_only

COMPILE_SECONDS = 8.0
"""Of a training step with XLA, for one shape."""
BUCKETS, FREE_BUCKETS = 8, 24
"""Most bucket shapes of a training where each is compiled, and where one program does for all."""
DENSE_RATE = 3e10
"""Training slots times weights in a second, on a core or two."""
PAIR_SHARE = 0.25
"""Share of the weights that a pair of neighbour slots is multiplied by. In Crysformer these are the weights of the line graph's edges
(8 dim² a block, of 36 dim² in all); what each bond costs, spread over its pairs, is included."""


class Programs(Counter[str]):
    """How many programs XLA has compiled, by what they are for: ``training``, ``validation``, ``averaging`` or ``prediction``."""

    def __str__(self) -> str:
        """One line, such as ``XLA compiled 3 programs (2 for training, 1 for validation)``; empty if there is none."""
        parts = ", ".join(f"{count} for {purpose}" for purpose, count in self.items())
        return f"XLA compiled {self.total()} program{'' if self.total() == 1 else 's'} ({parts})" if self else ""

    def counted(self, function: Callable[..., Any], purpose: str) -> Callable[..., Any]:
        """`function`, counted whenever it is traced."""

        @functools.wraps(function)
        def traced(*arguments: Any) -> Any:
            self[purpose] += 1
            return function(*arguments)

        return traced


def uses_xla(wanted: bool | None, pays: bool) -> bool:
    """Whether XLA compiles: as is `wanted`, or if that is None where it `pays`. JAX knows nothing else.

    Raises:
        InputError: under JAX it is not wanted.
    """
    if keras.backend.backend() != "jax":
        return pays if wanted is None else wanted
    if wanted is False:
        raise InputError("Keras runs on JAX, which always compiles with XLA", expected="no --no-jit, or KERAS_BACKEND=tensorflow")
    return True


def least_saving(model: keras.Model, epochs: int, jit_compile: bool) -> float:
    """Padded slots an epoch that another batch shape must save to be worth its compilation in a run of `epochs`.

    A slot is taken to cost a multiplication by every weight, which is about right for networks of dense layers. For a model with neighbour
    slots these are pairs of slots, see `tfmat.buckets`, each of which costs a share of the weights.
    """
    weights = int(model.count_params()) * (PAIR_SHARE if has_slots(model.input) else 1)
    return COMPILE_SECONDS * DENSE_RATE / max(weights, 1) / epochs if jit_compile else 0.0


def most_buckets(model: keras.Model, jit_compile: bool) -> int:
    """How many bucket shapes a training of `model` may have.

    For a model that keeps padded sites, with neighbour slots: with 24, batches hold 1.5 to 1.7 times the real pairs of slots, with 8 1.9 to
    2.6 times (matbench_phonons, mp2018_subset; complete ties, batches of 64).
    """
    return FREE_BUCKETS if _one_program(model, jit_compile) else BUCKETS


def drops_padding(model: keras.Model, jit_compile: bool) -> bool:
    """Whether padded sites cost `model` nothing, because one of its layers leaves them out (it has an attribute ``drops_padding``).

    Not in programs for one shape, which cannot. Crysformer's batches then hold 1.17 and 1.24 times the real pairs of slots, where with
    padded sites it is 1.48 and 1.68 times (matbench_phonons, mp2018_subset; complete ties, batches of 64).
    """
    return _one_program(model, jit_compile) and any(getattr(layer, "drops_padding", False) for layer in model._flatten_layers())


def _one_program(model: keras.Model, jit_compile: bool) -> bool:
    """Whether one program does for all shapes."""
    return keras.backend.backend() == "tensorflow" and not jit_compile and not wants_static_shapes(model)


def wants_static_shapes(model: keras.Model) -> bool:
    """Whether a layer of `model` is faster in a program for one length (it has an attribute ``unrolls`` that says so)."""
    return any(getattr(layer, "unrolls", False) for layer in model._flatten_layers())


def specialise(model: keras.Model, jit_compile: bool, programs: Programs | None = None) -> None:
    """Give a compiled `model` train and test functions that are traced once a batch shape, if that pays.

    They replace those that `keras.Model.fit` and `evaluate` would make; calling `compile` again undoes this. JAX specialises shapes by
    itself, so there the steps are only counted.

    Args:
        model: compiled.
        jit_compile: with XLA.
        programs: takes the number of programs that XLA compiles.
    """
    counts = (programs if programs is not None else Programs()).counted if jit_compile else _uncounted
    if keras.backend.backend() == "jax":
        kind = type(model)  # not the instance, whose steps may be counted already, for another run
        model.train_step = counts(types.MethodType(kind.train_step, model), "training")
        model.test_step = counts(types.MethodType(kind.test_step, model), "validation")
        return
    if keras.backend.backend() != "tensorflow" or not (jit_compile or wants_static_shapes(model)):
        return
    train = PerShape(counts(model.train_step, "training"), jit_compile)
    test = PerShape(counts(model.test_step, "validation"), jit_compile)
    model.train_function = lambda iterator: train(next(iterator))
    model.test_function = lambda iterator: test(next(iterator))


def _uncounted(function: Callable[..., Any], purpose: str) -> Callable[..., Any]:
    return function


def forward(
    model: keras.Model, jit_compile: bool, programs: Programs | None = None, purpose: str = "prediction"
) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A function from padded inputs to the model's outputs in inference mode, as numpy arrays; compiled once a batch shape if that pays.

    Args:
        model: whose weights are read at every call.
        jit_compile: with XLA.
        programs: takes the number of programs that XLA compiles,
        purpose: under this name.
    """
    counts = (programs if programs is not None else Programs()).counted if jit_compile else _uncounted
    if keras.backend.backend() == "jax":
        return _forward_jax(model, counts, purpose)
    if keras.backend.backend() != "tensorflow":
        return lambda inputs: {name: keras.ops.convert_to_numpy(output) for name, output in model(inputs, training=False).items()}
    import tensorflow as tf

    call: Callable[[Any], Any] = PerShape(counts(lambda inputs: model(inputs, training=False), purpose), jit_compile)
    if not jit_compile and not wants_static_shapes(model):
        signature = {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in model.input.items()}
        call = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature], autograph=False)
    return lambda inputs: {
        name: output.numpy() for name, output in call({key: tf.convert_to_tensor(value) for key, value in inputs.items()}).items()
    }


def _forward_jax(model: keras.Model, counts: Callable[..., Any], purpose: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """`forward` for the JAX backend, which compiles once a shape by itself; Keras' ``predict_on_batch`` frees the weights there."""
    import jax

    call = jax.jit(counts(lambda weights, rest, inputs: model.stateless_call(weights, rest, inputs, training=False)[0], purpose))

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = call([v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables], inputs)
        return {name: np.asarray(output) for name, output in outputs.items()}

    return run


class PerShape:
    """A function of nested tensors, compiled by TensorFlow once for every combination of shapes.

    Attributes:
        compiled: shapes -> function; its length is the number of programs.
    """

    def __init__(self, function: Callable[[Any], Any], jit_compile: bool) -> None:
        self.function, self.jit_compile = function, jit_compile
        self.compiled: dict[Any, Callable[[Any], Any]] = {}

    def __call__(self, data: Any) -> Any:
        """Run on `data`, compiling first if its shapes are new."""
        import tensorflow as tf

        key = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(data, expand_composites=True))
        if key not in self.compiled:
            self.compiled[key] = tf.function(self.function, jit_compile=self.jit_compile, autograph=False)
        with element_wise_fused(self.jit_compile), static_shapes_only(self.jit_compile):  # read while the first call traces
            return self.compiled[key](data)
