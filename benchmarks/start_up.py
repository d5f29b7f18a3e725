"""How long a training waits for its first step, and what requests of ever new sizes cost: one program, whatever the sizes.

For each architecture in its default size, in a process of its own: seconds until TensorFlow and the zoo are imported, until the model is
built, of the first training step (tracing included) and of the third one, of batches of 32 materials; then 300 predictions of different
numbers of different materials: growth of the resident memory after the first ten, and the warnings of TensorFlow that it traces again.

Examples:
    python -m benchmarks.start_up
    python -m benchmarks.start_up --architectures megnet crysformer --requests 100 --save
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.competitors import ROOT, environment, print_table
from benchmarks.machine import facts
from benchmarks.rows import append_today

RESULTS = ROOT / "benchmarks/results/start_up.csv"
ROWS = 32
STEPS = 3


def materials(kind: str, count: int) -> list[Any]:
    """Made up: formulas of one to seven elements, or distorted crystals of one to eight sites."""
    import numpy as np

    from tfmat.crystal import Crystal
    from tfmat.elements import SYMBOLS

    rng = np.random.default_rng(0)
    made: list[Any] = []
    for _ in range(count):
        kinds = rng.choice(np.arange(1, 84), rng.integers(1, 8), replace=False)
        if kind == "composition":
            made.append("".join(f"{SYMBOLS[z]}{rng.integers(1, 9)}" for z in kinds))
            continue
        sites = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)[: rng.integers(1, 9)]
        species = rng.choice(kinds, len(sites)).astype(np.int32)
        made.append(Crystal(species, np.diag(rng.uniform(3, 3.8, 3)), sites + rng.normal(0, 0.02, sites.shape)))
    return made


def measured(name: str, requests: int) -> dict[str, Any]:
    """The figures of one architecture; in a fresh process."""
    began = time.perf_counter()
    import keras
    import numpy as np

    import tfmat
    from tfmat.architecture import get
    from tfmat.batching.pipeline import Batches
    from tfmat.predictor import Predictor
    from tfmat.target import Target
    from tfmat.training.loop import compile_model

    tfmat.keep_memory()
    imported = time.perf_counter()
    predictor = Predictor.create(name, [Target("y")], keywords=get(name).variant())
    built = time.perf_counter()
    made = materials(predictor.architecture.material, ROWS * STEPS + requests)
    records = predictor.featurizer.featurize(made[: ROWS * STEPS])
    batches = Batches.of(records, {"y": np.zeros(len(records), np.float32)}, ROWS, inputs=predictor.model.input, seed=0)
    recipe = predictor.recipe("default")
    compile_model(predictor.model, predictor.targets, recipe.build_optimizer(STEPS, 10), loss="mae")
    marks = [time.perf_counter()]
    mark = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: marks.append(time.perf_counter()))
    predictor.model.fit(batches.dataset(), callbacks=[mark], shuffle=False, verbose=0)
    rng = np.random.default_rng(1)
    sizes = []
    for request in range(requests):
        predictor.predict(made[request : request + int(rng.integers(1, 64))] or made[:1])
        sizes.append(resident())
    return {
        "architecture": name,
        "import [s]": f"{imported - began:.1f}",
        "build [s]": f"{built - imported:.1f}",
        "first step [s]": f"{marks[1] - marks[0]:.1f}",
        "third step [s]": f"{marks[3] - marks[2]:.2f}",
        "memory after 10 requests [MB]": f"{sizes[min(9, requests - 1)]:.0f}",
        "growth [MB]": f"{sizes[-1] - sizes[min(9, requests - 1)]:.0f}",
        "peak [MB]": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
    }


def resident() -> float:
    """Resident memory of this process [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    names = ["lgdcnn", "crysformer", "megnet", "paraisite", "atom_list_lstm"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", choices=names, default=names)
    parser.add_argument("--requests", type=int, default=300, help="predictions of different sizes (default: 300)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--save", action="store_true", help=f"also append to {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one, arguments.requests)))
        return
    rows = []
    for name in arguments.architectures:
        command = [sys.executable, "-m", "benchmarks.start_up", "--one", name, "--requests", str(arguments.requests)]
        done = subprocess.run(command, env=environment(arguments.threads, {}), capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{name}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]) | {"retracing warnings": str(done.stderr.count("retracing"))})
    machine = facts(arguments.threads)
    print(", ".join(f"{name}: {value}" for name, value in machine.items()) + f"; {arguments.requests} requests")
    print_table(rows)
    if arguments.save:
        append_today(RESULTS, rows, machine | {"requests": arguments.requests})


if __name__ == "__main__":
    main()
