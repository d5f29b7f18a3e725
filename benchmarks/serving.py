"""Latency, throughput and size of every architecture as it is served: SavedModel, LiteRT of three precisions, and Keras.

Every architecture with its default keywords and random weights, on one and on two threads, for calls of 1 and of 32 materials of about
equal size. `Predictor.predict` and the SavedModel's signature for materials (``serving_default`` of crystals, ``from_formula``) take the
materials themselves; ``featurized`` (of compositions ``serving_default``) and LiteRT take a featurizer's arrays, whose making is not
timed. The calls take turns. Latencies are the median and the 99th percentile, throughput is materials per second of the mean. The
crystals are those of mp2018_subset (`TFMAT_DATA_DIR`), or made ones; the formulas are those of the embedded data.

Examples:
    python -m benchmarks.serving --save benchmarks/results/serving.csv
    python -m benchmarks.serving --architectures megnet --threads 1 --batch 1 --repeats 500
    python -m benchmarks.serving --small --repeats 3
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.competitors import instructions, load, matmul_rate, print_table, processor
from benchmarks.serving_search import LEAST, crystals, in_turns, sizes
from tfmat import datasets
from tfmat.architecture import get, list_models
from tfmat.errors import InputError
from tfmat.export import ExportError, export_model
from tfmat.export.formats.weight_precision import PRECISIONS
from tfmat.export.interfaces import interface_of
from tfmat.export.interfaces.base import Interface
from tfmat.predictor import Predictor
from tfmat.target import Target

KERAS = "Keras, Predictor.predict"


def chosen(predictor: Predictor, low: int, high: int, count: int) -> tuple[str, list[Any]]:
    """`count` materials that the featurizer takes, and where they are from; crystals of `low` to `high` sites."""
    if predictor.architecture.material == "composition":
        source, offered = "exp_formation_enthalpy", list(datasets.load("exp_formation_enthalpy").splits["train"].materials[: 4 * count])
    else:
        source, offered = crystals(low, high, 4 * count)
    materials, _ = interface_of(predictor).fitting(offered, {})
    if len(materials) < count:
        raise SystemExit(f"only {len(materials)} of {len(offered)} materials suit {predictor.architecture.name}")
    return source, materials[:count]


def fitting_sizes(interface: Interface, materials: Sequence[Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Options of the smallest LiteRT file that takes these materials, and its axis -> length."""
    found = [interface.lengths_of(interface.arrays_of(material)) for material in materials]
    options = {name: max(size.lowest, *(one[size.axis] for one in found)) for name, size in interface.sizes.items()}
    return options, interface.lengths(options, "the model")


def saved_calls(predictor: Predictor, folder: Path, materials: Sequence[Any]) -> tuple[dict[str, Callable[[], Any]], int]:
    """A call of each signature with the materials, and the size of the SavedModel [bytes]."""
    import tensorflow as tf

    report = export_model(predictor, folder / "saved")
    loaded = tf.saved_model.load(str(report.path))
    calls = {}
    for name, entry in interface_of(predictor).signatures().items():
        tensors = {key: tf.constant(value) for key, value in entry.encode(materials).items()}
        # The signature must not outlive the model that holds its weights.
        calls[f"SavedModel, {name}"] = lambda name=name, tensors=tensors, model=loaded: model.signatures[name](**tensors)
    return calls, report.size_bytes


def lite_calls(
    predictor: Predictor, folder: Path, materials: Sequence[Any], threads: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """A call of a LiteRT file of each precision with the materials, and the sizes of the files [bytes]."""
    from ai_edge_litert.interpreter import Interpreter

    interface = interface_of(predictor)
    options, lengths = fitting_sizes(interface, materials)
    batch = interface.pad([interface.arrays_of(material) for material in materials], lengths)
    calls, bytes_of = {}, {}
    for precision in PRECISIONS:
        name = f"LiteRT, {precision}"
        file = folder / f"{precision}.tflite"
        try:
            report = export_model(
                predictor, file, "litert", precision=precision, batch_size=len(materials), examples=list(materials), **options
            )
        except ExportError as error:
            print(f"{predictor.architecture.name}, {name}: {error}", file=sys.stderr)
            continue
        run = Interpreter(model_path=str(file), num_threads=threads).get_signature_runner("serving_default")
        calls[name], bytes_of[name] = lambda run=run: run(**batch), report.size_bytes
    return calls, bytes_of


def measured(predictor: Predictor, materials: Sequence[Any], threads: int, repeats: int, seconds: float) -> list[dict[str, str]]:
    """Rows of the table, a way of serving each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = predictor.save(folder / "model") / "model.weights.h5"
        calls: dict[str, Callable[[], Any]] = {KERAS: lambda: predictor.predict(materials)}
        bytes_of = {KERAS: weights.stat().st_size}
        saved, size = saved_calls(predictor, folder, materials)
        lite, lite_sizes = lite_calls(predictor, folder, materials, threads)
        times = in_turns(calls | saved | lite, repeats, seconds)
        bytes_of |= dict.fromkeys(saved, size) | lite_sizes
    keras = np.median(times[KERAS])
    return [
        {
            "served as": what,
            "p50 [ms]": f"{np.median(values):.3g}",
            "p99 [ms]": f"{np.percentile(values, 99):.3g}",
            "materials/s": f"{1e3 * len(materials) / values.mean():.3g}",
            "p50 / predict": f"{np.median(values) / keras:.2f}",
            "size [MB]": f"{bytes_of[what] / 1e6:.2f}",
            "calls": str(len(values)),
        }
        for what, values in times.items()
    ]


def worker(arguments: argparse.Namespace) -> None:
    """One architecture, number of threads and batch size in this process: prints the source of the materials and the rows as JSON."""
    import tensorflow as tf

    name, threads, batch = arguments.architectures[0], arguments.threads[0], arguments.batch[0]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    predictor = Predictor.create(name, [Target("energy", "eV/atom")], keywords=get(name).small if arguments.small else {})
    source, materials = chosen(predictor, *arguments.sites, batch)
    rows = measured(predictor, materials, threads, arguments.repeats, arguments.seconds)
    print(json.dumps([source, [{"model": name, "threads": str(threads), "batch": str(batch)} | row for row in rows]]))


def in_a_process(arguments: argparse.Namespace, name: str, threads: int, batch: int) -> tuple[str, list[dict[str, str]]]:
    """`worker` in a fresh process: TensorFlow's number of threads can be set only once."""
    low, high = arguments.sites
    options = ["--architectures", name, "--threads", threads, "--batch", batch, "--sites", f"{low}-{high}"]
    options += ["--repeats", arguments.repeats, "--seconds", arguments.seconds]
    command = [sys.executable, "-m", "benchmarks.serving", "--worker", *map(str, options), *(["--small"] if arguments.small else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}, {threads} threads, batch {batch}: the measurement failed")
    source, rows = json.loads(done.stdout.splitlines()[-1])
    return source, rows


def slower(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """SavedModels called with materials that take longer than `Predictor.predict`."""
    raw = [row for row in rows if row["served as"] in ("SavedModel, from_formula", "SavedModel, serving_default")]
    return [
        f"{row['model']}, {row['served as']}, {row['threads']} thread(s), batch {row['batch']}"
        for row in raw
        if float(row["p50 / predict"]) > 1
    ]


def save(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", choices=list_models(), default=list_models())
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of TensorFlow and LiteRT (default: 1 2)")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32], help="materials a call (default: 1 32)")
    parser.add_argument("--sites", type=sizes, default=(1, 12), help="range of the crystals' sites (default: 1-12)")
    parser.add_argument("--repeats", type=int, default=200, help="most counted calls of each kind (default: 200)")
    parser.add_argument("--seconds", type=float, default=60, help=f"for a batch size, once each was called {LEAST} times (default: 60)")
    parser.add_argument("--small", action="store_true", help="small models, to try this script")
    parser.add_argument("--save", type=Path, metavar="FILE", help="also write the table to this CSV file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.worker:
        worker(arguments)
        return
    rows: list[dict[str, str]] = []
    sources = set()
    machine = {"hardware": processor(), "instruction set": instructions()}
    peaks = {threads: f"{matmul_rate(threads):.0f}" for threads in arguments.threads}
    for name in arguments.architectures:
        for threads in arguments.threads:
            for batch in arguments.batch:
                print(f"{name}, {threads} thread(s), batch {batch}", file=sys.stderr)
                source, found = in_a_process(arguments, name, threads, batch)
                sources.add(source)
                rows += found
                if arguments.save:
                    save(arguments.save, [row | machine | {"matmul GFLOP/s": peaks[int(row["threads"])]} for row in rows])
    low, high = arguments.sites
    print(f"{processor()}, {instructions()}, load {load()}; materials: {', '.join(sorted(sources))}, crystals of {low} to {high} sites")
    print_table(rows)
    behind = slower(rows)
    print("\nslower than Predictor.predict: " + ("; ".join(behind) or "no SavedModel that is called with materials"))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
