"""Speed of Crysformer beside the PyPI package alignn (pure PyTorch) in the same run: same crystals, threads and batch size.

Every competitor is a process that keeps its model; they take turns (A B A B ...). Measured, in crystals/s: featurizing, epochs of
training (squared error, AdamW) and predictions. Graphs are made before training and prediction are timed. For tfmat batching and
all of `keras.Model.fit` are inside the timed part; for alignn batches are collated in advance and only the network and the optimizer
are timed. First calls, which compile, are told apart and enter no rate. Both have 12 neighbours: alignn exactly (within 8 Å), tfmat
with all ties (`tfmat-strict`: exactly). Floating-point operations are those of the matrix products that are computed, by formula: tfmat
computes equal atoms, bonds and angles of a crystal once. A training step counts as three forward passes.

alignn needs an environment of its own: ``make peers`` creates it. The crystals are the first 512 of matbench_phonons where TFMAT_DATA_DIR
is set, else strained prototypes of about eleven atoms.

Examples:
    python -m benchmarks.crysformer --threads 1 --save
    python -m benchmarks.crysformer --competitors tfmat-small alignn --count 128 --rounds 2
    python -m benchmarks.crysformer --growth
    python -m benchmarks.crysformer --memory
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competitors import (
    PEERS,
    ROOT,
    CompetitorDied,
    Process,
    as_structures,
    environment,
    instructions,
    load,
    matmul_rate,
    print_table,
    processor,
    save,
    spread,
    strained,
)
from benchmarks.crysformer_macs import macs

RESULTS = ROOT / "benchmarks/results/crysformer.csv"
TFMAT: dict[str, dict[str, Any]] = {  # competitor -> builder keywords
    "tfmat": {},
    "tfmat-strict": {"strict": True},
    "tfmat-small": {"dim": 64, "blocks": 2},
    "tfmat-small-strict": {"dim": 64, "blocks": 2, "strict": True},
}
ALIGNN = {"alignn": 196, "alignn-small": 64, "alignn-4M": 256}  # competitor -> width: 2.38, 0.28 and 4.03 million parameters
BATCH = 64
MEASURES = ("featurizing", f"training, batch {BATCH}", f"inference, batch {BATCH}")
GROWTH = [(8, 4), (12, 4), (16, 4), (24, 4), (12, 1), (12, 2)]  # neighbours K, blocks N


def crystals(source: str, count: int, seed: int) -> list[Any]:
    """pymatgen's ``Structure`` objects, as many as there are."""
    if source == "strained":
        return strained(count, seed)
    from tfmat import datasets

    tables = datasets.load("matbench_phonons").splits.values()
    rows = sorted((name, crystal) for table in tables for name, crystal in zip(table.ids, table.materials, strict=True))
    return list(as_structures(crystal for _, crystal in rows[:count]))


def start(name: str, path: str, threads: int, arguments: argparse.Namespace, keywords: Mapping[str, Any] | None = None) -> Process:
    """A competitor; of tfmat `keywords` come on top of its own."""
    if name in ALIGNN:
        settings = {"ALIGNN_HIDDEN": str(ALIGNN[name]), "ALIGNN_CUTOFFS": " ".join(map(str, arguments.alignn_cutoffs))}
        return Process(name, arguments.alignn_python, "alignn_peer.py", path, threads, settings)
    settings = {"CRYSFORMER_KEYWORDS": json.dumps(TFMAT[name] | dict(keywords or {}))}
    return Process(name, sys.executable, "tfmat_crysformer.py", path, threads, settings)


def requests(count: int, epochs: int) -> dict[str, dict[str, Any]]:
    """Measure -> what a competitor is asked."""
    train = {"task": "train", "arguments": [np.linspace(-1, 1, count).tolist(), BATCH, epochs]}
    return dict(zip(MEASURES, ({"task": "graphs"}, train, {"task": "predict", "arguments": [BATCH]}), strict=True))


def table(competitors: Sequence[Process], peak: float, count: int) -> list[dict[str, str]]:
    """One row a measure and competitor; `peak` [GFLOP/s]."""
    rows = []
    for measure in MEASURES:
        for competitor in competitors:
            rates = np.array(competitor.rates[measure])
            passes = 0 if measure == "featurizing" else 3 if measure.startswith("training") else 1  # a backward pass counts twice
            computed = macs(competitor.about, "computed_" if competitor.name in TFMAT else "")
            speed = np.median(rates) / count * passes * 2 * computed / 1e9
            peer = peer_of(competitor, competitors)
            rows.append(
                {
                    "measure": measure,
                    "competitor": competitor.name,
                    "crystals/s": spread(rates, 1),
                    "this : alignn of its size": "" if peer is None else spread(rates / np.array(peer.rates[measure]), 2),
                    "atoms/s": f"{np.median(rates) / count * competitor.about['atoms']:.0f}",
                    "GFLOP/s": f"{speed:.1f}" if passes else "",
                    "share of matmul rate": f"{speed / peak:.3f}" if passes else "",
                    "first [s]": f"{competitor.first[measure]:.2f}",
                }
            )
    return rows


def peer_of(competitor: Process, competitors: Sequence[Process]) -> Process | None:
    """The alignn that has about as many parameters."""
    own = competitor.about["parameters"]
    others = [c for c in competitors if c.name in ALIGNN and competitor.name not in ALIGNN and 0.8 < own / c.about["parameters"] < 1.25]
    return others[0] if others else None


def describe(competitor: Process) -> str:
    about, work = competitor.about, macs(competitor.about)
    edges, angles, each = (value / about["atoms"] for value in (about["edges"], about["angles"], work / 1e6))
    text = (
        f"{competitor.name}: {about['text']}; {edges:.1f} bonds and {angles:.0f} angles an atom, {each:.1f} million multiply-adds an atom"
    )
    return text + (f", one of {work / macs(about, 'computed_'):.2f} of them computed" if competitor.name in TFMAT else "")


def compare(arguments: argparse.Namespace, threads: int, path: str, count: int) -> None:
    competitors = []
    for name in arguments.competitors:
        try:
            competitors.append(start(name, path, threads, arguments))
        except (OSError, CompetitorDied) as error:
            if name in TFMAT:
                raise
            print(f"{name} is not timed ({error}); `make peers` installs alignn", file=sys.stderr)
    if not competitors:
        return
    busy = load()
    print(f"{count} crystals of {arguments.crystals}, {competitors[0].about['atoms']:,} atoms")
    print(f"{processor()}, {instructions()}, threads: {threads}, load {busy}, {arguments.rounds} rounds", flush=True)
    asked = requests(count, arguments.epochs)
    for measure, request in asked.items():
        for _ in range(arguments.rounds):
            for competitor in competitors:
                competitor.measure(measure, request, count)
    about = {}
    for competitor in competitors:
        about[competitor.name] = describe(competitor)
        print(about[competitor.name])
        competitor.close()
    peak = matmul_rate(threads)
    print(f"matrix product 1024 x 1024: {peak:.0f} GFLOP/s")
    rows = table(competitors, peak, count)
    print_table(rows)
    if arguments.save:
        facts = {"crystals": arguments.crystals, "count": count, "rounds": arguments.rounds, "matmul GFLOP/s": f"{peak:.0f}", "load": busy}
        save(RESULTS, rows, about, facts | {"threads": threads})


def growth(arguments: argparse.Namespace, threads: int, path: str, count: int) -> None:
    """Cost of an atom of the strict model (exactly K neighbours) as K and the number of blocks grow."""
    peak, rows = matmul_rate(threads), []
    for k, blocks in GROWTH:
        competitor = start("tfmat-strict", path, threads, arguments, {"k": k, "blocks": blocks})
        row = {"K": str(k), "N": str(blocks), "10^6 multiply-adds/atom": f"{macs(competitor.about) / competitor.about['atoms'] / 1e6:.1f}"}
        for measure, request in list(requests(count, arguments.epochs).items())[1:]:
            competitor.measure(measure, request, count)
            seconds = count / competitor.rates[measure][0]
            passes, work = 3 if measure.startswith("training") else 1, macs(competitor.about, "computed_")
            row[f"{measure.split(',')[0]} [ms/atom]"] = f"{1e3 * seconds / competitor.about['atoms']:.3f}"
            row[f"{measure.split(',')[0]} share of matmul rate"] = f"{passes * 2e-9 * work / seconds / peak:.3f}"
        competitor.close()
        rows.append(row)
    print(
        f"{count} crystals of {arguments.crystals}; {processor()}, {instructions()}, threads: {threads}; matrix product {peak:.0f} GFLOP/s"
    )
    print_table(rows)


def memory(arguments: argparse.Namespace, threads: int) -> None:
    """Peak memory of training steps, in parts, without and with rematerialisation; each in a process of its own."""
    rows = []
    options = ["--limit", str(arguments.limit)]
    for remat, parts in ((False, 4), (False, 8), (True, 4)):
        command = [sys.executable, str(PEERS / "tfmat_crysformer_memory.py"), *options, "--accumulation", str(parts)]
        command += ["--remat"] if remat else []
        done = subprocess.run(command, env=environment(threads, {"PYTHONPATH": str(ROOT)}), capture_output=True, text=True)
        row = {
            "remat": str(remat),
            "accumulation": str(parts),
            "peak [GB]": f"died, more than {arguments.limit:g}?",
            "before [GB]": "",
            "step [s]": "",
        }
        if not done.returncode:
            found = json.loads(done.stdout.splitlines()[-1])
            row |= {key: f"{found[key]:.2f}" for key in ("peak [GB]", "before [GB]", "step [s]")}
        else:
            print((done.stderr.strip() or "no message").splitlines()[-1], file=sys.stderr)
        rows.append(row)
    print("64 crystals of 50 atoms, D = 128, N = 4, K = 16, float32: peak resident memory of the process")
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["tfmat", "tfmat-strict", "alignn", "tfmat-small", "alignn-small"]
    source = "matbench_phonons" if os.environ.get("TFMAT_DATA_DIR") else "strained"
    parser.add_argument("--competitors", nargs="+", choices=[*TFMAT, *ALIGNN], default=default)
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="one run for each number (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument("--epochs", type=int, default=3, help="of a measurement of training, the first left out (default: 3)")
    parser.add_argument("--crystals", choices=["matbench_phonons", "strained"], default=source, help=f"default: {source}")
    parser.add_argument("--count", type=int, help="crystals (default: 512, with --growth 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the strained crystals (default: 0)")
    parser.add_argument("--alignn-python", default=str(ROOT / ".venv-alignn/bin/python"), help="interpreter with alignn")
    parser.add_argument(
        "--alignn-cutoffs", nargs=2, type=float, default=[8.0, 8.0], metavar="Å", help="of its bonds, and of those with angles"
    )
    parser.add_argument("--growth", action="store_true", help="instead: cost of an atom as neighbours and blocks grow")
    parser.add_argument("--memory", action="store_true", help="instead: peak memory of training with and without rematerialisation")
    parser.add_argument(
        "--limit", type=float, default=16.0, metavar="GB", help="of --memory: a process dies where it needs more (default: 16)"
    )
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, structures = Path(folder) / "structures.json", []
        if not arguments.memory:
            structures = crystals(arguments.crystals, arguments.count or (128 if arguments.growth else 512), arguments.seed)
            path.write_text(json.dumps([s.as_dict() for s in structures], default=float), encoding="utf-8")
        for threads in arguments.threads:
            try:
                if arguments.memory:
                    memory(arguments, threads)
                else:
                    (growth if arguments.growth else compare)(arguments, threads, str(path), len(structures))
            except CompetitorDied as error:
                raise SystemExit(f"a competitor died: {error}") from None


if __name__ == "__main__":
    main()
