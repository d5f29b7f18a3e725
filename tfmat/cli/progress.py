"""Progress on stderr: a bar with rate and remaining time on a terminal, a few plain lines elsewhere. TensorFlow's messages are kept out."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmat.cli.errors import tell
from tfmat.cli.tables import duration
from tfmat.errors import InputError
from tfmat.runs.progress import Progress

if TYPE_CHECKING:
    from tfmat.target import Target
    from tfmat.training.loop import Report

PATIENCE = 2.0
"""Work that takes longer [s] is told."""
LINES = 20
"""Plain lines of a training run, if none stays out for longer than `SILENCE`."""
SILENCE = 60.0
"""Longest time between two plain lines [s]."""


def on_terminal() -> bool:
    """Tell whether somebody watches stderr."""
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
    """Give a callback ``(rows done, rows in all)`` that shows rate and remaining time once the work has taken longer than `PATIENCE`.

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
    """Make a `rich.progress.Progress` on stderr whose tasks have the fields ``left`` and ``note``."""
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
    """Shows a training. It is a context manager, and its `report` is the callback of `tfmat.training.loop.train`.

    Args:
        rows: of the training split.
        targets: for the units.
    """

    def __init__(self, rows: int, targets: Sequence[Target]) -> None:
        self._rows, self._targets = rows, targets
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
        """Say that training begins: before the first step, or earlier if that takes long."""
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
        """Show a step, or with figures an epoch."""
        self._announce()
        now, done = time.monotonic(), epoch - 1 + step / steps
        if self._first_epoch is None:
            self._first_epoch = epoch
        if self._start is None or (epoch == self._first_epoch and figures):  # compilation must not count in the rate
            self._start = (now, done)
        if figures:
            self._figures = self._text(figures)
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
        """Decide whether to print a line: for the first three epochs, then evenly spread ones, the last, and after a long silence."""
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


class Shown(Progress):
    """Shows on stderr what the library tells of long work."""

    tell = staticmethod(tell)
    task = staticmethod(task)
    rows = staticmethod(rows_done)

    @contextlib.contextmanager
    def training(self, rows: int, targets: Sequence[Target]) -> Iterator[Report]:
        """Show the epochs, see `TrainingProgress`."""
        with TrainingProgress(rows, targets) as shown:
            yield shown.report


SHOWN = Shown()


@contextlib.contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder that becomes `out` at the end, or is removed after any error; writing that takes long is told."""
    from tfmat.atomic import new_directory

    with task(f"writing {out}"), new_directory(out, overwrite=overwrite) as temporary:
        yield temporary


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Swallow what C++ code writes to file descriptor 2; after an error it is shown. Nothing is swallowed at log level debug."""
    if logging.getLogger("tfmat").getEffectiveLevel() <= logging.DEBUG:
        yield
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with tempfile.TemporaryFile() as swallowed, _python_still_heard():
        os.dup2(swallowed.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(saved, 2)
            swallowed.seek(0)
            with contextlib.suppress(OSError):
                os.write(2, swallowed.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextlib.contextmanager
def _python_still_heard() -> Iterator[None]:
    """Let `sys.stderr` write to where file descriptor 2 leads now, for progress.

    The file stays open: logging handlers that are made meanwhile keep it.
    """
    before = sys.stderr
    try:
        heard = before.fileno() == 2
    except (OSError, ValueError, AttributeError):
        heard = False
    if heard:
        sys.stderr = os.fdopen(os.dup(2), "w", encoding=before.encoding, errors="backslashreplace", buffering=1)
    try:
        yield
    finally:
        sys.stderr = before


def load_tensorflow() -> None:
    """Import Keras and its backend and find the devices, without their messages. The backend is TensorFlow, or what KERAS_BACKEND says.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        with task("loading Keras", plain=False), silent_stderr(), _lean():
            _load_backend()
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    """Import at half the time.

    Without garbage collections on the way, and without what Keras and TensorFlow import where they find it for functions that tfmat does
    not use: a gallery of images, wrappers for scikit-learn, the conversion of JAX functions. To them these are not installed.
    """
    hidden = [name for name in ("matplotlib", "sklearn", *(() if _may_run_on_jax() else ("jax",))) if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # which the import system takes for: not there
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()  # what was imported stays to the end: later collections need not look at it
        if collected:
            gc.enable()


def _may_run_on_jax() -> bool:
    """Tell whether Keras may be told to run on JAX by its environment variable or its configuration file."""
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    try:
        return "jax" in (os.environ.get("KERAS_BACKEND") or file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _load_backend() -> None:
    try:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.constant(0.0)
        elif importlib.util.find_spec("tensorflow"):
            import tensorflow  # noqa: F401  (whatever the backend, `keras.utils.set_random_seed` would load it, aloud)
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow", "jax", "torch"):
            raise
        expected = f"pip install {error.name}, or KERAS_BACKEND with one that is: tensorflow, jax"
        raise InputError(f"Keras is to run on {error.name}, which is not installed", expected=expected) from None
