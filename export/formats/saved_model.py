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
from tfmat.export.contents import EXTRA as EXTRA
from tfmat.export.contents import FILE
from tfmat.export.errors import ExportError
from tfmat.export.formats.server_signatures import about, batchable
from tfmat.export.graph.lists import in_parts
from tfmat.export.graph.quotient import classes_of
from tfmat.export.interfaces.base import interface_of
from tfmat.export.interfaces.signatures import ABOUT, SERVING, Entry, Input
from tfmat.export.metadata import describe
from tfmat.export.outputs import DOMAIN, SITES, material_outputs, output_names, physical_outputs
from tfmat.export.results import ExportReport, size_of
from tfmat.export.verify import LIMIT, compare, expected_of_materials, keras_outputs, median_seconds
from tfmat.featurizers.base import configuration
from tfmat.model_directory.files import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

_log = logging.getLogger(__name__)


def export_saved_model(
    predictor: Predictor, directory: str | Path, examples: Sequence[Any] | None = None, *, for_server: bool = False
) -> ExportReport:
    """Write a SavedModel that needs TensorFlow alone, after comparing it with the Keras model.

    Signatures, for any number B of materials:

    - ``serving_default``: of compositions ``species`` int32 and ``fractions`` float32 (B, E), positive amounts in any scale and order. Of
      crystals ``lattice`` float32 (B, 3, 3) [Å], ``frac_coords`` float32 (B, A, 3) and ``species`` int32 (B, A), and ``state`` where the
      model has one; neighbours are searched for in the graph, by the featurizer's rules. 0 = padding.
    - ``from_formula`` (compositions): ``formula`` string (B,), without brackets.
    - ``featurized`` (crystals): padded arrays, 0 = padding. ``species`` int32 (B, A); with bonds within a radius ``centers`` and
      ``neighbors`` int32 (B, E), ``distances`` float32 (B, E) [Å], in any order, and ``state``; with nearest neighbours ``neighbors``
      int32 (B, A, K) and ``vectors`` float32 (B, A, K, 3) [Å], in any order; with lists of atoms ``species`` int32 (B, U), ``elements``
      int32 and ``distances`` float32 (B, U, N) [Å], the nearest first, and ``lists`` int32 (B, A).

    All give for every target ``<target>`` float32 (B, 1) in its unit (the probability of class 1 for a binary one), and
    ``<target>_uncertainty`` where the network predicts it; ``in_domain`` bool (B, 1), whether every element occurred in training; and with
    ``serving_default`` of crystals ``n_sites`` int32 (B, 1). A material that cannot be read fails the whole call with a sentence.

    Args:
        predictor: a model whose featurizer has an interface, see `tfmat.export.interfaces.base.INTERFACES`.
        directory: path to write to, which must be free.
        examples: formulas or crystals on which the result is compared with the Keras model; built-in ones if None.
        for_server: every row must begin with an empty slot, and the signature ``about`` tells what ``tfmat.json`` tells; see
            `tfmat.export.formats.server_signatures`.

    Raises:
        InputError: the path is taken or cannot be written.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verify.LIMIT`, or 1e-4 where
            coordinates go in; nothing is written.
    """
    start, out = time.perf_counter(), Path(directory)
    interface = interface_of(predictor)
    output_names(predictor)
    check_free(out)
    materials, prepared = interface.featurize(examples, {})
    entries = batchable(interface.signatures()) if for_server else interface.signatures()
    with staged(out) as temporary:
        _log.info("writing the SavedModel")
        _write(predictor, entries, temporary, for_server)
        _log.info("comparing it with the Keras model on %d %s", len(materials), interface.materials)
        functions = tf.saved_model.load(str(temporary)).signatures
        expected = keras_outputs(predictor, interface.records_of(materials))
        difference = 0.0
        for name, entry in reversed(entries.items()):
            told = expected_of_materials(predictor, prepared, [len(material) for material in materials] if entry.counts_sites else None)
            calls = _calls(f"signature {name}", functions[name], entry, materials)
            difference = max(difference, compare(predictor, calls, expected, told, entry.limit or LIMIT))
        name, entry = next(reversed(entries.items()))  # the one that clients use most
        tensors = _tensors(entry.encode(materials[:1]))
        latency = median_seconds(lambda: functions[name](**tensors))
        size = size_of(temporary)
    names = tuple(sorted(entries, key=lambda name: name != SERVING))
    return ExportReport(out, "savedmodel", names, difference, len(materials), size, latency, time.perf_counter() - start)


def as_module(predictor: Predictor, entries: Mapping[str, Entry]) -> tuple[tf.Module, dict[str, Any]]:
    """Module with one copy of the network and of its weights, and the signatures that share it."""
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]
    module.resources = [resource for entry in entries.values() for resource in entry.resources]
    names, given = output_names(predictor), predictor.model.input
    same = configuration(predictor.featurizer)["config"].get("same", 0) if "bond_receivers" in given else 0

    def network(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return physical_outputs(predictor, arrays)

    def of_lists(arrays: Mapping[str, Any]) -> dict[str, Any]:
        with tf.device("CPU:0"):
            lists = classes_of(arrays, same) if same else arrays
        return in_parts(network, lists, names)

    specs = {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in given.items()}
    shared = tf.function(of_lists if "batch_sites" in given else network, autograph=False, input_signature=[specs])

    def signature(entry: Entry) -> Any:
        def serve(**arrays: Any) -> dict[str, Any]:
            prepared = entry.prepare(arrays)
            inputs = {name: prepared[name] for name in specs}
            return shared(inputs) | material_outputs(predictor, prepared, arrays["species"] if entry.counts_sites else None)

        return tf.function(serve, autograph=False).get_concrete_function(**_specs(entry.inputs))

    return module, {name: signature(entry) for name, entry in entries.items()}


def _specs(inputs: Mapping[str, Input]) -> dict[str, tf.TensorSpec]:
    return {name: given.spec(name, {}) for name, given in inputs.items()}


def _write(predictor: Predictor, entries: Mapping[str, Entry], directory: Path, for_server: bool) -> None:
    given = {name: entry.inputs for name, entry in entries.items()}
    told = {name: (DOMAIN, SITES) if entry.counts_sites else (DOMAIN,) for name, entry in entries.items()}
    metadata = describe(predictor, "savedmodel", given, told=told)
    module, signatures = as_module(predictor, entries)
    if for_server:
        signatures[ABOUT] = about(metadata)
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures)
    except tf.errors.OpError as error:
        raise InputError(f"cannot write {directory.name!r}: {error.message}") from error
    extra = directory / EXTRA
    extra.mkdir()
    (extra / FILE).write_text(metadata, encoding="utf-8")
    (extra / CARD).write_text(predictor.card, encoding="utf-8")


def _calls(what: str, function: Any, entry: Entry, materials: Sequence[Any]) -> dict[str, Callable[[], dict[str, np.ndarray]]]:
    """The calls of a signature that must all give what Keras gives, named for error messages."""
    batch = entry.encode(materials)

    def one_by_one() -> dict[str, np.ndarray]:
        results = [_call(function, entry.encode([material]))() for material in materials]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    calls = {what: _call(function, batch), f"{what}, called with one material,": one_by_one}
    if entry.displaced is not None:
        calls[f"{what}, called with more padding,"] = _call(function, entry.displaced(batch))
    return calls


def _call(function: Any, arrays: Mapping[str, np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
    """A call with these inputs."""

    def call() -> dict[str, np.ndarray]:
        try:
            return {name: value.numpy() for name, value in function(**_tensors(arrays)).items()}
        except tf.errors.InvalidArgumentError as error:
            lines = [line for line in error.message.splitlines() if "assertion failed" in line] or error.message.splitlines()
            raise ExportError(f"the exported model refuses an example that the featurizer accepts: {lines[0].strip()}") from error

    return call


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: tf.constant(array) for name, array in arrays.items()}
