"""Folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfmat.errors import InputError


@contextlib.contextmanager
def new_directory(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling of `target` to write to, renamed to `target` when the block ends without an error.

    A killed process or a full disk leaves `target` as it was.

    Raises:
        InputError: `target` exists and `overwrite` is not set, or its parent cannot be written to.
    """
    final = Path(os.path.abspath(target))
    if final.exists() and not overwrite:
        raise InputError("it exists already", file=str(target), expected="a new path")
    if final.exists() and not final.is_dir():
        raise InputError("it is a file", file=str(target), expected="a folder or a new path")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    except OSError as error:
        raise InputError(f"a folder cannot be created there ({error.strerror})", file=str(target), expected="a place to write to") from None
    try:
        os.chmod(temporary, 0o755)
        yield temporary
        _swap(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final`; an old `final` is moved aside first and deleted afterwards."""
    if not final.exists():
        os.rename(temporary, final)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".old", dir=final.parent))
    os.rename(final, aside / "old")
    try:
        os.rename(temporary, final)
    except OSError:
        os.rename(aside / "old", final)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
