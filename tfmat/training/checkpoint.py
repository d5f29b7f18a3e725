"""The state of an unfinished run in one HDF5 file: weights, optimizer, history. JSON and arrays only; written atomically."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tfmat.errors import InputError


@dataclass
class Checkpoint:
    """What is needed to go on after the epoch `epoch`.

    Attributes:
        epoch: number of finished epochs.
        arrays: group -> arrays in order; ``model`` and ``optimizer`` always, others as callbacks need.
        history: one dictionary a finished epoch.
        state: JSON-able state of callbacks.
    """

    epoch: int
    arrays: dict[str, list[np.ndarray]]
    history: list[dict[str, float]]
    state: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: keras.Model, epoch: int, history: list[dict[str, float]]) -> Checkpoint:
        """A copy of the model's and the optimizer's variables."""
        groups = {"model": model.variables, "optimizer": model.optimizer.variables}
        return cls(epoch, {name: [_copy(v) for v in variables] for name, variables in groups.items()}, [dict(row) for row in history])

    def restore(self, model: keras.Model, source: Path) -> None:
        """Put the weights and the optimizer's state back. The optimizer must be built."""
        for name, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            stored = self.arrays.get(name, [])
            if [tuple(v.shape) for v in variables] != [a.shape for a in stored]:
                raise InputError(f"the checkpoint's {name} state does not fit this run", file=str(source), expected="the run that wrote it")
            for variable, array in zip(variables, stored, strict=True):
                variable.assign(array)

    def write(self, path: Path) -> None:
        """Write to `path`, replacing an older checkpoint only when the new one is complete."""
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["epoch"] = self.epoch
                file.attrs["json"] = json.dumps({"history": self.history, "state": self.state})
                for name, arrays in self.arrays.items():
                    for index, array in enumerate(arrays):
                        file.create_dataset(f"{name}/{index:05d}", data=array)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """The checkpoint at `path`."""
        try:
            with h5py.File(path, "r") as file:
                text = json.loads(file.attrs["json"])
                arrays = {name: [group[key][()] for key in sorted(group)] for name, group in file.items()}
                return cls(int(file.attrs["epoch"]), arrays, text["history"], text["state"])
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"the checkpoint cannot be read ({error})", file=str(path), expected="a file written by tfmat") from None


def _copy(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))
