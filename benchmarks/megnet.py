"""Speed of MEGNet beside the PyPI packages megnet 1.3.2 and matgl, in the same run on the same 200 crystals.

Every contestant is a process that keeps its models; they take turns (A B A B ...). Measured: graphs built from `Structure` objects,
formation energies predicted from `Structure` objects (batches of 128 and 32), and epochs of training (batch 128, Adam, squared error;
the target is what the pretrained model predicts). First calls, which trace and compile, are told apart and never enter a rate.

The packages need environments of their own: ``make peers`` creates them. Those that are missing are left out. The weights of megnet come
with its source package, those of matgl from the data mirror (`TFMAT_DATA_DIR`); without them its predictions are timed, not compared.

Examples:
    python -m benchmarks.megnet --threads 1 2 --save
    python -m benchmarks.megnet --contestants megnet matgl --rounds 3
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import PEERS, ROOT, Died, Process, instructions, load, matmul_rate, print_table, processor, spread

SCRIPTS = {"tfmat": "tfmat_megnet.py", "megnet": "megnet_peer.py", "matgl": "matgl_peer.py"}
COUNT, EPOCHS = 200, 9  # of the epochs of a request the first is left out
MEASURES: dict[str, dict[str, Any]] = {
    "graphs": {"task": "graphs"},
    "inference, batch 128": {"task": "predict", "arguments": [128]},
    "inference, batch 32": {"task": "predict", "arguments": [32]},
    "training, batch 128": {"task": "train"},
}


def flops(atoms: int, bonds: int, crystals: int = 0) -> int:
    """Floating-point operations of a forward pass: the dense layers of the 167,761 parameters (3 steps of Set2Set), 2 a multiply-add."""

    def dense(*widths: int) -> int:
        return 2 * sum(a * b for a, b in itertools.pairwise(widths))

    forward, projection = 2 * dense(32, 64, 32), dense(32, 16)  # the two dense layers in front of blocks 2 and 3; Set2Set
    atom = dense(16, 64, 32) + forward + 3 * dense(96, 64, 64, 32) + projection
    bond = dense(100, 64, 32) + forward + 3 * dense(128, 64, 64, 32) + projection
    crystal = dense(2, 64, 32) + forward + 3 * dense(96, 64, 64, 32) + 2 * 3 * dense(32, 64) + dense(96, 32, 16, 1)
    return atoms * atom + bonds * bond + crystals * crystal


def agreement(contestants: list[Process]) -> list[float]:
    """Print how far predictions with the same weights lie apart; return those of megnet, the target of the training."""
    targets = np.linspace(-4.0, 0.0, COUNT)  # where nobody has weights
    for weights in ("megnet", "matgl"):
        answers = {c.name: c.ask({"task": "predictions", "arguments": [weights]}) for c in contestants}
        given = {name: np.array(values) for name, values in answers.items() if values is not None}
        if given and weights == "megnet":
            targets = next(iter(given.values()))
        for name in list(given)[1:]:
            first = next(iter(given))
            print(f"{weights} weights: max |{first} - {name}| = {np.abs(given[first] - given[name]).max():.1e} eV/atom")
    return [float(value) for value in targets]


def table(contestants: list[Process], work: float, peak: float) -> list[dict[str, str]]:
    """One row a measure and contestant; `work` [GFLOP] of one pass over the crystals, `peak` [GFLOP/s]."""
    rows = []
    for measure in MEASURES:
        for contestant in contestants:
            rates, ours = (np.array(c.rates[measure]) for c in (contestant, contestants[0]))
            ratios, counted = ours / rates, measure.startswith("inference") and contestant.name != "matgl"
            rows.append(
                {
                    "measure": measure,
                    "contestant": contestant.name,
                    "structures/s": spread(rates, 0),
                    f"{contestants[0].name} : this": spread(ratios, 2),
                    "first [s]": f"{contestant.first[measure]:.2f}",
                    "share of matmul rate": f"{np.median(rates) / COUNT * work / peak:.3f}" if counted else "",
                }
            )
    return rows


def start(arguments: argparse.Namespace, path: str, threads: int) -> list[Process]:
    """The contestants that are installed."""
    mirror = Path(os.environ.get("TFMAT_DATA_DIR", "")) / "weights"
    settings = {
        "MEGNET_WEIGHTS": str(Path(arguments.megnet_python).parent.parent / "mvl_models/mp-2018.6.1/formation_energy.hdf5"),
        "MATGL_WEIGHTS": str(mirror / "matgl_MEGNet-MP-2018.6.1-Eform_state.pt"),
    }
    settings |= {"TFMAT_BENCHMARK_JIT": "1"} if arguments.jit else {}
    pythons = {"tfmat": sys.executable, "megnet": arguments.megnet_python, "matgl": arguments.matgl_python}
    contestants = []
    for name in arguments.contestants:
        try:
            own = {"TF_USE_LEGACY_KERAS": "1"} if name == "megnet" else {}
            contestants.append(Process(name, pythons[name], SCRIPTS[name], path, threads, settings | own))
        except (OSError, Died) as error:
            print(f"{name} is not timed ({error}); `make peers` installs megnet and matgl", file=sys.stderr)
    return contestants


def run(arguments: argparse.Namespace, threads: int, folder: str) -> None:
    sys.path.insert(0, str(PEERS))
    from strained_crystals import strained_crystals

    structures = strained_crystals(COUNT, arguments.seed)
    atoms, bonds = sum(map(len, structures)), sum(len(s.get_neighbor_list(4.0)[0]) for s in structures)
    path = Path(folder) / "structures.json"
    path.write_text(json.dumps([s.as_dict() for s in structures], default=float), encoding="utf-8")
    contestants = start(arguments, str(path), threads)
    if not contestants:
        return
    busy = load()
    print(f"{COUNT} crystals, {atoms:,} atoms, {bonds:,} bonds within 4 Å")
    print(f"{processor()}, {instructions()}, threads: {threads}, load {busy}, {arguments.rounds} rounds")
    for measure, request in MEASURES.items():
        if request["task"] == "train":
            request = request | {"arguments": [agreement(contestants), 128, EPOCHS]}
        for _ in range(arguments.rounds):
            for contestant in contestants:
                contestant.measure(measure, request, COUNT)
    for contestant in contestants:
        contestant.close()
        print(f"{contestant.name}: {contestant.about}")
    work, peak = flops(atoms, bonds, COUNT) / 1e9, matmul_rate(threads)
    print(f"dense layers: {work:.2f} GFLOP a pass; matrix product 1024 x 1024: {peak:.0f} GFLOP/s")
    rows = table(contestants, work, peak)
    print_table(rows)
    if arguments.save:
        facts = {"rounds": arguments.rounds, "seed": arguments.seed, "load": busy, "atoms": atoms, "bonds": bonds}
        save(rows, contestants, threads, facts | {"GFLOP": f"{work:.2f}", "matmul GFLOP/s": f"{peak:.0f}"})


def save(rows: list[dict[str, str]], contestants: list[Process], threads: int, facts: dict[str, Any]) -> None:
    about = {contestant.name: contestant.about for contestant in contestants}
    cpu = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    path = ROOT / f"benchmarks/results/megnet-speed-{cpu}-{threads}-thread{'s' if threads > 1 else ''}.csv"
    extra = {
        "threads": threads,
        "hardware": processor(),
        "instruction set": instructions(),
        "date": datetime.date.today().isoformat(),
    } | facts
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*rows[0], "about", *extra])
        writer.writeheader()
        writer.writerows(row | {"about": about[row["contestant"]]} | extra for row in rows)
    print(f"written: {path.relative_to(ROOT)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestants", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS), help="the first is compared to each")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="one run for each number (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of strains and displacements (default: 0)")
    parser.add_argument("--megnet-python", default=str(ROOT / ".venv-megnet/bin/python"), help="interpreter with megnet")
    parser.add_argument("--matgl-python", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter with matgl")
    parser.add_argument("--jit", action="store_true", help="let tfmat predict with XLA, which it does by itself from 20,000 materials on")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/megnet-speed-<cpu>-<n>-threads.csv")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run(arguments, threads, folder)
            except Died as error:
                raise SystemExit(f"a contestant died: {error}") from None


if __name__ == "__main__":
    main()
