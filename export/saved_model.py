"""A model as a TensorFlow SavedModel: materials in, physical values out, for TF Serving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.errors import InputError
from tfmat.export.interface import SERVING, Entry, Example, Input, Interface, interface_of
from tfmat.export.metadata import FILE, describe
from tfmat.export.outputs import output_names, physical_outputs
from tfmat.export.report import ExportReport, size_of
from tfmat.export.verification import compare, keras_outputs, median_seconds
from tfmat.model_directory import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

EXTRA = "assets.extra"
"""Folder of a SavedModel that TensorFlow leaves alone."""

_log = logging.getLogger(__name__)


def export_saved_model(predictor: Predictor, directory: str | Path, examples: Sequence[Any] | None = None) -> ExportReport:
    """Write a SavedModel that needs TensorFlow alone, after comparing it with the Keras model.

    Signatures, for any number B of materials:

    - ``serving_default``: the featurizer's arrays, 0 = padding. Of compositions ``species`` int32 and ``fractions`` float32 (B, E):
      positive amounts in any scale and order. Of crystals ``species`` int32 (B, A); with bonds within a radius ``centers`` and
      ``neighbors`` int32 (B, E), ``distances`` float32 (B, E) [Å], in any order, and ``state`` where the model has one; with nearest
      neighbours ``neighbors`` int32 (B, A, K) and ``vectors`` float32 (B, A, K, 3) [Å], in any order; with lists of atoms ``species``
      int32 (B, U), ``elements`` int32 and ``distances`` float32 (B, U, N) [Å], the nearest first, and ``lists`` int32 (B, A).
    - ``from_formula`` (compositions): ``formula`` string (B,), without brackets.

    All give for every target ``<target>`` float32 (B, 1) in its unit (the probability of class 1 for a binary one), and
    ``<target>_uncertainty`` where the network predicts it. A material that cannot be read fails the whole call with a sentence.

    Args:
        predictor: a model whose featurizer has an interface, see `tfmat.export.interface.INTERFACES`.
        directory: path to write to, which must be free.
        examples: formulas or crystals on which the result is compared with the Keras model; built-in ones if None.

    Raises:
        InputError: the path is taken or cannot be written.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verification.LIMIT`; nothing is written.
    """
    start, out = time.perf_counter(), Path(directory)
    interface = interface_of(predictor)
    output_names(predictor)
    check_free(out)
    materials, prepared = interface.featurize(examples, {})
    entries = interface.entries()
    with staged(out) as temporary:
        _log.info("writing the SavedModel")
        _write(predictor, interface, entries, temporary)
        _log.info("comparing it with the Keras model on %d %s", len(materials), interface.materials)
        functions = tf.saved_model.load(str(temporary)).signatures
        calls = {f"signature {name}": _call(functions[name], entry.encode(materials)) for name, entry in entries.items()}
        calls |= _serving_calls(functions[SERVING], interface, prepared)
        difference = compare(predictor, calls, keras_outputs(predictor, interface, prepared))
        sent = {SERVING: interface.pad(prepared[:1])} | {name: entry.encode(materials[:1]) for name, entry in entries.items()}
        name, arrays = sent.popitem()  # the last entry is the one that clients use most
        tensors = _tensors(arrays)
        latency = median_seconds(lambda: functions[name](**tensors))
        size = size_of(temporary)
    seconds = time.perf_counter() - start
    return ExportReport(out, "savedmodel", (SERVING, *entries), difference, len(materials), size, latency, seconds)


def _module(predictor: Predictor, interface: Interface, entries: Mapping[str, Entry]) -> tuple[tf.Module, dict[str, Any]]:
    """Module with one copy of the network and of its weights, and the signatures that share it."""
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]
    module.resources = [resource for entry in entries.values() for resource in entry.resources]
    network = tf.function(lambda arrays: physical_outputs(predictor, arrays), autograph=False, input_signature=[_specs(interface.inputs)])

    def signature(inputs: Mapping[str, Input], prepare: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
        function = tf.function(lambda **arrays: network(prepare(arrays)), autograph=False)
        return function.get_concrete_function(**_specs(inputs))

    signatures = {SERVING: signature(interface.inputs, interface.prepare)}
    signatures |= {name: signature(entry.inputs, entry.prepare) for name, entry in entries.items()}
    return module, signatures


def _specs(inputs: Mapping[str, Input]) -> dict[str, tf.TensorSpec]:
    return {name: given.spec(name, {}) for name, given in inputs.items()}


def _write(predictor: Predictor, interface: Interface, entries: Mapping[str, Entry], directory: Path) -> None:
    module, signatures = _module(predictor, interface, entries)
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures)
    except tf.errors.OpError as error:
        raise InputError(f"cannot write {directory.name!r}: {error.message}") from error
    extra = directory / EXTRA
    extra.mkdir()
    inputs = {SERVING: interface.inputs} | {name: entry.inputs for name, entry in entries.items()}
    (extra / FILE).write_text(describe(predictor, "savedmodel", inputs), encoding="utf-8")
    (extra / CARD).write_text(predictor.card, encoding="utf-8")


def _serving_calls(function: Any, interface: Interface, examples: Sequence[Example]) -> dict[str, Callable[[], dict[str, np.ndarray]]]:
    """The calls of the signature `SERVING` that must all give what Keras gives, named for error messages."""
    batch = interface.pad(examples)

    def one_by_one() -> dict[str, np.ndarray]:
        results = [_call(function, interface.pad([example]))() for example in examples]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    return {
        f"signature {SERVING}": _call(function, batch),
        f"signature {SERVING}, called with one material,": one_by_one,
        f"signature {SERVING}, called with more padding,": _call(function, interface.displaced(batch)),
    }


def _call(function: Any, arrays: Mapping[str, np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
    """A call with these inputs."""
    return lambda: {name: value.numpy() for name, value in function(**_tensors(arrays)).items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: tf.constant(array) for name, array in arrays.items()}
