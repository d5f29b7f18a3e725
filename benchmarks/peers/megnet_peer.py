"""The PyPI package megnet 1.3.2 (Keras 2 through tf-keras) as a competitor; the environment names its weights in MEGNET_WEIGHTS."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import serve
import tensorflow as tf


class EpochTimes(tf.keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class Megnet:
    def __init__(self, structures: list[Any], threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        from megnet.data.crystal import CrystalGraph
        from megnet.models import MEGNetModel

        tf.keras.utils.set_random_seed(0)
        self.structures = structures
        self.trained = MEGNetModel(nfeat_edge=100, nfeat_global=2)
        weights = os.environ.get("MEGNET_WEIGHTS", "")
        self.pretrained = MEGNetModel.from_file(weights) if os.path.exists(weights) else None
        self.converter: CrystalGraph = self.trained.graph_converter
        self.about = f"megnet 1.3.2, TensorFlow {tf.__version__}, {self.trained.count_params():,} parameters"

    def graphs(self) -> None:
        for structure in self.structures:
            self.converter.convert(structure)

    def predict(self, batch_size: int) -> Any:
        return (self.pretrained or self.trained).predict_structures(self.structures, batch_size=batch_size)

    def predictions(self, weights: str) -> list[float] | None:
        return self.predict(128).ravel().tolist() if weights == "megnet" and self.pretrained else None

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        times = EpochTimes()
        with tempfile.TemporaryDirectory() as folder:
            self.trained.train(self.structures, targets, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[times], dirname=folder)
        return times.seconds


if __name__ == "__main__":
    serve.main(Megnet)
