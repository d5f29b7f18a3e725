"""What a result depends on besides data and seed: package versions and hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import keras

from tfmat import __version__


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version(), "tfmat": __version__}
    for package in ("keras", keras.backend.backend(), "numpy", "pymatgen"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Processor, logical cores in use and accelerators, for the card."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]
    return f"{name}, {cores} cores" + (f", {len(gpus)} x {gpus[0].split(':')[0]}" if gpus else "")
