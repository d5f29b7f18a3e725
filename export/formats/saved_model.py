"""SavedModels of TensorFlow: materials in, physical values out, alone or behind TensorFlow Serving.

Behind a server a model needs safety when requests are joined, and units. With ``pad_variable_length_inputs`` the server joins requests of
different sizes along the batch axis and makes them equally long by repeating the first element of each array, not by zeros (``AddPadding``
in its ``batching_util.h``): ``species`` [22, 8, 8] would become [22, 8, 8, 22, 22], another material. So for a server every row begins with
an empty slot, 0, which is what is repeated then; a row that does not is refused, and a joined request cannot give a plausible number for a
material that nobody sent.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, size_of, staged
from tfmat.errors import InputError
from tfmat.export.graph.checks import require
from tfmat.export.graph.lists import in_parts
from tfmat.export.graph.quotient import classes_of
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.base import SERVING, Entry, specs
from tfmat.export.metadata import describe
from tfmat.export.outputs import DOMAIN, SITES, material_outputs, output_names, physical_outputs
from tfmat.export.results import EXTRA_FOLDER, METADATA_FILE, ExportError, ExportReport
from tfmat.export.verify import LIMIT, compare, expected_of_materials, keras_outputs, median_seconds
from tfmat.featurizers.base import configuration
from tfmat.model_directory.files import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

ABOUT, METADATA_OUTPUT = "about", "tfmat_json"
"""The signature, and its output, that gives a client what ``tfmat.json`` says, in models that were exported for a server."""

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
        predictor: a model whose featurizer has an interface, see `tfmat.export.interfaces.INTERFACES`.
        directory: path to write to, which must be free.
        examples: formulas or crystals on which the result is compared with the Keras model; built-in ones if None.
        for_server: whether every row must begin with an empty slot, and the signature ``about`` gives what ``tfmat.json`` says.

    Raises:
        InputError: the path is taken or cannot be written.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verify.LIMIT`, or 1e-4 where coordinates go in;
            nothing is written.
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
            facts = expected_of_materials(predictor, prepared, [len(material) for material in materials] if entry.counts_sites else None)
            outputs = _outputs(f"signature {name}", functions[name], entry, materials)
            difference = max(difference, compare(predictor, outputs, expected, facts, entry.limit or LIMIT))
        name, entry = next(reversed(entries.items()))  # the one that clients use most
        tensors = _tensors(entry.encode(materials[:1]))
        latency = median_seconds(lambda: functions[name](**tensors))
        size = size_of(temporary)
    names = tuple(sorted(entries, key=lambda name: name != SERVING))
    return ExportReport(out, "savedmodel", names, difference, len(materials), size, latency, time.perf_counter() - start)


def as_module(predictor: Predictor, entries: Mapping[str, Entry]) -> tuple[tf.Module, dict[str, Any]]:
    """A module with one copy of the network and of its weights, and functions by name that share it.

    Args:
        predictor: the model.
        entries: the signatures to make functions of.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]
    module.resources = [resource for entry in entries.values() for resource in entry.resources]
    names, given = output_names(predictor), predictor.model.input
    same = configuration(predictor.featurizer)["config"].get("same", 0) if "bond_receivers" in given else 0

    network = functools.partial(physical_outputs, predictor)

    def of_lists(arrays: Mapping[str, Any]) -> dict[str, Any]:
        with tf.device("CPU:0"):
            lists = classes_of(arrays, same) if same else arrays
        return in_parts(network, lists, names)

    taken = {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in given.items()}
    shared = tf.function(of_lists if "batch_sites" in given else network, autograph=False, input_signature=[taken])

    def signature(entry: Entry) -> Any:
        def serve(**arrays: Any) -> dict[str, Any]:
            prepared = entry.prepare(arrays)
            outputs = shared({name: prepared[name] for name in taken})
            return outputs | material_outputs(predictor, prepared, arrays["species"] if entry.counts_sites else None)

        return tf.function(serve, autograph=False).get_concrete_function(**specs(entry.inputs, {}))

    return module, {name: signature(entry) for name, entry in entries.items()}


def _write(predictor: Predictor, entries: Mapping[str, Entry], directory: Path, for_server: bool) -> None:
    given = {name: entry.inputs for name, entry in entries.items()}
    facts = {name: (DOMAIN, SITES) if entry.counts_sites else (DOMAIN,) for name, entry in entries.items()}
    metadata = describe(predictor, "savedmodel", given, facts=facts)
    module, signatures = as_module(predictor, entries)
    if for_server:
        signatures[ABOUT] = _about(metadata)
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures)
    except tf.errors.OpError as error:
        raise InputError(f"cannot write {directory.name!r}: {error.message}") from error
    extra = directory / EXTRA_FOLDER
    extra.mkdir()
    (extra / METADATA_FILE).write_text(metadata, encoding="utf-8")
    (extra / CARD).write_text(predictor.card, encoding="utf-8")


def _outputs(what: str, function: Any, entry: Entry, materials: Sequence[Any]) -> dict[str, dict[str, np.ndarray]]:
    """The outputs of calls of a signature that must all give what Keras gives, named for error messages."""

    def call(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return {name: value.numpy() for name, value in function(**_tensors(arrays)).items()}
        except tf.errors.InvalidArgumentError as error:
            lines = [line for line in error.message.splitlines() if "assertion failed" in line] or error.message.splitlines()
            raise ExportError(f"the exported model refuses an example that the featurizer accepts: {lines[0].strip()}") from error

    batch = entry.encode(materials)
    alone = [call(entry.encode([material])) for material in materials]
    outputs = {what: call(batch)}
    outputs[f"{what}, called with one material,"] = {name: np.concatenate([one[name] for one in alone]) for name in alone[0]}
    if entry.displaced is not None:
        outputs[f"{what}, called with more padding,"] = call(entry.displaced(batch))
    return outputs


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def batchable(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The signatures `entries`, by name, now refusing rows that do not begin with an empty slot."""
    return {name: _batchable(entry) for name, entry in entries.items()}


def _batchable(entry: Entry) -> Entry:
    displaced, note = entry.displaced, "; every row begins with an empty slot: 0"
    growing = [name for name, given in entry.inputs.items() if given.grows]
    if not growing:
        return entry
    if displaced is None:
        raise ValueError("a signature whose inputs grow must have `displaced`")
    inputs = {name: dataclasses.replace(given, meaning=given.meaning + note * given.grows) for name, given in entry.inputs.items()}

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


def _about(metadata: str) -> Any:
    """A signature that gives a text: ``row`` int32 (B,), any numbers -> `METADATA_OUTPUT` string (B, 1).

    TensorFlow Serving serves no files beside the model, and every request must have an input.
    """

    def serve(row: Any) -> dict[str, Any]:
        return {METADATA_OUTPUT: tf.fill([tf.size(row), 1], metadata)}

    return tf.function(serve, autograph=False).get_concrete_function(row=tf.TensorSpec([None], tf.int32, "row"))
