"""TensorFlow without its greetings."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


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
    """Import TensorFlow and Keras and find the devices, without their messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        from tfmat.cli.progress import task

        with task("loading TensorFlow", plain=False), silent_stderr():
            import keras  # noqa: F401
            import tensorflow as tf

            tf.constant(0.0)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
