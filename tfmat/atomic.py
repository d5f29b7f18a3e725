"""Files and folders that appear complete or not at all: a killed process or a full disk leaves what was there before.

Also their size and hash, and which errors say that the disk is full.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tfmat.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or its cause, says that no space is left on the disk, as HDF5 and TensorFlow do in the text alone."""
    texts = ("No space left on device", *(f"errno = {number}," for number in _FULL))
    several = () if error is None else (error, error.__cause__)
    return any((isinstance(one, OSError) and one.errno in _FULL) or any(text in str(one) for text in texts) for one in several)


def size_of(path: Path) -> int:
    """Give the size of a file, or of all files in a folder [bytes]."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def sha256_of(path: Path, start: int = 0) -> str:
    """Compute the SHA-256 of what a file holds from the byte `start` on."""
    with path.open("rb") as stream:
        stream.seek(start)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_free(out: Path) -> None:
    """Refuse a path at which something stands already."""
    if out.exists() or out.is_symlink():
        raise InputError("it exists already", file=str(out), expected="a path that is free")


def missing(folder: Path) -> list[Path]:
    """Those of a folder and its parents that do not exist, the innermost first."""
    return [candidate for candidate in (folder, *folder.parents) if not candidate.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders that exist and are empty; give the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def staged(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside `target` to write a file or folder to; it becomes `target` at the end, or is removed after any error.

    Missing parent folders are made, and removed again after an error.

    Raises:
        InputError: `target` exists and `overwrite` is not set, or the file system refuses (a full disk, no permission).
    """
    out = Path(os.path.abspath(target))
    if not overwrite:
        check_free(out)
    made = missing(out.parent)
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
                temporary = Path(folder) / out.name
                yield temporary
                if overwrite and out.is_dir() and not out.is_symlink():
                    _swap(temporary, out, Path(folder) / "replaced")
                else:
                    if not overwrite:
                        check_free(out)
                    os.replace(temporary, out)
        except OSError as error:
            raise InputError(f"it cannot be written: {error.strerror or error}", file=str(target)) from error
    except BaseException:
        remove_empty(made)
        raise


@contextmanager
def new_directory(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to write to, which becomes `target` at the end; see `staged`."""
    with staged(target, overwrite=overwrite) as temporary:
        temporary.mkdir()
        yield temporary


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a CSV file in UTF-8, complete or not at all, in place of an old one."""
    with staged(path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        csv.writer(stream).writerows([header, *rows])
    return Path(path)


def _swap(temporary: Path, out: Path, aside: Path) -> None:
    """Put a folder in the place of another; `aside` takes the old one."""
    os.rename(out, aside)
    try:
        os.rename(temporary, out)
    except OSError:
        os.rename(aside, out)
        raise
