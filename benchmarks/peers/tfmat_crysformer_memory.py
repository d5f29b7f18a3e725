"""Peak memory of training Crysformer on 64 crystals of 50 atoms in a process of its own, see `benchmarks.crysformer --memory`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time

import numpy as np

CRYSTALS, STEPS = 64, 2
GRID, SPACING, DISPLACEMENT = (5, 5, 2), 2.5, 0.2  # sites, [Å], [Å]


def peak() -> float:
    """Peak resident memory of this process so far [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remat", action="store_true", help="rematerialise the line graph in the backward pass")
    parser.add_argument("--accumulation", type=int, default=4, help="parts of the batch, one after the other (default: 4)")
    parser.add_argument("--k", type=int, default=16, help="neighbours of an atom, exactly (default: 16)")
    parser.add_argument(
        "--limit", type=float, default=16.0, metavar="GB", help="the process may allocate no more, and dies there (default: 16)"
    )
    arguments = parser.parse_args()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (int(arguments.limit * 1e9),) * 2)
    from tfmat.batching.pipeline import Batches
    from tfmat.crystal import Crystal
    from tfmat.predictor import Predictor
    from tfmat.target import Target
    from tfmat.training.loop import compile_model

    generator, sites = np.random.default_rng(0), np.indices(GRID).reshape(3, -1).T
    lattice = SPACING * np.diag(GRID).astype(float)
    crystals = [
        Crystal(
            generator.integers(1, 84, len(sites), dtype=np.int32),
            lattice,
            (sites + generator.normal(0, DISPLACEMENT / SPACING, sites.shape)) / GRID,
        )
        for _ in range(CRYSTALS)
    ]
    keywords = {"dim": 128, "blocks": 4, "k": arguments.k, "strict": True, "remat": arguments.remat}
    predictor = Predictor.create("crysformer", [Target("y", "eV/atom")], keywords=keywords)
    batches = Batches.of(
        predictor.featurizer.featurize(crystals), {"y": generator.normal(size=CRYSTALS)}, CRYSTALS // arguments.accumulation, seed=0
    )
    recipe = dataclasses.replace(predictor.recipe("paper"), loss="mse", batch_size=CRYSTALS, accumulation=arguments.accumulation)
    compile_model(predictor.model, predictor.targets, recipe.build_optimizer(arguments.accumulation, STEPS), loss="mse")
    before, seconds = peak(), 0.0
    for _ in range(STEPS):
        start = time.perf_counter()
        predictor.model.fit(batches.dataset(repeat=True), steps_per_epoch=batches.plan.steps, shuffle=False, verbose=0)
        seconds = time.perf_counter() - start  # of the last one: the first compiles
    print(json.dumps({"peak [GB]": peak(), "before [GB]": before, "step [s]": seconds, "rows": batches.plan.rows}))


if __name__ == "__main__":
    main()
