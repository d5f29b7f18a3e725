"""Speed of the atom-list LSTM in training, beside the reference point: 110 s for an epoch of 25,725 crystals of at most 12 sites.

That was the published network in PyTorch on the same two shared cores: 0.11 s for a batch of 25 such crystals. Measured here are whole
epochs through the whole pipeline, `Predictor.fit` with its batches, and the parts of a step. The crystals are those of mp2018_subset that
are small enough, as far as there are any (`TFMAT_DATA_DIR`), or random ones.

Examples:
    python benchmarks/atom_list.py
    python benchmarks/atom_list.py --compare
    python benchmarks/atom_list.py --sites 500 --batch 64 --pooling mean
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfmat import datasets
from tfmat.batching.arrays import batch_arrays
from tfmat.crystal import Crystal
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.records import Records
from tfmat.target import Target
from tfmat.training.recipe import Recipe

REFERENCE_CRYSTALS, REFERENCE_SECONDS = 25_725, 110.0


def random_crystal(rng: np.random.Generator, sites: int) -> Crystal:
    """Sites on a jittered grid: no two of their lists are equal."""
    edge = int(np.ceil(sites ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3), -1).reshape(-1, 3)[rng.permutation(edge**3)[:sites]] / edge
    lattice = edge * (2.5 * np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)))
    return Crystal(rng.integers(1, 86, sites).astype(np.int32), lattice, grid + rng.normal(0, 0.02, grid.shape))


def crystals(count: int, sites: int) -> tuple[str, list[Crystal]]:
    try:
        materials = datasets.load("mp2018_subset").splits["train"].materials
    except InputError as error:
        rng = np.random.default_rng(0)
        return f"random crystals ({error})", [random_crystal(rng, int(n)) for n in rng.integers(1, min(sites, 100) + 1, count)]
    chosen = (materials[i] for i in np.random.default_rng(0).permutation(len(materials)).tolist())
    small = (crystal for crystal in chosen if len(crystal) <= sites)
    return f"mp2018_subset, at most {sites} sites", [crystal for crystal, _ in zip(small, range(count), strict=False)]


def training_rate(predictor: Predictor, records: Records, arguments: argparse.Namespace) -> tuple[float, float]:
    """Crystals per second in the median epoch, and seconds of the first one."""
    from tfmat.batching.pipeline import Batches
    from tfmat.training.loop import Schedule, train

    rng = np.random.default_rng(0)
    batches = Batches.of(records, {"gap": rng.normal(size=len(records)).astype(np.float32)}, arguments.batch, seed=0)
    recipe = Recipe(loss="mse", optimizer="adam", schedule="constant", batch_size=arguments.batch)
    history = train(predictor.model, predictor.targets, recipe, batches, None, Schedule(arguments.epochs))
    seconds = [row["seconds"] for row in history]
    return len(records) / float(np.median(seconds[1:])), seconds[0]


def median_seconds(call: Callable[[], Any], repeats: int = 7) -> float:
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def profile(predictor: Predictor, records: Records, batch: int) -> dict[str, float]:
    """Seconds of forward pass and gradient up to each part of the network, for a batch of crystals of about the median size."""
    import keras
    import tensorflow as tf

    model, first = predictor.model, max(len(records) - batch, 0) // 2
    indices = np.argsort(records.lengths("lists"), kind="stable")[first : first + batch]
    inputs = {key: tf.constant(value) for key, value in batch_arrays(records, indices, len(indices)).items()}
    ends = {"lists": model.get_layer("site_lstm").output[0], "sites": model.get_layer("crystal_norm").input, "all": model.output["gap"]}
    seconds = {}
    for name, end in ends.items():
        part = keras.Model(model.input, end)

        @tf.function(autograph=False)
        def step(arrays: Any, part: Any = part) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(part(arrays, training=True))
            return tape.gradient(loss, [weight.value for weight in part.trainable_weights])

        seconds[name] = median_seconds(lambda step=step: [tf.convert_to_tensor(g).numpy() for g in step(inputs) if g is not None])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="crystals (default: 1000)")
    parser.add_argument("--sites", type=int, default=12, help="most sites of a crystal (default: 12)")
    parser.add_argument("--batch", type=int, default=25, help="crystals a batch (default: 25, as published)")
    parser.add_argument("--epochs", type=int, default=4, help="the first is not counted (default: 4)")
    parser.add_argument("--pooling", choices=["lstm", "mean"], default="lstm")
    parser.add_argument("--compare", action="store_true", help="also with one list per site")
    arguments = parser.parse_args()

    source, materials = crystals(arguments.count, arguments.sites)
    table = Table(materials, {}, [str(i) for i in range(len(materials))], np.arange(len(materials)), source)
    predictor = Predictor.create("atom_list_lstm", [Target("gap", "eV")], keywords={"pooling": arguments.pooling})
    began = time.perf_counter()
    records = predictor.featurizer.featurize(table.materials)
    rate = len(table) / (time.perf_counter() - began)
    sites, lists = records.lengths("lists").sum(), records.lengths("species").sum()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{source}: {len(table)} crystals, {sites / len(table):.1f} sites and {lists / len(table):.1f} different lists on average")
    print(f"featurized: {rate:,.0f} crystals/s; load {load}; {predictor.model.count_params():,} parameters; batch {arguments.batch}")

    cases = [("equal lists once", records)]
    if arguments.compare:
        copies = dataclasses.replace(predictor.featurizer, same=0)
        cases += [("one list per site", copies.featurize(table.materials))]
    for name, given in cases:
        rate, first = training_rate(predictor, given, arguments)
        epoch = REFERENCE_CRYSTALS / rate
        print(
            f"training, {name}: {rate:,.0f} crystals/s, {epoch:.0f} s for {REFERENCE_CRYSTALS:,} ({REFERENCE_SECONDS / epoch:.1f} times "
            f"the reference); first epoch {first:.1f} s"
        )
    seconds = {name: 1e3 * value for name, value in profile(predictor, records, arguments.batch).items()}
    print(
        f"a step with crystals of about the median size, without the optimizer: {seconds['all']:.0f} ms, of which "
        f"{seconds['lists']:.0f} ms for the lists and {seconds['sites'] - seconds['lists']:.0f} ms for the sites"
    )


if __name__ == "__main__":
    main()
