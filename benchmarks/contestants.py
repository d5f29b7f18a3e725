"""What the speed benchmarks beside other packages share: contestants as processes that take turns, and what the machine can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks/peers"


def environment(threads: int, settings: dict[str, str]) -> dict[str, str]:
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return os.environ | settings | dict.fromkeys(pools, str(threads)) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


class Died(Exception):
    """A contestant's process has ended; with the last line that it wrote."""


class Process:
    """A contestant: a script of `peers/` under its own interpreter, see `peers/serve.py`.

    Attributes:
        about: what it says of itself.
        rates: measure -> crystals/s of each round.
        first: measure -> seconds of the first call or epoch, which traces and compiles.
    """

    def __init__(self, name: str, python: str, script: str, structures: str, threads: int, settings: dict[str, str]) -> None:
        variables = {"PYTHONPATH": str(ROOT) if script.startswith("tfmat") else ""} | settings
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, str(PEERS / script), structures, str(threads)],
            env=environment(threads, variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.about = self._read()
        self.rates: dict[str, list[float]] = {}
        self.first: dict[str, float] = {}

    def _read(self) -> Any:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.errors.seek(0)
            raise Died(f"{self.name}: {(self.errors.read().strip() or 'no message').splitlines()[-1]}")
        return json.loads(line)

    def ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def measure(self, name: str, request: dict[str, Any], count: int) -> None:
        """One round of a measure that passes over `count` crystals; of the epochs of a training the first is left out."""
        rates = self.rates.setdefault(name, [])
        if request["task"] == "train":
            first, *steady = self.ask(request)
            self.first.setdefault(name, first)
            rates.append(count / float(np.median(steady)))
            return
        if name not in self.first:
            self.first[name] = self.ask(request | {"once": True})
            self.ask(request)  # warm-up
        rates.append(count / self.ask(request))

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


AVX2_ONLY = {
    "ONEDNN_MAX_CPU_ISA": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}  # fmt: skip
"""Environment of a process that must not use wider vectors."""


def instruction_sets() -> dict[str, dict[str, str]]:
    """What is measured, by the widest vectors, with the environment for it: as the machine is, and limited to AVX2 where that is less."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    widest = next((name for flag, name in {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}.items() if flag in flags), "unknown")
    return {widest: {}} if widest in ("AVX2", "unknown") else {widest: {}, f"{widest}, limited to AVX2": AVX2_ONLY}


def matmul_rate(threads: int, settings: dict[str, str] | None = None) -> float:
    """GFLOP/s of a product of float32 matrices of 1024 x 1024: the practical limit."""
    code = (
        "import time, tensorflow as tf\n"
        f"tf.config.threading.set_intra_op_parallelism_threads({threads})\n"
        "a = tf.random.normal((1024, 1024)); b = tf.random.normal((1024, 1024))\n"
        "def run():\n    t = time.perf_counter()\n    for _ in range(50): c = tf.matmul(a, b)\n"
        "    c.numpy(); return time.perf_counter() - t\n"
        "run(); print(50 * 2 * 1024**3 / min(run() for _ in range(7)) / 1e9)"
    )
    command = [sys.executable, "-c", code]
    return float(
        subprocess.run(command, env=environment(threads, settings or {}), capture_output=True, text=True, check=True).stdout.split()[-1]
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "cpu")


def load() -> str:
    """Of the machine by other work, while the contestants are idle."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def spread(values: np.ndarray, digits: int) -> str:
    """Median (least-greatest)."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f}-{values.max():.{digits}f})"


def print_table(rows: list[dict[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in widths}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())
