"""What a trial of a search costs beside plain `Predictor.fit`: the oracle, its files, logs, checkpoints and the pause between trials.

For each tuner a search over a small L-G-DCNN is timed, then the same configurations are created and fitted plainly, in the same process
and with the same number of epochs. What the search takes longer, over the number of trials, is the overhead; at most 2 s are allowed.
Building and checking the default model before the first trial counts too.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ALLOWED = 2.0
"""Overhead of a trial [s]."""
TUNERS = ("random", "grid", "bayesian", "hyperband")
KEYWORDS = {"recurrent": (), "attention": False, "kernel_size": 1, "conv_dim": 64, "dim": 64}


def tables(rows: int) -> tuple[Any, Any]:
    """Made-up compounds of three elements; training and validation rows."""
    import numpy as np

    from tfmat.data import Table
    from tfmat.elements import SYMBOLS

    rng = np.random.default_rng(0)
    numbers, amounts = rng.integers(1, 90, (rows, 3)), rng.integers(1, 9, (rows, 3))
    formulas = ["".join(f"{SYMBOLS[z]}{x}" for z, x in zip(a, b, strict=True)) for a, b in zip(numbers, amounts, strict=True)]
    values = (numbers * amounts).sum(axis=1) / amounts.sum(axis=1) / 10
    whole = Table(formulas, {"y": values}, [str(i) for i in range(rows)], np.arange(rows), "made up")
    return whole.subset(np.arange(rows // 5, rows)), whole.subset(np.arange(rows // 5))


def space(hp: Any) -> Any:
    """Six hyper-parameters, most of which change no shape."""
    return {
        "keywords": {"conv_blocks": hp.Int("conv_blocks", 1, 3, default=1), "elements": hp.Choice("elements", ["mat2vec", "magpie"])},
        "recipe": {
            "learning_rate": hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=1e-3),
            "weight_decay": hp.Choice("weight_decay", [0.0, 1e-3, 1e-2], default=0.01),
            "ema": hp.Choice("ema", [0.99, 0.995, 0.999], default=0.995),
            "fraction_jitter": hp.Choice("fraction_jitter", [0.0, 0.02, 0.05], default=0.02),
        },
    }


def measure(tuner: str, trials: int, epochs: int, rows: int) -> dict[str, str | int | float]:
    """One row of the table."""
    import keras_tuner

    from tfmat import Predictor, Target
    from tfmat.architecture import get
    from tfmat.tuning import search
    from tfmat.tuning.configuration import Reader

    targets, (training, validation) = [Target("y")], tables(rows)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = search(
            "lgdcnn", targets, training, validation, Path(folder, "s"), tuner=tuner, trials=trials, epochs=epochs, space=space,
            keywords=KEYWORDS,
        )  # fmt: skip
        whole = time.perf_counter() - began
    assert found is not None and all(trial.status == "completed" for trial in found.trials)
    reader = Reader(get("lgdcnn"), space, KEYWORDS, get("lgdcnn").recipes["default"])
    plain = 0.0
    done = {trial.name: trial.epochs for trial in found.trials}
    for trial in found.trials:
        hp = keras_tuner.HyperParameters()
        hp.values = dict(trial.values)
        configuration = reader.read(hp)
        own = trial.epochs - done.get(trial.promoted_from or "", 0)  # a promoted trial goes on from another
        began = time.perf_counter()
        predictor = Predictor.create("lgdcnn", targets, keywords=configuration.keywords)
        predictor.fit(training, validation, recipe=configuration.recipe, epochs=own)
        plain += time.perf_counter() - began
    number = len(found.trials)
    return {
        "tuner": tuner,
        "trials": number,
        "search_seconds": round(whole, 2),
        "plain_fit_seconds": round(plain, 2),
        "overhead_seconds_a_trial": round((whole - plain) / number, 3),
    }


def main() -> int:
    """Measure and print; exit code 1 where a trial costs more than `ALLOWED`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuners", nargs="+", choices=TUNERS, default=TUNERS)
    parser.add_argument("--trials", type=int, default=20, help="of each search (default: 20)")
    parser.add_argument("--epochs", type=int, default=3, help="of the longest trial (default: 3)")
    parser.add_argument("--rows", type=int, default=2000, help="compounds (default: 2,000)")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    arguments = parser.parse_args()
    measure("random", 1, 1, 200)  # TensorFlow's first steps
    lines = [measure(tuner, arguments.trials, arguments.epochs, arguments.rows) for tuner in arguments.tuners]
    for row in lines:
        print(
            "{tuner:10s} {trials:3d} trials   search {search_seconds:8.2f} s   plain fit {plain_fit_seconds:8.2f} s   "
            "{overhead_seconds_a_trial:7.3f} s a trial more".format(**row)
        )
    if arguments.out:
        with arguments.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return 0 if all(float(row["overhead_seconds_a_trial"]) <= ALLOWED for row in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
