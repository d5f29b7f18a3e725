"""What a layer or a featurizer may offer beyond what every one of its kind has, and who makes use of it.

Each is checked with `isinstance`, which looks for the names alone, so a class need not inherit from any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tfmat.crystal import Crystal
from tfmat.target import Target


@runtime_checkable
class SharesOutput(Protocol):
    """A layer that knows what each element or site adds to the outputs; `tfmat.analysis.explain` then shows that instead of gradients."""

    def shares(self, *inputs: Any) -> Mapping[str, Any]:
        """Tell what each slot adds to the first column of each output, target -> (B, A), for the layer's `inputs`."""


@runtime_checkable
class Attends(Protocol):
    """A layer with one attention over elements or sites, which `tfmat.analysis.explain` shows.

    Attributes:
        name: under which it is shown.
    """

    name: str

    def weights_of(self, *inputs: Any) -> Any:
        """The attention for the layer's `inputs`: (B, A, 1) of slots, or (S, 1) of a list of sites; over a material it sums to 1."""


@runtime_checkable
class ServesTargets(Protocol):
    """An output layer of several targets at once, so that no layer has the name of one; `tfmat.model_directory.transfer` asks it.

    Attributes:
        targets: their names.
    """

    targets: Sequence[str]


@runtime_checkable
class FitsTarget(Protocol):
    """An output layer, called by its target, that must know the scale of its target before it is trained; see `outputs.fit_outputs`."""

    def fit_target(self, target: Target, values: np.ndarray) -> None:
        """Take over what follows from `target`, with its scale, and its training `values` [unit]; NaN = missing.

        Raises:
            InputError: the layer cannot give such values.
        """


@runtime_checkable
class OrdersSites(Protocol):
    """A featurizer that sorts the sites of a crystal; `tfmat.analysis.explain` puts them back into the order of the crystal."""

    def site_order(self, crystal: Crystal) -> np.ndarray:
        """The sites, numbered as in the crystal, in the order of the featurizer: int (A,)."""


@runtime_checkable
class GroupsSites(Protocol):
    """A featurizer that gives one row for all equal sites of a crystal; `tfmat.analysis.explain` divides among them what belongs to it."""

    def site_classes(self, crystal: Crystal) -> np.ndarray:
        """The row of each site of the crystal: int (A,)."""
