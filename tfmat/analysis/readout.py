"""Where a network turns what it knows of each element or site into one vector a material, found in the graph of any functional model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from tfmat.batching.arrays import PADDED, STACKED
from tfmat.errors import InputError
from tfmat.featurizers.quotient import BONDS, PAIRS

READOUT = "readout"
"""Instead of the name of a layer: what the readout takes."""

Kind = Literal["crystals", "slots", "sites", "bonds", "pairs"]
"""What the rows of an array are: materials (B, ...), materials with slots for elements or sites (B, A, D), or all sites, bonds or pairs of
bonds of the batch in a list: (S, ...), (E, ...), (P, ...)."""
LENGTHS: dict[int, Kind] = {2: "crystals", 5: "sites", 7: "bonds", 11: "pairs"}
"""A batch with so many of each is sent through a model, as shapes alone: so the length of an array tells of what it is."""
WIDTH = 3
"""Its padded axes are so long."""


@dataclass(frozen=True)
class Readout:
    """The last tensors of a model that depend on weights before everything is one vector a material.

    Attributes:
        features: of sites or elements, of bonds, and of whole crystals where a layer gives these beside the others, as MEGNet's state.
        kinds: of each.
    """

    features: tuple[Any, ...]
    kinds: tuple[Kind, ...]


def find_readout(model: keras.Model) -> Readout:
    """The readout of a functional model.

    Going back from the outputs as long as tensors are vectors of materials, (B, D), it is what the first layers take or give that know of
    sites. A layer that gives vectors and also something of each site pools nothing: its vectors belong to the readout, not what it takes.

    Raises:
        InputError: the model has nothing of each element or site, or a layer does not tell the shape of its output.
    """
    kinds = kinds_of(model)
    features = [tensor for tensor in _frontier(model.outputs, kinds) if _has_weights(tensor, {})]
    if not any(_is_of_sites(tensor, kinds) for tensor in features):
        raise InputError(f"{model.name} has no features of each element or site before its output", expected="a model that pools some")
    for tensor in features:
        if id(tensor) not in kinds:
            problem = f"{model.name}: {tensor._keras_history.operation.name} does not tell the shape of its output"
            raise InputError(problem, expected="a layer with `compute_output_shape`")
    return Readout(tuple(features), tuple(kinds[id(tensor)] for tensor in features))


def element_features(model: keras.Model, layer: str = READOUT) -> Any:
    """The tensor that a layer gives for each element or site: (B, E, D), or (S, D) of all sites of the batch in a list.

    Of a layer that is called several times, the last call.

    Args:
        model: a functional model.
        layer: its name, one of `element_layers`, or ``"readout"``: what the readout takes, in L-G-DCNN the sum behind the last block.

    Raises:
        InputError: no such layer.
    """
    if layer == READOUT:
        kinds = kinds_of(model)
        return next(tensor for tensor in find_readout(model).features if _is_of_sites(tensor, kinds))
    found = _of_layers(model)
    if layer not in found:
        expected = f"one of {', '.join([READOUT, *found])}"
        raise InputError(f"{model.name} has no layer {layer!r} with features of each element", expected=expected)
    return found[layer]


def element_layers(model: keras.Model) -> list[str]:
    """Names of the layers that give one tensor of elements or sites and have weights of their own, from the input on."""
    return list(_of_layers(model))


def _of_layers(model: keras.Model) -> dict[str, Any]:
    kinds = kinds_of(model)
    found = {}
    for layer in model.layers:
        outputs = calls(model, layer)[-1].output_tensors if layer.weights else []
        of_sites = [tensor for tensor in outputs if _is_of_sites(tensor, kinds)]
        if len(of_sites) == 1:
            found[layer.name] = of_sites[0]
    return found


def calls(model: keras.Model, layer: Any) -> list[Any]:
    """Each call of a layer in the graph of a model: a node with ``input_tensors`` and ``output_tensors``.

    Models that were made of parts of this one call the layer, too; these calls are left out.
    """
    own = {id(node) for node in _nodes(model)}
    return [node for node in layer._inbound_nodes if id(node) in own]


def kinds_of(model: keras.Model) -> dict[int, Kind]:
    """The kind of each tensor in the graph of a model, by its ``id``; of those without rows, or with an unknown number of them, nothing."""
    tensors = [tensor for node in _nodes(model) for tensor in node.output_tensors]
    shapes = {name: keras.KerasTensor(_shape(name, tensor.shape, model.input), tensor.dtype) for name, tensor in model.input.items()}
    found: dict[int, Kind] = {}
    for tensor, sized in zip(tensors, keras.Function(model.input, tensors).compute_output_spec(shapes), strict=True):
        kind, shape = LENGTHS.get(sized.shape[0]) if sized.shape else None, tensor.shape
        if kind is not None:
            padded = kind == "crystals" and len(shape) == 3 and shape[1] is None and shape[2] is not None
            found[id(tensor)] = "slots" if padded else kind
    return found


def _shape(name: str, shape: Sequence[int | None], inputs: dict[str, Any]) -> tuple[int, ...]:
    """The shape of an input in the batch that `LENGTHS` and `WIDTH` tell of."""
    kind: Kind = "sites"
    if "batch_sites" not in inputs or name in ("batch_sites", *PADDED, *STACKED):
        kind = "crystals"
    elif name in PAIRS:
        kind = "pairs"
    elif name in BONDS and "bond_receivers" in inputs:  # the atom-list LSTM has distances of each site
        kind = "bonds"
    length = next(number for number, other in LENGTHS.items() if other == kind)
    return (length, *(WIDTH if axis is None else axis for axis in shape[1:]))


def _nodes(model: keras.Model) -> list[Any]:
    return [node for level in model._nodes_by_depth.values() for node in level]


def _frontier(outputs: Sequence[Any], kinds: dict[int, Kind]) -> list[Any]:
    found, seen, pending = [], set(), list(outputs)
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        node = _maker(tensor)
        inside = node is not None and _is_vector(tensor, kinds) and not any(_is_of_sites(other, kinds) for other in node.output_tensors)
        if inside:
            pending += node.input_tensors
        else:
            found.append(tensor)
    return found[::-1]


def _maker(tensor: Any) -> Any:
    """The call that gives a tensor; None for an input."""
    operation, index, _ = tensor._keras_history
    node = operation._inbound_nodes[index]
    return node if node.input_tensors else None


def _has_weights(tensor: Any, known: dict[int, bool]) -> bool:
    """Tell whether a tensor depends on any weight."""
    if id(tensor) not in known:
        node = _maker(tensor)
        known[id(tensor)] = node is not None and (
            bool(getattr(node.operation, "weights", ())) or any(_has_weights(other, known) for other in node.input_tensors)
        )
    return known[id(tensor)]


def _is_vector(tensor: Any, kinds: dict[int, Kind]) -> bool:
    return kinds.get(id(tensor)) == "crystals" and len(tensor.shape) == 2 and tensor.shape[1] is not None


def _is_of_sites(tensor: Any, kinds: dict[int, Kind]) -> bool:
    kind = kinds.get(id(tensor))
    return kind == "slots" or (kind == "sites" and len(tensor.shape) == 2)
