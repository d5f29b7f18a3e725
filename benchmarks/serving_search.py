"""What the search for neighbours in an exported model costs, beside the network itself.

For every architecture of crystals, with its default keywords and random weights: one call of ``serving_default`` (lattice, coordinates,
species in), of its search alone, of ``featurized`` (the network alone) and of `Predictor.predict`, for batches of crystals of about equal
size; and the most memory that a search adds to the process (Linux). The calls take turns. The crystals are those of mp2018_subset
(`TFMAT_DATA_DIR`), or made ones.

Examples:
    python -m benchmarks.serving_search --threads 1
    python -m benchmarks.serving_search --architectures megnet --sites 1-12 150-200 --batch 32 --repeats 9 --out search.csv
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.atom_list import random_crystal
from benchmarks.competitors import load, print_table, processor, spread
from tfmat import datasets
from tfmat.crystal import Crystal
from tfmat.errors import InputError
from tfmat.predictor import Predictor
from tfmat.target import Target

LEAST = 20  # counted calls of each kind, where time is limited
ARCHITECTURES = ("megnet", "paraisite", "crysformer", "atom_list_lstm")


def crystals(low: int, high: int, count: int) -> tuple[str, list[Crystal]]:
    """`count` crystals of `low` to `high` sites, and where they are from."""
    try:
        materials = datasets.load("mp2018_subset").splits["train"].materials
    except InputError as error:
        rng = np.random.default_rng(0)
        return f"made ({error.problem})", [random_crystal(rng, int(n)) for n in rng.integers(low, high + 1, count)]
    order = np.random.default_rng(0).permutation(len(materials))
    chosen = order[(materials.sites[order] >= low) & (materials.sites[order] <= high)][:count]
    return "mp2018_subset", [materials[int(index)] for index in chosen]


def peak() -> float:
    """Most memory that the process has held since `reset_peak` [MB]; NaN where Linux does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def reset_peak() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int, seconds: float = math.inf) -> dict[str, np.ndarray]:
    """Milliseconds of each call, `repeats` times after three that do not count; fewer, but `LEAST`, where that takes so many seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for turn in range(-3, repeats):
        if turn >= LEAST and time.perf_counter() - started > seconds:
            break
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in times.items()}


def measured(predictor: Predictor, materials: Sequence[Crystal], repeats: int) -> dict[str, str]:
    """One row of the table."""
    import tensorflow as tf

    from tfmat.export.formats.saved_model import as_module
    from tfmat.export.interfaces import interface_of

    entries = interface_of(predictor).signatures()
    _, functions = as_module(predictor, entries)
    raw, featurized = (
        {key: tf.constant(value) for key, value in entries[name].encode(materials).items()} for name in ("serving_default", "featurized")
    )
    specs = {name: given.spec(name, {}) for name, given in entries["serving_default"].inputs.items()}
    search = tf.function(lambda arrays: entries["serving_default"].prepare(arrays), autograph=False, input_signature=[specs])
    search.get_concrete_function(raw)
    reset_peak()
    before = peak()
    search(raw)
    grown = peak() - before
    times = in_turns(
        {
            "search": lambda: search(raw),
            "network": lambda: functions["featurized"](**featurized),
            "serving_default": lambda: functions["serving_default"](**raw),
            "Predictor.predict": lambda: predictor.predict(materials),
        },
        repeats,
    )
    share = np.median(times["search"]) / np.median(times["network"])
    columns = {f"{name} [ms]": spread(values, 1) for name, values in times.items()}
    return columns | {"search / network": f"{100 * share:.0f} %", "memory of the search [MB]": f"{grown:.0f}"}


def sizes(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise argparse.ArgumentTypeError(f"{text!r} is no range such as 1-12")
    return int(low), int(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument(
        "--sites", nargs="+", type=sizes, default=[(1, 12), (20, 40), (150, 200)], help="ranges (default: 1-12 20-40 150-200)"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32], help="crystals a call (default: 1 32)")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="counted calls of each kind (default: 5)")
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    arguments = parser.parse_args()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    rows, source = [], ""
    for name in arguments.architectures:
        predictor = Predictor.create(name, [Target("energy", "eV/atom")])
        for low, high in arguments.sites:
            for batch in arguments.batch:
                source, materials = crystals(low, high, batch)
                rows.append({"model": name, "sites": f"{low}-{high}", "batch": str(len(materials))})
                rows[-1] |= measured(predictor, materials, arguments.repeats)
    print(
        f"{processor()}, {arguments.threads} thread(s), load {load()}; crystals: {source}; median (least-greatest) of {arguments.repeats}"
    )
    print_table(rows)
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
