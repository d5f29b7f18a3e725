"""What `--strategy mirrored` costs: the time of a training step on two logical CPUs beside one device, for the same work on the same cores.

Both are processes that train the same model on the same global batches and take turns, an epoch each (A B A B ...). The first epochs,
which trace and compile, are left out. The aim is a ratio of 1.15 at most. Compositions and crystals are made up.

Examples:
    python -m benchmarks.distribution
    python -m benchmarks.distribution --architectures megnet --rounds 9 --save
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.competitors import ROOT, environment, load, print_table, processor, spread

AIM, WARM_UP = 1.15, 2
RESULTS = ROOT / "benchmarks/results/distribution.csv"
BATCH = {"lgdcnn": 256, "megnet": 128, "crysformer": 32}
ELEMENTS = np.array([3, 8, 9, 11, 12, 13, 14, 16, 17, 19, 20, 22, 26, 29])


def compositions(rows: int) -> list[str]:
    from tfmat.elements import SYMBOLS

    rng = np.random.default_rng(0)
    numbers = np.array([rng.choice(ELEMENTS, 3, replace=False) for _ in range(rows)])
    return [
        "".join(f"{SYMBOLS[z]}{n}" for z, n in zip(*pair, strict=True)) for pair in zip(numbers, rng.integers(1, 9, (rows, 3)), strict=True)
    ]


def crystals(rows: int) -> list[Any]:
    """Of eight atoms each, at least 1.9 Å apart."""
    from tfmat.crystal import Crystal

    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return [
        Crystal(rng.choice(ELEMENTS, 8).astype(np.int32), np.eye(3) * rng.uniform(5.0, 6.0), corners + rng.uniform(-0.06, 0.06, (8, 3)))
        for _ in range(rows)
    ]


def train(name: str, devices: int, steps: int, epochs: int, keywords: dict[str, Any] | None) -> None:
    """What a process under measurement does: after each epoch it prints the seconds of a step and waits for its turn."""
    import tensorflow as tf

    from tfmat import architecture
    from tfmat.data.table import Table
    from tfmat.predictor import Predictor
    from tfmat.target import Target
    from tfmat.training.distribution import strategy_of
    from tfmat.training.recipe import Recipe

    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    rows = BATCH[name] * steps
    materials = compositions(rows) if architecture.get(name).material == "composition" else crystals(rows)
    table = Table(materials, {"y": np.random.default_rng(1).normal(size=rows)}, [str(i) for i in range(rows)], np.arange(rows), "made")
    predictor = Predictor.create(name, [Target("y")], keywords=keywords, strategy=strategy_of("mirrored" if devices > 1 else "none"))

    def turn(epoch: int, epochs: int, step: int, steps: int, figures: Any) -> None:
        if step == steps:
            print(json.dumps([figures["seconds"] / steps, figures["loss"]]), flush=True)
            sys.stdin.readline()

    predictor.fit(table, recipe=Recipe(loss="mae", batch_size=BATCH[name]), epochs=epochs, report=turn)


def measure(name: str, arguments: argparse.Namespace) -> dict[str, str]:
    """The turns of both processes; one row of the table."""
    epochs = WARM_UP + arguments.rounds
    command = [sys.executable, "-m", "benchmarks.distribution", "--steps", str(arguments.steps), "--set", arguments.set, "--train", name]
    variables = environment(arguments.threads, {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])})
    both = [
        subprocess.Popen(
            [*command, str(devices), str(epochs)], env=variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for devices in (1, 2)
    ]
    times: list[list[tuple[float, float]]] = [[], []]
    for epoch in range(epochs):
        for process, found in zip(both, times, strict=True):
            assert process.stdin and process.stdout
            if epoch:  # the first turn begins by itself
                process.stdin.write("\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name}: a process ended with exit code {process.wait()}")
            found.append(tuple(json.loads(line)))
    for process in both:
        process.communicate("\n")
    one, two = (np.array(found) for found in times)
    worst = np.abs(two[:, 1] / one[:, 1] - 1).max()
    one, two = 1e3 * one[WARM_UP:, 0], 1e3 * two[WARM_UP:, 0]
    return {
        "architecture": name,
        "batch": str(BATCH[name]),
        "one device [ms]": spread(one, 1),
        "two logical CPUs [ms]": spread(two, 1),
        "ratio": f"{np.median(two / one):.3f}",
        "losses differ by": f"{worst:.0e}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=["lgdcnn", "megnet"], choices=list(BATCH))
    parser.add_argument("--rounds", type=int, default=5, help="epochs that are timed (default: 5)")
    parser.add_argument("--steps", type=int, default=8, help="steps an epoch (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow's pools, in both processes (default: 2)")
    parser.add_argument("--set", default="null", metavar="JSON", help="keywords of the builder (default: the default variant)")
    parser.add_argument("--save", action="store_true", help=f"append to {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--train", nargs=3, metavar=("NAME", "DEVICES", "EPOCHS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        name, devices, epochs = arguments.train
        train(name, int(devices), arguments.steps, int(epochs), json.loads(arguments.set))
        return 0
    print(f"{processor()}, {arguments.threads} threads, load before the run {load()}")
    rows = [measure(name, arguments) for name in arguments.architectures]
    print_table(rows)
    if arguments.save:
        new, date = not RESULTS.exists(), datetime.date.today().isoformat()
        with RESULTS.open("a", newline="", encoding="utf-8") as stream:
            about = {"date": date, "hardware": processor(), "threads": arguments.threads, "keywords": arguments.set}
            writer = csv.DictWriter(stream, fieldnames=[*rows[0], *about])
            if new:
                writer.writeheader()
            writer.writerows(row | about for row in rows)
    return 0 if all(float(row["ratio"]) <= AIM for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
