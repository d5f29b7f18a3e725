"""Speed and memory of the composition family, beside CrabNet in the same run, one thread each.

Worker processes take turns (A B C A B C ...): tfmat's L-G-DCNN, its default variant and the published one, through Keras' train function
with the tf.data pipeline of `tfmat train`; and the network class of the PyPI package crabnet 1.0.1 with a plain PyTorch AdamW on batches
prepared in advance. (The package's own training class cannot be imported: it imports ``CrabNet`` where the package is called ``crabnet``.)
Same rows, batch 256, float32, all rows of an epoch. tfmat keeps its memory, as the command does by itself; CrabNet is timed as it is, which
the ratios refer to, and with memory kept through the environment.

Where the processor has wider vectors, all is measured twice: as the machine is, and limited to AVX2.

CrabNet needs an environment of its own: ``make peers`` creates ``.venv-peers`` with PyTorch. Without it tfmat is timed alone.

Examples:
    python -m benchmarks.composition --out benchmarks/results/composition.csv
    python -m benchmarks.composition --variants --peak-memory
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competitors import environment, matmul_rate, print_table, processor, spread
from benchmarks.machine import instruction_sets

BATCH = 256
ROOT = Path(__file__).resolve().parent.parent
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**28)}
DATA = "aflow__ael_bulk_modulus_vrh"


class TfmatWorker:
    """L-G-DCNN or one of its variants."""

    def __init__(self, path: str, variant: str) -> None:
        import tensorflow as tf

        import tfmat

        tfmat.keep_memory()
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from tfmat import architecture
        from tfmat.batching.pipeline import Batches
        from tfmat.records import Records
        from tfmat.target import Target
        from tfmat.training.inference import forward
        from tfmat.training.loop import compile_model

        stored = np.load(path, allow_pickle=False)
        family = architecture.get("lgdcnn")
        self.model = family.builder(("y",), **family.variant(variant))
        records = Records({k: stored[k] for k in ("species", "fractions")}, {k: stored["offsets"] for k in ("species", "fractions")})
        target = Target("y").fit(stored["values"])
        self.rows = len(stored["values"])
        self.batches = Batches.of(records, {"y": target.scale(stored["values"])}, BATCH, seed=0, fraction_jitter=0.02)
        compile_model(self.model, [target], family.recipes["default"].build_optimizer(self.batches.plan.steps, 100))
        self.model.make_train_function()
        self.data = iter(self.batches.dataset(repeat=True))
        self.run = forward(self.model)
        self.about = f"{self.model.count_params():,} parameters"

    def train(self) -> None:
        for _ in range(self.batches.plan.steps):
            figures = self.model.train_function(self.data)
        float(figures["loss"])

    def infer(self) -> None:
        for inputs, *_ in self.batches.epoch(0):
            self.run(inputs)


class CrabNetWorker:
    """The network class of the crabnet package."""

    def __init__(self, path: str, variant: str) -> None:
        import crabnet.kingcrab as kingcrab
        import pandas as pd
        import torch

        torch.set_num_threads(1)
        stored = np.load(path, allow_pickle=False)
        # The package looks for its element table in a folder that it does not install.
        kingcrab.pd = type("Pandas", (), {"read_csv": staticmethod(lambda *_, **__: pd.DataFrame(stored["mat2vec"]))})
        self.torch = torch
        self.model = kingcrab.CrabNet()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        lengths = np.diff(stored["offsets"])
        species, fractions = np.zeros((len(lengths), lengths.max()), np.int64), np.zeros((len(lengths), lengths.max()), np.float32)
        row, column = np.repeat(np.arange(len(lengths)), lengths), np.arange(lengths.sum()) - np.repeat(stored["offsets"][:-1], lengths)
        species[row, column], fractions[row, column] = stored["species"], stored["fractions"]
        values = (stored["values"] - stored["values"].mean()) / stored["values"].std()
        self.rows = len(lengths)
        self.batches = [
            (
                torch.tensor(species[i : i + BATCH]),
                torch.tensor(fractions[i : i + BATCH]),
                torch.tensor(values[i : i + BATCH, None], dtype=torch.float32),
            )
            for i in range(0, self.rows, BATCH)
        ]
        self.about = f"{sum(p.numel() for p in self.model.parameters() if p.requires_grad):,} parameters"

    def train(self) -> None:
        self.model.train()
        for species, fractions, values in self.batches:
            noisy = (fractions * (1 + 0.02 * self.torch.randn_like(fractions))).clamp(0, 1)
            output, log_scale = self.model(species, noisy / noisy.sum(1, keepdim=True)).chunk(2, dim=-1)
            loss = (2**0.5 * (output - values).abs() * self.torch.exp(-log_scale) + log_scale).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def infer(self) -> None:
        self.model.eval()
        with self.torch.no_grad():
            for species, fractions, _ in self.batches:
                self.model(species, fractions)


def serve(kind: str, path: str, variant: str) -> None:
    """A worker: reads ``train`` or ``infer`` a line, answers with rows a second."""
    worker: Any = (CrabNetWorker if kind == "crabnet" else TfmatWorker)(path, variant)
    print(json.dumps({"about": worker.about}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        getattr(worker, line.strip())()
        print(json.dumps({"rate": worker.rows / (time.perf_counter() - start)}), flush=True)


class Process:
    """A worker process."""

    def __init__(self, name: str, python: str, kind: str, path: str, variant: str = "", settings: dict[str, str] | None = None) -> None:
        self.name = name
        variables = environment(1, {"PYTHONPATH": "" if kind == "crabnet" else str(ROOT)} | (settings or {}))
        command = [python, "-m", "benchmarks.composition", "--serve", kind, path, variant]
        self.process = subprocess.Popen(
            command, env=variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.about = self._read()["about"]
        self.rates: dict[str, list[float]] = {"train": [], "infer": []}

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit(f"the worker of {self.name} died")
        return json.loads(line)

    def do(self, task: str, keep: bool = True) -> None:
        assert self.process.stdin
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        rate = float(self._read()["rate"])
        if keep:
            self.rates[task].append(rate)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def compare(workers: list[Process], rounds: int, reference: Process | None = None) -> list[dict[str, Any]]:
    """Rounds of every worker in turn, after one warm-up each; ratios are to the `reference`, which is one of them."""
    for task in ("train", "infer"):
        for worker in workers:
            worker.do(task, keep=False)
        for _ in range(rounds):
            for worker in workers:
                worker.do(task)
    rows = []
    for worker in workers:
        row: dict[str, Any] = {"model": worker.name, "about": worker.about}
        for task in ("train", "infer"):
            row[f"{task} rows/s"] = round(float(np.median(worker.rates[task])))
            ratios = np.array(worker.rates[task]) / np.array((reference or worker).rates[task])
            row[f"{task} ratio"] = spread(ratios, 2)
        rows.append(row)
    return rows


def contest(path: str, arguments: argparse.Namespace, settings: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of the table under these environment variables."""
    workers = [Process(f"tfmat {name}", sys.executable, "tfmat", path, name, settings) for name in ("base", "lgdcnn")]
    reference = None
    if Path(arguments.peers_python).exists():
        reference = Process("crabnet 1.0.1", arguments.peers_python, "crabnet", path, settings=settings)
        kept = Process("crabnet 1.0.1, memory kept", arguments.peers_python, "crabnet", path, settings=settings | KEPT)
        workers += [kept, reference]
    else:
        print(f"CrabNet is not timed: {arguments.peers_python} is missing; `make peers` installs it", file=sys.stderr)
    rows = compare(workers, arguments.rounds, reference)
    for worker in workers:
        worker.close()
    for variant in ("lstm", "gru", "dcnn", "dcnn_k1", "ldcnn", "gdcnn", "lgdcnn_v1") if arguments.variants else ():
        worker = Process(f"tfmat {variant}", sys.executable, "tfmat", path, variant, settings)
        rows += compare([worker], arguments.rounds)
        worker.close()
    return rows


def save_rows(folder: str, limit: int | None) -> str:
    """Featurized training rows for all workers, `limit` at most."""
    from tfmat import datasets
    from tfmat.elements import element_table
    from tfmat.featurizers import CompositionFeaturizer

    table = datasets.load(DATA).splits["train"]
    records = CompositionFeaturizer().featurize(table.materials[:limit])
    path = os.path.join(folder, "rows.npz")
    (values,) = table.targets.values()
    np.savez(path, **records.values, offsets=records.offsets["species"], values=values[:limit], mat2vec=element_table("mat2vec")[1:])
    return path


def peak_memory() -> None:
    """Peak resident memory of one epoch of Predictor.fit on all rows of OQMD_Bandgap."""
    code = (
        "import resource; from tfmat import datasets; from tfmat.predictor import Predictor; from tfmat.target import Target\n"
        "d = datasets.load('OQMD_Bandgap'); (n, u), = d.units.items(); t = d.splits['train']\n"
        "p = Predictor.create('lgdcnn', [Target(n, u)]); p.fit(t, epochs=1)\n"
        "print(f'{len(t):,} rows, one epoch in {p.history[0][\"seconds\"]:.0f} s, '\n"
        "      f'peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB')"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each (default: 5)")
    parser.add_argument("--rows", type=int, help="at most so many rows (default: all)")
    parser.add_argument("--peers-python", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter with torch and crabnet")
    parser.add_argument("--variants", action="store_true", help="also time every variant of the family: shows where the time goes")
    parser.add_argument(
        "--peak-memory", action="store_true", help="also train one epoch of OQMD_Bandgap (minutes) and report the peak memory"
    )
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    arguments = parser.parse_args()
    if not os.environ.get("TFMAT_DATA_DIR"):
        print(f"skipped: {DATA} needs TFMAT_DATA_DIR", file=sys.stderr)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = save_rows(folder, arguments.rows)
        for limit, settings in instruction_sets().items():
            rate = round(matmul_rate(1, settings))
            print(f"{DATA}, training rows, batch {BATCH}, one thread of {processor()} ({limit}), matmul {rate} GFLOP/s")
            found = contest(path, arguments, settings)
            print_table([{key: str(value) for key, value in row.items()} for row in found])
            date = datetime.date.today().isoformat()
            about = {"instruction set": limit, "matmul GFLOP/s": rate, "hardware": processor(), "rounds": arguments.rounds, "date": date}
            about["rows"] = arguments.rows or "all"
            rows += [row | about for row in found]
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if arguments.peak_memory:
        peak_memory()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
