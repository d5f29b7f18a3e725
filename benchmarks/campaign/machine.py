"""What a figure depends on besides the job: the machine and the version of the code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "COMMIT"
"""File in the root of a snapshot that names its commit."""


def hardware() -> str:
    """Processor and logical cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "cpu")
    return f"{name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def instruction_set() -> str:
    """The widest vectors that oneDNN may use."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    known = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    found = next((name for flag, name in known.items() if flag in flags), "unknown")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return f"{found}, limited to {limit}" if limit else found


def commit() -> str:
    """Of the code, with ``+`` if it was changed since; empty where that is not known."""
    stored = ROOT / COMMIT
    if stored.is_file():
        return stored.read_text(encoding="utf-8").strip()
    return head() + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def head() -> str:
    """The commit that is checked out; empty where that is not known."""
    return _git("rev-parse", "--short=10", "HEAD")


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def snapshot(folder: Path) -> Path:
    """A copy of the commit that is checked out, below `folder`; made once."""
    name = head()
    if not name:
        raise SystemExit("--snapshot needs a git checkout")
    code = folder / f"code-{name}"
    if not (code / COMMIT).is_file():
        code.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(code)], input=archive, check=True)
        (code / COMMIT).write_text(f"{name}\n", encoding="utf-8")
    return code
