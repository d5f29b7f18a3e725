"""Speed and memory of the composition family, beside CrabNet in the same run, one thread each.

Two worker processes take turns (A B A B ...): tfmat's L-G-DCNN through `keras.Model.fit` with its tf.data pipeline, and the network
class of the PyPI package crabnet 1.0.1 with a plain PyTorch AdamW on batches prepared in advance. (The package's own training class
cannot be imported: it imports ``CrabNet`` where the package is called ``crabnet``.) Same rows, batch 256, float32, all rows of an epoch.

CrabNet needs an environment of its own: ``make peers`` creates ``.venv-peers`` with PyTorch. Without it tfmat is timed alone.

Examples:
    python benchmarks/composition.py
    python benchmarks/composition.py --variants --peak-memory
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256
ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
}
DATA = "aflow__ael_bulk_modulus_vrh"


class TfmatWorker:
    """L-G-DCNN or one of its variants."""

    def __init__(self, path: str, variant: str) -> None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from tfmat import architecture
        from tfmat.data.pipeline import Batches
        from tfmat.data.static_shapes import forward
        from tfmat.records import Records
        from tfmat.target import Target
        from tfmat.training import compile_model

        stored = np.load(path, allow_pickle=False)
        family = architecture.get("lgdcnn")
        self.model = family.builder(("y",), **family.variants[variant])
        records = Records({k: stored[k] for k in ("species", "fractions")}, {k: stored["offsets"] for k in ("species", "fractions")})
        target = Target("y").fit(stored["values"])
        self.rows = len(stored["values"])
        self.batches = Batches.of(records, {"y": target.scale(stored["values"])}, BATCH, seed=0)
        compile_model(self.model, [target], family.recipes["default"].build_optimizer(self.batches.plan.steps, 100), jit_compile=True)
        self.run = forward(self.model, jit_compile=True)
        self.about = f"{self.model.count_params():,} parameters, buckets {self.batches.plan.buckets}"

    def train(self) -> None:
        self.model.fit(self.batches.dataset(fraction_jitter=0.02), epochs=1, shuffle=False, verbose=0)

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

    def __init__(self, name: str, python: str, kind: str, path: str, variant: str = "lgdcnn") -> None:
        self.name = name
        environment = os.environ | ONE_THREAD | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "" if kind == "crabnet" else str(ROOT)}
        command = [python, str(Path(__file__).resolve()), "--serve", kind, path, variant]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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


def compare(workers: list[Process], rounds: int) -> list[dict[str, Any]]:
    """Rounds of every worker in turn; one warm-up each."""
    rows = []
    for task in ("train", "infer"):
        for worker in workers:
            worker.do(task, keep=False)
        for _ in range(rounds):
            for worker in workers:
                worker.do(task)
    for worker in workers:
        row: dict[str, Any] = {"model": worker.name, "about": worker.about}
        for task in ("train", "infer"):
            row[f"{task} rows/s"] = round(float(np.median(worker.rates[task])))
            ratios = np.array(worker.rates[task]) / np.array(workers[-1].rates[task])
            row[f"{task} ratio"] = f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})"
        rows.append(row)
    return rows


def save_rows(folder: str) -> str:
    """Featurized training rows for both workers."""
    from tfmat import datasets
    from tfmat.elements import element_table
    from tfmat.featurizers import CompositionFeaturizer

    table = datasets.load(DATA).splits["train"]
    records = CompositionFeaturizer().featurize(table.materials)
    path = os.path.join(folder, "rows.npz")
    (values,) = table.targets.values()
    np.savez(path, **records.values, offsets=records.offsets["species"], values=values, mat2vec=element_table("mat2vec")[1:])
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


def matmul_rate() -> float:
    """GFLOP/s of a large float32 matrix product on one thread: the practical limit."""
    code = (
        "import time, tensorflow as tf\n"
        "tf.config.threading.set_intra_op_parallelism_threads(1)\n"
        "a = tf.random.normal((768, 512)); b = tf.random.normal((512, 512))\n"
        "def run():\n    t = time.perf_counter()\n    for _ in range(200): c = tf.matmul(a, b)\n"
        "    c.numpy(); return time.perf_counter() - t\n"
        "run(); print(200 * 2 * 768 * 512 * 512 / min(run() for _ in range(5)) / 1e9)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=os.environ | ONE_THREAD, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each (default: 5)")
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
    with tempfile.TemporaryDirectory() as folder:
        path = save_rows(folder)
        workers = [Process("tfmat lgdcnn", sys.executable, "tfmat", path)]
        if Path(arguments.peers_python).exists():
            workers.append(Process("crabnet 1.0.1", arguments.peers_python, "crabnet", path))
        else:
            print(f"CrabNet is not timed: {arguments.peers_python} is missing; `make peers` installs it", file=sys.stderr)
        rows = compare(workers, arguments.rounds)
        for worker in workers:
            worker.close()
        if arguments.variants:
            for variant in ("lstm", "gru", "dcnn", "dcnn_k1", "ldcnn", "gdcnn", "lgdcnn_v1"):
                worker = Process(f"tfmat {variant}", sys.executable, "tfmat", path, variant)
                rows += compare([worker], arguments.rounds)
                worker.close()
    print(f"{DATA}, training rows, batch {BATCH}, one thread, medians of {arguments.rounds} epochs; matmul {matmul_rate():.0f} GFLOP/s")
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
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
