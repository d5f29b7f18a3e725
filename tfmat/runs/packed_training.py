"""Featurize here, train elsewhere: a dataset is packed into one file, from which a model is trained with keras, h5py and NumPy alone.

The machine that trains needs one backend of Keras, and neither pymatgen nor pandas nor TensorFlow. What it writes is a model directory like
any other.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmat import architecture as registry
from tfmat.atomic import check_free
from tfmat.data.cache import RecordCache
from tfmat.data.featurize import RowsDone, featurize_table, usable_table
from tfmat.data.read.user_data import check_material
from tfmat.data.rejections import Rejection, Rejections
from tfmat.datasets.dataset import Dataset
from tfmat.datasets.packed_file import Floats, read_packed, write_packed
from tfmat.elements import PACKAGED
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.runs.config import Settings
from tfmat.runs.settings import known
from tfmat.runs.train import build, fit
from tfmat.target import Transform
from tfmat.training.loop import Report
from tfmat.training.precision import Precision
from tfmat.training.recipe import Recipe


def pack(
    dataset: Dataset,
    architecture: str,
    out: str | os.PathLike[str],
    *,
    keywords: Mapping[str, Any] | None = None,
    floats: Floats = "float16",
    cache: RecordCache | None = None,
    overwrite: bool = False,
    report: RowsDone | None = None,
) -> list[Rejection]:
    """Featurize a dataset for an architecture and write it to one file.

    Args:
        dataset: see `tfmat.datasets.load` and `tfmat.datasets.open_data`.
        architecture: whose featurizer is used, e.g. ``crysformer``; models of another one with the same featurizer read the file, too.
        out: the new file.
        keywords: of the builder, as far as the featurizer has them too (``cutoff``), and ``elements``: that table is packed along.
            Default: as in `train`.
        floats: ``float16`` keeps vectors and distances to 0.001 Å up to 4 Å, 0.002 Å up to 8 Å; ``float32`` as they are.
        cache: where featurized data is kept.
        overwrite: replace an existing file.
        report: progress callback, for each split.

    Returns:
        The crystals that cannot be featurized, and are left out.

    Raises:
        InputError: the architecture takes other materials, a formula is bad, or the file exists or cannot be written.
    """
    family = registry.get(architecture)
    keywords = family.variant() if keywords is None else dict(keywords)
    family.check_keywords(keywords)
    check_material(family.material, dataset.material, model=architecture, data=dataset.name)
    if not overwrite:
        check_free(Path(out))
    featurizer = family.default_featurizer(keywords)
    rejections = Rejections(strict=dataset.material != "crystal")
    tables = {split: usable_table(dataset.table(split), featurizer, rejections, cache, report=report) for split in dataset.splits}
    records = {split: featurize_table(table, featurizer, cache) for split, table in tables.items()}
    elements = keywords.get("elements", family.default_keywords().get("elements"))
    stored = [elements] if elements in PACKAGED else []
    write_packed(out, dataclasses.replace(dataset, splits=tables), records, featurizer, floats=floats, tables=stored, overwrite=overwrite)
    return rejections.found


def train(
    path: str | os.PathLike[str],
    architecture: str,
    out: str | os.PathLike[str],
    *,
    targets: Sequence[str] | None = None,
    transforms: Mapping[str, Transform] | None = None,
    keywords: Mapping[str, Any] | None = None,
    recipe: Recipe | str = "default",
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    checkpoint: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> Predictor:
    """Train a model from a packed dataset and write its model directory.

    Args:
        path: of a file that `pack` has written.
        architecture: e.g. ``crysformer``.
        out: new folder for the model.
        targets: which of the file's; default: all.
        transforms: target -> ``log10`` or ``log10_1p``, for those that are learnt as logarithms.
        keywords: of the builder.
        recipe: one of the architecture's, by name, or your own.
        epochs: default: the recipe's.
        batch_size: default: the recipe's.
        seed: of weights, shuffling and noise.
        precision: ``mixed_bfloat16`` for accelerators that are faster in it.
        checkpoint: file for the state of the unfinished run, from which it goes on if it exists.
        overwrite: replace an existing folder.
        report: progress callback, see `tfmat.training.loop.Report`; default: a line per epoch is logged, at level INFO.

    Returns:
        The predictor. `Predictor.score` scores it on the file's test split.

    Raises:
        InputError: the file is no packed dataset or made by another featurizer, or the folder exists.
    """
    if not overwrite:
        check_free(Path(out))
    data = read_packed(path).select(targets)
    check_material(registry.get(architecture).material, data.material, model=architecture, data=str(path))
    chosen, family = dict(transforms or {}), registry.get(architecture)
    if unknown := set(chosen) - set(data.units):
        raise InputError(f"a transform for {', '.join(sorted(unknown))}, which is no target", expected=f"one of {', '.join(data.units)}")
    learnt = [dataclasses.replace(target, transform=chosen.get(target.name, "none")).to_config() for target in data.targets]
    recipe = family.recipes[known(f"recipe of {architecture}", recipe, family.recipes)] if isinstance(recipe, str) else recipe
    recipe = dataclasses.replace(recipe, batch_size=batch_size or recipe.batch_size)
    settings = Settings(
        architecture, family.variant() if keywords is None else dict(keywords), learnt,
        recipe.to_config(), epochs or recipe.epochs, seed, precision=precision,
    )  # fmt: skip
    predictor = build(settings)
    fit(predictor, settings, data.splits, checkpoint=None if checkpoint is None else Path(checkpoint), report=report or _log_epoch)
    predictor.info["dataset"] = data.provenance()
    predictor.save(out, overwrite=overwrite)
    return predictor


def _log_epoch(epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
    if figures:
        text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "epoch")
        logging.getLogger("tfmat").info("epoch %d/%d: %s", epoch, epochs, text)
