"""tfmat's Crysformer as a contestant.

The environment gives builder keywords as JSON in CRYSFORMER_KEYWORDS; 1 or 0 in TFMAT_BENCHMARK_JIT turns XLA on or off. Crystals are
featurized in advance; padding and batching belong to what is timed, as does all of `keras.Model.fit`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any

import keras
import numpy as np
import serve
import tensorflow as tf


class EpochTimes(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def graph_size(records: Any) -> dict[str, int]:
    """Atoms, edges (filled neighbour slots) and angles (pairs of a bond to a site and one of that site's bonds) of all crystals."""
    edges = angles = 0
    for index in range(len(records)):
        example = records[index]
        filled = np.any(example["vectors"] != 0, axis=-1)
        degree = filled.sum(axis=1)
        edges += int(degree.sum())
        angles += int((degree[example["neighbors"]] * filled).sum())
    return {"atoms": int(records.lengths("species").sum()), "edges": edges, "angles": angles}


def padded_size(batches: Any) -> dict[str, int]:
    """The same of one epoch of batches, padding included: what is computed."""
    arrays, flat = [inputs for inputs, *_ in batches.epoch(0)], batches.plan.sizes.flat
    shapes = [(int((x["species"] > 0).sum()) if flat else x["species"].size, x["vectors"].shape[2]) for x in arrays]
    return {f"padded_{name}": sum(sites * k**power for sites, k in shapes) for name, power in (("atoms", 0), ("edges", 1), ("angles", 2))}


class Tfmat:
    def __init__(self, structures: list[Any], threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        import tfmat
        from tfmat.predictor import Predictor
        from tfmat.target import Target

        self.predictor = Predictor.create(
            "crysformer", [Target("y", "1/cm")], keywords=json.loads(os.environ.get("CRYSFORMER_KEYWORDS", "{}"))
        )
        chosen = os.environ.get("TFMAT_BENCHMARK_JIT")
        self.jit = self.predictor.architecture.xla if chosen is None else chosen == "1"
        self.structures, self.model = structures, self.predictor.model
        self.graphs()
        self.batches: Any = None
        keywords = self.predictor.architecture.default_keywords() | self.predictor.keywords
        self.about = {
            "text": f"tfmat {tfmat.__version__}, TensorFlow {tf.__version__}{', XLA' * self.jit}, {self.model.count_params():,} parameters",
            "parameters": int(self.model.count_params()),
            **{key: keywords[key] for key in ("dim", "blocks", "heads", "ff_ratio")},
            **graph_size(self.records),
        }

    def graphs(self) -> None:
        self.records = self.predictor.featurizer.featurize(self.structures)

    def predict(self, batch_size: int) -> Any:
        return self.predictor.outputs(self.records, batch_size=batch_size, jit_compile=self.jit)

    def padding(self, targets: list[float], batch_size: int) -> dict[str, int]:
        """What an epoch of training computes, padding included."""
        self._prepare(targets, batch_size)
        return padded_size(self.batches)

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        self._prepare(targets, batch_size)
        times = EpochTimes()
        data, steps = self.batches.dataset(repeat=True), self.batches.plan.steps
        self.model.fit(data, steps_per_epoch=steps, epochs=epochs, callbacks=[times], shuffle=False, verbose=0)
        return times.seconds

    def _prepare(self, targets: list[float], batch_size: int) -> None:
        """Batches as `Predictor.fit` makes them, and AdamW on the squared error as the paper has it; compiled once for all rounds."""
        if self.batches is not None:
            return
        from tfmat.data.pipeline import Batches
        from tfmat.data.static_shapes import drops_padding, least_saving, most_buckets
        from tfmat.training import compile_model

        recipe = self.predictor.recipe("paper")
        least = least_saving(self.model, recipe.epochs, self.jit)
        most = most_buckets(self.model, self.jit)
        flat = drops_padding(self.model, self.jit)
        self.batches = Batches.of(
            self.records, {"y": np.array(targets)}, batch_size, seed=0, max_buckets=most, least_saving=least, flat=flat
        )
        recipe = dataclasses.replace(recipe, loss="mse", ema=None, clip_norm=None, clip_norm_each=None, schedule="constant")
        optimizer = recipe.build_optimizer(self.batches.plan.steps, recipe.epochs)
        compile_model(self.model, self.predictor.targets, optimizer, self.jit, loss="mse")


if __name__ == "__main__":
    serve.main(Tfmat)
