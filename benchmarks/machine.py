"""What a measured speed depends on: the processor, the instruction set in use, and the rate of a matrix product. Every table names them.

``limit avx2`` runs a benchmark as it would run on a processor without AVX-512: oneDNN, XLA, PyTorch and MKL are told so by environment
variables, and before the benchmark starts it is checked, as far as they let it be seen, that each of them obeys.

Examples:
    python -m benchmarks.machine
    python -m benchmarks.machine --threads 2
    python -m benchmarks.machine limit avx2 crysformer --threads 1 --save
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Environment variables without which oneDNN, XLA, PyTorch and MKL use what the processor has."""
NAMES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16"}  # flags of /proc/cpuinfo
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def environment(threads: int, settings: Mapping[str, str]) -> dict[str, str]:
    """Variables of a process that computes on so many threads of the CPU."""
    return os.environ | settings | dict.fromkeys(POOLS, str(threads)) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def _cpuinfo(key: str) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def processor() -> str:
    """Its model."""
    return _cpuinfo("model name") or "cpu"


def instructions() -> str:
    """What is used of the instruction sets that decide: those of the processor, up to AVX2 where `LIMITS` are in force."""
    flags = _cpuinfo("flags").split()
    found = [name for flag, name in NAMES.items() if flag in flags] or ["unknown"]
    limited = [name for name, value in LIMITS.items() if value in os.environ.get(name, "").split()]
    if len(limited) == len(LIMITS):
        return "AVX2" if found[-1] == "AVX2" else f"AVX2 (limited; the processor has {found[-1]})"
    return found[-1] + (f" (limited to AVX2 by {', '.join(limited)} alone)" if limited else "")


def instruction_sets() -> dict[str, dict[str, str]]:
    """What is measured, by the instruction set, with the environment for it: as the machine is, and limited to AVX2 where that is less."""
    own = instructions()
    return {own: {}} if own.startswith(("AVX2", "unknown")) else {own: {}, f"AVX2 (limited; the processor has {own})": LIMITS}


def matmul_rate(threads: int, settings: Mapping[str, str] | None = None) -> float:
    """GFLOP/s of a product of float32 matrices of 1024 x 1024 in TensorFlow: the practical limit."""
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


def facts(threads: int) -> dict[str, str]:
    """Columns of every table of speeds."""
    rate = f"{matmul_rate(threads):.0f}"
    return {"hardware": processor(), "instruction set": instructions(), "threads": str(threads), "matmul GFLOP/s": rate}


TENSORFLOW = """
import tensorflow as tf
x = tf.random.normal((512, 512))
tf.matmul(x, x)
tf.function(lambda x: tf.tanh(x) * x + x, jit_compile=True)(x)
"""
TORCH = """
import torch
x = torch.randn(512, 512)
x @ x
print("ATen capability:", torch.backends.cpu.get_cpu_capability())
"""


def reported(python: str, code: str, **settings: str) -> str:
    """What a process under the limits writes."""
    run = subprocess.run([python, "-c", code], env=environment(1, LIMITS | settings), capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{python}: {run.stderr.strip().splitlines()[-1]}")
    return run.stdout + run.stderr


def obeyed(torch_python: str) -> dict[str, tuple[bool | None, str]]:
    """Each of `LIMITS` -> whether it takes effect (None: cannot be seen here), and what shows it."""
    with tempfile.TemporaryDirectory() as folder:
        dump = f"{LIMITS['XLA_FLAGS']} --xla_dump_to={folder}"
        text = reported(sys.executable, TENSORFLOW, ONEDNN_VERBOSE="1", XLA_FLAGS=dump)
        xla = _xla([str(path) for path in Path(folder).glob("*.o")])
    onednn = re.search(r"onednn_verbose.*cpu,isa:(.*)", text)
    found: dict[str, tuple[bool | None, str]] = {"XLA_FLAGS": xla, "ONEDNN_MAX_CPU_ISA": (None, "oneDNN is not used")}
    if onednn:
        found["ONEDNN_MAX_CPU_ISA"] = (onednn[1].strip() == "Intel AVX2", onednn[1])
    if not Path(torch_python).exists():
        return found | dict.fromkeys(("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS"), (None, f"{torch_python} is not there"))
    text = reported(torch_python, TORCH, MKL_VERBOSE="1")
    aten, mkl = re.search(r"ATen capability: (\w+)", text), re.search(r"MKL_VERBOSE .*\((Intel\(R\) AVX[^)]*)\)", text)
    found["ATEN_CPU_CAPABILITY"] = (aten is not None and aten[1] == "AVX2", aten[1] if aten else "")
    unnamed = "MKL names no instruction set on this processor"
    found["MKL_ENABLE_INSTRUCTIONS"] = ("512" not in mkl[1], mkl[1]) if mkl else (None, unnamed)
    return found


def _xla(objects: list[str]) -> tuple[bool | None, str]:
    """The same of XLA, from the registers in its machine code: those of AVX-512 are the wide, the upper and the mask ones."""
    objdump = shutil.which("objdump")
    if not objdump or not objects:
        return None, "no objdump" if objects else "no machine code"
    code = subprocess.run([objdump, "-d", *objects], capture_output=True, text=True, check=True).stdout
    wide = re.findall(r"%zmm\d+|%[xy]mm(?:1[6-9]|2\d|3[01])|\{%k\d\}", code)
    return not wide, f"{len(wide)} registers of AVX-512, {len(re.findall('%ymm', code))} of AVX2 in its machine code"


def limited(benchmark: str, arguments: list[str], torch_python: str) -> int:
    """Run a benchmark under the limits, once they are seen to take effect."""
    found = obeyed(torch_python)
    for name, (effect, what) in found.items():
        told = {True: "obeyed", False: "NOT obeyed", None: "cannot be checked"}[effect]
        print(f"{name}={LIMITS[name]}: {told} ({what})", file=sys.stderr)
    if any(effect is False for effect, _ in found.values()):
        return 1
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | LIMITS).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--torch-python", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter with torch")
    commands = parser.add_subparsers(dest="command")
    limit = commands.add_parser("limit", help="run a benchmark with a smaller instruction set")
    limit.add_argument("isa", choices=["avx2"])
    limit.add_argument("benchmark", help="name of a module of benchmarks/, and its options")
    limit.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.command:
        raise SystemExit(limited(arguments.benchmark, arguments.arguments, arguments.torch_python))
    print(", ".join(f"{name}: {value}" for name, value in facts(arguments.threads).items()))


if __name__ == "__main__":
    main()
