"""Formulas featurized a second, on one thread, beside pymatgen's own parser.

The formulas are the training rows of ``aflow__energy_atom`` (19,346) where ``TFMAT_DATA_DIR`` is set, else the embedded measured
compounds repeated to 20,000. Prints a table; writes it only with ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def formulas() -> tuple[str, list[str]]:
    """Name of the source and the formulas."""
    from tfmat import datasets

    if os.environ.get("TFMAT_DATA_DIR"):
        name = "aflow__energy_atom"
        return name, datasets.load(name).splits["train"].materials
    materials = [material for table in datasets.load(datasets.DEFAULT).splits.values() for material in table.materials]
    return f"{datasets.DEFAULT} (repeated)", (materials * (20_000 // len(materials) + 1))[:20_000]


def best_rate(function: Callable[[list[str]], object], batch: list[str], repeats: int) -> float:
    """Formulas a second in the fastest of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(batch)
        times.append(time.perf_counter() - start)
    return len(batch) / min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many runs counts (default: 5)")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")

    from pymatgen.core import Composition

    from tfmat.featurizers.composition import CompositionFeaturizer
    from tfmat.featurizers.formula import parse_formula

    source, batch = formulas()
    featurizer = CompositionFeaturizer()
    methods: dict[str, Callable[[list[str]], object]] = {
        "CompositionFeaturizer.featurize": featurizer.featurize,
        "CompositionFeaturizer, one by one": lambda batch: [featurizer(formula) for formula in batch[:2000]],
        "parse_formula": lambda batch: [parse_formula(formula) for formula in batch],
        "pymatgen Composition": lambda batch: [Composition(formula) for formula in batch],
    }
    rows = []
    for method, function in methods.items():
        subset = batch[:2000] if "one by one" in method else batch
        rows.append(
            {
                "method": method,
                "source": source,
                "formulas": len(subset),
                "formulas_per_second": round(best_rate(function, subset, arguments.repeats)),
            }
        )
        print(f"{method:36s} {rows[-1]['formulas_per_second']:>12,} formulas/s   {len(subset):,} of {source}", flush=True)
    if arguments.out:
        with arguments.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
