"""Runs in a process of its own, on logical CPUs: trains the same model on one device and on all of them.

``python distribution_cases.py DEVICES CASE ...`` prints one JSON object: case -> what it found.
"""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import sys
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import megnet_cases
import numpy as np
import pytest
import tensorflow as tf
import tiny

from tfmat.analysis import figures
from tfmat.batching.pipeline import Batches
from tfmat.cli import run
from tfmat.cli.progress import TrainingProgress
from tfmat.data.table import Table
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.distribution import replicas, strategy_of
from tfmat.training.loop import Interrupted
from tfmat.training.recipe import Recipe
from tfmat.zoo.lgdcnn import VARIANTS

SMALL = VARIANTS["dcnn_k1"] | {"dim": 16, "conv_dim": 16, "conv_blocks": 1}
PLAIN = Recipe(loss="mae", learning_rate=3e-3, batch_size=16)
CLIPPED = Recipe(learning_rate=3e-3, batch_size=16, ema=0.9, clip_norm=0.05, weight_decay=0.1, fraction_jitter=0.02)
RATES = dataclasses.replace(CLIPPED, rates=(("*1*", 0.3),))
ACCUMULATED = Recipe(loss="mse", learning_rate=3e-3, batch_size=32, accumulation=2, clip_norm_each=0.02, keep="best")
PAPER = Recipe(optimizer="lookahead_lamb", schedule="triangular", swa_epochs=2, batch_size=16)


def labelled(materials):
    """With the targets y, and z that half of them miss."""
    rng = np.random.default_rng(0)
    count = len(materials)
    values = {"y": rng.normal(3, 2, count), "z": rng.normal(0, 9, count)}
    values["z"][rng.permutation(count)[: count // 2]] = np.nan
    return Table(materials, values, [str(i) for i in range(count)], np.arange(count) + 2, "made.csv")


def salts(rows):
    """Formulas of two to four elements."""
    rng = np.random.default_rng(1)
    symbols = np.array(["Li", "Na", "K", "O", "S", "Fe", "Ti", "Cl"])
    return ["".join(f"{e}{rng.integers(1, 9)}" for e in rng.permutation(symbols)[: rng.integers(2, 5)]) for _ in range(rows)]


def cells(rows):
    """Crystals of one or two cells, each atom in a place of its own: the lists of two batches differ in length."""
    pairs = megnet_cases._PAIRS
    made = [megnet_cases.crystal(pairs[i % 6], megnet_cases.FCC * (2.9 + 0.01 * i), megnet_cases.SALT.frac_coords) for i in range(rows)]
    large = [megnet_cases.supercell(cell, (1, 1, 1 + i % 2)) for i, cell in enumerate(made)]
    rng = np.random.default_rng(2)
    return [dataclasses.replace(cell, frac_coords=cell.frac_coords + rng.normal(0, 0.02, cell.frac_coords.shape)) for cell in large]


def fitted(strategy, name, keywords, recipe, data, epochs=3, validated=True, **options):
    predictor = Predictor.create(name, [Target("y"), Target("z")], keywords=keywords, seed=1, strategy=strategy_of(strategy))
    predictor.fit(data, data if validated else None, recipe=recipe, epochs=epochs, seed=1, **options)
    return predictor


def weights(predictor):
    return [np.asarray(weight) for weight in predictor.model.weights]


def apart(one, other):
    return max(float(np.abs(x - y).max()) for x, y in zip(weights(one), weights(other), strict=True))


def compared(name, keywords, recipe, data, **options):
    """How far one device and all of them lie apart after training, and how far training has gone."""
    start = Predictor.create(name, [Target("y"), Target("z")], keywords=keywords, seed=1)
    one, all_ = (fitted(strategy, name, keywords, recipe, data, **options) for strategy in ("none", "mirrored"))
    copies = [[np.asarray(c) for c in all_.strategy.experimental_local_results(w.value)] for w in all_.model.weights]
    rows = [[row[key] for row in one.history for key in sorted(row) if key != "seconds"] for one in (one, all_)]
    return {
        "weights apart": apart(one, all_),
        "trained by": apart(one, start),
        "figures apart": float(np.max(np.abs(np.array(rows[0]) / np.array(rows[1]) - 1))),
        "copies apart": max(float(np.abs(c - copy[0]).max()) for copy in copies for c in copy),
        "figures": len(rows[0]),
        "said": all_.info["strategy"],
    }


def one_sided_rows():
    """The loss of untrained weights over batches of four rows and of one, which is in the first replica and an empty one in the other."""
    data = labelled([f"Na{1 + i}Cl" for i in range(13)])
    recipe = dataclasses.replace(PLAIN, learning_rate=1e-12, schedule="constant", batch_size=4)
    predictor = Predictor.create("tiny", [Target("y"), Target("z")], seed=1, strategy=strategy_of("mirrored"))
    predictor.fit(data, recipe=recipe, epochs=1, seed=1)
    batches = Batches.of(predictor.featurizer.featurize(data.materials), predictor._scaled(data), 4, seed=1)
    mean, of_means, rows = [], [], []
    for parts in zip(*[iter(batches.epoch(0, 2))] * 2, strict=True):
        errors = [
            [np.abs(np.asarray(predictor.model(inputs)[name])[:, 0] - values[name][:, 0]) for inputs, values, _ in parts]
            for name in ("y", "z")
        ]
        mean.append(sum(np.nanmean(np.concatenate(e)) for e in errors))
        of_means.append(sum(np.mean([np.nanmean(half) if np.isfinite(half).any() else 0 for half in e]) for e in errors))
        rows.append(sum(np.isfinite(values["y"]).sum() for _, values, _ in parts))  # the batches of an epoch are weighed by them
    means = {"mean": np.average(mean, weights=rows), "mean of means": np.average(of_means, weights=rows)}
    return {"loss": predictor.history[0]["loss"]} | {name: float(value) for name, value in means.items()}


def resumed():
    """A run that is interrupted and resumed, with dropout and jitter, beside one that is not."""

    def stop(epoch, epochs, step, steps, figures):
        if (epoch, step) == (3, 2):
            os.kill(os.getpid(), signal.SIGINT)

    data, case = labelled(salts(61)), ("mirrored", "tiny", {"dropout": 0.3, "columns": 2}, CLIPPED)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/checkpoint.h5"
        try:
            fitted(*case, data, epochs=4, checkpoint=file, report=stop)
        except Interrupted as interrupted:
            epoch = interrupted.epoch
        again = fitted(*case, data, epochs=4, checkpoint=file, resume=True)
    whole = fitted(*case, data, epochs=4)
    state = next(v for v in whole.model.variables if v.path.endswith("seed_generator_state"))
    seeds = [np.asarray(copy).tolist() for copy in whole.strategy.experimental_local_results(state.value)]
    return {"epoch": epoch, "apart": apart(again, whole), "seeds": seeds, "losses": [p.history[-1]["loss"] for p in (again, whole)]}


def command():
    """``tfmat train --strategy mirrored``, interrupted in the second epoch and resumed, beside ``--strategy none``."""

    def stop(self, epoch, epochs, step, steps, figures):
        if (epoch, step) == (2, 1):
            os.kill(os.getpid(), signal.SIGINT)

    codes = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(figures, "can_plot", lambda: False)
        materials, data = salts(90), pathlib.Path("made.csv")
        data.write_text("formula,gap\n" + "".join(f"{material},{len(material) + i % 7}\n" for i, material in enumerate(materials)))
        options = ["--data", str(data), "--target", "gap", "--unit", "eV", "--epochs", "3", "--no-cache", "--batch-size", "16"]
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(TrainingProgress, "report", stop)
            codes.append(run(["train", "tiny", *options, "--strategy", "mirrored", "--out", "both"]))
        codes.append(run(["train", "--resume", "both", "--strategy", "none"]))
        codes.append(run(["train", "--resume", "both"]))
        codes.append(run(["train", "tiny", *options, "--out", "one"]))
        codes.append(run(["train", "tiny", *options, "--strategy", "all", "--out", "none"]))
        both, one = Predictor.load("both"), Predictor.load("one")
        card = (pathlib.Path("both") / "README.md").read_text()
        return {"codes": codes, "apart": apart(both, one), "said": [p.info.get("strategy") for p in (both, one)], "card": card}


def tuned():
    """Objectives of ``tfmat tune``, on one device and on all: two trials in one process."""
    objectives = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = pathlib.Path("made.csv")
        data.write_text("formula,gap\n" + "".join(f"{material},{len(material) + i % 7}\n" for i, material in enumerate(salts(60))))
        options = ["--data", "made.csv", "--target", "gap", "--unit", "eV", "--tuner", "random", "--trials", "2", "--epochs", "2"]
        options += ["--vary", "learning_rate", "--set", "dim=16", "--recipe-option", "fraction_jitter=0", "--no-cache"]
        for strategy in ("none", "mirrored"):
            assert run(["tune", "lgdcnn", *options, "--strategy", strategy, "--out", strategy]) == 0
            with open(pathlib.Path(strategy) / "trials.csv", newline="") as stream:
                objectives.append([list(row.values()) for row in csv.DictReader(stream)])
    return {"trials": objectives}


def refused():
    """What cannot be trained under a strategy."""
    messages = []
    keras.config.set_dtype_policy("mixed_float16")
    try:
        fitted("mirrored", "tiny", {}, PLAIN, labelled(salts(20)))
    except InputError as error:
        messages.append(str(error))
    finally:
        keras.config.set_dtype_policy("float32")
    try:
        strategy_of("mirror")
    except InputError as error:
        messages.append(str(error))
    return messages


SMALL_BATCHES = dataclasses.replace(PLAIN, batch_size=8)
MEGNET, LISTS = megnet_cases.SMALL | {"blocks": 1, "l2": 0.01}, {"embedding_dim": 8, "site_units": 8, "crystal_units": 8, "layers": 2}
CRYSFORMER = {"dim": 8, "blocks": 1, "heads": 2}
CASES = {
    "composition": lambda: compared("tiny", {"columns": 2}, RATES, labelled(salts(61))),
    "lgdcnn": lambda: compared("lgdcnn", SMALL, RATES, labelled(salts(61))),
    "accumulated": lambda: compared("tiny", {}, ACCUMULATED, labelled(salts(61))),
    "paper": lambda: compared("tiny", {"columns": 2}, PAPER, labelled(salts(61))),
    "crystal": lambda: compared("megnet", MEGNET, SMALL_BATCHES, labelled(cells(21)), validated=False),
    "lists": lambda: compared("atom_list_lstm", LISTS, SMALL_BATCHES, labelled(cells(18)), validated=False),
    "neighbors": lambda: compared("crysformer", CRYSFORMER, SMALL_BATCHES, labelled(cells(18)), validated=False),
    "odd": lambda: compared("tiny", {}, dataclasses.replace(PLAIN, batch_size=16), labelled(salts(61))),
    "one-sided": one_sided_rows,
    "resumed": resumed,
    "command": command,
    "tuned": tuned,
    "refused": refused,
}


def main(devices, *names):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    with pytest.MonkeyPatch.context() as patch:
        tiny.register(patch)
        found = {name: CASES[name]() for name in names}
    assert replicas(strategy_of("mirrored")) == int(devices)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
