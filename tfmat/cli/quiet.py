"""TensorFlow without its greetings, and sooner."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfmat.errors import InputError


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """What C++ code writes to file descriptor 2 is swallowed; after an error it is shown. Nothing is swallowed at log level debug."""
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
        from tfmat.cli.progress import task

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
    """Whether Keras may be told so by its environment variable or its configuration file."""
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
