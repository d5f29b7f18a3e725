"""Featurizer + model + targets in one object: fitted, asked, scored, saved and exported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfmat import architecture as registry
from tfmat.architecture import Architecture
from tfmat.atomic import new_directory
from tfmat.batching.pipeline import Batches
from tfmat.data.cache import RecordCache, featurize_table
from tfmat.data.featurizing import RowsDone
from tfmat.data.readable import featurize_readable, sites_of
from tfmat.data.table import Table
from tfmat.data.target_checks import check_targets
from tfmat.data.user_data import check_material
from tfmat.datasets.dataset import Dataset
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.layers.outputs import fit_outputs
from tfmat.model_directory.card import model_card
from tfmat.model_directory.files import CARD, as_directory, model_files, read_config, read_history, read_model, write_history, write_model
from tfmat.model_directory.provenance import hardware, versions
from tfmat.model_directory.transfer import freeze as freeze_layers
from tfmat.model_directory.transfer import initialise, shared_keywords
from tfmat.records import Records
from tfmat.target import Target
from tfmat.training.best_epoch import best_epoch
from tfmat.training.distribution import description, scope
from tfmat.training.inference import Forward, forward
from tfmat.training.loop import Report, Schedule, train
from tfmat.training.precision import Precision, in_precision
from tfmat.training.recipe import Recipe
from tfmat.training.scores import binary_scores, calibration, coverage, mape, regression_scores

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a table and their scores.

    Attributes:
        scores: target -> name of the score -> value, errors in the target's unit.
        predictions: one row a material: ``id``, ``material``; for each target ``<target>_true``, ``<target>`` and, where the model gives
            it, ``<target>_uncertainty`` [unit]; for a model of crystals ``sites``, the number of sites of the cell.
    """

    scores: dict[str, dict[str, float]]
    predictions: pd.DataFrame


class Predictor:
    """A model that takes formulas (or crystals) and answers in physical units.

    Attributes:
        architecture: the family.
        keywords: of its builder, the target names excepted.
        featurizer: turns a material into arrays.
        targets: what is predicted, with units and scales.
        model: the functional `keras.Model`, dict in, dict out, scaled outputs.
        info: provenance (JSON-able): dataset, recipe, seed, metrics, versions, hardware.
        history: one dictionary an epoch.
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
        return {"files": model_files(self.model, self.to_config()), "history": self.history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with as_directory(state["files"]) as directory:
            self.__dict__ |= Predictor.load(directory).__dict__
        self.history = state["history"]
        if "frozen" in self.info:
            freeze_layers(self.model, self.info["frozen"], self.architecture.parts)

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
        source = None if init is None else registry.model_folder(init)
        keywords = dict(keywords) if keywords is not None else architecture.variant() if source is None else {}
        if source is not None:
            keywords = shared_keywords(architecture, read_config(source)) | keywords
        keras.utils.set_random_seed(seed)
        with scope(strategy):
            model = architecture.builder(tuple(t.name for t in targets), **keywords)
        featurizer = featurizer or architecture.default_featurizer(keywords)
        predictor = cls(architecture, keywords, featurizer, targets, model, strategy=strategy)
        if init is not None and source is not None:
            report = initialise(model, targets, source, name=os.fspath(init))
            predictor.info["init"] = report.to_config()
            scales = {t.name: report.scales.get(t.name, (t.mean, t.std)) for t in targets}
            predictor.targets = tuple(dataclasses.replace(t, mean=scales[t.name][0], std=scales[t.name][1]) for t in targets)
        if freeze:
            predictor.info["frozen"] = freeze_layers(model, freeze, architecture.parts)
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
            precision: ``mixed_bfloat16`` trains a copy of the model in that precision and takes its weights; ``float32`` trains the model
                as it is built.
            cache: where featurized data is kept on disk.
            report: progress callback, see `tfmat.training.loop.Report`.
            callbacks: of Keras, called after tfmat's own in every epoch; losses are in scaled units, ``mae`` in the target's unit.
            verbose: as of Keras' ``fit``: 0 is silent, 1 a progress bar, 2 a line per epoch.

        Returns:
            The history, see `tfmat.training.loop.train`.
        """
        if isinstance(training, Dataset):
            self.info["dataset"] = training.provenance()
            validation = training.validation if validation is None else validation
            training = training.train
        if isinstance(recipe, str):
            recipe = self.recipe(recipe)
        epochs = epochs or recipe.epochs
        if any(isinstance(material, str) for material in training.materials[:1]):
            check_material(self.architecture.material, "composition", model=self.architecture.name, data=training.source)
        check_targets(self.targets, training, learnable=True)
        kept = self.info.get("init", {}).get("scales", ())  # an output layer that was taken over knows its scale
        self.targets = tuple(t if t.name in kept else t.fit(training.targets[t.name]) for t in self.targets)
        fit_outputs(self.model, self.targets, training.targets)
        size = recipe.batch_size_for(len(training))
        part = max(size // recipe.accumulation, 1)
        batches, held_out = self._batches(training, validation, part, recipe, seed, cache)
        schedule = Schedule(epochs, None if checkpoint is None else Path(checkpoint), resume, until)
        with scope(self.strategy):
            model = in_precision(precision, self.model, self._built_again)
        self.history = train(
            model, self.targets, recipe, batches, held_out, schedule,
            parts=self.architecture.parts, report=report, strategy=self.strategy,
            callbacks=callbacks, verbose=verbose,
        )  # fmt: skip
        if model is not self.model:
            self.model.set_weights(model.get_weights())
        self._tell_training(recipe, size, seed, precision, batches)
        if validation is not None:
            self.info["validation"] = self._calibrate(validation, cache)
        return self.history

    def _batches(
        self, training: Table, validation: Table | None, rows: int, recipe: Recipe, seed: int, cache: RecordCache | None
    ) -> tuple[Batches, Batches | None]:
        """Training and validation data in batches of `rows`."""

        def batches(table: Table, **shuffled: Any) -> Batches:
            records = featurize_table(table, self.featurizer, cache)
            return Batches.of(records, self._scaled(table), rows, inputs=self.model.input, **shuffled)

        learnt = batches(training, seed=seed, fraction_jitter=recipe.fraction_jitter)
        if validation is None:
            return learnt, None
        check_targets(self.targets, validation, learnable=True)
        return learnt, batches(validation)

    def _tell_training(self, recipe: Recipe, size: int, seed: int, precision: str, batches: Batches) -> None:
        """What `info` says about the training that has ended."""
        self.info |= {
            "recipe": recipe.to_config(),
            "epochs": len(self.history),
            "batch_size": size,
            "seed": seed,
            "training_rows": len(batches.records),
            "elements": sorted({int(z) for z in np.unique(batches.records.values["species"])} - {0}),
            "training_seconds": round(sum(row["seconds"] for row in self.history), 1),
            "versions": versions(),
            "hardware": hardware(),
        }
        for name in ("best_epoch", "precision", "strategy"):
            self.info.pop(name, None)
        if precision != "float32":
            self.info["precision"] = precision
        if self.strategy is not None:
            self.info["strategy"] = description(self.strategy)
        if recipe.keep == "best":
            self.info["best_epoch"] = best_epoch(self.history)

    def _built_again(self) -> keras.Model:
        return self.architecture.builder(tuple(t.name for t in self.targets), **self.keywords)

    def _calibrate(self, validation: Table, cache: RecordCache | None) -> dict[str, dict[str, float]]:
        """Scale the uncertainties to the validation errors; the scores, with the coverage before and after."""
        self.targets = tuple(dataclasses.replace(t, uncertainty_scale=1.0) for t in self.targets)
        scores, columns = self._scored(validation, cache=cache)
        targets = []
        for target in self.targets:
            if f"{target.name}_uncertainty" in columns:
                values, predicted, spread = (columns[target.name + suffix] for suffix in ("_true", "", "_uncertainty"))
                target = dataclasses.replace(target, uncertainty_scale=calibration(values, predicted, spread))
                scores[target.name]["coverage before scaling"] = scores[target.name]["coverage"]
                scores[target.name]["coverage"] = coverage(values, predicted, target.uncertainty_scale * spread)
            targets.append(target)
        self.targets = tuple(targets)
        return scores

    def recipe(self, name: str) -> Recipe:
        """One of the architecture's recipes."""
        if name not in self.architecture.recipes:
            raise InputError(f"{self.architecture.name} has no recipe {name!r}", expected=f"one of {', '.join(self.architecture.recipes)}")
        return self.architecture.recipes[name]

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
        batches = Batches.of(records, {}, batch_size, inputs=self.model.input)
        results: dict[str, np.ndarray] = {}
        done = 0
        for (inputs, *_), indices in zip(batches.epoch(0), batches.plan.epoch(0), strict=True):
            for name, output in self._forward(inputs).items():
                column = results.setdefault(name, np.empty((len(records), output.shape[1]), np.float32))
                column[indices] = output[: len(indices)]
            done += len(indices)
            if report is not None:
                report(done, len(records))
        return results

    def predict(self, materials: Any, *, batch_size: int = 256, report: RowsDone | None = None) -> pd.DataFrame:
        """Predict one material or many.

        Args:
            materials: one material, or any iterable of them: formulas, paths of structure files, `Crystal` objects, a ``Structure`` or
                ``Composition`` of pymatgen or its ``as_dict``, ``Atoms`` of ASE. A folder stands for its structure files, a CSV or JSON
                lines file for its rows, a pandas ``DataFrame`` for its column ``structure`` or ``formula``. A model of crystals takes
                no formulas, and of a crystal a model of compositions takes the formula.
            batch_size: rows at a time.
            report: progress callback.

        Returns:
            One row per material, in order, with the index of a ``Series`` or ``DataFrame`` kept: ``id`` where materials come from files;
            ``material``; for each target ``<target>`` [unit] (for a binary one the probability of class 1)
            and, where the model gives it, ``<target>_uncertainty`` [unit], the standard deviation of the predicted error;
            for a model of crystals ``sites``, the number of sites of the cell; ``in_domain``: every element occurred in training;
            ``unseen_elements``: those that did not, as in ``Tc, Pm``; ``error``: why a material could not be read (its numbers are NaN),
            or None. Units are in ``frame.attrs["units"]``.

        Raises:
            InputError: a table, or a folder as a whole, cannot be read.
        """
        kind = self.architecture.material
        read = featurize_readable(materials, self.featurizer, kind=kind, model=self.architecture.name)
        outputs = self.outputs(read.records, batch_size=batch_size, report=report) if read.records is not None else {}
        columns: dict[str, np.ndarray] = {}
        for target in self.targets:
            output = outputs.get(target.name)
            columns[target.name] = np.zeros(0) if output is None else _numpy(target.unscale(output))
            if target.task == "regression" and self._has_uncertainty(target):
                columns[f"{target.name}_uncertainty"] = np.zeros(0) if output is None else _numpy(target.unscale_uncertainty(output))
        frame = read.frame(columns, sites=kind == "crystal", elements=self.info.get("elements"))
        frame.attrs["units"] = {t.name: t.unit for t in self.targets}
        return frame

    def _has_uncertainty(self, target: Target) -> bool:
        return int(dict(zip(self.model.output_names, self.model.outputs, strict=True))[target.name].shape[-1]) == 2

    def evaluate(
        self, table: Table, *, batch_size: int = 256, cache: RecordCache | None = None, report: RowsDone | None = None
    ) -> Evaluation:
        """Predict `table` and score it: MAE, RMSE, R2 in the target's unit (regression), or accuracy and ROC-AUC (binary).

        A target that is learnt as a logarithm has the relative error MAPE (a fraction) as well.

        Where the model gives an uncertainty, ``coverage`` is the share of errors within it (0.757 for a perfect Laplace model).
        """
        import pandas as pd

        scores, columns = self._scored(table, batch_size=batch_size, cache=cache, report=report)
        about: dict[str, Any] = {"id": table.ids, "material": [str(m) for m in table.materials]}
        sites = [sites_of(material) for material in table.materials]
        if None not in sites:
            about["sites"] = sites
        frame = pd.DataFrame(about | columns)
        frame.attrs["units"] = {t.name: t.unit for t in self.targets}
        return Evaluation(scores, frame)

    def score(self, table: Table, *, batch_size: int = 256, cache: RecordCache | None = None) -> dict[str, dict[str, float]]:
        """The scores of `evaluate` alone, for which pandas need not be installed."""
        return self._scored(table, batch_size=batch_size, cache=cache)[0]

    def _scored(
        self, table: Table, *, batch_size: int = 256, cache: RecordCache | None = None, report: RowsDone | None = None
    ) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
        """Scores, and the columns of numbers of `Evaluation.predictions`."""
        check_targets(self.targets, table)
        records = featurize_table(table, self.featurizer, cache)
        outputs = self.outputs(records, batch_size=batch_size, report=report)
        columns: dict[str, np.ndarray] = {}
        scores: dict[str, dict[str, float]] = {}
        for target in self.targets:
            values, predicted = table.targets[target.name], _numpy(target.unscale(outputs[target.name]))
            columns[f"{target.name}_true"], columns[target.name] = values, predicted
            if target.task == "binary":
                scores[target.name] = binary_scores(values, predicted)
                continue
            scores[target.name] = regression_scores(values, predicted)
            if target.transform != "none":
                scores[target.name]["MAPE"] = mape(values, predicted)
            if outputs[target.name].shape[1] == 2:
                spread = _numpy(target.unscale_uncertainty(outputs[target.name]))
                columns[f"{target.name}_uncertainty"] = spread
                scores[target.name]["coverage"] = coverage(values, predicted, spread)
        return scores, columns

    def to_config(self) -> dict[str, Any]:
        """What the model directory's ``config.json`` holds, JSON-able."""
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
        uncertain = any(t.task == "regression" and self._has_uncertainty(t) for t in self.targets)
        return model_card(self.to_config(), parameters=int(self.model.count_params()), title=self.architecture.title, uncertain=uncertain)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False, extras: Callable[[Path], None] | None = None) -> Path:
        """Write the model directory, complete or not at all.

        Args:
            directory: a new path.
            overwrite: replace an existing one.
            extras: writes further files (plots) into the folder before it appears.
        """
        with new_directory(directory, overwrite=overwrite) as temporary:
            write_model(temporary, self.model, self.to_config())
            write_history(temporary, self.history)
            (temporary / CARD).write_text(self.card, encoding="utf-8")
            if extras is not None:
                extras(temporary)
        return Path(directory)

    @classmethod
    def from_preset(cls, name: str) -> Predictor:
        """A published model by its name, one of `tfmat.list_presets`; its weights are obtained when they are first asked for."""
        known = [preset for architecture in registry.architectures().values() for preset in architecture.presets]
        if name not in known:
            raise InputError(f"no preset {name!r}", expected=f"one of {', '.join(known)}")
        return cls.load(name)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Predictor:
        """Read a model directory, or a preset by its name.

        Raises:
            InputError: a file is missing, truncated or changed, or the installed featurizer has another version.
        """
        source = registry.model_folder(directory)
        read = read_model(source)
        config, architecture = read.config, read.architecture
        stored, installed = config["featurizer"], architecture.featurizer
        if (stored["name"], stored["version"]) != (installed.__name__, installed.version):
            raise InputError(
                f"trained with {stored['name']} version {stored['version']}; {installed.__name__} version {installed.version} is installed",
                file=str(source),
                expected="the tfmat that trained it (see its card), or train it again",
            )
        predictor = cls(architecture, config["keywords"], installed(**stored["config"]), read.targets, read.model)
        predictor.info = config["info"]
        predictor.history = read_history(source)
        return predictor


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)[:, 0]
