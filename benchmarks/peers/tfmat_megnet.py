"""tfmat's MEGNet as a competitor."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import serve
import tensorflow as tf

PRESETS = {"megnet": "mp-2018.6.1/formation_energy", "matgl": "matgl/MEGNet-MP-2018.6.1-Eform"}


class Tfmat:
    def __init__(self, structures: list[Any], threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        import tfmat

        tfmat.keep_memory()
        from tfmat.featurizers.bonds import BondFeaturizer
        from tfmat.predictor import Predictor

        self.structures = structures
        self.featurizer = BondFeaturizer(cutoff=4.0)
        self.pretrained = Predictor.load(PRESETS["megnet"])
        parameters = self.pretrained.model.count_params()
        self.about = f"tfmat {tfmat.__version__}, TensorFlow {tf.__version__}, {parameters:,} parameters"

    def graphs(self) -> None:
        self.featurizer.featurize(self.structures)

    def predict(self, batch_size: int) -> Any:
        return self.pretrained.predict(self.structures, batch_size=batch_size)

    def predictions(self, weights: str) -> list[float] | None:
        from tfmat.errors import InputError
        from tfmat.predictor import Predictor

        try:
            predictor = Predictor.load(PRESETS[weights])
        except InputError:
            return None  # no such preset, or its weights are not to be had here
        return predictor.predict(self.structures, batch_size=128)[predictor.targets[0].name].tolist()

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        from tfmat.architecture import get
        from tfmat.batching.pipeline import Batches
        from tfmat.target import Target
        from tfmat.training.loop import Schedule, train
        from tfmat.zoo import MEGNet

        model, target = MEGNet(("y",)), Target("y", "eV/atom").fit(np.array(targets))
        recipe = dataclasses.replace(get("megnet").recipes["paper"], batch_size=batch_size, keep="last", patience=None)  # no validation
        records = self.featurizer.featurize(self.structures)
        batches = Batches.of(records, {"y": target.scale(np.array(targets))}, batch_size, seed=0)
        history = train(model, [target], recipe, batches, None, Schedule(epochs))
        return [row["seconds"] for row in history]


if __name__ == "__main__":
    serve.main(Tfmat)
