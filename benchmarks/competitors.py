"""What the speed benchmarks beside other packages share: competitors as processes that take turns."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT as ROOT
from benchmarks.machine import environment as environment
from benchmarks.machine import instructions as instructions
from benchmarks.machine import matmul_rate as matmul_rate
from benchmarks.machine import processor as processor
from benchmarks.rows import append

PEERS = ROOT / "benchmarks/peers"


class CompetitorDied(Exception):
    """A competitor's process has ended; with the last line that it wrote."""


class Process:
    """A competitor: a script of `peers/` under its own interpreter, see `peers/serve.py`.

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
            raise CompetitorDied(f"{self.name}: {(self.errors.read().strip() or 'no message').splitlines()[-1]}")
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


def load() -> str:
    """Of the machine by other work, while the competitors are idle."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def spread(values: np.ndarray, digits: int) -> str:
    """Median (least-greatest)."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f}-{values.max():.{digits}f})"


def print_table(rows: list[dict[str, str]]) -> None:
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in widths}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def save(path: Path, rows: Iterable[Mapping[str, str]], about: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Append rows of a table to a CSV file, each with what its competitor says of itself, facts of the run, and the machine.

    Args:
        path: of the file.
        rows: with ``competitor``.
        about: competitor -> text.
        facts: the same for all rows.
    """
    extra = dict(facts) | {"hardware": processor(), "instruction set": instructions(), "date": datetime.date.today().isoformat()}
    new = [{key: str(value) for key, value in (dict(row) | {"about": about[row["competitor"]]} | extra).items()} for row in rows]
    append(path, list(new[0]), *new)
    print(f"written: {path.relative_to(ROOT)}")


def strained(count: int, seed: int) -> list[Any]:
    """Strained prototypes as pymatgen's ``Structure`` objects."""
    sys.path.insert(0, str(PEERS))
    from strained_crystals import strained_crystals

    made: list[Any] = strained_crystals(count, seed)
    return made


def as_structures(crystals: Iterable[Any]) -> Iterator[Any]:
    """pymatgen's ``Structure`` objects of tfmat's crystals."""
    from pymatgen.core import Lattice, Structure

    return (Structure(Lattice(c.lattice), c.species.tolist(), c.frac_coords) for c in crystals)
