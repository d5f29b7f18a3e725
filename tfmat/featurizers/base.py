"""What every featurizer offers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np

from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.records import Records

Spec = Mapping[str, tuple[str, tuple[int | None, ...]]]


class Featurizer(Protocol):
    """A frozen dataclass that turns one material into arrays; its configuration is ``dataclasses.asdict(self)``.

    Attributes:
        version: raised whenever the same material gives other arrays; a model stores it and refuses another one.
        spec: key -> (dtype, shape of one example); ``None`` is a ragged axis.
    """

    version: ClassVar[int]

    @property
    def spec(self) -> Spec:
        """Key -> (dtype, shape of one example)."""
        ...

    def __call__(self, material: Any) -> dict[str, np.ndarray]:
        """Featurize one material: key -> array. Raises `InputError`."""
        ...

    def featurize(self, materials: Sequence[Any]) -> Records:
        """Many materials at once. An `InputError` carries the position of the bad one as ``index``."""
        ...


@runtime_checkable
class Doubts(Protocol):
    """A featurizer of crystals that may give other arrays for a slightly different cell; predictions of such crystals have a warning."""

    def doubt(self, crystal: Crystal) -> str:
        """Which detail of a checked `crystal` decides on its arrays; empty where none does."""


def featurize_one(featurizer: Featurizer, material: Any) -> dict[str, np.ndarray]:
    """The arrays of a single material; an error then has no position."""
    try:
        return featurizer.featurize([material])[0]
    except InputError as error:
        raise InputError(error.problem, expected=error.expected) from None


def configuration(featurizer: Featurizer) -> dict[str, Any]:
    """Name, version and keywords of a featurizer, JSON-able: what a model stores and a cache is keyed by."""
    keywords = dataclasses.asdict(cast(Any, featurizer))
    return {"name": type(featurizer).__name__, "version": featurizer.version, "config": keywords}
