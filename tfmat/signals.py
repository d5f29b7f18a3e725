"""What Ctrl-C (SIGINT) and SIGTERM do while a command or a training runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


class Signalled(BaseException):
    """SIGINT or SIGTERM arrived.

    Attributes:
        signum: which of them.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def handled_by(handler: Callable[[int], None]) -> Iterator[None]:
    """Call ``handler(signum)`` on SIGINT and SIGTERM while the block runs. Outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda signum, _: handler(signum)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def raising(signum: int) -> NoReturn:
    """Raise `Signalled`, so that what was begun is cleaned up."""
    raise Signalled(signum)


def exit_code(error: BaseException) -> int:
    """Give the exit code after a signal, which the error that it raised names as ``signum``; Ctrl-C has none."""
    return 128 + int(getattr(error, "signum", signal.SIGINT))
