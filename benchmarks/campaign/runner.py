"""Runs jobs in processes of their own, a few at a time, and keeps what they bring."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.campaign.jobs import COLUMNS as JOB
from benchmarks.campaign.jobs import Job, cost, from_row
from benchmarks.campaign.machine import ROOT
from benchmarks.campaign.train import SCORES, SPLITS
from benchmarks.rows import append, replace, stored
from tfmat.errors import InputError
from tfmat.signals import handled_by

COLUMNS = [*JOB, "target", "unit", "task", "epochs_run", "parameters"]
COLUMNS += [f"{split}_{name}" for split in SPLITS for name in (*SCORES, "rows")]
COLUMNS += [
    "test_MAD",
    "train_rows",
    "left_out",
    "batch_size",
    "seconds",
    "cpu_seconds",
    "hardware",
    "instruction_set",
    "threads",
    "date",
    "commit",
]
ATTEMPTS = 2
POLL_SECONDS = 0.5
LOCK_SECONDS = 5.0


@dataclass
class Work:
    """The folder of a campaign and the CSV file of its results.

    Attributes:
        folder: holds checkpoints, logs, predictions and models.
        out: the CSV file.
    """

    folder: Path
    out: Path

    def results(self) -> list[dict[str, str]]:
        """All rows.

        Raises:
            InputError: the file is of another version.
        """
        rows = stored(self.out)
        if rows and list(rows[0]) != COLUMNS:
            raise InputError("the columns are not those of this version", file=str(self.out), expected=", ".join(COLUMNS))
        return rows

    def done(self) -> set[Job]:
        """The jobs of these rows."""
        return {from_row(row) for row in self.results()}

    def failures(self) -> dict[str, dict[str, Any]]:
        """Key of a job that has failed -> its ``attempts``, whether it was ``given_up``, its last words (``error``)."""
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("failed/*.json"))}

    def running(self) -> dict[str, dict[str, Any]]:
        """Key of a job -> how far it has come, see `benchmarks.campaign.train.Progress`; of jobs that were interrupted, too."""
        found = {}
        for path in self.folder.glob("running/*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def log(self, job: Job) -> Path:
        """What its process says."""
        return self.folder / "logs" / f"{job.key}.log"

    def collect(self, jobs: Sequence[Job]) -> None:
        """Append the rows of finished jobs that are not in the CSV file yet."""
        done = self.done()
        for job in jobs:
            rows = self.folder / "finished" / job.key / "rows.json"
            if job not in done and rows.is_file():
                append(self.out, COLUMNS, *json.loads(rows.read_text(encoding="utf-8")))

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """For one campaign alone, until the processes that it has started have ended, too.

        Raises:
            InputError: another one has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as stream:
            give_up = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > give_up:
                        problem = "another campaign, or a job that it has started, is at work here"
                        raise InputError(problem, file=str(self.folder), expected="its end, or another --work") from None
                    time.sleep(0.1)
            yield stream.fileno()


@dataclass
class Campaign:
    """The jobs of a campaign while it runs.

    Attributes:
        jobs: in their order; those that are done, or were given up, are skipped.
        work: where.
        workers: processes at a time.
        options: arguments for `benchmarks.campaign.train`.
        tell: called with a line whenever a job begins or ends.
        begun: called once the folder is locked.
        command: what runs a job, given the job as JSON and ``--work``; for tests.
    """

    jobs: Sequence[Job]
    work: Work
    workers: int = 1
    options: Sequence[str] = ()
    tell: Callable[[str], None] = print
    begun: Callable[[], None] = lambda: None
    command: Sequence[str] = (sys.executable, "-m", "benchmarks.campaign.train")
    processes: dict[Job, subprocess.Popen[bytes]] = field(default_factory=dict)
    signum: int | None = None

    def run(self) -> int:
        """Run all; the exit status: 0, 1 if a job failed, or 128 + the signal that ended it."""
        with self.work.locked() as lock, handled_by(self._stop):
            self.begun()
            self.work.collect(self.jobs)
            for leftover in self.work.folder.glob("checkpoints/.*.tmp-*"):  # of processes that were killed while they wrote
                leftover.unlink()
            queue = self._left()
            while self.processes or (queue and self.signum is None):
                while queue and len(self.processes) < self.workers and self.signum is None:
                    self._start(queue.pop(0), lock)
                time.sleep(POLL_SECONDS)
                queue += [job for job in list(self.processes) if self._ended(job) and self.signum is None]
        return 128 + self.signum if self.signum is not None else int(any(job.key in self.work.failures() for job in self.jobs))

    def _left(self) -> list[Job]:
        """Jobs to do, those that failed once at the end."""
        done, failures = self.work.done(), self.work.failures()
        left = [job for job in self.jobs if job not in done and not failures.get(job.key, {}).get("given_up")]
        return sorted(left, key=lambda job: job.key in failures)

    def _start(self, job: Job, lock: int) -> None:
        self.tell(f"begun: {job}")
        log = self.work.log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        about = ["--work", str(self.work.folder), "--parent", str(os.getpid()), *self.options]
        with log.open("ab") as stream:
            self.processes[job] = subprocess.Popen(
                [*self.command, json.dumps(asdict(job)), *about],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for the campaign, which passes it on
            )

    def _ended(self, job: Job) -> bool:
        """Whether a job has ended and is to be tried once more."""
        code = self.processes[job].poll()
        if code is None:
            return False
        del self.processes[job]
        self.work.collect([job])
        failed = self.work.folder / "failed" / f"{job.key}.json"
        if job in self.work.done():
            failed.unlink(missing_ok=True)
            self.tell(f"done: {job}: {_summary(self.work.results(), job)}")
            return False
        if self.signum is not None:
            self.tell(f"stopped: {job}")
            return False
        attempts = self.work.failures().get(job.key, {}).get("attempts", 0) + 1
        given_up = attempts >= ATTEMPTS or code == 2  # 2: bad input, which stays as it is
        error = _last_line(self.work.log(job)) if code > 0 else f"ended by signal {-code}"
        failed.parent.mkdir(parents=True, exist_ok=True)
        replace(failed, json.dumps({"job": asdict(job), "attempts": attempts, "given_up": given_up, "code": code, "error": error}))
        self.tell(f"failed{'' if given_up else ', to be tried again'}: {job}: {error}")
        return not given_up

    def _stop(self, signum: int) -> None:
        """End all processes; each writes its state first. A second signal does not wait for that."""
        again, self.signum = self.signum is not None, signum
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if again else signal.SIGTERM)


def _summary(results: Sequence[Mapping[str, str]], job: Job) -> str:
    told = []
    for row in results:
        if from_row(row) == job:
            score = "MAE" if row["task"] == "regression" else "ROC-AUC"
            scores = [f"{split} {score} {row[f'{split}_{score}']}" for split in SPLITS if row[f"{split}_{score}"]]
            told.append(f"{row['target']} {', '.join(scores)} {row['unit']}".strip() + f" in {cost(row):.0f} s")
    return "; ".join(told)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no message"
