"""What an exported model takes: for each featurizer an interface, its counterpart in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from tfmat.errors import InputError
from tfmat.export.interfaces.atom_lists import AtomListInterface
from tfmat.export.interfaces.base import Interface
from tfmat.export.interfaces.bonds import BondInterface
from tfmat.export.interfaces.compositions import CompositionInterface
from tfmat.export.interfaces.neighbors import NeighborInterface

if TYPE_CHECKING:
    from tfmat.predictor import Predictor

INTERFACES: dict[str, type[Interface]] = {
    "AtomListFeaturizer": AtomListInterface,
    "CompositionFeaturizer": CompositionInterface,
    "BondFeaturizer": BondInterface,
    "NeighborFeaturizer": NeighborInterface,
}
"""Name of a featurizer -> its interface."""


def interface_of(predictor: Predictor) -> Interface:
    """The interface of a model's featurizer.

    Args:
        predictor: the model.

    Raises:
        InputError: there is none, or Keras does not run on TensorFlow.
    """
    found = INTERFACES.get(type(predictor.featurizer).__name__)
    if found is None:
        raise InputError(f"{predictor.architecture.name} takes a {predictor.architecture.material}: its export is not yet supported")
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Keras runs on {keras.backend.backend()}: an export needs TensorFlow", expected="KERAS_BACKEND=tensorflow")
    return found(predictor.featurizer)
