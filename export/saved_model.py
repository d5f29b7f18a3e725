"""A composition model as a TensorFlow SavedModel: formulas or amounts in, physical values out, for TF Serving."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmat.atomic import check_free, staged
from tfmat.errors import InputError
from tfmat.export.composition_graph import expand_brackets, normalise, parse_formulas, symbol_table
from tfmat.export.interface import composition_featurizer, output_names, physical_outputs
from tfmat.export.metadata import FILE, FORMULA, FRACTIONS, SPECIES, describe
from tfmat.export.report import ExportReport, size_of
from tfmat.export.verification import EXAMPLES, compare, featurize, keras_outputs, median_seconds, pad
from tfmat.model_directory import CARD

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

EXTRA = "assets.extra"
"""Folder of a SavedModel that TensorFlow leaves alone."""

_log = logging.getLogger(__name__)


def composition_module(predictor: Predictor) -> tf.Module:
    """Module with the functions ``serving_default`` and ``from_formula``, which share one copy of the network and of its weights."""
    limit = composition_featurizer(predictor).max_elements
    module = tf.Module()
    module.weights = [variable.value for variable in predictor.model.variables]
    module.symbols = symbol_table()
    species = tf.TensorSpec((None, None), tf.int32, "species")
    fractions = tf.TensorSpec((None, None), tf.float32, "fractions")

    @tf.function(input_signature=[species, fractions], autograph=False)
    def network(species: Any, fractions: Any) -> dict[str, Any]:
        return physical_outputs(predictor, {"species": species, "fractions": fractions})

    @tf.function(input_signature=[species, fractions], autograph=False)
    def serving_default(species: Any, fractions: Any) -> dict[str, Any]:
        return network(*normalise(species, fractions, limit))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "formula")], autograph=False)
    def from_formula(formula: Any) -> dict[str, Any]:
        return network(*normalise(*parse_formulas(formula, module.symbols), limit))

    module.serving_default, module.from_formula = serving_default, from_formula
    return module


def export_saved_model(predictor: Predictor, directory: str | Path, examples: Sequence[str] | None = None) -> ExportReport:
    """Write a SavedModel that needs TensorFlow alone, after comparing it with the Keras model.

    Signatures, for any number B of compositions:

    - ``serving_default``: ``species`` int32 (B, E), ``fractions`` float32 (B, E): positive amounts in any scale and order, 0 = no element.
    - ``from_formula``: ``formula`` string (B,), without brackets.

    Both give for every target ``<target>`` float32 (B, 1) in its unit (the probability of class 1 for a binary one), and
    ``<target>_uncertainty`` where the network predicts it. A composition that cannot be read fails the whole call with a sentence.

    Args:
        predictor: a model that takes compositions.
        directory: path to write to, which must be free.
        examples: formulas on which the result is compared with the Keras model; `EXAMPLES` if None.

    Raises:
        InputError: the path is taken or cannot be written.
        ExportError: the result differs from the Keras model by more than `tfmat.export.verification.LIMIT`; nothing is written.
    """
    start, out = time.perf_counter(), Path(directory)
    composition_featurizer(predictor)
    output_names(predictor)
    check_free(out)
    formulas = list(EXAMPLES if examples is None else examples)
    prepared = featurize(predictor, formulas)
    with staged(out) as temporary:
        _log.info("writing the SavedModel")
        _write(predictor, temporary)
        _log.info("comparing it with the Keras model on %d formulas", len(formulas))
        loaded = tf.saved_model.load(str(temporary))
        difference = compare(predictor, _calls(loaded, formulas, prepared), keras_outputs(predictor, prepared))
        one = tf.constant([expand_brackets(formulas[0])])
        latency = median_seconds(lambda: loaded.signatures["from_formula"](formula=one))
        size = size_of(temporary)
    seconds = time.perf_counter() - start
    return ExportReport(out, "savedmodel", ("serving_default", "from_formula"), difference, len(formulas), size, latency, seconds)


def _write(predictor: Predictor, directory: Path) -> None:
    module = composition_module(predictor)
    signatures = {"serving_default": module.serving_default, "from_formula": module.from_formula}
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures)
    except tf.errors.OpError as error:
        raise InputError(f"cannot write {directory.name!r}: {error.message}") from error
    extra = directory / EXTRA
    extra.mkdir()
    arrays = {"species": SPECIES | {"shape": ["B", "E"]}, "fractions": FRACTIONS | {"shape": ["B", "E"]}}
    inputs = {"serving_default": arrays, "from_formula": {"formula": FORMULA | {"shape": ["B"]}}}
    (extra / FILE).write_text(describe(predictor, "savedmodel", inputs), encoding="utf-8")
    (extra / CARD).write_text(predictor.card, encoding="utf-8")


def _calls(loaded: Any, formulas: Sequence[str], examples: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """The calls that must all give what Keras gives, named for error messages."""
    serving, parsing = loaded.signatures["serving_default"], loaded.signatures["from_formula"]
    texts = tf.constant([expand_brackets(formula) for formula in formulas])
    batch = pad(examples, max(len(example["species"]) for example in examples))
    shifted = {key: np.pad(value, ((0, 0), (2, 1))) for key, value in batch.items()}

    def serve(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return as_numpy(serving(**{key: tf.constant(value) for key, value in arrays.items()}))

    def one_by_one() -> dict[str, np.ndarray]:
        results = [serve(pad([example], len(example["species"]))) for example in examples]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    return {
        "signature from_formula": lambda: as_numpy(parsing(formula=texts)),
        "signature serving_default": lambda: serve(batch),
        "signature serving_default, called with one composition,": one_by_one,
        "signature serving_default, called with more padding,": lambda: serve(shifted),
    }


def as_numpy(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors as arrays."""
    return {name: value.numpy() for name, value in outputs.items()}
