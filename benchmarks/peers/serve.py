"""What the competitors of the speed benchmarks of crystals share: a process that keeps its models and answers one measurement a line."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Protocol

from pymatgen.core import Structure

UNTIMED = ("predictions", "padding", "train")
"""Tasks whose answer is sent, not the time that they took."""
LEAST_SECONDS = 1.0
"""A measurement repeats its pass until it has taken so long."""


class Competitor(Protocol):
    """One implementation of a model; structures are those that `main` has read."""

    about: Any

    def graphs(self) -> None:
        """Build the graphs of all structures."""

    def predict(self, batch_size: int) -> None:
        """Predict all structures; whether the graphs are built each time is for the benchmark to say."""

    def predictions(self, weights: str) -> list[float] | None:
        """Formation energies [eV/atom] with the weights of ``megnet`` or ``matgl``; None where there is no such model."""

    def train(self, targets: list[float], batch_size: int, epochs: int) -> list[float]:
        """Train on all structures; seconds of each epoch."""


def answer(competitor: Competitor, request: dict[str, Any]) -> Any:
    task, arguments = request["task"], request.get("arguments", [])
    if task in UNTIMED:
        return getattr(competitor, task)(*arguments)
    passes, start = 0, time.perf_counter()
    while not passes or (not request.get("once") and time.perf_counter() - start < LEAST_SECONDS):
        getattr(competitor, task)(*arguments)
        passes += 1
    return (time.perf_counter() - start) / passes  # seconds a pass


def main(create: Any) -> None:
    """Serve ``create(structures, threads)``; the command line gives the file of structures and the number of threads."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the packages print is no reply
    with open(sys.argv[1], encoding="utf-8") as stream:
        structures = [Structure.from_dict(structure) for structure in json.load(stream)]
    competitor = create(structures, int(sys.argv[2]))
    print(json.dumps(competitor.about), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(competitor, json.loads(line))), file=replies, flush=True)
