"""Featurizer + model + targets in one object: fitted, asked, scored, saved and exported."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfmat import architecture as registry
from tfmat.architecture import Architecture
from tfmat.atomic import new_directory
from tfmat.batching.pipeline import Batches
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import RowsDone, Usable, featurize_table
from tfmat.data.prediction_rows import prediction_rows
from tfmat.data.read.user_data import check_material
from tfmat.data.table import Table, check_targets
from tfmat.datasets.dataset import Dataset
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.layers.outputs import fit_outputs, has_uncertainty
from tfmat.model_directory import files, transfer
from tfmat.model_directory.card import model_card
from tfmat.model_directory.keras_file import SUFFIX, write_keras_file
from tfmat.model_directory.provenance import data_info, recipe_info
from tfmat.records import Records
from tfmat.target import Target
from tfmat.training.distribution import scope
from tfmat.training.evaluation import Evaluation, Scores, calibrated, in_units, scored
from tfmat.training.inference import Forward, forward, outputs_of
from tfmat.training.loop import Report, Schedule, train
from tfmat.training.precision import Precision, in_precision
from tfmat.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf


class Predictor:
    """A model that takes formulas (or crystals) and answers in physical units.

    Attributes:
        architecture: the family.
        keywords: of its builder, the target names excepted.
        featurizer: turns a material into arrays.
        targets: what is predicted, with units and scales.
        model: the functional `keras.Model`, dict in, dict out, scaled outputs.
        info: provenance (JSON-able): dataset, recipe, seed, metrics, versions, hardware.
        history: one dictionary per epoch.
        strategy: on whose devices `fit` trains, see `tfmat.training.distribution`; None: on one.
    """

    def __init__(
        self,
        architecture: Architecture,
        keywords: Mapping[str, Any],
        featurizer: Featurizer,
        targets: Sequence[Target],
        model: keras.Model,
        *,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.architecture, self.keywords = architecture, dict(keywords)
        self.featurizer, self.targets, self.model = featurizer, tuple(targets), model
        self.info: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        self.strategy = strategy
        self._forward: Forward | None = None

    def __repr__(self) -> str:
        targets = ", ".join(f"{t.name} [{t.unit}]" if t.unit else t.name for t in self.targets)
        keywords = "".join(f", {name}={value!r}" for name, value in self.keywords.items())
        return f"Predictor({self.architecture.name}: {targets}{keywords if len(keywords) < 200 else ', ...'})"

    def __getstate__(self) -> dict[str, Any]:
        """The files of the model directory, so that pickling works before and after use; the strategy is left out."""
        return {"files": files.model_files(self.model, self.to_config()), "history": self.history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with files.as_directory(state["files"]) as directory:
            self.__dict__ |= Predictor.load(directory).__dict__
        self.history = state["history"]
        if "frozen" in self.info:
            transfer.freeze(self.model, self.info["frozen"], self.architecture.parts)

    @classmethod
    def create(
        cls,
        name: str,
        targets: Sequence[Target],
        *,
        keywords: Mapping[str, Any] | None = None,
        featurizer: Featurizer | None = None,
        seed: int = 0,
        init: str | os.PathLike[str] | None = None,
        freeze: Sequence[str] = (),
        strategy: tf.distribute.Strategy | None = None,
    ) -> Predictor:
        """A new predictor that is still to be fitted.

        Args:
            name: of the architecture, e.g. ``lgdcnn``.
            targets: what it predicts; their scales are fitted by `fit`.
            keywords: of the builder, e.g. ``{"dim": 256}``; with `init` the others are those of its model, as far as both builders have
                them. None: those of `init`, or else of the architecture's default variant.
            featurizer: default: the architecture's; builder keywords that it has too (``cutoff``) go to both.
            seed: of the initial weights.
            init: model directory, or name of a preset, whose weights it begins with, see `tfmat.model_directory.transfer.initialise`;
                ``info["init"]`` tells which were taken. Where an output layer is, its target keeps the scale it has there.
            freeze: layers that `fit` leaves as they are: names, patterns or parts, see `tfmat.model_directory.transfer.freeze`.
            strategy: to train on several devices: ``tfmat.training.distribution.strategy_of("mirrored")``.
        """
        architecture = registry.get(name)
        architecture.check_keywords(keywords or {})
        source = None if init is None else files.model_folder(init)
        keywords = dict(keywords) if keywords is not None else architecture.variant() if source is None else {}
        if source is not None:
            keywords = transfer.shared_keywords(architecture, files.read_config(source)) | keywords
        keras.utils.set_random_seed(seed)
        with scope(strategy):
            model = architecture.builder(tuple(t.name for t in targets), **keywords)
        featurizer = featurizer or architecture.default_featurizer(keywords)
        predictor = cls(architecture, keywords, featurizer, targets, model, strategy=strategy)
        if source is not None:
            report = transfer.initialise(model, targets, source, name=os.fspath(init or source))
            predictor.info["init"] = report.to_config()
            predictor.targets = report.scaled(targets)
        if freeze:
            predictor.info["frozen"] = transfer.freeze(model, freeze, architecture.parts)
        return predictor

    def fit(
        self,
        training: Table | Dataset,
        validation: Table | None = None,
        *,
        recipe: Recipe | str = "default",
        epochs: int | None = None,
        until: int | None = None,
        seed: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        precision: Precision = "float32",
        cache: RecordCache | None = None,
        report: Report | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = 0,
    ) -> list[dict[str, float]]:
        """Fit to `training`, scales included, and score `validation`.

        Args:
            training: rows to learn; a row's missing targets are masked. Of a dataset (`tfmat.load_data`) its training rows, and its
                validation rows unless others are given.
            validation: rows for the validation figures, and for the weight averaging of the published recipe.
            recipe: one of the architecture's, by name, or your own.
            epochs: default: the recipe's.
            until: end after this epoch of `epochs`; with `checkpoint`, a later call with `resume` goes on as if it had not ended.
            seed: of the shuffling and the noise.
            checkpoint: file for the state of the unfinished run.
            resume: continue from that file if it exists.
            precision: ``mixed_bfloat16`` trains a copy of the model in that precision and takes its weights.
            cache: where featurized data is kept on disk.
            report: progress callback, see `tfmat.training.loop.Report`.
            callbacks: of Keras, called after tfmat's own in every epoch; losses are in scaled units, ``mae`` in the target's unit.
            verbose: as of Keras' ``fit``: 0 is silent, 1 a progress bar, 2 a line per epoch.

        Returns:
            The history, see `tfmat.training.loop.train`.
        """
        recipe = self.recipe(recipe) if isinstance(recipe, str) else recipe
        held: Table | Dataset | None = validation
        if held is None and isinstance(training, Dataset) and len(training.validation):
            held = training
        data = self._usable(training, "train", cache, learnable=True)
        held_out = None if held is None else self._usable(held, "validation", cache, learnable=True)
        if isinstance(training, Dataset):
            self.info |= training.about(self.featurizer)
        kept = self.info.get("init", {}).get("scales", ())  # an output layer that was taken over knows its scale
        self.targets = tuple(t if t.name in kept else t.fit(data.table.targets[t.name]) for t in self.targets)
        fit_outputs(self.model, self.targets, data.table.targets)
        size = recipe.batch_size_for(len(data.table))
        part = max(size // recipe.accumulation, 1)
        batches = self._batches(data, part, seed=seed, fraction_jitter=recipe.fraction_jitter)
        with scope(self.strategy):
            model = in_precision(precision, self.model, self._built_again)
        self.history = train(
            model, self.targets, recipe, batches, None if held_out is None else self._batches(held_out, part),
            Schedule(epochs or recipe.epochs, None if checkpoint is None else Path(checkpoint), resume, until),
            parts=self.architecture.parts, report=report, strategy=self.strategy, callbacks=callbacks, verbose=verbose,
        )  # fmt: skip
        if model is not self.model:
            self.model.set_weights(model.get_weights())
        before = {key: value for key, value in self.info.items() if key not in ("best_epoch", "precision", "strategy")}
        done = recipe_info(recipe, self.history, batch_size=size, seed=seed, precision=precision, strategy=self.strategy)
        self.info = before | done | data_info(data.records)
        if held_out is not None:
            self.info["validation"] = self._calibrate(held_out)
        return self.history

    def _usable(self, data: Table | Dataset, split: str, cache: RecordCache | None, *, learnable: bool = False) -> Usable:
        table = data.table(split) if isinstance(data, Dataset) else data
        if any(isinstance(material, str) for material in table.materials[:1]):
            check_material(self.architecture.material, "composition", model=self.architecture.name, data=table.source)
        check_targets(self.targets, table, learnable=learnable)
        if isinstance(data, Dataset):
            return data.usable(split, self.featurizer, cache)
        return Usable(data, featurize_table(data, self.featurizer, cache))

    def _batches(self, rows: Usable, size: int, **shuffled: Any) -> Batches:
        return Batches.of(rows.records, self._scaled(rows.table), size, inputs=self.model.input, **shuffled)

    def _built_again(self) -> keras.Model:
        return self.architecture.builder(tuple(t.name for t in self.targets), **self.keywords)

    def _calibrate(self, validation: Usable) -> Scores:
        """Scale the uncertainties to the validation errors; the scores, with the coverage before and after."""
        self.targets = tuple(dataclasses.replace(t, uncertainty_scale=1.0) for t in self.targets)
        self.targets, scores = calibrated(self.targets, validation.table.targets, self._in_units(validation.records))
        return scores

    def recipe(self, name: str) -> Recipe:
        """Look up one of the architecture's recipes."""
        return self.architecture.recipe(name)

    def _scaled(self, table: Table) -> dict[str, np.ndarray]:
        return {t.name: t.scale(table.targets[t.name]) for t in self.targets}

    def outputs(self, records: Records, *, batch_size: int = 256, report: RowsDone | None = None) -> dict[str, np.ndarray]:
        """Raw network outputs for featurized materials: target -> float32 (N, 1 or 2), scaled.

        Args:
            records: featurized materials.
            batch_size: rows at a time.
            report: progress callback.
        """
        if self._forward is None:
            self._forward = forward(self.model)
        return outputs_of(self._forward, records, self.model.input, batch_size=batch_size, report=report)

    def predict(
        self, materials: Any, *, batch_size: int = 256, max_sites: int | None = None, report: RowsDone | None = None
    ) -> pd.DataFrame:
        """Predict one material or many.

        Args:
            materials: one material, or any iterable of them: formulas, paths of structure files, `Crystal` objects, a ``Structure`` or
                ``Composition`` of pymatgen or its ``as_dict``, ``Atoms`` of ASE. A folder stands for its structure files, a CSV or JSON
                lines file for its rows, a pandas ``DataFrame`` for its column ``structure`` or ``formula``. A model of crystals takes
                no formulas, and of a crystal a model of compositions takes the formula.
            batch_size: rows at a time.
            max_sites: most sites of a crystal in a file. Default: 1,000; for a model of compositions as many as there are.
            report: progress callback.

        Returns:
            One row per material, in order, with the index of a ``Series`` or ``DataFrame`` kept: ``id`` where materials come from files;
            ``material``; for each target ``<target>`` [unit] (for a binary one the probability of class 1) and, where the model gives it,
            ``<target>_uncertainty`` [unit], the standard deviation of the predicted error; for a model of crystals ``sites``, the number of
            sites of the cell; ``in_domain``: every element occurred in training; ``unseen_elements``: those that did not, as in ``Tc, Pm``;
            for a model of crystals ``warning``: what is odd about the crystal (a bond length within 0.03 Å of the cut-off of bonds, more
            than 200 Å3 per atom) or what reading changed; ``error``: why a material could not be read (its numbers are NaN),
            or None; then the other columns of tables that were read, with ``_given`` behind a name that is taken. Units are in
            ``frame.attrs["units"]``.

        Raises:
            InputError: a table, or a folder as a whole, cannot be read.
        """
        kind = self.architecture.material
        read = prediction_rows(materials, self.featurizer, kind=kind, model=self.architecture.name, max_sites=max_sites)
        columns = self._in_units(read.records, batch_size=batch_size, report=report)
        frame = read.frame(columns, sites=kind == "crystal", elements=self.info.get("elements"))
        frame.attrs["units"] = {t.name: t.unit for t in self.targets}
        return frame

    def evaluate(
        self,
        data: Table | Dataset,
        *,
        split: str = "test",
        batch_size: int = 256,
        cache: RecordCache | None = None,
        report: RowsDone | None = None,
    ) -> Evaluation:
        """Predict rows and score the predictions in the targets' units, see `tfmat.training.evaluation.scored`.

        Args:
            data: the rows; of a dataset those of `split` that can be featurized.
            split: ``train``, ``validation`` or ``test``, of a dataset.
            batch_size: rows at a time.
            cache: where featurized data is kept on disk.
            report: progress callback.
        """
        rows = self._usable(data, split, cache)
        return Evaluation.of(rows.table, self.targets, self._in_units(rows.records, batch_size=batch_size, report=report))

    def score(self, data: Table | Dataset, *, split: str = "test", batch_size: int = 256, cache: RecordCache | None = None) -> Scores:
        """The scores of `evaluate` alone, for which pandas need not be installed."""
        rows = self._usable(data, split, cache)
        return scored(self.targets, rows.table.targets, self._in_units(rows.records, batch_size=batch_size))

    def _in_units(self, records: Records | None, *, batch_size: int = 256, report: RowsDone | None = None) -> dict[str, np.ndarray]:
        outputs = {} if records is None else self.outputs(records, batch_size=batch_size, report=report)
        return in_units(self.targets, outputs, {name: int(output.shape[-1]) for name, output in self.model.output.items()})

    def to_config(self) -> dict[str, Any]:
        """Collect what the model directory's ``config.json`` holds, JSON-able."""
        return {
            "architecture": self.architecture.name,
            "keywords": self.keywords,
            "featurizer": configuration(self.featurizer),
            "targets": [target.to_config() for target in self.targets],
            "info": self.info,
        }

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        uncertain = any(has_uncertainty(self.model, target) for target in self.targets)
        return model_card(self.to_config(), parameters=int(self.model.count_params()), title=self.architecture.title, uncertain=uncertain)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False, extras: Callable[[Path], None] | None = None) -> Path:
        """Write the model directory, complete or not at all; `load` and the command line read it.

        Args:
            directory: a new path. With the ending ``.keras`` it is one file, which ``keras.saving.load_model`` opens too; `extras` is not
                used then.
            overwrite: replace an existing one.
            extras: writes further files (plots) into the folder before it appears.
        """
        if Path(directory).suffix == SUFFIX:
            return write_keras_file(Path(directory), self._built_again(), self.model.get_weights(), self.to_config(), overwrite=overwrite)
        with new_directory(directory, overwrite=overwrite) as temporary:
            files.write_model(temporary, self.model, self.to_config())
            files.write_history(temporary, self.history)
            (temporary / files.CARD).write_text(self.card, encoding="utf-8")
            if extras is not None:
                extras(temporary)
        return Path(directory)

    def export(self, out: str | os.PathLike[str], format: str = "savedmodel") -> Any:
        """Write a file or folder that needs neither tfmat nor Keras, and compare what it answers with this model.

        Args:
            out: a new path.
            format: ``savedmodel``, ``litert`` or ``onnx``; `tfmat.export.export_model` has the options of each.

        Returns:
            A `tfmat.export.ExportReport`.
        """
        return importlib.import_module("tfmat.export").export_model(self, Path(out), format)

    @classmethod
    def from_model(cls, model: keras.Model, data: Dataset) -> Predictor:
        """The predictor of a model of `tfmat.zoo` that was trained with Keras on ``data.to_tf("train", model)``.

        It answers in physical units, `save` and `export` know units, scales and where the data come from, and ``in_domain`` says whether
        the elements of a material occurred in the training rows. An uncertainty is scaled to the errors on the validation rows.

        Args:
            model: which it shares.
            data: that the model was trained on.
        """
        built: Any = model
        if not getattr(built, "architecture", ""):
            raise InputError(f"the model {model.name!r} does not say how it was built", expected="a model of tfmat.zoo")
        targets, splits = data.targets_named(model.output_names), [split for split in ("train", "validation") if len(data.splits[split])]
        predictor = cls(registry.get(built.architecture), built.keywords, built.featurizer, targets, model)
        rows = {split: data.usable(split, built.featurizer) for split in splits}
        predictor.info = data_info(rows["train"].records) | data.about(built.featurizer)
        if "validation" in rows:
            predictor.info["validation"] = predictor._calibrate(rows["validation"])
        return predictor

    @classmethod
    def from_preset(cls, name: str) -> Predictor:
        """A published model by its name, one of `tfmat.list_presets`; its weights are obtained when they are first asked for."""
        registry.check_preset(name)
        return cls.load(name)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Predictor:
        """Read a model directory, a ``.keras`` file of `save`, or a preset by its name.

        Raises:
            InputError: a file is missing, truncated or changed, or the installed featurizer has another version.
        """
        source = files.model_folder(directory)
        read = files.read_model(source)
        predictor = cls(read.architecture, read.config["keywords"], read.featurizer(source), read.targets, read.model)
        predictor.info = read.config["info"]
        predictor.history = files.read_history(source)
        return predictor
