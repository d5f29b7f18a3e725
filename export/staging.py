"""Writing a file or folder completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfmat.errors import InputError


def check_free(out: Path) -> None:
    """Refuse a path at which something stands already."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{str(out)!r} exists already", expected="a path that is free: an export never overwrites")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A path beside `out` to write to; what stands there becomes `out` at the end, or is removed after any error.

    Missing parent folders are made, and removed again after an error.

    Raises:
        InputError: the file system refuses, or `out` has appeared meanwhile.
    """
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
                temporary = Path(folder) / out.name
                yield temporary
                check_free(out)
                os.replace(temporary, out)
        except OSError as error:
            raise InputError(f"cannot write {str(out)!r}: {error.strerror or error}") from error
    except BaseException:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
