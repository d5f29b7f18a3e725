"""Runs in a process of its own, on JAX, alone or as one of several: trains MEGNet on bonds and prints what came out.

``python data_parallel_cases.py alone|joined``
"""

import json
import sys

import keras
import megnet_cases
import numpy as np

from docs.data_parallel import data_parallel, share_of
from tfmat.batching.pipeline import Batches, BatchSequence
from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.target import Target
from tfmat.training.loop import compile_model
from tfmat.training.recipe import Recipe
from tfmat.zoo import MEGNet

ROWS = 11  # a full batch of eight, and three in the next one: none in the second half of its rows


def batches():
    """Salts with the targets y, and z that five of them miss."""
    cells = [
        megnet_cases.crystal(megnet_cases._PAIRS[i % 6], megnet_cases.FCC * (2.9 + 0.01 * i), [[0] * 3, [0.5] * 3]) for i in range(ROWS)
    ]
    rng = np.random.default_rng(0)
    targets = {"y": rng.normal(size=ROWS).astype(np.float32), "z": rng.normal(size=ROWS).astype(np.float32)}
    targets["z"][[0, 2, 5, 8, 9]] = np.nan
    return BatchSequence(Batches.of(BondFeaturizer(cutoff=4.0).featurize(cells), targets, 8))


def main(how):
    strategy = data_parallel() if how == "joined" else None
    keras.utils.set_random_seed(1)
    if strategy is not None:
        keras.distribution.set_distribution(strategy)
    model = MEGNet(("y", "z"), **megnet_cases.SMALL, blocks=1)
    recipe = Recipe(loss="mae", learning_rate=3e-3, clip_norm=0.05, ema=0.9)
    compile_model(model, [Target("y"), Target("z")], recipe.build_optimizer(2, 3), loss="mae")
    whole = batches()
    before = [np.asarray(weight.value) for weight in model.weights]
    history = model.fit(whole if strategy is None else share_of(whole), epochs=3, shuffle=False, verbose=0).history
    weights = [np.asarray(weight.value) for weight in model.weights]
    report = {
        "history": history,
        "weights": [weight.ravel().tolist() for weight in weights],
        "trained by": max(float(np.abs(a - b).max()) for a, b in zip(before, weights, strict=True)),
        "devices": len(keras.distribution.list_devices()),
        "rows": [len(next(iter(batch[2].values()))) for batch in whole],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
