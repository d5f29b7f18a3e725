"""How fast the cache of featurized records feeds batches, beside the rate at which the fastest model consumes them.

Compositions are those of ``OQMD_Bandgap`` where ``TFMAT_DATA_DIR`` is set, else synthetic ones. They are featurized into a cache; then
a process of its own opens the entry and iterates over shuffled, bucketed batches: NumPy arrays, and the `tf.data.Dataset` that `fit` gets.
The yardstick is ten times the fastest model of the zoo: about 3,000 rows/s a thread (the LSTM variant), so 30,000 rows/s.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

FASTEST_MODEL = 3000
"""Rows a second that the fastest model consumes on one thread."""
BATCH = 256


def formulas(rows: int) -> tuple[str, list[str]]:
    """Name of the source and the formulas."""
    if os.environ.get("TFMAT_DATA_DIR"):
        from tfmat import datasets

        name = "OQMD_Bandgap"
        return name, list(datasets.load(name).splits["train"].materials)[:rows]
    import numpy as np

    from tfmat.elements import SYMBOLS

    rng = np.random.default_rng(0)
    numbers, amounts = rng.integers(1, 90, (rows, 3)), rng.integers(1, 9, (rows, 3))
    return "synthetic", ["".join(f"{SYMBOLS[z]}{x}" for z, x in zip(a, b, strict=True)) for a, b in zip(numbers, amounts, strict=True)]


def build(folder: str, rows: int) -> dict[str, str | int | float]:
    """Featurize into the cache."""
    import numpy as np

    from tfmat.data import RecordCache, Table, featurize_table
    from tfmat.featurizers import CompositionFeaturizer

    source, materials = formulas(rows)
    ids = [str(i) for i in range(len(materials))]
    table = Table(materials, {}, ids, np.arange(len(materials)), source)
    start = time.perf_counter()
    featurize_table(table, CompositionFeaturizer(), RecordCache(folder))
    return line(f"featurize and store ({source})", len(materials), time.perf_counter() - start)


def line(step: str, rows: int, seconds: float) -> dict[str, str | int | float]:
    """One row of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    return {
        "step": step,
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "times_fastest_model": round(rows / seconds / FASTEST_MODEL, 1),
        "peak_gib": round(peak, 2),
    }


def feed(folder: str) -> None:
    """What the process under measurement does; one JSON object a line."""
    import numpy as np

    from tfmat.batching.pipeline import Batches
    from tfmat.data.cache import RecordCache

    cache = RecordCache(folder)
    start = time.perf_counter()
    records = cache.load(cache.entries()[0].key)
    assert records is not None
    rows = len(records)
    print(json.dumps(line("open the cache entry", rows, time.perf_counter() - start)), flush=True)
    targets = {"y": np.zeros(rows, np.float32)}
    start = time.perf_counter()
    batches = Batches.of(records, targets, BATCH, seed=0)
    for _ in batches.epoch(0):
        pass
    print(json.dumps(line("first epoch, NumPy batches", rows, time.perf_counter() - start)), flush=True)
    start = time.perf_counter()
    for _ in batches.epoch(1):
        pass
    print(json.dumps(line("second epoch, NumPy batches", rows, time.perf_counter() - start)), flush=True)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    dataset = batches.dataset(first_epoch=2)
    start = time.perf_counter()
    for _ in dataset:
        pass
    print(json.dumps(line("third epoch, tf.data", rows, time.perf_counter() - start)), flush=True)


def main() -> int:
    """Build, feed in another process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="number of formulas at most (default: 100,000)")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    parser.add_argument("--feed", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows < BATCH:
        parser.error(f"--rows must be at least {BATCH}")
    if arguments.feed:
        feed(arguments.feed)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        lines = [build(folder, arguments.rows)]
        output = subprocess.run([sys.executable, __file__, "--feed", folder], stdout=subprocess.PIPE, text=True, check=True).stdout
        lines += [json.loads(text) for text in output.splitlines()]
    for row in lines:
        print("{step:44s} {rows_per_second:>13,} rows/s {seconds:>8} s   {times_fastest_model:>9} x the fastest model".format(**row))
    if arguments.out:
        with arguments.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return 0 if all(float(row["times_fastest_model"]) >= 10 for row in lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())
