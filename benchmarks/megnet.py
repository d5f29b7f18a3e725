"""Speed of MEGNet beside the PyPI packages megnet 1.3.2 and matgl, in the same run on the same crystals.

The crystals are 500 of mp2018_subset or of AFLOW (``aflow_band_gap``), drawn at random, or 200 strained prototypes. Strained crystals have
no two equal bonds; of real ones tfmat computes equal atoms and bonds once. It keeps its memory, as the command does by itself.

Every competitor is a process that keeps its models; they take turns (A B A B ...). Measured: graphs built from `Structure` objects,
formation energies predicted from `Structure` objects (batches of 128 and 32), and epochs of training (batch 128, Adam, squared error;
the target is what the pretrained model predicts). First calls, which trace and compile, are told apart and never enter a rate.

The packages need environments of their own: ``make peers`` creates them. Those that are missing are left out. The weights of megnet come
with its source package, those of matgl from the data mirror (`TFMAT_DATA_DIR`); without them its predictions are timed, not compared.

Examples:
    python -m benchmarks.megnet --crystals strained mp2018_subset aflow_band_gap --save
    python -m benchmarks.megnet --crystals strained --competitors megnet matgl --rounds 3
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competitors import (
    ROOT,
    CompetitorDied,
    Process,
    as_structures,
    instructions,
    load,
    matmul_rate,
    print_table,
    processor,
    save,
    spread,
    strained,
)

SCRIPTS = {"tfmat": "tfmat_megnet.py", "megnet": "megnet_peer.py", "matgl": "matgl_peer.py"}
COUNTS = {"strained": 200, "mp2018_subset": 500, "aflow_band_gap": 500}
EPOCHS = 5  # of the epochs of a request the first is left out
RESULTS = ROOT / "benchmarks/results/megnet.csv"
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


def crystals(source: str, seed: int) -> list[Any]:
    """pymatgen's ``Structure`` objects; those without bonds, which megnet cannot read, are left out."""
    if source == "strained":
        return strained(COUNTS[source], seed)
    from tfmat import datasets

    materials = [crystal for table in datasets.load(source).splits.values() for crystal in table.materials]
    drawn = (materials[i] for i in np.random.default_rng(seed).permutation(len(materials)))
    bonded = (s for s in as_structures(drawn) if len(set(s.get_neighbor_list(4.0)[0])) == len(s))
    return list(itertools.islice(bonded, COUNTS[source]))


def agreement(competitors: list[Process], count: int) -> list[float]:
    """Print how far predictions with the same weights lie apart; return those of megnet, the target of the training."""
    targets = np.linspace(-4.0, 0.0, count)  # where nobody has weights
    for weights in ("megnet", "matgl"):
        answers = {c.name: c.ask({"task": "predictions", "arguments": [weights]}) for c in competitors}
        given = {name: np.array(values) for name, values in answers.items() if values is not None}
        if given and weights == "megnet":
            targets = next(iter(given.values()))
        for name in list(given)[1:]:
            first = next(iter(given))
            print(f"{weights} weights: max |{first} - {name}| = {np.abs(given[first] - given[name]).max():.1e} eV/atom")
    return [float(value) for value in targets]


def table(competitors: list[Process], count: int, work: float, peak: float) -> list[dict[str, str]]:
    """One row per measure and competitor; `work` [GFLOP] of one pass of tfmat over `count` crystals, `peak` [GFLOP/s]."""
    rows = []
    for measure in MEASURES:
        for competitor in competitors:
            rates, ours = (np.array(c.rates[measure]) for c in (competitor, competitors[0]))
            ratios, counted = ours / rates, measure.startswith("inference") and competitor.name == "tfmat"
            rows.append(
                {
                    "measure": measure,
                    "competitor": competitor.name,
                    "structures/s": spread(rates, 0),
                    f"{competitors[0].name} : this": spread(ratios, 2),
                    "first [s]": f"{competitor.first[measure]:.2f}",
                    "share of matmul rate": f"{np.median(rates) / count * work / peak:.3f}" if counted else "",
                }
            )
    return rows


def start(arguments: argparse.Namespace, path: str, threads: int) -> list[Process]:
    """The competitors that are installed."""
    mirror = Path(os.environ.get("TFMAT_DATA_DIR", "")) / "weights"
    settings = {
        "MEGNET_WEIGHTS": str(Path(arguments.megnet_python).parent.parent / "mvl_models/mp-2018.6.1/formation_energy.hdf5"),
        "MATGL_WEIGHTS": str(mirror / "matgl_MEGNet-MP-2018.6.1-Eform_state.pt"),
    }
    pythons = {"tfmat": sys.executable, "megnet": arguments.megnet_python, "matgl": arguments.matgl_python}
    competitors = []
    for name in arguments.competitors:
        try:
            own = {"TF_USE_LEGACY_KERAS": "1"} if name == "megnet" else {}
            competitors.append(Process(name, pythons[name], SCRIPTS[name], path, threads, settings | own))
        except (OSError, CompetitorDied) as error:
            print(f"{name} is not timed ({error}); `make peers` installs megnet and matgl", file=sys.stderr)
    return competitors


def run(arguments: argparse.Namespace, source: str, threads: int, folder: str) -> None:
    structures = crystals(source, arguments.seed)
    count, atoms, bonds = len(structures), sum(map(len, structures)), sum(len(s.get_neighbor_list(4.0)[0]) for s in structures)
    path = Path(folder) / "structures.json"
    path.write_text(json.dumps([s.as_dict() for s in structures], default=float), encoding="utf-8")
    competitors = start(arguments, str(path), threads)
    if not competitors:
        return
    busy = load()
    print(f"{source}: {count} crystals, {atoms:,} atoms, {bonds:,} bonds within 4 Å")
    print(f"{processor()}, {instructions()}, threads: {threads}, load {busy}, {arguments.rounds} rounds", flush=True)
    for measure, request in MEASURES.items():
        if request["task"] == "train":
            request = request | {"arguments": [agreement(competitors, count), 128, EPOCHS]}
        for _ in range(arguments.rounds):
            for competitor in competitors:
                competitor.measure(measure, request, count)
    for competitor in competitors:
        competitor.close()
        print(f"{competitor.name}: {competitor.about}")
    distinct = distinct_sizes(structures)
    work, peak = flops(*distinct, count) / 1e9, matmul_rate(threads)
    print(f"tfmat computes {distinct[0]:,} atoms and {distinct[1]:,} bonds: {work:.2f} GFLOP a pass; matrix product: {peak:.0f} GFLOP/s")
    rows = table(competitors, count, work, peak)
    print_table(rows)
    if arguments.save:
        facts = {"crystals": source, "count": count, "atoms": atoms, "bonds": bonds, "distinct bonds": distinct[1], "threads": threads}
        facts |= {"rounds": arguments.rounds, "matmul GFLOP/s": f"{peak:.0f}", "load": busy}
        save(RESULTS, rows, {competitor.name: competitor.about for competitor in competitors}, facts)


def distinct_sizes(structures: list[Any]) -> tuple[int, int]:
    """Atoms and bonds that tfmat computes."""
    from tfmat.featurizers.bonds import BondFeaturizer

    values = BondFeaturizer(cutoff=4.0).featurize(structures).values
    return len(values["species"]), len(values["distances"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competitors", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS), help="the first is compared to each")
    parser.add_argument("--crystals", nargs="+", choices=list(COUNTS), default=["strained"], help="one run for each (default: strained)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="one run for each number (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of strains and displacements (default: 0)")
    parser.add_argument("--megnet-python", default=str(ROOT / ".venv-megnet/bin/python"), help="interpreter with megnet")
    parser.add_argument("--matgl-python", default=str(ROOT / ".venv-peers/bin/python"), help="interpreter with matgl")
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    for source, threads in itertools.product(arguments.crystals, arguments.threads):
        with tempfile.TemporaryDirectory() as folder:
            try:
                run(arguments, source, threads, folder)
            except CompetitorDied as error:
                raise SystemExit(f"a competitor died: {error}") from None


if __name__ == "__main__":
    main()
