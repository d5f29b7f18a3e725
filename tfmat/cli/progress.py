"""Progress on stderr: a bar with rate and remaining time on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfmat.cli.failures import tell
from tfmat.cli.tables import duration

if TYPE_CHECKING:
    from tfmat.target import Target

PATIENCE = 2.0
"""Work that takes longer [s] is told."""
LINES = 20
"""Plain lines of a training run, if none stays out for longer than `SILENCE`."""
SILENCE = 60.0
"""Longest time between two plain lines [s]."""


def on_terminal() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def task(description: str, *, plain: bool = True) -> Iterator[None]:
    """Tell what is being done if it takes longer than `PATIENCE`; with `plain` also where nobody watches."""
    shown: list[Any] = []

    def begin() -> None:
        if on_terminal():
            from rich.console import Console

            shown.append(Console(stderr=True).status(f"{description} ..."))
            shown[0].start()
        elif plain:
            tell(f"{description} ...")

    timer = threading.Timer(PATIENCE, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for status in shown:
            status.stop()


@contextlib.contextmanager
def rows_done(description: str) -> Iterator[Callable[[int, int], None]]:
    """A callback ``(rows done, rows in all)`` that shows rate and remaining time once the work has taken longer than `PATIENCE`.

    0 rows in all stand for an unknown number. The first batch does not count in the rate: it comes with reading and compilation.
    """
    began = time.monotonic()
    last = began + PATIENCE - SILENCE
    first: list[tuple[float, int]] = []
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as before:
        before.enter_context(task(description))
        bars: list[Any] = []

        def report(done: int, total: int) -> None:
            nonlocal last
            before.close()
            now = time.monotonic()
            first[:] = first or [(now, done)]
            rate = (done - first[0][1]) / (now - first[0][0]) if now > first[0][0] else 0.0
            speed = f"{rate:,.0f} rows/s" if rate else ""
            left = f"{duration((total - done) / rate)} left" if rate and done < total else ""
            if on_terminal():
                if not bars and now - began > PATIENCE:
                    bars.append(stack.enter_context(progress_bar()))
                    bars[0].add_task(description, total=total or None, left="", note="")
                if bars:
                    note = speed if total else f"{done:,} rows, {speed}"
                    bars[0].update(0, completed=done, left=left, note=note)
            elif now - last > SILENCE and (done < total or not total) and rate:
                last = now
                tell(f"{description}: {done:,} of {total:,} rows, {speed}, {left}" if total else f"{description}: {done:,} rows, {speed}")

        yield report


def progress_bar() -> Any:
    """A `rich.progress.Progress` on stderr whose tasks have the fields ``left`` and ``note``."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )


class TrainingProgress:
    """Context manager whose `report` is the callback of `tfmat.training.loop.train`.

    Args:
        rows: of the training split.
        targets: for the units.
        per_epoch: called with every finished epoch's figures.
    """

    def __init__(self, rows: int, targets: Sequence[Target], per_epoch: Callable[[Mapping[str, float]], None]) -> None:
        self._rows, self._targets, self._per_epoch = rows, targets, per_epoch
        self._bar: Any = None
        self._start: tuple[float, float] | None = None  # time and epochs done when the rate began to be measured
        self._first_epoch: int | None = None
        self._last_line = time.monotonic()
        self._figures = ""
        self._lock, self._announced = threading.Lock(), False
        self._timer = threading.Timer(PATIENCE, self._announce)
        self._timer.daemon = True

    def __enter__(self) -> TrainingProgress:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._bar is not None:
            self._bar.stop()

    def _announce(self) -> None:
        """Before the first step, or earlier if that takes long."""
        with self._lock:
            if self._announced:
                return
            self._announced = True
            note = "the first steps take longer, because the model is compiled"
            if on_terminal():
                self._bar = progress_bar()
                self._bar.start()
                self._bar.add_task("training", total=None, left="", note=note)
            else:
                tell(f"training on {self._rows:,} rows; {note}")

    def report(self, epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """After every step, and with figures after every epoch."""
        self._announce()
        now, done = time.monotonic(), epoch - 1 + step / steps
        if self._first_epoch is None:
            self._first_epoch = epoch
        if self._start is None or (epoch == self._first_epoch and figures):  # compilation must not count in the rate
            self._start = (now, done)
        if figures:
            self._figures = self._text(figures)
            self._per_epoch(figures)
        speed = (done - self._start[1]) / (now - self._start[0]) if now > self._start[0] else 0.0  # [epochs/s]
        left = f"{duration((epochs - done) / speed)} left" if speed > 0 and done < epochs else ""
        rate = f"{speed * self._rows:,.0f} rows/s" if speed > 0 else ""
        if self._bar is not None:
            note = ", ".join(part for part in (rate, self._figures) if part)
            self._bar.update(0, description=f"epoch {epoch}/{epochs}", total=epochs, completed=done, left=left, note=note)
        elif self._due(epoch, epochs, now, bool(figures)):
            self._last_line = now
            where = f"epoch {epoch}/{epochs}" + ("" if figures else f", step {step}/{steps}")
            tell(", ".join(part for part in (f"{where}: {self._figures}" if figures else where, rate, left) if part))

    def _due(self, epoch: int, epochs: int, now: float, finished: bool) -> bool:
        """Whether to print a line: the first three epochs, then evenly spread ones, the last, and whenever it was silent for long."""
        if now - self._last_line >= SILENCE:
            return True
        number = epoch - (self._first_epoch or 1)
        spacing = max(1, -(-(epochs - 4) // (LINES - 4)))
        return finished and (number < 3 or epoch == epochs or epoch % spacing == 0)

    def _text(self, figures: Mapping[str, float]) -> str:
        parts = []
        for target in self._targets:
            prefix = "val_" if f"val_{target.name}_mae" in figures else ""
            value = figures.get(f"{prefix}{target.name}_mae")
            if value is None:
                continue
            name = f" of {target.name}" if len(self._targets) > 1 else ""
            kind = "validation" if prefix else "training"
            if target.task == "binary":
                parts.append(f"{kind} errors{name} {100 * value:.1f} %")
            else:
                parts.append(f"{kind} MAE{name} {value:.4g} {target.unit}".rstrip())
        return ", ".join([f"loss {figures['loss']:.4g}", *parts] if "loss" in figures else parts)
