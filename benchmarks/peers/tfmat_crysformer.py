"""tfmat's Crysformer as a competitor.

The environment gives builder keywords as JSON in CRYSFORMER_KEYWORDS. Crystals are featurized in advance; batching belongs to what is
timed, as does all of `keras.Model.fit`.
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
    """Atoms, edges and angles of all crystals with every copy, and how many of them are distinct and so computed."""
    values, offsets = records.values, records.offsets
    first_site, first_bond = offsets["species"][:-1], offsets["distances"][:-1]
    sites = values["site_multiplicity"]
    bonds = sites[values["bond_receivers"] + np.repeat(first_site, records.lengths("distances"))] * values["bond_multiplicity"]
    pairs = bonds[values["pair_receivers"] + np.repeat(first_bond, records.lengths("cosines"))] * values["pair_multiplicity"]
    counts = {"atoms": sites, "edges": bonds, "angles": pairs}
    return {name: int(x.sum()) for name, x in counts.items()} | {f"computed_{name}": len(x) for name, x in counts.items()}


class Tfmat:
    def __init__(self, structures: list[Any], threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        import tfmat
        from tfmat.predictor import Predictor
        from tfmat.target import Target

        tfmat.keep_memory()
        self.predictor = Predictor.create(
            "crysformer", [Target("y", "1/cm")], keywords=json.loads(os.environ.get("CRYSFORMER_KEYWORDS", "{}"))
        )
        self.structures, self.model = structures, self.predictor.model
        self.graphs()
        self.batches: Any = None
        keywords = self.predictor.architecture.default_keywords() | self.predictor.keywords
        self.about = {
            "text": f"tfmat {tfmat.__version__}, TensorFlow {tf.__version__}, {self.model.count_params():,} parameters",
            "parameters": int(self.model.count_params()),
            **{key: keywords[key] for key in ("dim", "blocks", "heads", "ff_ratio")},
            **graph_size(self.records),
        }

    def graphs(self) -> None:
        self.records = self.predictor.featurizer.featurize(self.structures)

    def predict(self, batch_size: int) -> Any:
        return self.predictor.outputs(self.records, batch_size=batch_size)

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
        from tfmat.batching.pipeline import Batches
        from tfmat.training.loop import compile_model

        recipe = self.predictor.recipe("paper")
        self.batches = Batches.of(self.records, {"y": np.array(targets)}, batch_size, seed=0)
        recipe = dataclasses.replace(recipe, loss="mse", ema=None, clip_norm=None, clip_norm_each=None, schedule="constant")
        optimizer = recipe.build_optimizer(self.batches.plan.steps, recipe.epochs)
        compile_model(self.model, self.predictor.targets, optimizer, loss="mse")


if __name__ == "__main__":
    serve.main(Tfmat)
