"""One job in a process of its own: ``python -m benchmarks.campaign.train JOB --work DIR``, where JOB is a JSON object.

What it makes appears in ``finished/<key>`` at once or not at all: ``rows.json``, a row of results for each target; the predictions of the
validation rows and, if the job is scored on them, of the test rows; the model's folder. Until then the state is in ``checkpoints/`` and
``running/``. It ends when the process that started it does.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.campaign.jobs import Job
from benchmarks.campaign.machine import commit, hardware
from benchmarks.machine import instructions
from benchmarks.rows import replace

if TYPE_CHECKING:
    from tfmat.data.table import Table
    from tfmat.predictor import Predictor
    from tfmat.training.evaluation import Evaluation

SPLITS = ("validation", "test")
SCORES = ("MAE", "RMSE", "R2", "coverage", "ROC-AUC", "accuracy")
PROGRESS_SECONDS = 2.0
NICENESS = 10


class Progress:
    """Keeps ``running/<key>.json`` up to date: the share of the training that is done and what it costs.

    Seconds are those of the processor, which go on neither while the process is stopped nor while others have its core.
    """

    def __init__(self, path: Path, parent: int | None, threads: int) -> None:
        self.path, self.parent, self.threads = path, parent, max(threads, 1)
        self.told, self.start, self.began = 0.0, -1.0, 0.0
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.before = float(before.get("cpu_seconds", 0.0))

    @property
    def cpu_seconds(self) -> float:
        """Of the whole job until now, those of attempts that were interrupted among them."""
        return self.before + time.process_time()

    def report(self, epoch: int, of: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
        if self.parent is not None and os.getppid() != self.parent:
            raise SystemExit("the campaign has ended")
        now, done = time.process_time(), (epoch - 1 + step / steps) / of
        if self.start < 0:  # the first step compiles: measure from its end on
            self.start, self.began = done, now
        if time.monotonic() - self.told < PROGRESS_SECONDS and step < steps:
            return
        self.told = time.monotonic()
        left = (now - self.began) / (done - self.start) * (1 - done) / self.threads if done > self.start else None
        about = {"epoch": epoch, "epochs": of, "done": done, "seconds_left": left, "cpu_seconds": self.cpu_seconds, "pid": os.getpid()}
        replace(self.path, json.dumps(about))


def run(job: Job, work: Path, *, threads: int = 1, models: bool = True, figures: bool = False, parent: int | None = None) -> Path:
    """Train and score a job.

    Args:
        job: what to do.
        work: of the campaign.
        threads: of TensorFlow; 0: its own choice.
        models: keep the trained model.
        figures: draw its learning curve and parity plots.
        parent: process with which it ends.

    Returns:
        The folder in ``finished/``.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfmat import architecture
    from tfmat.atomic import new_directory
    from tfmat.data.cache import RecordCache
    from tfmat.runs.config import Settings
    from tfmat.runs.settings import checked_keywords, checked_recipe
    from tfmat.runs.train import build, fit
    from tfmat.target import Target

    data, family = _load(job), architecture.get(job.architecture)
    targets = [Target(name, unit, data.tasks[name], job.transform).to_config() for name, unit in data.units.items()]  # type: ignore[arg-type]
    recipe = checked_recipe(family.recipes[job.recipe], json.loads(job.recipe_options))
    keywords = checked_keywords(family, json.loads(job.keywords))
    settings = Settings(job.architecture, keywords, targets, recipe.to_config(), int(job.epochs), int(job.seed))
    predictor, cache = build(settings), RecordCache()
    tables, left_out = _tables(job, data.splits, predictor, cache)
    for folder in ("checkpoints", "running"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    progress, checkpoint = Progress(work / "running" / f"{job.key}.json", parent, threads), checkpoint_of(job, work)
    fit(predictor, settings, tables, checkpoint=checkpoint, cache=cache, report=progress.report)
    splits = SPLITS if job.scored == "test" else SPLITS[:1]
    evaluations = {split: predictor.evaluate(tables[split], batch_size=predictor.info["batch_size"], cache=cache) for split in splits}
    about = _about(predictor, tables, left_out, threads) | {"cpu_seconds": round(progress.cpu_seconds, 1)}
    rows = [asdict(job) | about | result(job, target.name, target.unit, target.task, evaluations) for target in predictor.targets]
    finished = work / "finished" / job.key
    with new_directory(finished, overwrite=True) as folder:
        for split, evaluation in evaluations.items():
            evaluation.predictions.to_csv(folder / f"{split}.csv.gz", index=False)
        if models:
            predictor.save(folder / "model")
        if figures:
            _draw(predictor, evaluations, folder)
        (folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    progress.path.unlink(missing_ok=True)
    checkpoint.unlink(missing_ok=True)
    return finished


def checkpoint_of(job: Job, work: Path) -> Path:
    """The file with the state of an unfinished job."""
    return work / "checkpoints" / f"{job.key}.h5"


def _load(job: Job) -> Any:
    from tfmat import datasets

    return datasets.load(job.data).select(job.targets.split())


def _tables(job: Job, splits: Mapping[str, Table], predictor: Predictor, cache: Any) -> tuple[dict[str, Table], int]:
    """The rows that can be featurized, and the number of the others; the test split is read only if it is scored."""
    from tfmat.runs.data import featurize_split

    wanted = ("train", "validation", *(["test"] if job.scored == "test" else []))
    found = {split: featurize_split(splits[split], [predictor.featurizer], split, cache=cache) for split in wanted}
    tables = {split: table for split, (table, _) in found.items()}
    if job.above:
        bound = float(job.above)
        tables = {split: table.subset(np.flatnonzero(table.targets[job.targets] > bound)) for split, table in tables.items()}
    if job.rows:
        training = tables["train"]
        tables["train"] = training.subset(np.sort(np.random.default_rng(0).permutation(len(training))[: int(job.rows)]))
    return tables, sum(len(refused) for _, refused in found.values())


def _about(predictor: Predictor, tables: Mapping[str, Table], left_out: int, threads: int) -> dict[str, Any]:
    """The columns that are the same for all targets."""
    return {
        "epochs_run": len(predictor.history),
        "parameters": int(predictor.model.count_params()),
        "train_rows": len(tables["train"]),
        "left_out": left_out,
        "batch_size": predictor.info["batch_size"],
        "seconds": predictor.info["training_seconds"],
        "hardware": hardware(),
        "instruction_set": instructions(),
        "threads": threads or os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
    }


def result(job: Job, target: str, unit: str, task: str, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The columns that tell how well a target is predicted; those of a split that is not scored are empty."""
    row: dict[str, Any] = {"target": target, "unit": unit, "task": task}
    for split in SPLITS:
        scores = evaluations[split].scores[target] if split in evaluations else {}
        row[f"{split}_rows"] = int(scores["n"]) if scores else ""
        row |= {f"{split}_{name}": f"{scores[name]:.5g}" if name in scores else "" for name in SCORES}
    row["test_MAD"] = ""
    if "test" in evaluations and task == "regression":
        values = evaluations["test"].predictions[f"{target}_true"].to_numpy()
        row["test_MAD"] = f"{np.nanmean(np.abs(values - np.nanmean(values))):.5g}"
    return row


def _draw(predictor: Predictor, evaluations: Mapping[str, Evaluation], folder: Path) -> None:
    from tfmat.analysis import figures

    if figures.can_plot():
        figures.write_learning_curve(predictor, folder)
        for split, evaluation in evaluations.items():
            figures.write_parity(predictor, evaluation, folder, split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=lambda text: Job(**json.loads(text)))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-models", dest="models", action="store_false")
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0)
    parser.add_argument("--parent", type=int)
    options = parser.parse_args()
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), NICENESS))
    from tfmat import keep_memory

    keep_memory()
    from tfmat.errors import InputError
    from tfmat.training import loop as training

    training.CHECKPOINT_SECONDS = options.checkpoint_seconds
    try:
        run(options.job, options.work, threads=options.threads, models=options.models, figures=options.figures, parent=options.parent)
    except InputError as error:
        print(error, file=sys.stderr)
        checkpoint = checkpoint_of(options.job, options.work)
        if error.file == str(checkpoint):  # of another version of the code: the next attempt begins anew
            checkpoint.unlink(missing_ok=True)
            raise SystemExit(1) from None
        raise SystemExit(2) from None
    except training.Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(128 + error.signum) from None


if __name__ == "__main__":
    main()
