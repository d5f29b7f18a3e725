"""What all interfaces share: inputs, signatures, sizes, and materials on which exports are verified."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfmat.errors import InputError
from tfmat.records import Records

SERVING = "serving_default"
"""The signature that every exported model has and that clients call if they name none."""
FEATURIZED = "featurized"
"""The signature that takes padded arrays of what the search finds, where `SERVING` takes the materials themselves."""

BEFORE, BEHIND = 2, 5
"""Padding that `Interface.displaced` adds on either side of every axis of any length."""

Example = Mapping[str, np.ndarray]
"""The arrays of one material that a client sends."""
Grids = Collection[tuple[int, int]]
"""What `tfmat.layers.tracing.static_shapes_only` must know of lists."""


@dataclass(frozen=True)
class Input:
    """One input of a signature.

    Attributes:
        dtype: its type, such as ``int32``.
        axes: a letter for an axis of any length, a number for a fixed one; the first is ``"B"``, the materials of a call.
        meaning: what it is, for the client.
        unit: the unit of a physical quantity.
    """

    dtype: str
    axes: tuple[str | int, ...]
    meaning: str
    unit: str = ""

    @property
    def grows(self) -> bool:
        """Whether it has an axis of any length beside that of the materials."""
        return any(isinstance(axis, str) for axis in self.axes[1:])

    def shape(self, lengths: Mapping[str, int]) -> list[str | int]:
        """The axes, with numbers for those that `lengths` gives."""
        return [lengths.get(axis, axis) if isinstance(axis, str) else axis for axis in self.axes]

    def spec(self, name: str, lengths: Mapping[str, int]) -> tf.TensorSpec:
        """TensorFlow's description of the input, with the `name` that it has in the signature; see `shape` for `lengths`."""
        return tf.TensorSpec([None if isinstance(n, str) else n for n in self.shape(lengths)], self.dtype, name)

    def describe(self, lengths: Mapping[str, int]) -> dict[str, Any]:
        """The description in ``tfmat.json``; see `shape` for `lengths`."""
        unit = {"unit": self.unit} if self.unit else {}
        return {"dtype": self.dtype, "shape": self.shape(lengths), "meaning": self.meaning} | unit


def specs(inputs: Mapping[str, Input], lengths: Mapping[str, int]) -> dict[str, tf.TensorSpec]:
    """TensorFlow's description of inputs by name, with the lengths of the axes that are fixed."""
    return {name: given.spec(name, lengths) for name, given in inputs.items()}


@dataclass(frozen=True)
class Entry:
    """A signature of a SavedModel.

    Attributes:
        inputs: what it takes, by name.
        prepare: makes the network's inputs from tensors by name; a material that cannot be read fails with a sentence.
        encode: makes what a client sends for materials.
        displaced: from a batch of `encode` the same materials, sent in another way, on which the export is verified too.
        resources: what the exported module must hold, such as lookup tables.
        counts_sites: whether `inputs` has the ``species`` of all sites, so that their number can be given.
        limit: largest relative difference from Keras that its outputs may have; `tfmat.export.verify.LIMIT` if None.
    """

    inputs: Mapping[str, Input]
    prepare: Callable[[Mapping[str, Any]], dict[str, Any]]
    encode: Callable[[Sequence[Any]], dict[str, np.ndarray]]
    displaced: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    resources: tuple[Any, ...] = ()
    counts_sites: bool = False
    limit: float | None = None


@dataclass(frozen=True)
class Size:
    """A length that a file of fixed sizes (LiteRT, ONNX) has.

    Attributes:
        axis: which one, a letter of `Input.axes`.
        default: the length if the user asks for none.
        highest: largest length that may be asked for.
        counted: what lies along the axis, such as ``elements``.
        lowest: smallest length that may be asked for.
    """

    axis: str
    default: int
    highest: int
    counted: str
    lowest: int = 1


class Interface(ABC):
    """A featurizer in the graph: its arrays as inputs, their checks, and examples on which exports are verified.

    Attributes:
        materials: what the model takes, in the plural.
        arrays_signature: name of the signature of a SavedModel that takes the same arrays as files of fixed sizes.
        featurizer: the featurizer.
    """

    materials: ClassVar[str]
    arrays_signature: ClassVar[str] = SERVING

    def __init__(self, featurizer: Any) -> None:
        self.featurizer = featurizer

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Input]:
        """Inputs of the signature `arrays_signature` and of a file of fixed sizes, by name."""

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, Size]:
        """Name of an option of the exporters -> the length that it sets in a file of fixed sizes."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """What else ``tfmat.json`` must say about the inputs; it can be written as JSON."""
        return {}

    @abstractmethod
    def prepare(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The network's inputs from `arrays`, tensors of `inputs` of any length; a row that is no material fails with a sentence.

        Lists of crystals come without the empty entry at the end of each, which `tfmat.export.graph.lists.in_parts` adds.
        """

    @abstractmethod
    def prepare_fixed(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Grids]:
        """The same for `arrays` of fixed sizes: operations that LiteRT has built in, and no assertions.

        Returns:
            The network's inputs, zeros in rows that are no material; whether each row is one, bool (B,); and the grids in the inputs.
        """

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
        """Built-in materials; those that the featurizer refuses are skipped."""

    def arrays_of(self, material: Any) -> Example:
        """The arrays `inputs` of a material, without padding."""
        return self.featurizer(material)

    def records_of(self, materials: Sequence[Any]) -> Records:
        """What the Keras model is given of the `materials`, to compare with."""
        return self.featurizer.featurize(materials)

    def displaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The materials of a `batch` with more padding, and not at the end only: on both sides of every axis of any length.

        Values that are positions on such an axis must be raised by `BEFORE`, which is left to the interfaces that have any.
        """
        sides = {
            name: [(BEFORE, BEHIND) if isinstance(axis, str) else (0, 0) for axis in given.axes[1:]] for name, given in self.inputs.items()
        }
        return {name: np.pad(array, [(0, 0), *sides[name]]) for name, array in batch.items()}

    def lengths(self, requested: Mapping[str, int], model: str) -> dict[str, int]:
        """The length of each axis in a file of fixed sizes.

        Args:
            requested: options that the user gave, see `sizes`.
            model: name of the architecture, for errors.

        Raises:
            InputError: an option that the model does not have, or out of range.
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
            lengths: axis -> largest length that fits.

        Raises:
            InputError: one of the user's materials is not sound or does not fit, or there is none at all.
        """
        kept = self.fitting(self.examples() if materials is None else materials, lengths, strict=materials is not None)
        if not kept[0]:
            problem = "there is no example to compare the exported model on"
            if materials is None:
                problem = f"none of the built-in {self.materials} suits this model and these sizes, so the export cannot be checked"
            raise InputError(problem, expected=f"at least one of your own {self.materials} as `examples`")
        return kept

    def fitting(self, materials: Iterable[Any], lengths: Mapping[str, int], strict: bool = False) -> tuple[list[Any], list[Example]]:
        """Those of the materials that the featurizer takes and that fit into the lengths, and their arrays.

        Args:
            materials: formulas or crystals.
            lengths: axis -> largest length that fits.
            strict: refuse a material that does not do instead of leaving it out.
        """
        kept: list[Any] = []
        examples: list[Example] = []
        for index, material in enumerate(materials):
            try:
                example = self.arrays_of(material)
                self._check_fit(example, lengths, material, index)
            except InputError:
                if strict:
                    raise
            else:
                kept.append(material)
                examples.append(example)
        return kept, examples

    def _check_fit(self, example: Example, lengths: Mapping[str, int], material: Any, index: int) -> None:
        counted = {size.axis: size.counted for size in self.sizes.values()}
        for axis, length in self.lengths_of(example).items():
            if length > lengths.get(axis, length):
                name = repr(material) if isinstance(material, str) else getattr(material, "formula", str(material))
                problem = f"example {name} holds {length} {counted[axis]}"
                raise InputError(problem, expected=f"at most {lengths[axis]}, the exported size", index=index)

    def lengths_of(self, example: Example) -> dict[str, int]:
        """The length of each axis in an example."""
        return {
            axis: length
            for name, given in self.inputs.items()
            for axis, length in zip(given.axes[1:], example[name].shape, strict=True)
            if isinstance(axis, str)
        }

    def pad(self, examples: Sequence[Example], lengths: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
        """A batch of examples with zeros at the end of each.

        Args:
            examples: arrays of materials, see `arrays_of`.
            lengths: axis -> its length; that of the longest example if None.
        """
        found = [self.lengths_of(example) for example in examples]
        longest = {axis: max(one[axis] for one in found) for axis in found[0]} if lengths is None else lengths

        def padded(array: np.ndarray, axes: Sequence[str | int]) -> np.ndarray:
            present = zip(axes, array.shape, strict=True)
            return np.pad(array, [(0, longest[axis] - length if isinstance(axis, str) else 0) for axis, length in present])

        return {
            name: np.stack([padded(example[name], given.axes[1:]) for example in examples]).astype(given.dtype)
            for name, given in self.inputs.items()
        }
