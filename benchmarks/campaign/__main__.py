"""Trains lists of models in the background: test errors, studies on validation rows, ensembles of seeds.

Each job (data set, fold, seed, architecture, recipe, epochs) runs in a process of its own at reduced priority, on one thread. A campaign
that was ended, by whatever, goes on from its checkpoints when it is started again; jobs with a row in the CSV file are skipped. A job that
fails is tried once more. The work folder keeps checkpoints, logs, models, and the predictions of validation and test rows. The test split
of a job is scored once or, in studies, never. Needs TFMAT_DATA_DIR for official splits.

A file of jobs is TOML, JSON or CSV, with the arguments of `benchmarks.campaign.jobs.make`:
    [[job]]
    dataset = "matbench_phonons"
    folds = [0, 1, 2, 3, 4]
    seeds = [0, 1, 2]
    architecture = "crysformer"
    keywords = {dim = 64, blocks = 2}
    epochs = 60

Examples:
    python -m benchmarks.campaign --list widths compositions --snapshot --work ~/campaign
    python -m benchmarks.campaign --jobs mine.toml --only "phonons*seed=0" --dry-run
    python -m benchmarks.campaign --status --work ~/campaign
    python -m benchmarks.campaign --ensembles --work ~/campaign
    python -m benchmarks.campaign --table
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from benchmarks.campaign.estimates import Estimates
from benchmarks.campaign.jobs import Job, chosen, read
from benchmarks.campaign.lists import LISTS
from benchmarks.campaign.machine import ROOT, hardware, snapshot
from benchmarks.campaign.runner import Campaign, Work
from benchmarks.campaign.status import Status
from benchmarks.rows import replace
from tfmat.errors import InputError

RESULTS = ROOT / "benchmarks" / "results" / "campaign.csv"
JOBS = "jobs.json"
SHOW_SECONDS = 5.0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = made.add_argument_group("what to train")
    what.add_argument("--list", nargs="+", choices=list(LISTS), default=[], dest="lists", help="lists by name, one after the other")
    what.add_argument("--jobs", nargs="+", type=Path, default=[], metavar="FILE", help="files of jobs, after the lists")
    what.add_argument("--only", metavar="PATTERN", help="jobs whose description (see --dry-run) contains this; * and ? stand for anything")
    what.add_argument("--retry", action="store_true", help="also jobs that were given up")
    how = made.add_argument_group("how")
    how.add_argument("--work", type=Path, default=Path("~/.cache/tfmat/campaign"), metavar="DIR", help="work folder (default: %(default)s)")
    how.add_argument(
        "--out",
        type=Path,
        metavar="CSV",
        help="file of results (default: that of the work folder's last campaign, or else benchmarks/results/campaign.csv)",
    )
    how.add_argument("--workers", type=int, default=1, metavar="N", help="jobs at a time (default: 1)")
    how.add_argument("--threads", type=int, default=1, metavar="N", help="of each (default: 1; 0: TensorFlow's own choice)")
    how.add_argument(
        "--snapshot", action="store_true", help="run a copy of the commit that is checked out, which later edits do not change"
    )
    how.add_argument("--no-models", action="store_true", help="do not keep the trained models")
    how.add_argument("--figures", action="store_true", help="keep learning curves and parity plots")
    how.add_argument("--checkpoint-seconds", type=float, default=30.0, metavar="S", help="between checkpoints (default: 30)")
    instead = made.add_argument_group("instead of training").add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="tell what would be run")
    instead.add_argument("--status", action="store_true", help="what is done and left of the campaign in the work folder")
    instead.add_argument("--ensembles", action="store_true", help="append the ensembles of seeds that can be formed, and print them")
    instead.add_argument("--table", action="store_true", help="print the results beside those of others, as Markdown")
    return made


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    made = parser()
    options = made.parse_args()
    try:
        options.work = options.work.expanduser().resolve()
        jobs = chosen(
            [job for name in options.lists for job in LISTS[name]()] + [job for path in options.jobs for job in read(path)], options.only
        )
        about = _last(options.work)
        work = Work(options.work, options.out.resolve() if options.out else Path(about.get("out", RESULTS)))
        if options.table:
            from benchmarks.campaign.table import table

            print(table(work.results()))
        elif options.ensembles:
            _ensembles(work)
        elif options.status:
            _print_status(jobs or chosen([Job(**job) for job in about.get("jobs", [])], options.only), work)
        elif not jobs:
            made.error("nothing to train: name a --list or a file of --jobs, and see --only")
        elif options.dry_run:
            _dry_run(jobs, work)
        else:
            raise SystemExit(_run(jobs, work, options))
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _last(work: Path) -> dict:
    path = work / JOBS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _run(jobs: list[Job], work: Work, options: argparse.Namespace) -> int:
    work.folder.mkdir(parents=True, exist_ok=True)
    if data := os.environ.get("TFMAT_DATA_DIR"):  # jobs run in another folder
        os.environ["TFMAT_DATA_DIR"] = str(Path(data).expanduser().resolve())
    if options.snapshot:
        _run_copy(snapshot(work.folder), work)
    if options.retry:
        for job in jobs:
            (work.folder / "failed" / f"{job.key}.json").unlink(missing_ok=True)
    arguments = ["--threads", str(options.threads), "--checkpoint-seconds", str(options.checkpoint_seconds)]
    arguments += [flag for flag, wanted in (("--no-models", options.no_models), ("--figures", options.figures)) if wanted]
    campaign = Campaign(jobs, work, options.workers, arguments, tell=_tell, begun=lambda: _remember(jobs, work))
    if not sys.stdout.isatty():
        return campaign.run()
    from rich.live import Live

    status = Status(jobs, work)
    with Live(get_renderable=status.view, refresh_per_second=1 / SHOW_SECONDS, vertical_overflow="visible"):
        return campaign.run()


def _remember(jobs: list[Job], work: Work) -> None:
    replace(work.folder / JOBS, json.dumps({"out": str(work.out), "jobs": [asdict(job) for job in jobs]}))


def _run_copy(code: Path, work: Work) -> None:
    """Become the same campaign, run from the copy of the code."""
    words = [word for word in sys.argv[1:] if word != "--snapshot"]
    words += ["--work", str(work.folder), "--out", str(work.out)]
    environment = os.environ | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks.campaign", *words], environment)


def _tell(line: str) -> None:
    print(f"{datetime.now():%m-%d %H:%M} {line}", flush=True)


def _print_status(jobs: list[Job], work: Work) -> None:
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(Status(jobs, work).view() if jobs else "no campaign in this work folder")


def _dry_run(jobs: list[Job], work: Work) -> None:
    done, failures = work.done(), work.failures()
    estimates = Estimates(work.results(), hardware())
    total = 0.0
    for job in jobs:
        hours = estimates.seconds(job) / 3600
        state = "done" if job in done else "given up" if failures.get(job.key, {}).get("given_up") else f"{hours:.2f} h"
        total += hours if state.endswith(" h") else 0.0
        print(f"{state:>8}  {job}")
    print(f"{len(jobs)} jobs, about {total:.1f} h on one worker")


def _ensembles(work: Work) -> None:
    from benchmarks.campaign.ensembles import append_ensembles

    for row in append_ensembles(work):
        scores = ", ".join(
            f"{split} {name} {row[f'{split}_{name}']}"
            for split in ("validation", "test")
            for name in ("MAE", "ROC-AUC")
            if row[f"{split}_{name}"]
        )
        fold = f" fold {row['fold']}" if row["fold"] else ""
        print(f"{row['dataset']}{fold} {row['target']} {row['architecture']} {row['keywords']} seeds {row['seed']}: {scores} {row['unit']}")


if __name__ == "__main__":
    main()
