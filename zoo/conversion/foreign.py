"""A model read from another package's files, and how it becomes a tfmat model directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmat import architecture as registry
from tfmat.errors import InputError
from tfmat.model_directory.provenance import versions
from tfmat.predictor import Predictor
from tfmat.target import Target


@dataclass(frozen=True)
class ForeignModel:
    """One model of another package.

    Attributes:
        file: where it was read from.
        keywords: keywords of the builder `tfmat.zoo.MEGNet`, but for the target.
        featurizer: keywords of its featurizer.
        weights: path of a weight in the tfmat model, e.g. ``block1/phi_e_1/kernel`` -> float32 array.
        target: what it predicts, with unit and scale.
        info: provenance, JSON-able, for `Predictor.info`.
        notes: what was assumed because the files do not say it.
    """

    file: Path
    keywords: Mapping[str, Any]
    featurizer: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    target: Target
    info: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def predictor_of(foreign: ForeignModel) -> Predictor:
    """The tfmat model with the foreign weights.

    Raises:
        InputError: a weight is lacking, left over or of another shape than the builder's, or no such model can be built.
    """
    architecture = registry.get("megnet")
    architecture.check_keywords(foreign.keywords)
    try:
        model = architecture.builder((foreign.target.name,), **foreign.keywords)
        featurizer = architecture.featurizer(**foreign.featurizer)
    except ValueError as error:
        raise InputError(f"no such MEGNet can be built: {str(error).splitlines()[0]}", file=str(foreign.file)) from None
    _assign(model, foreign)
    predictor = Predictor(architecture, foreign.keywords, featurizer, [foreign.target], model)
    notes = {"notes": list(foreign.notes)} if foreign.notes else {}
    predictor.info = dict(foreign.info) | notes | {"versions": versions()}
    return predictor


def write(foreign: ForeignModel, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the model directory, complete or not at all; see `Predictor.save`."""
    return predictor_of(foreign).save(directory, overwrite=overwrite)


def _assign(model: Any, foreign: ForeignModel) -> None:
    """Every weight of the model from the foreign one of the same path, each once; none of either may be left over."""
    variables = {variable.path.removeprefix(f"{model.name}/"): variable for variable in model.weights}
    if len(variables) != len(model.weights):
        raise RuntimeError("two weights of the zoo's MEGNet have the same path")
    lacking = [path for path in variables if path not in foreign.weights]
    surplus = [path for path in foreign.weights if path not in variables]
    if lacking:
        raise InputError(f"it has no weight for {_few(lacking)} of the zoo's MEGNet", file=str(foreign.file))
    if surplus:
        raise InputError(f"the zoo's MEGNet has no place for {_few(surplus)}", file=str(foreign.file))
    for path, variable in variables.items():
        value = foreign.weights[path]
        if value.shape != tuple(variable.shape):
            problem = f"the weight for {path} has shape {value.shape}"
            raise InputError(problem, expected=f"{tuple(variable.shape)}, as in the zoo's MEGNet", file=str(foreign.file))
    for path, variable in variables.items():
        variable.assign(foreign.weights[path])


def _few(paths: list[str]) -> str:
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
