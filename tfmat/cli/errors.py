"""What goes wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tfmat.atomic import is_full, missing, remove_empty
from tfmat.errors import InputError
from tfmat.signals import Signalled, exit_code

BAD_INPUT, BUG = 2, 1
"""Exit codes: what the user can mend, and what only tfmat can."""


class CommandError(Exception):
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


def describe_error(error: BaseException) -> tuple[str, int]:
    """Say an error in one line, without the leading ``tfmat: ``, and choose the exit code."""
    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, (Signalled, KeyboardInterrupt)):
        return "interrupted", exit_code(error)
    if isinstance(error, InputError) and is_full(error):  # `tfmat.atomic` tells it so
        return f"disk full while writing {error.file}; nothing was written", BAD_INPUT
    if isinstance(error, InputError) or type(error).__name__ in ("ExportError", "Diverged"):
        return _line(error), BAD_INPUT
    if isinstance(error, MemoryError):
        return "out of memory: try a smaller --batch-size", BAD_INPUT
    if isinstance(error, OSError):
        return _system_error(error), BAD_INPUT
    if type(error).__name__ == "ResourceExhaustedError" and type(error).__module__.startswith("tensorflow."):
        return f"out of memory or disk space: try a smaller --batch-size ({_line(error)[:200]})", BAD_INPUT
    if type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: try a smaller --batch-size ({_line(error)[:200]})", BAD_INPUT
    return f"internal error, please report it: {type(error).__name__}: {_line(error)[:300]} (--log-level debug shows where)", BUG


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _system_error(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if is_full(error):
        return f"disk full{f' while writing {error.filename}' if error.filename else ''}; nothing was written"
    return place + (error.strerror or _line(error) or type(error).__name__).strip()


def check_file(out: Path, overwrite: bool, ending: str) -> None:
    """Refuse an ``--out`` at which a file cannot be written."""
    if out.is_dir():
        raise InputError("it is a folder", file=str(out), expected=f"--out FILE.{ending}")
    if out.exists() and not overwrite:
        raise InputError("it exists already", file=str(out), expected="a new --out, or --overwrite")


@contextlib.contextmanager
def writing(path: Path, kept: str = "nothing was written") -> Iterator[None]:
    """Say what was being written, and what is `kept`, if the disk is full; empty folders that were made for it are removed."""
    made = missing(path.parent)
    try:
        yield
    except BaseException as error:
        remove_empty(made)
        if is_full(error):
            raise CommandError(f"disk full while writing {path}; {kept}") from error
        raise


def tell(message: str) -> None:
    """Print one line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # nobody may be listening
        print(f"tfmat: {message}", file=sys.stderr, flush=True)
