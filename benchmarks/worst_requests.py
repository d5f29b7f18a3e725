"""What the worst requests cost: each is refused with a sentence, or answered in little time and memory.

Small inputs that once took a minute and gigabytes (a dense, thin or crooked cell, atoms in one place, very large formulas) and honest ones
that are as large as crystals get, for every architecture, as `Predictor.predict` and as an exported SavedModel that takes crystals. Of each
the seconds, processor seconds and the growth of the peak memory in a process that has answered an ordinary request before.

Examples:
    python -m benchmarks.worst_requests
    python -m benchmarks.worst_requests --architectures megnet --save
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competitors import ROOT, environment, print_table
from benchmarks.machine import facts
from benchmarks.rows import append_today

RESULTS = ROOT / "benchmarks/results/worst_requests.csv"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lgdcnn": ("lgdcnn", {}),
    "megnet": ("megnet", {}),
    "megnet cutoff=5": ("megnet", {"cutoff": 5.0}),
    "paraisite": ("paraisite", {}),
    "crysformer": ("crysformer", {}),
    "crysformer as published": ("crysformer", {"dim": 128, "blocks": 4}),
    "atom_list_lstm": ("atom_list_lstm", {}),
}
"""Name in the table -> architecture and keywords beside its defaults."""
ATOMS = 125


def grid(sites: int, volume: float, moved: float = 0.08) -> Any:
    """A crystal of `sites` different atoms with so much volume each [Å3]: a simple cubic lattice, `moved` by so much of its edge."""
    from tfmat.crystal import Crystal

    rng, side = np.random.default_rng(sites), int(np.ceil(round(sites ** (1 / 3), 6)))
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[rng.permutation(side**3)[:sites]]
    edge = (sites * volume) ** (1 / 3)
    coords = (places + rng.uniform(-moved, moved, places.shape)) / side
    return Crystal(rng.integers(1, 84, sites).astype(np.int32), edge * np.eye(3), coords)


def crystals() -> dict[str, Any]:
    """Name -> request, the honest ones last."""
    from tfmat.crystal import Crystal

    def same_place(sites: int, lattice: list[list[float]]) -> Crystal:
        return Crystal(np.full(sites, 6, np.int32), np.array(lattice), np.zeros((sites, 3)))

    crooked = [[0.5, 0.0, 0.0], [1.3, 0.6, 0.0], [1300.0, 600.0, 2.1 * ATOMS / 0.3]]
    return {
        "125 atoms, 0.02 Å3 each": grid(ATOMS, 0.02),
        "125 atoms, 1.9 Å3 each": grid(ATOMS, 1.9),
        "1 atom in a cube of 0.6 Å": same_place(1, np.diag([0.6] * 3).tolist()),
        "1 atom in a needle of 0.5 x 0.5 x 8.1 Å": same_place(1, np.diag([0.5, 0.5, 8.1]).tolist()),
        "1 atom in a needle of 0.2 x 0.2 x 9,000 Å": same_place(1, np.diag([0.2, 0.2, 9000.0]).tolist()),
        "125 atoms in one place, in a needle of 0.2 x 0.2 x 9,000 Å": same_place(ATOMS, np.diag([0.2, 0.2, 9000.0]).tolist()),
        "125 atoms in one place, in a crooked cell": same_place(ATOMS, crooked),
        "2 atoms in a cube of 9,999 Å": Crystal(np.array([6, 8], np.int32), 9999 * np.eye(3), np.array([[0, 0, 0], [1e-4, 0, 0]])),
        "5,000 atoms in one place": same_place(5000, np.diag([25.0] * 3).tolist()),
        "125 atoms, 2.1 Å3 each": grid(ATOMS, 2.1),
        "125 atoms on a cubic lattice, 15 Å3 each": grid(ATOMS, 15.0, 0),
        "1,000 atoms on a cubic lattice, 15 Å3 each": grid(1000, 15.0, 0),
        "1,000 atoms, 2.1 Å3 each": grid(1000, 2.1),
        "1,000 atoms, 15 Å3 each": grid(1000, 15.0),
        "5,000 atoms, 2.1 Å3 each": grid(5000, 2.1),
        "5,000 atoms, 15 Å3 each": grid(5000, 15.0),
    }


def formulas() -> dict[str, Any]:
    """Name -> request."""
    from tfmat.elements import SYMBOLS

    everything = "".join(SYMBOLS[1:95])
    return {
        "94 elements": everything,
        "94 elements, 20 times": everything * 20,
        "1,000 nested brackets": "(" * 1000 + "Fe2O3" + ")2" * 1000,
        "amounts of 1e300": "Fe1e300O1e300",
        "1 MB of digits": "Fe" + "1" * 10**6,
    }


def requests_of(name: str) -> tuple[Any, dict[str, Any]]:
    """An ordinary request and the worst ones, of an architecture."""
    if name == "lgdcnn":
        return "Fe2O3", formulas()
    return grid(8, 15.0), crystals()


def measured(name: str, way: str) -> list[dict[str, str]]:
    """The rows of one of `MODELS`, as ``predict`` or ``savedmodel``; in a fresh process."""
    from tfmat.architecture import get
    from tfmat.predictor import Predictor
    from tfmat.target import Target

    architecture, keywords = MODELS[name]  # memory is not kept (`tfmat.keep_memory`), so that what a request needs is seen
    predictor = Predictor.create(architecture, [Target("y")], keywords=get(architecture).variant() | keywords)
    ordinary, worst = requests_of(architecture)
    with tempfile.TemporaryDirectory() as folder:
        answer = predict_with(predictor) if way == "predict" else serve_with(predictor, Path(folder))
        answer(ordinary)
        rows = []
        for request, material in worst.items():
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
            before, wall, processor = memory("VmRSS"), time.perf_counter(), time.process_time()
            said = answer(material)
            rows.append(
                {
                    "model": name,
                    "way": way,
                    "request": request,
                    "s": f"{time.perf_counter() - wall:.2f}",
                    "processor s": f"{time.process_time() - processor:.2f}",
                    "memory [MB]": f"{max(memory('VmHWM') - before, 0):.0f}",
                    "answer": said,
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def memory(key: str) -> float:
    """A line of /proc/self/status [MB]."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(key))) / 1024


def predict_with(predictor: Any) -> Any:
    """A function from a material to the answer of `Predictor.predict`: "a number", or the reason why there is none."""

    def answer(material: Any) -> str:
        frame = predictor.predict([material])
        return "a number" if np.isfinite(frame["y"][0]) else str(frame["error"][0])

    return answer


def serve_with(predictor: Any, folder: Path) -> Any:
    """The same of a SavedModel."""
    import tensorflow as tf

    from tfmat.architecture import Architecture
    from tfmat.export import export_model
    from tfmat.export.client.arrays import crystal_arrays

    architecture: Architecture = predictor.architecture
    export_model(predictor, folder / "model")
    signatures = tf.saved_model.load(str(folder / "model")).signatures

    def answer(material: Any) -> str:
        try:
            if architecture.material == "composition":
                found = signatures["from_formula"](formula=tf.constant([material]))
            else:
                found = signatures["serving_default"](**{k: tf.constant(v) for k, v in crystal_arrays([material]).items()})
        except tf.errors.InvalidArgumentError as error:
            return next(line for line in error.message.splitlines() if "assertion failed" in line).split("[", 1)[1][:200]
        return "a number" if np.isfinite(next(iter(found.values())).numpy()).all() else "not finite"

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=["predict", "savedmodel"], default=["predict", "savedmodel"])
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one)))
        return
    machine = facts(arguments.threads)
    for name in arguments.architectures:
        for way in arguments.ways:
            command = [sys.executable, "-m", "benchmarks.worst_requests", "--one", name, way]
            done = subprocess.run(command, env=environment(arguments.threads, {}), capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                raise SystemExit(f"{name}, {way}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
            rows = json.loads(done.stdout.splitlines()[-1])
            print_table(rows)
            if arguments.save:
                append_today(RESULTS, rows, machine)


if __name__ == "__main__":
    main()
