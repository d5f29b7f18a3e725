"""An example of training on several hosts: Keras' JAX backend with `keras.distribution.DataParallel`. Copy it beside your script.

`tf.distribute.MultiWorkerMirroredStrategy` does not work with Keras 3, see docs/multi_worker.md. Under JAX every process runs the same
program; a batch is one array whose rows lie on all devices of all processes, and XLA puts in the sums over them. So nothing depends on
which rows a device has: the mean loss of a batch is that of one device. Every process must make the same batches (the same seed).
"""

from __future__ import annotations

import functools
import os

import keras
import numpy as np

from tfmat.batching.arrays import Arrays
from tfmat.errors import InputError

CLUSTER = tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))
"""Environment variables of `keras.distribution.initialize`, by which a process finds the others."""


@functools.cache
def data_parallel() -> keras.distribution.DataParallel:
    """All devices of all processes; make, compile and fit the model in its ``scope()``.

    The process joins the others if the variables `CLUSTER` are set. Call it before anything else uses JAX.

    Raises:
        InputError: Keras does not run on JAX, or some of the variables are missing.
    """
    if keras.backend.backend() != "jax":
        raise InputError(f"data parallelism over hosts needs JAX, Keras runs on {keras.backend.backend()}", expected="KERAS_BACKEND=jax")
    missing = [name for name in CLUSTER if name not in os.environ]
    if 0 < len(missing) < len(CLUSTER):
        raise InputError(f"{' and '.join(missing)} not set", expected=f"all of {', '.join(CLUSTER)}, or none of them")
    if not missing:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")  # processes without GPUs
        keras.distribution.initialize()
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices(), auto_shard_dataset=False)


class Share(keras.utils.PyDataset):
    """What this process holds of every batch; the shares follow each other in the order of the processes.

    Empty rows fill a batch up to a multiple of the devices; the weights of the others grow, so that the mean over all rows stays the same.
    The lists of crystals (sites, bonds) are shared by their own lengths: XLA sees each as one array, whoever holds which part. They end
    with an empty entry, which is repeated.

    Args:
        whole: the same batches in every process: inputs, targets (B, 1) and loss weights (B,), each a dictionary.
        processes: how many there are.
        number: of this one.
        devices: of all processes together, equally many in each.
    """

    def __init__(self, whole: keras.utils.PyDataset, processes: int, number: int, devices: int) -> None:
        super().__init__()
        if devices % processes:
            raise ValueError(f"`devices` must be a multiple of `processes`. Received: {devices}, {processes}")
        self.whole, self.processes, self.number, self.devices = whole, processes, number, devices

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> tuple[Arrays, Arrays, Arrays]:
        """Inputs, targets and loss weights of one step."""
        inputs, targets, weights = self.whole[index]
        rows = len(next(iter(weights.values())))
        factor = self._padded(rows) / rows
        return (
            {key: self._share(values, 0 if len(values) == rows else values[-1]) for key, values in inputs.items()},
            {key: self._share(values, np.nan) for key, values in targets.items()},
            {key: (self._share(values, 0) * factor).astype(values.dtype) for key, values in weights.items()},
        )

    def _padded(self, length: int) -> int:
        return -(-length // self.devices) * self.devices

    def _share(self, values: np.ndarray, empty: float | np.ndarray) -> np.ndarray:
        """The part of an array that this process holds, once it is filled up with `empty` entries."""
        length = self._padded(len(values))
        filler = np.full((length - len(values), *values.shape[1:]), empty, values.dtype)
        each = length // self.processes
        return np.concatenate([values, filler])[self.number * each : (self.number + 1) * each]


def share_of(whole: keras.utils.PyDataset) -> Share:
    """What this process feeds to ``fit`` in the scope of `data_parallel`, see `Share`."""
    import jax

    return Share(whole, jax.process_count(), jax.process_index(), jax.device_count())
