"""A builder's keyword ``weights``: the model of a preset or of a model directory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfmat.architecture import Architecture
from tfmat.model_directory.files import model_folder, read_config
from tfmat.model_directory.transfer import initialise
from tfmat.target import Target


def pretrained(
    architecture: Architecture, weights: str | os.PathLike[str], targets: Sequence[str], given: Mapping[str, Any], name: str
) -> keras.Model:
    """Build the model that `weights` are of.

    Args:
        architecture: the family of the builder.
        weights: name of a preset, or a model directory.
        targets: names of the outputs; the builder's default stands for those of the weights.
        given: the builder's keywords that were passed, which must be those of the weights.
        name: name of the model.

    Raises:
        InputError: there are no such weights.
        ValueError: they are of another architecture, or a keyword does not agree with them.
    """
    config = read_config(model_folder(weights))
    if config["architecture"] != architecture.name:
        raise ValueError(f"`weights` are of {config['architecture']}, not of {architecture.name}. Received: weights={os.fspath(weights)!r}")
    defaults = architecture.default_keywords()
    stored = defaults | config["keywords"]
    for key, value in given.items():
        value, wanted = (tuple(one) if isinstance(one, list) else one for one in (value, stored[key]))
        if value not in (defaults[key], wanted):
            raise ValueError(f"`{key}` is {wanted!r} in the weights {os.fspath(weights)!r}. Received: {key}={value!r}")
    known = [Target(**target) for target in config["targets"]]
    if tuple(targets) == ("target",):
        targets = [target.name for target in known]
    model: keras.Model = architecture.builder(tuple(targets), **(config["keywords"] | {"name": name}))
    wanted_targets = [next((t for t in known if t.name == target), Target(target)) for target in targets]
    initialise(model, wanted_targets, model_folder(weights), name=os.fspath(weights))
    return model
