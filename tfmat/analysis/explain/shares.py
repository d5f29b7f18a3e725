"""How much each site adds to the output of a network, in scaled units, and how much attention it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from tfmat.analysis.explain.path import integrated_gradients
from tfmat.analysis.readout import Kind, calls, find_readout, kinds_of
from tfmat.batching.arrays import batch_arrays
from tfmat.layers.protocols import Attends, SharesOutput
from tfmat.records import Records

Method = Literal["exact", "integrated gradients"]


@dataclass(frozen=True)
class Shares:
    """What the sites add to one output.

    Attributes:
        sites: float64 (A,), scaled units; with `rest` their sum is the output.
        rest: what belongs to no site: the state of the whole crystal.
        method: how it was found.
        error: of the integral; it is shared equally among the sites.
    """

    sites: np.ndarray
    rest: float
    method: Method
    error: float = 0.0


@dataclass(frozen=True)
class Material:
    """One material, and what its sites are in the arrays of a model.

    Attributes:
        records: the featurized material.
        classes: int (A,), which row of the list of sites stands for each site, in the order of the slots where there are such; for the
            elements of a formula 0, 1, 2, ...
    """

    records: Records
    classes: np.ndarray

    def copies(self, number: int) -> dict[str, Any]:
        """A batch of so many copies of it, as tensors."""
        arrays = batch_arrays(self.records, np.zeros(number, np.int64), number)
        return {key: keras.ops.convert_to_tensor(array) for key, array in arrays.items()}

    def of_sites(self, values: np.ndarray, kind: Kind) -> np.ndarray:
        """Spread what belongs to each class over its sites in equal parts, float64 (A,).

        Args:
            values: float64 (A,) of slots, (S,) of the list of sites, or (E,) of bonds, of which half belongs to each end.
            kind: of the rows.
        """
        multiplicity = np.bincount(self.classes)
        if kind == "slots":
            values = np.bincount(self.classes, values)
        elif kind == "bonds":
            here, there = (
                np.bincount(self.records.values[key], values / 2, len(multiplicity)) for key in ("bond_receivers", "bond_senders")
            )
            values = here + there
        return (values / multiplicity)[self.classes]


class Inside:
    """The parts of a functional model that tell what its sites add to the outputs.

    What a site adds is exact where the model says it: a layer that is a `tfmat.layers.protocols.SharesOutput` tells what each slot
    adds to the outputs, as that of L-G-DCNN does. Otherwise these are integrated gradients of F, the model from the readout on (see
    `tfmat.analysis.readout`): with the features h of sites, bonds and crystal that the readout takes, a site gets

        s_i = h_i . integral_0^1 dF/dh_i(a h) da    and an equal part of F(0);

    half of what belongs to a bond goes to each of its ends, and what belongs to the crystal is the rest. The sum is F(h). If F is linear in
    the mean of the h_i, ``F = w . mean(h) + b``, then s_i is ``(w . h_i + b) / A``: exact. What belongs to several equal sites that are
    computed once is divided among them. F is evaluated at many points at once, each of which is a copy of the material in a batch.

    Args:
        model: functional, of the batch layout.
    """

    def __init__(self, model: keras.Model) -> None:
        readout, kinds = find_readout(model), kinds_of(model)
        self._kinds, self._inputs = readout.kinds, tuple(model.input)
        self._exact = [layer for layer in model.layers if isinstance(layer, SharesOutput)]
        self._attending = [(layer, node) for layer in model.layers if isinstance(layer, Attends) for node in calls(model, layer)]
        self._attending_kinds = [kinds.get(id(node.input_tensors[0])) for _, node in self._attending]
        inside = {
            "features": list(readout.features),
            "exact": [calls(model, layer)[-1].input_tensors for layer in self._exact],
            "attending": [node.input_tensors for _, node in self._attending],
            "outputs": model.output,
        }
        self._trunk = keras.Model(model.input, inside)
        self._rest = keras.Model({"features": list(readout.features), "inputs": model.input}, model.output)

    def shares(
        self, example: Mapping[str, np.ndarray], classes: np.ndarray | None = None
    ) -> tuple[dict[str, Shares], dict[str, float], dict[str, np.ndarray]]:
        """Find what the sites of one material add to each output, and the attention that they get.

        Args:
            example: what the featurizer gives for it.
            classes: see `Material`; default: each row of ``species`` is one element or site.

        Returns:
            Output -> `Shares`; output -> value, scaled; and for each layer that is an `Attends` its name, or if it is called
            several times that of the layer before it -> float64 (A,), its attention to each site, which sums to 1.
        """
        records = Records.stack([{key: value for key, value in example.items() if key in self._inputs}])
        material = Material(records, np.arange(len(example["species"])) if classes is None else classes)
        found = self._trunk(material.copies(1), training=False)
        values = {name: float(output[0, 0]) for name, output in found["outputs"].items()}
        result: dict[str, Shares] = {}
        for layer, arguments in zip(self._exact, found["exact"], strict=True):
            for name, part in layer.shares(*arguments).items():
                row = _numpy(part)[0]
                if name in values and abs(row.sum() - values[name]) <= 1e-5 * max(1.0, float(np.abs(row).sum())):
                    result[name] = Shares(row, 0.0, "exact")
        for name in values:
            if name not in result:
                result[name] = self._integrated(name, found["features"], material)
        return {name: result[name] for name in values}, values, self._attention(found["attending"], material)

    def _attention(self, arguments_of: Sequence[Any], material: Material) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        for (layer, node), kind, arguments in zip(self._attending, self._attending_kinds, arguments_of, strict=True):
            if kind == "slots" or kind == "sites":
                once = sum(other is layer for other, _ in self._attending) == 1
                name = layer.name if once else node.input_tensors[0]._keras_history.operation.name
                result[name] = material.of_sites(_of_one(layer.weights_of(*arguments), kind)[0, :, 0], kind)
        return result

    def _integrated(self, name: str, features: Sequence[Any], material: Material) -> Shares:
        values = [_of_one(tensor, kind) for tensor, kind in zip(features, self._kinds, strict=True)]
        found = integrated_gradients(lambda points: self._gradients(name, points, material), values)
        sites, rest = np.zeros(len(material.classes)), 0.0
        for part, kind in zip(found.parts, self._kinds, strict=True):
            if kind in ("slots", "sites", "bonds"):
                sites += material.of_sites(part, kind)
            else:
                rest += float(part.sum())
        sites += (found.end - sites.sum() - rest) / len(sites)
        linear = found.linear and len(found.parts) == 1
        return Shares(sites, rest, "exact" if linear else "integrated gradients", 0.0 if linear else found.error)

    def _gradients(self, name: str, points: Sequence[np.ndarray], material: Material) -> tuple[np.ndarray, list[np.ndarray]]:
        """Values of an output (N,) and their gradients, where the readout takes these features (N, ...)."""
        tensors = [keras.ops.convert_to_tensor(value, "float32") for value in points]
        copies = material.copies(len(points[0]))

        def output_of(*features: Any) -> Any:
            given = [_of_copies(tensor, kind) for tensor, kind in zip(features, self._kinds, strict=True)]
            return self._rest({"features": given, "inputs": copies}, training=False)[name][:, 0]

        differentiate = _with_gradients_jax if keras.backend.backend() == "jax" else _with_gradients
        output, found = differentiate(output_of, tensors)
        return _numpy(output), [_numpy(gradient) for gradient in found]


def _of_one(tensor: Any, kind: Kind) -> np.ndarray:
    """Features of one material, float64 (1, ...); of a list those of its rows but the last, which is empty."""
    return _numpy(tensor) if kind in ("crystals", "slots") else _numpy(tensor)[None, :-1]


def _of_copies(tensor: Any, kind: Kind) -> Any:
    """Features of each of several copies, (N, ...), as the model has them: lists one behind the other, with an empty row at the end."""
    if kind in ("crystals", "slots"):
        return tensor
    rows = keras.ops.reshape(tensor, (-1, tensor.shape[-1]))
    return keras.ops.concatenate([rows, keras.ops.zeros_like(rows[:1])])


def _with_gradients(function: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """Value (S,) of a function and the gradients of its sum."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        output = function(*tensors)
    return output, tape.gradient(output, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _with_gradients_jax(function: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    import jax

    output, pull_back = jax.vjp(function, *tensors)
    return output, pull_back(keras.ops.ones_like(output))


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
