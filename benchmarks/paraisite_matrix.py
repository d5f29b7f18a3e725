"""ParAIsite's matrix: three steps x training set x test set, MAPE of the thermal conductivity over random 80/20 hold-outs.

Run n splits each set by ``numpy.random.RandomState(n).permutation``, first 80 % for training, as published. Steps: I everything random,
II the backbone from MEGNet's formation energies, III everything from step II on AFLOW of the same run.

Protocols:
    paper   as published: labels standardised with the whole set, model selected on the reported 20 %; labels of another set (and in step
            III those of the own set) standardised with their own set and inverted with the scaler of the model, so off the diagonal the
            numbers are no errors in W/(m K).
    honest  labels standardised with the training rows and always inverted by the scaler that made them (step III keeps AFLOW's, with
            which its weights were learnt), model selected on a fifth of the training part, the reported 20 % touched once.

Both really load the weights in step II, which the published code does not. Needs TFMAT_DATA_DIR (see `tfmat datasets`). Finished
trainings are appended to the CSV file and skipped when the script is started again.

Examples:
    python -m benchmarks.paraisite_matrix --runs 3
    python -m benchmarks.paraisite_matrix --protocol honest --runs 9 --epochs 300 --aflow-epochs 300
    python -m benchmarks.paraisite_matrix --table
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paraisite_protocols import PROTOCOLS, SETS, TARGET, Part, best_constant, load, mape, split
from benchmarks.rows import append, stored

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "paraisite_matrix.csv"
COLUMNS = ["protocol", "step", "trained_on", "run", *SETS, "epochs", "best_epoch", "backbone", "seconds", "hardware", "date"]
BACKBONE = "matgl/MEGNet-MP-2018.6.1-Eform"

# Mean (sample standard deviation) over nine runs of 300 epochs, recomputed from the CSV files of ParAIsite's repository.
PUBLISHED = {
    ("I", "Dataset1"): "0.54 (0.22)  2.53 (2.17)  1.74 (1.26)  2.16 (1.26)",
    ("I", "Dataset2"): "0.51 (0.09)  0.38 (0.05)  0.43 (0.05)  0.48 (0.05)",
    ("I", "MIX"): "0.69 (0.15)  0.77 (0.15)  0.74 (0.10)  0.97 (0.27)",
    ("I", "AFLOW"): "0.55 (0.34)  1.18 (0.27)  0.93 (0.27)  0.60 (0.33)",
    ("II", "Dataset1"): "0.51 (0.24)  3.10 (2.40)  2.07 (1.40)  2.32 (1.94)",
    ("II", "Dataset2"): "0.55 (0.14)  0.37 (0.08)  0.44 (0.04)  0.52 (0.10)",
    ("II", "MIX"): "0.66 (0.14)  0.74 (0.16)  0.71 (0.12)  1.10 (0.47)",
    ("II", "AFLOW"): "0.44 (0.14)  1.27 (0.48)  0.94 (0.30)  0.49 (0.03)",
    ("III", "Dataset1"): "0.29 (0.13)  1.26 (0.44)  0.87 (0.27)  0.57 (0.10)",
    ("III", "Dataset2"): "0.55 (0.10)  0.69 (0.26)  0.63 (0.18)  0.62 (0.07)",
    ("III", "MIX"): "0.37 (0.14)  0.78 (0.31)  0.62 (0.21)  0.59 (0.06)",
}
CASES = [("constant", name) for name in SETS] + [("I", name) for name in SETS]
CASES += [("II", name) for name in ("AFLOW", *SETS[:3])] + [("III", name) for name in SETS[:3]]


class Matrix:
    """All trainings of one protocol."""

    def __init__(self, protocol: str, options: argparse.Namespace) -> None:
        self.protocol, self.options, self.parts = protocol, options, load()
        self.rules = PROTOCOLS[protocol](self.parts)
        self.sources: dict[int, tuple[list[np.ndarray], Any]] = {}  # run -> weights and scaler of step II on AFLOW

    def row(self, step: str, name: str, run: int) -> dict[str, Any]:
        began = time.monotonic()
        training, test = split(self.parts, name, run)
        scaler, epochs, best = self.rules.scaler(name, training, None), 0, 0
        if step == "constant":
            constant = best_constant(self.rules.seen(training, scaler))
            scores = {other: mape(np.float64(constant), self.rules.seen(split(self.parts, other, run)[1], scaler)) for other in SETS}
        else:
            model, scaler, epochs, best = self.fit(step, name, run, training, test)
            scores = {other: self.score(model, scaler, split(self.parts, other, run)[1]) for other in SETS}
        from tfmat.model_directory.provenance import hardware

        return {
            "protocol": self.protocol, "step": step, "trained_on": name, "run": run, "epochs": epochs, "best_epoch": best,
            **{other: f"{score:.4f}" for other, score in scores.items()}, "hardware": hardware(),
            "backbone": "" if step in ("I", "constant") else self.options.backbone, "seconds": round(time.monotonic() - began),
            "date": datetime.date.today().isoformat(),
        }  # fmt: skip

    def fit(self, step: str, name: str, run: int, training: Part, test: Part) -> tuple[Any, Any, int, int]:
        """Train; returns the model, its scaler, and the number of epochs and of the best one."""
        import dataclasses

        import keras

        from tfmat import zoo
        from tfmat.architecture import get
        from tfmat.batching.pipeline import Batches
        from tfmat.training.best_epoch import best_epoch
        from tfmat.training.loop import Schedule, train

        source = self.source(run) if step == "III" else None
        fitted, selection = self.rules.selection(training, test, run)
        scaler = self.rules.scaler(name, fitted, source and source[1])
        keras.backend.clear_session()
        keras.utils.set_random_seed(42 + run)
        model = zoo.ParAIsite((TARGET,))
        if source is not None:
            model.set_weights(source[0])
        elif step == "II":
            load_backbone(model, self.options.backbone)
        epochs = self.options.aflow_epochs if name == "AFLOW" else self.options.epochs
        recipe = dataclasses.replace(get("paraisite").recipes["paper"], epochs=epochs, cosine_epochs=epochs * 5 // 3)
        size = recipe.batch_size_for(len(fitted.values))
        batches, held_out = (
            Batches.of(part.records, {TARGET: scaler.scale(self.rules.seen(part, scaler))}, rows, seed=seed)
            for part, rows, seed in ((fitted, size, run), (selection, 256, None))
        )

        def report(epoch: int, of: int, at: int, steps: int, figures: Any) -> None:
            if at == steps and (epoch % max(1, of // 5) == 0):
                line = f"{self.protocol} {step} {name} run {run}: epoch {epoch}/{of}, validation MAPE {figures['val_loss']:.3f}"
                print(line, file=sys.stderr, flush=True)

        history = train(model, [scaler], recipe, batches, held_out, Schedule(epochs), report=report)
        if step == "II" and name == "AFLOW":
            self.sources[run] = (model.get_weights(), scaler)
            self.keep(run)
        return model, scaler, epochs, best_epoch(history)

    def score(self, model: Any, scaler: Any, part: Part) -> float:
        from tfmat.batching.pipeline import Batches
        from tfmat.training.inference import forward

        batches, run = Batches.of(part.records, {}, 256), forward(model)
        predicted = np.empty(len(part.values))
        for (inputs, *_), indices in zip(batches.epoch(0), batches.plan.epoch(0), strict=True):
            predicted[indices] = np.asarray(scaler.unscale(run(inputs)[TARGET]))[:, 0]
        return mape(predicted, self.rules.seen(part, scaler))

    def keep(self, run: int) -> None:
        """Weights of step II on AFLOW, from which step III of the same run begins, for a later start of the script."""
        weights, scaler = self.sources[run]
        self.options.work.mkdir(parents=True, exist_ok=True)
        arrays = {f"{index:03d}": weight for index, weight in enumerate(weights)}
        np.savez(self.options.work / f"{self.protocol}-{run}.npz", scale=[scaler.mean, scaler.std], **arrays)

    def source(self, run: int) -> tuple[list[np.ndarray], Any]:
        from tfmat.target import Target

        if run not in self.sources:
            path = self.options.work / f"{self.protocol}-{run}.npz"
            if not path.is_file():
                print(f"{path} is missing: step II on AFLOW in run {run} is trained again", file=sys.stderr)
                self.fit("II", "AFLOW", run, *split(self.parts, "AFLOW", run))
                return self.sources[run]
            with np.load(path, allow_pickle=False) as arrays:
                mean, std = arrays["scale"].tolist()
                weights = [arrays[name] for name in sorted(set(arrays.files) - {"scale"})]
            self.sources[run] = weights, Target(TARGET, "W/(m K)", transform="log10_1p", mean=mean, std=std)
        return self.sources[run]


def load_backbone(model: Any, backbone: str) -> None:
    """Take the backbone over, and see that all of it was."""
    from tfmat.model_directory.files import model_folder
    from tfmat.model_directory.transfer import initialise
    from tfmat.target import Target

    report = initialise(model, [Target(TARGET, "W/(m K)", transform="log10_1p")], model_folder(backbone), name=backbone)
    left = [path for path in report.missing if not path.startswith("head_")]
    if left or report.different_shape:
        raise SystemExit(f"{backbone} does not fill the backbone: {', '.join([*left, *report.different_shape])}")


def table(rows: list[dict[str, str]], protocol: str) -> str:
    """Markdown: mean (sample standard deviation) of the MAPE over the runs."""
    lines = [
        f"| {protocol}: step, trained on | runs | epochs | "
        + " | ".join(SETS)
        + " |"
        + " published on the same four |" * (protocol == "paper")
    ]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for step, name in CASES:
        found = [row for row in rows if (row["protocol"], row["step"], row["trained_on"]) == (protocol, step, name)]
        if not found:
            continue
        cells = []
        for other in SETS:
            values = np.array([float(row[other]) for row in found])
            cells.append(f"{values.mean():.2f} ({values.std(ddof=1) if len(values) > 1 else 0:.2f})")
        label = "best constant of" if step == "constant" else f"{step}" + (" AFLOW ->" if step == "III" else "")
        epochs = "-" if step == "constant" else "/".join(sorted({row["epochs"] for row in found}))
        published = f" {PUBLISHED.get((step, name), '')} |" if protocol == "paper" else ""
        lines.append(f"| {label} {name} | {len(found)} | {epochs} | " + " | ".join(cells) + " |" + published)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="random hold-outs (default 3; published: 9)")
    parser.add_argument("--protocol", choices=["paper", "honest", "both"], default="both")
    parser.add_argument("--epochs", type=int, default=300, help="of Dataset1, Dataset2 and MIX (default 300, as published)")
    parser.add_argument("--aflow-epochs", type=int, default=300, help="of AFLOW (default 300, as published)")
    parser.add_argument("--backbone", default=BACKBONE, metavar="PRESET|DIR", help=f"MEGNet of steps II and III (default {BACKBONE})")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0 is its own choice")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="results, one row a training")
    parser.add_argument("--work", type=Path, default=Path("runs/paraisite_matrix"), help="weights between the steps")
    parser.add_argument("--table", action="store_true", help="only print the tables of what is there")
    options = parser.parse_args()
    protocols = list(PROTOCOLS) if options.protocol == "both" else [options.protocol]
    if not options.table:
        from tfmat.errors import InputError

        if options.threads:
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(options.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        for protocol in protocols:
            try:
                matrix = Matrix(protocol, options)
            except InputError as error:
                raise SystemExit(f"skipped: {error}") from None
            for run in range(1, options.runs + 1):
                for step, name in CASES:
                    done = {(row["protocol"], row["step"], row["trained_on"], row["run"]) for row in stored(options.csv)}
                    if (protocol, step, name, str(run)) not in done:
                        append(options.csv, COLUMNS, matrix.row(step, name, run))
    for protocol in protocols:
        print(table(stored(options.csv), protocol) + "\n")


if __name__ == "__main__":
    main()
