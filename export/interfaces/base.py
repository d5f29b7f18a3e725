"""What an exported model takes: for each featurizer an `Interface`, its counterpart in the graph."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np

from tfmat.errors import InputError
from tfmat.export.interfaces.signatures import SERVING, Entry, Input
from tfmat.records import Records

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

INTERFACES: dict[str, str] = {
    "AtomListFeaturizer": "tfmat.export.interfaces.atom_lists:AtomListInterface",
    "CompositionFeaturizer": "tfmat.export.interfaces.compositions:CompositionInterface",
    "BondFeaturizer": "tfmat.export.interfaces.bonds:BondInterface",
    "NeighborFeaturizer": "tfmat.export.interfaces.neighbors:NeighborInterface",
}
"""Name of a featurizer -> ``module:class`` of its interface."""

BEFORE, BEHIND = 2, 5
"""Padding that `Interface.displaced` adds on either side of every axis of any length."""

Example = Mapping[str, np.ndarray]
"""The arrays of one material that a client sends."""


@dataclass(frozen=True)
class Size:
    """A length that a LiteRT or ONNX file fixes.

    Attributes:
        axis: which, a letter of `Input.axes`.
        default: if the user asks for none.
        highest: that may be asked for.
        counted: what lies along the axis, such as ``elements``.
        lowest: that may be asked for.
    """

    axis: str
    default: int
    highest: int
    counted: str
    lowest: int = 1


class Fixed(NamedTuple):
    """What a file of fixed sizes gives the network.

    Attributes:
        inputs: of the network, harmless ones in rows that are no material.
        sound: bool (B,), whether a row is one.
        grids: see `tfmat.layers.tracing.static_shapes_only`.
    """

    inputs: dict[str, Any]
    sound: Any
    grids: Collection[tuple[int, int]] = ()


class Interface(ABC):
    """A featurizer in the graph: its arrays as inputs, their checks, and examples on which exports are verified.

    Attributes:
        materials: what the model takes, in the plural.
        arrays_signature: name of the signature of a SavedModel that takes padded arrays, as LiteRT does.
        featurizer: the featurizer.
    """

    materials: ClassVar[str]
    arrays_signature: ClassVar[str] = SERVING

    def __init__(self, featurizer: Any) -> None:
        self.featurizer = featurizer

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Input]:
        """Inputs of the signature `arrays_signature` and of a LiteRT file, by name."""

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, Size]:
        """Name of an option -> the length that it sets in a LiteRT file."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """What else ``tfmat.json`` must say about the inputs, JSON-able."""
        return {}

    @abstractmethod
    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors of `inputs` -> the network's inputs, of any length; a row that is no material fails with a sentence.

        Lists of crystals come without the empty entry at the end of each, which `tfmat.export.graph.lists.in_parts` adds.
        """

    @abstractmethod
    def prepare_static(self, arrays: Mapping[str, Any]) -> Fixed:
        """The same for LiteRT: fixed lengths, built-in operations and no assertions."""

    def entries(self) -> Mapping[str, Entry]:
        """Further signatures of a SavedModel, by name; the last one is the one that clients use most."""
        return {}

    def signatures(self) -> dict[str, Entry]:
        """All signatures of a SavedModel, by name: `arrays_signature`, and then the `entries`."""

        def encode(materials: Sequence[Any]) -> dict[str, np.ndarray]:
            return self.pad([self.arrays_of(material) for material in materials])

        return {self.arrays_signature: Entry(self.inputs, self.prepare, encode, self.displaced)} | dict(self.entries())

    @abstractmethod
    def examples(self) -> Sequence[Any]:
        """Built-in materials; what the featurizer refuses of them is skipped."""

    def arrays_of(self, material: Any) -> Example:
        """The arrays `inputs` of a material, without padding."""
        return self.featurizer(material)

    def records_of(self, materials: Sequence[Any]) -> Records:
        """What the Keras model is given to compare with."""
        return self.featurizer.featurize(materials)

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same materials with more padding, and not at the end only: on both sides of every axis of any length.

        Values that are positions on such an axis must be raised by `BEFORE`, which is left to the interfaces that have any.
        """
        sides = {
            name: [(BEFORE, BEHIND) if isinstance(axis, str) else (0, 0) for axis in given.axes[1:]] for name, given in self.inputs.items()
        }
        return {name: np.pad(array, [(0, 0), *sides[name]]) for name, array in batch.items()}

    def lengths(self, requested: Mapping[str, int], model: str) -> dict[str, int]:
        """Axis -> length in a LiteRT or ONNX file, from the options that the user gave.

        Raises:
            InputError: an option that `model` does not have, or out of range.
        """
        for name in requested:
            if name not in self.sizes:
                problem = f"`{name}` has no meaning for {model}, which takes {self.materials}"
                raise InputError(problem, expected=" or ".join(f"`{size}`" for size in self.sizes))
        result = {}
        for name, size in self.sizes.items():
            result[size.axis] = requested.get(name, size.default)
            if not size.lowest <= result[size.axis] <= size.highest:
                problem = f"`{name}` is out of range. Received: {name}={result[size.axis]}"
                raise InputError(problem, expected=f"from {size.lowest} to {size.highest}")
        return result

    def featurize(self, materials: Sequence[Any] | None, lengths: Mapping[str, int]) -> tuple[list[Any], list[Example]]:
        """Materials to verify an export on, and their arrays.

        Args:
            materials: the user's, each of which must be sound and fit; if None, the built-in ones that are and do.
            lengths: axis -> most that fits.

        Raises:
            InputError: one of the user's materials does not do, or there is none at all.
        """
        kept: list[tuple[Any, Example]] = []
        for index, material in enumerate(self.examples() if materials is None else materials):
            try:
                example = self.arrays_of(material)
                self._check_fit(example, lengths, material, index)
            except InputError:
                if materials is not None:
                    raise
            else:
                kept.append((material, example))
        if not kept:
            problem = "there is no example to compare the exported model on"
            if materials is None:
                problem = f"none of the built-in {self.materials} suits this model and these sizes, so the export cannot be checked"
            raise InputError(problem, expected=f"at least one of your own {self.materials} as `examples`")
        return [material for material, _ in kept], [example for _, example in kept]

    def fitting(self, materials: Sequence[Any], lengths: Mapping[str, int]) -> tuple[list[Any], list[Example]]:
        """Those of the materials that the featurizer takes and that fit into `lengths`, see `featurize`, and their arrays."""
        kept: list[tuple[Any, Example]] = []
        for index, material in enumerate(materials):
            with contextlib.suppress(InputError):
                example = self.arrays_of(material)
                self._check_fit(example, lengths, material, index)
                kept.append((material, example))
        return [material for material, _ in kept], [example for _, example in kept]

    def _check_fit(self, example: Example, lengths: Mapping[str, int], material: Any, index: int) -> None:
        counted = {size.axis: size.counted for size in self.sizes.values()}
        for axis, length in self.lengths_of(example).items():
            if length > lengths.get(axis, length):
                name = repr(material) if isinstance(material, str) else getattr(material, "formula", str(material))
                problem = f"example {name} holds {length} {counted[axis]}"
                raise InputError(problem, expected=f"at most {lengths[axis]}, the exported size", index=index)

    def lengths_of(self, example: Example) -> dict[str, int]:
        """Axis -> its length in an example."""
        return {
            axis: length
            for name, given in self.inputs.items()
            for axis, length in zip(given.axes[1:], example[name].shape, strict=True)
            if isinstance(axis, str)
        }

    def pad(self, examples: Sequence[Example], lengths: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
        """A batch, zeros at the end; as long as the longest example if no `lengths` are given."""
        found = [self.lengths_of(example) for example in examples]
        longest = {axis: max(one[axis] for one in found) for axis in found[0]} if lengths is None else lengths

        def padded(array: np.ndarray, axes: Sequence[str | int]) -> np.ndarray:
            present = zip(axes, array.shape, strict=True)
            return np.pad(array, [(0, longest[axis] - length if isinstance(axis, str) else 0) for axis, length in present])

        return {
            name: np.stack([padded(example[name], given.axes[1:]) for example in examples]).astype(given.dtype)
            for name, given in self.inputs.items()
        }


def interface_of(predictor: Predictor) -> Interface:
    """The interface of a model's featurizer.

    Raises:
        InputError: there is none, or Keras does not run on TensorFlow.
    """
    found = INTERFACES.get(type(predictor.featurizer).__name__)
    if found is None:
        raise InputError(f"{predictor.architecture.name} takes a {predictor.architecture.material}: its export is not yet supported")
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Keras runs on {keras.backend.backend()}: an export needs TensorFlow", expected="KERAS_BACKEND=tensorflow")
    module, name = found.split(":")
    interface: Interface = getattr(importlib.import_module(module), name)(predictor.featurizer)
    return interface
