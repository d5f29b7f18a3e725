"""Transfer learning: a model that begins with the weights of a trained one, and layers that training leaves as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfmat.architecture import Architecture, get
from tfmat.errors import InputError
from tfmat.layers.protocols import ServesTargets
from tfmat.model_directory.files import StoredModel, read_model
from tfmat.target import Target
from tfmat.training.parts import Parts, layer_names, layer_of, matching_layers


@dataclass(frozen=True)
class TransferReport:
    """Which weights of a new model were taken from a trained one. Weights are named by their paths, ``layer/.../weight``.

    Attributes:
        source: the model directory, or preset, that was read.
        source_sha256: of its weights.
        source_architecture: its name there.
        source_targets: what it predicts.
        loaded: weights with its values.
        replaced: weights of output layers that stay new, because they serve other targets than there.
        missing: other weights that it does not have.
        different_shape: weights that have another shape there.
        unused: weights there that the new model does not take.
        scales: target whose output layer was taken -> mean and standard deviation with which that layer was learnt.
    """

    source: str
    source_sha256: str
    source_architecture: str
    source_targets: tuple[str, ...]
    loaded: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    different_shape: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def scaled(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """The targets, with the scale of each whose output layer was taken."""
        scales = {target.name: self.scales.get(target.name, (target.mean, target.std)) for target in targets}
        return tuple(dataclasses.replace(target, mean=scales[target.name][0], std=scales[target.name][1]) for target in targets)

    def to_config(self) -> dict[str, Any]:
        """Provenance for a model's ``config.json``: the weights that were loaded are counted, the others named."""
        return {
            "source": self.source,
            "weights_sha256": self.source_sha256,
            "architecture": self.source_architecture,
            "targets": list(self.source_targets),
            "loaded": len(self.loaded),
            "replaced": list(self.replaced),
            "missing": list(self.missing),
            "different_shape": list(self.different_shape),
            "unused": len(self.unused),
            "scales": sorted(self.scales),
        }


def initialise(model: keras.Model, targets: Sequence[Target], source: Path, *, name: str | None = None) -> TransferReport:
    """Give `model` the weights of a saved model, wherever path and shape agree.

    An output layer is one that is called by a target's name, or that serves several, see `ServesTargets`. It is taken
    over only if it serves the same targets in both models: same names, units, tasks and transforms, in the same order. Its targets should
    then keep their mean and standard deviation, which are in the report, so that the first prediction is the source's.

    Args:
        model: changed in place.
        targets: of `model`.
        source: a model directory.
        name: of the source in the report and in errors; default: its path.

    Raises:
        InputError: the source cannot be read, or nothing that was learnt before its output layers fits; the model is unchanged then.
    """
    stored, name = read_model(source), str(source) if name is None else name
    ours, theirs = _served(model, targets), _served(stored.model, stored.targets)
    available = {weight.path: weight for weight in stored.model.weights}
    found: dict[str, list[str]] = {key: [] for key in ("loaded", "replaced", "missing", "different_shape")}
    for weight in model.weights:  # first all names, then the values: after an error nothing is changed
        layer, other = layer_of(weight), available.get(weight.path)
        if ours.get(layer) != theirs.get(layer) and layer in ours:
            kind = "replaced"
        elif other is None or layer in ours.keys() ^ theirs.keys():
            kind = "missing"
        else:
            kind = "loaded" if tuple(weight.shape) == tuple(other.shape) else "different_shape"
        found[kind].append(weight.path)
    chosen = set(found["loaded"])
    if not any(weight.path in chosen and layer_of(weight) not in ours for weight in model.trainable_weights):
        raise _nothing_fits(model, stored, name)
    for weight in model.weights:
        if weight.path in chosen:
            weight.assign(available[weight.path])
    return TransferReport(
        source=name,
        source_sha256=stored.config["weights_sha256"],
        source_architecture=stored.architecture.name,
        source_targets=tuple(target.name for target in stored.targets),
        unused=tuple(path for path in available if path not in chosen),
        scales={target.name: (target.mean, target.std) for target in stored.targets if _is_taken(target.name, theirs, chosen)},
        **{key: tuple(paths) for key, paths in found.items()},
    )


def _is_taken(target: str, served: Mapping[str, tuple[Any, ...]], chosen: set[str]) -> bool:
    layers = {layer for layer, targets in served.items() if target in [name for name, *_ in targets]}
    return any(path.split("/")[0] in layers for path in chosen)


def shared_keywords(architecture: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
    """Builder keywords of a saved model that the builder of `architecture` has too, defaults included.

    Args:
        architecture: of the new model.
        config: of the saved model.
    """
    theirs = get(config["architecture"])
    keywords = theirs.default_keywords() | dict(config["keywords"])
    return {name: value for name, value in keywords.items() if name in architecture.default_keywords() and name not in _OF_THE_OUTPUT}


_OF_THE_OUTPUT = ("uncertainty", "name")


def _served(model: keras.Model, targets: Sequence[Target]) -> Mapping[str, tuple[Any, ...]]:
    """Output layer -> what must agree for its weights to be taken over: name, unit, task and transform of each of its targets."""
    by_name = {target.name: (target.name, target.unit, target.task, target.transform) for target in targets}
    served = {}
    for layer in model.layers:
        names = (layer.name,) if layer.name in by_name else tuple(layer.targets) if isinstance(layer, ServesTargets) else ()
        if names and layer.weights:
            served[layer.name] = tuple(by_name.get(name, (name,)) for name in names)
    return served


def _nothing_fits(model: keras.Model, stored: StoredModel, name: str) -> InputError:
    theirs, ours = ", ".join(layer_names(stored.model)), ", ".join(layer_names(model))
    return InputError(
        f"no weight of this {stored.architecture.name} (layers {theirs}) fits the new {model.name} (layers {ours})",
        file=name,
        expected="a model whose layers have the same names and shapes",
    )


def freeze(model: keras.Model, patterns: Iterable[str], parts: Parts) -> list[str]:
    """Let training leave layers as they are; their dropout, if they have any, goes on.

    Args:
        model: changed in place. Nothing of it is written to a model directory: a loaded model is trainable again.
        patterns: see `matching_layers`.
        parts: of the architecture.

    Returns:
        Names of the frozen layers, in the model's order.

    Raises:
        InputError: a pattern matches no layer, or nothing would be left to train; no layer is frozen then.
    """
    wanted: set[str] = set()
    for pattern in patterns:
        wanted |= matching_layers(model, pattern, parts)
    if not {layer_of(weight) for weight in model.trainable_weights} - wanted:
        raise InputError(f"all layers of {model.name} would be frozen", expected="some that are left to train")
    for layer in model.layers:
        if layer.name in wanted:
            layer.trainable = False
    return [name for name in layer_names(model) if name in wanted]
