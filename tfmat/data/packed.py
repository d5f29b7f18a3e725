"""Materials of which only the featurized arrays are known: what a packed file holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from tfmat.elements import SYMBOLS
from tfmat.errors import InputError
from tfmat.featurizers.base import Featurizer, configuration
from tfmat.records import Records


@dataclass(frozen=True)
class FeaturizedMaterial:
    """One featurized material.

    Attributes:
        arrays: key -> array, see the featurizer.
    """

    arrays: Mapping[str, np.ndarray]

    def __str__(self) -> str:
        """Its elements in alphabetical order, such as ``Cl-Na``."""
        return "-".join(sorted(SYMBOLS[z] for z in np.unique(self.arrays["species"]) if z))


class Featurized(Sequence[FeaturizedMaterial]):
    """Featurized materials, which take the place of formulas or crystals in a `tfmat.data.Table`.

    Args:
        records: their arrays; whole numbers and floating-point numbers may be narrower than the featurizer's.
        featurizer: name, version and keywords of the featurizer, see `tfmat.featurizers.configuration`.
        source: the file that holds them.
    """

    def __init__(self, records: Records, featurizer: Mapping[str, Any], source: str) -> None:
        self.records, self.featurizer, self.source = records, featurizer, source

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> FeaturizedMaterial: ...
    @overload
    def __getitem__(self, index: slice) -> list[FeaturizedMaterial]: ...
    def __getitem__(self, index: int | slice) -> FeaturizedMaterial | list[FeaturizedMaterial]:
        """Give one example (a view), or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return FeaturizedMaterial(self.records[index])

    def subset(self, indices: np.ndarray) -> Featurized:
        """The examples at these positions, in that order, copied."""
        return Featurized(self.records.take(np.asarray(indices, np.int64)), self.featurizer, self.source)

    @classmethod
    def join(cls, parts: Sequence[Featurized]) -> Featurized:
        """The examples of all `parts` of one file."""
        return cls(Records.join([part.records for part in parts]), parts[0].featurizer, parts[0].source)

    def records_for(self, featurizer: Featurizer) -> Records:
        """The arrays, if `featurizer` is the one that made them.

        Raises:
            InputError: it is not.
        """
        wanted = json.loads(json.dumps(configuration(featurizer)))
        if wanted != self.featurizer:
            made, needed = _described(self.featurizer), _described(wanted)
            raise InputError(f"made by {made}; the model needs {needed}", file=self.source, expected="a file packed anew for that model")
        return self.records

    def content_hash(self) -> str:
        """SHA-256 over the arrays and the featurizer; the same on every machine."""
        digest = hashlib.sha256(json.dumps(self.featurizer, sort_keys=True).encode())
        for key in sorted(self.records.values):
            values = self.records.values[key]
            digest.update(json.dumps([key, values.dtype.str]).encode() + self.records.lengths(key).astype("<i8").tobytes())
            digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def _described(featurizer: Mapping[str, Any]) -> str:
    keywords = ", ".join(f"{key}={value}" for key, value in featurizer["config"].items())
    return f"{featurizer['name']}({keywords}) version {featurizer['version']}"
