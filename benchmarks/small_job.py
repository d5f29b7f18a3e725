"""Total time of a small job: `tfmat train` on 500 real crystals for 10 epochs, from the command to the written model, and where it goes.

The crystals are the first of mp2018_subset's training rows (`TFMAT_DATA_DIR`), written to a JSON lines file that the command reads and
splits, as a user's would be. Every run is a process of its own with an empty cache. Its parts, in seconds: `start` (Python, Keras,
TensorFlow, options), `reading`, `featurizing`, `first step` (building the model, batches, tracing and compiling), `epochs` (the other
steps and the validation), and the `rest` (calibration, scores, card, plots, the end of the process).

Examples:
    python -m benchmarks.small_job
    python -m benchmarks.small_job --architectures crysformer --count 100 --epochs 2 --options="--set dim=64 --set blocks=1"
    python -m benchmarks.small_job --runs 3 --save benchmarks/results/small_job.csv
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import rows
from benchmarks.competitors import load, print_table
from benchmarks.machine import ROOT, environment, facts

DATASET, TARGET = "mp2018_subset", "formation_energy_per_atom"
PARTS = ("start", "reading", "featurizing", "first step", "epochs", "rest")
COMMAND = """
import functools, json, runpy, sys, time
from tfmat.runs import data, train

marks = {}

def marked(name, function):
    @functools.wraps(function)
    def call(*arguments, **keywords):
        marks.setdefault(f"{name} begins", time.time())
        result = function(*arguments, **keywords)
        marks[f"{name} ends"] = time.time()
        marks.setdefault(f"{name} ends first", marks[f"{name} ends"])
        return result
    return call

fit = train.fit
data.open_for = marked("open_for", data.open_for)
train.featurized = marked("featurized", train.featurized)
train.fit = lambda *arguments, report, **keywords: fit(*arguments, report=marked("report", report), **keywords)
file = sys.argv.pop(1)
try:
    runpy.run_module("tfmat", run_name="__main__", alter_sys=True)
finally:
    with open(file, "w") as stream:
        json.dump(marks, stream)
"""
"""The command line with the times at which its parts begin and end."""


def write_crystals(path: Path, count: int) -> int:
    """A JSON lines file of crystals with their formation energies; returns how many."""
    from tfmat import datasets

    table = datasets.load(DATASET).splits["train"]
    kept = min(count, len(table))
    with path.open("w", encoding="utf-8") as stream:
        for i in range(kept):
            crystal = table.materials[i]
            cell = {"cell": crystal.lattice.tolist(), "species": crystal.species.tolist(), "frac": crystal.frac_coords.tolist()}
            stream.write(json.dumps({"id": table.ids[i], TARGET: float(table.targets[TARGET][i]), **cell}) + "\n")
    return kept


def job(architecture: str, crystals: Path, epochs: int, threads: int, options: list[str]) -> dict[str, str]:
    """One run: seconds in all, and of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["--data", str(crystals), "--target", TARGET, "--unit", "eV/atom", "--epochs", str(epochs), "--out", "model", *options]
        command = [sys.executable, "-c", COMMAND, "marks.json", "train", architecture, *given]
        variables = environment(threads, {"PYTHONPATH": str(ROOT), "TFMAT_CACHE_DIR": str(Path(folder) / "cache")})
        began = time.time()
        run = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
        ended = time.time()
        if run.returncode:
            raise SystemExit(f"{architecture}: {run.stderr.strip().splitlines()[-1]}")
        at = json.loads((Path(folder) / "marks.json").read_text(encoding="utf-8"))
    seconds = {
        "seconds": ended - began,
        "start": at["open_for begins"] - began,
        "reading": at["open_for ends"] - at["open_for begins"],
        "featurizing": at["featurized ends"] - at["featurized begins"],
        "first step": at["report ends first"] - at["featurized ends"] + at["featurized begins"] - at["open_for ends"],
        "epochs": at["report ends"] - at["report ends first"],
    }
    seconds["rest"] = seconds["seconds"] - sum(seconds[part] for part in PARTS[:-1])
    return {name: f"{value:.1f}" for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=["megnet", "crysformer"])
    parser.add_argument("--count", type=int, default=500, help="crystals (default: 500)")
    parser.add_argument("--epochs", type=int, default=10, help="default: 10")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--runs", type=int, default=1, help="of each (default: 1)")
    parser.add_argument("--options", default="", help="further ones of tfmat train, in one string")
    parser.add_argument("--save", type=Path, metavar="FILE", help="append the rows to this CSV file")
    arguments = parser.parse_args()
    from tfmat import __version__
    from tfmat.errors import InputError

    about = facts(arguments.threads)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        crystals = Path(folder) / "crystals.jsonl"
        try:
            count = write_crystals(crystals, arguments.count)
        except InputError as error:
            print(f"left out: {error}")
            return
        for _ in range(arguments.runs):
            for name in arguments.architectures:
                what = {"architecture": name, "options": arguments.options, "crystals": str(count), "planned epochs": str(arguments.epochs)}
                found.append(what | job(name, crystals, arguments.epochs, arguments.threads, arguments.options.split()))
                if arguments.save:
                    row = found[-1] | {"tfmat": __version__, **about, "load": load(), "date": datetime.date.today().isoformat()}
                    rows.append(arguments.save, list(row), row)
    print(f"{DATASET}; " + ", ".join(f"{name}: {value}" for name, value in about.items()) + f", load {load()}")
    print_table(found)


if __name__ == "__main__":
    main()
