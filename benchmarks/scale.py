"""Peak memory and rate of reading a large JSON lines file of crystals, and of what follows: splitting, and featurizing compositions.

A synthetic file is generated (2 to 40 sites, 20 on average, as in computed databases), then read in a process of its own, whose peak
memory is the largest resident set that the system saw (``ru_maxrss``; pages of mapped files count). Prints a table; writes it only with
``--out``. With 1,000,000 crystals the file takes about 1.2 GB in the temporary folder (``TMPDIR``), and as much again while it is read.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
ALLOWED_GB = 1.5


def generate(path: Path, rows: int) -> float:
    """Write `rows` crystals; returns the seconds it took."""
    import numpy as np

    from tfmat.elements import SYMBOLS

    rng = np.random.default_rng(0)
    symbols = np.asarray(SYMBOLS[1:90])
    start = time.perf_counter()
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            sites = int(rng.integers(2, 39))
            grid = rng.permutation(125)[:sites]
            frac = np.stack([grid // 25, grid // 5 % 5, grid % 5], axis=1) / 5 + rng.uniform(0, 0.1, (sites, 3))
            record = {
                "id": f"x-{number}",
                "formation_energy_per_atom": round(float(rng.normal(-1, 1)), 6),
                "cell": [round(float(x), 6) for x in (*rng.uniform(5, 15, 3), *rng.uniform(80, 100, 3))],
                "species": [str(symbol) for symbol in rng.choice(symbols[rng.permutation(89)[: rng.integers(1, 6)]], sites)],
                "frac": np.round(frac, 6).tolist(),
            }
            stream.write(json.dumps(record) + "\n")
    return time.perf_counter() - start


def timed(name: str, function: Callable[[], Result], rows: int) -> tuple[Result, dict[str, str | int | float]]:
    """The result and a line of the table."""
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    line: dict[str, str | int | float] = {
        "step": name,
        "crystals": rows,
        "seconds": round(seconds, 1),
        "crystals_per_second": round(rows / seconds),
        "peak_gib_so_far": round(peak, 2),
    }
    return result, line


def measure(path: Path, rows: int) -> None:
    """What the process under measurement does; one JSON object a line."""
    from tfmat.data import featurize_table, read_user_data
    from tfmat.data.cache import RecordCache
    from tfmat.datasets.files import split_user_data
    from tfmat.featurizers import CompositionFeaturizer

    data, line = timed("read", lambda: read_user_data(path), rows)
    print(json.dumps(line), flush=True)
    assert len(data.table) == rows and not data.rejections
    dataset, line = timed("split at random, hash", lambda: split_user_data(data, str(path)), rows)
    print(json.dumps(line), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cache = RecordCache(folder)
        train = dataset.splits["train"]
        _, line = timed("featurize compositions of train", lambda: featurize_table(train, CompositionFeaturizer(), cache), len(train))
        print(json.dumps(line), flush=True)


def main() -> int:
    """Generate, measure in another process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="number of crystals (default: 20,000)")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows < 3:
        parser.error("--rows must be at least 3")
    if arguments.measure:
        measure(arguments.measure, arguments.rows)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crystals.jsonl"
        seconds = generate(path, arguments.rows)
        print(f"generated {arguments.rows:,} crystals, {path.stat().st_size / 1e9:.2f} GB, in {seconds:.0f} s", flush=True)
        command = [sys.executable, __file__, "--measure", str(path), "--rows", str(arguments.rows)]
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                lines.append(json.loads(text))
                print(
                    "{step:34s} {crystals_per_second:>10,} crystals/s {seconds:>8} s   peak {peak_gib_so_far} GiB".format(**lines[-1]),
                    flush=True,
                )
    if process.returncode:
        return process.returncode
    peak = lines[-1]["peak_gib_so_far"] * 2**30 / 1e9
    print(f"peak memory {peak:.2f} GB, {'below' if peak < ALLOWED_GB else 'ABOVE'} {ALLOWED_GB} GB")
    if arguments.out:
        with arguments.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    return 0 if peak < ALLOWED_GB else 1


if __name__ == "__main__":
    raise SystemExit(main())
