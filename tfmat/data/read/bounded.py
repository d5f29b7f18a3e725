"""Reading of files that nobody vouches for: limits on size, on lines and on what gzip unfolds to; no pickles, no pipes."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tfmat.errors import InputError

MIB = 2**20
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".pckl", ".pk", ".p", ".dill", ".joblib", ".pt", ".pth"}
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
_UNPACKED_FREELY = 64 * MIB
_CHUNK = MIB


@dataclass(frozen=True)
class Limits:
    """The largest files and crystals that are read.

    Attributes:
        sites: most sites of one crystal.
        file_bytes: most bytes of one structure file, decompressed.
        line_bytes: most bytes of one line of JSON or cell of CSV, decompressed.
        table_bytes: most bytes of a JSON file (it is read as a whole), decompressed.
        total_bytes: most bytes of a CSV, JSON lines or Parquet file (it is streamed), decompressed.
        ratio: gzip must not have packed more tightly than this, once 64 MiB are unpacked; real data has about 3 to 20.
        seconds: longest time for parsing one structure [s].
        memory_bytes: largest address space of a process that parses structures.
    """

    sites: int = 1000
    file_bytes: int = 10 * MIB
    line_bytes: int = 8 * MIB
    table_bytes: int = 4096 * MIB
    total_bytes: int = 65536 * MIB
    ratio: int = 200
    seconds: float = 30.0
    memory_bytes: int = 8192 * MIB


LIMITS = Limits()


def refuse_pickle(path: Path, head: bytes = b"") -> None:
    """Raise `InputError` if the name or the first bytes are those of a pickle."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    if name.suffix.lower() in _PICKLE_SUFFIXES or (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5):
        raise InputError(
            "is a pickle, and reading a pickle runs whatever code it holds, so tfmat never does",
            expected="CSV, JSON lines or structure files; convert it where you trust it, e.g. with pandas' to_json(lines=True)",
            file=str(path),
        )


def check_file(path: Path) -> os.stat_result:
    """Size and kind of an ordinary file; anything else and every pickle is refused."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        gone = isinstance(error, FileNotFoundError)
        problem = "no such file" if gone else f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(problem, file=str(path)) from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError("is a folder", expected="a file", file=str(path))
    if not stat.S_ISREG(status.st_mode):
        raise InputError("is a device or a pipe", expected="an ordinary file", file=str(path))
    refuse_pickle(path)
    return status


def is_gzip(path: Path) -> bool:
    """Tell whether a file is compressed with gzip, by its name."""
    return path.name.lower().endswith(".gz")


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The decompressed stream and the raw one below it; what goes wrong in reading is told as `InputError`."""
    check_file(path)
    try:
        with path.open("rb") as raw:
            refuse_pickle(path, raw.peek(2)[:2])
            if not is_gzip(path):
                yield raw, raw
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast("IO[bytes]", unpacked), raw
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError("is not a gzip file, or is damaged", expected="text compressed with gzip", file=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=str(path)) from None


def read_bytes(path: Path, most: int, limits: Limits = LIMITS) -> bytes:
    """The decompressed content, refused (by size, unread, where that tells) if larger than `most` bytes."""
    status = check_file(path)
    if status.st_size > most:
        raise _too_large(path, status.st_size, most)
    with opened(path) as (stream, raw):
        if stream is raw:
            return stream.read(most + 1)[: most + 1]
        parts: list[bytes] = []
        total = 0
        while part := stream.read(_CHUNK):
            total += len(part)
            check_unpacked(path, total, most, raw.tell(), limits)
            refuse_pickle(path, part[:2] if not parts else b"")
            parts.append(part)
        return b"".join(parts)


def iterate_lines(path: Path, limits: Limits = LIMITS, *, blank: bool = False) -> Iterator[tuple[int, bytes | None]]:
    """Number (from 1) and bytes of every line, without the blank ones unless `blank`; `None` for one longer than ``limits.line_bytes``."""
    size = check_file(path).st_size
    if size > limits.total_bytes:
        raise _too_large(path, size, limits.total_bytes)
    with opened(path) as (stream, raw):
        number, total, checked = 0, 0, 0
        refused = False
        while line := stream.readline(limits.line_bytes + 1):
            total += len(line)
            if total - checked > _CHUNK:
                check_unpacked(path, total, limits.total_bytes, raw.tell(), limits if stream is not raw else None)
                checked = total
            ended = line.endswith(b"\n")
            if not refused:
                number += 1
            if refused or (len(line) > limits.line_bytes and not ended):
                if not refused:
                    yield number, None
                refused = not ended
                continue
            if blank or line.strip():
                yield number, line


def read_text(path: Path, limits: Limits, kind: str, encoding: str | None = None) -> str:
    """The text of a structure file.

    Args:
        path: the file.
        limits: ``file_bytes`` is its largest size.
        kind: of text, for errors.
        encoding: of what is not UTF-8; `None` refuses that.
    """
    content = read_bytes(path, limits.file_bytes, limits)
    if b"\0" in content[:4096]:
        raise InputError("is not a text file", expected=f"{kind} text")
    try:
        return decode(content, path, kind)
    except InputError:
        if encoding is None:
            raise
        return content.decode(encoding)


def decode(content: bytes, path: Path, kind: str) -> str:
    """UTF-8 text, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        hint = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise InputError(f"is not text in UTF-8{hint}", expected=f"{kind} text in UTF-8", file=str(path), row=row) from None


def check_unpacked(path: Path, unpacked: int, most: int, packed: int = 0, limits: Limits | None = None) -> None:
    """Refuse what has unpacked to more than `most` bytes, or with `limits` far more tightly packed than real data."""
    if unpacked > most:
        raise _too_large(path, unpacked, most)
    if limits is not None and unpacked > _UNPACKED_FREELY and unpacked > limits.ratio * max(packed, 1):
        problem = f"unpacks to more than {limits.ratio} times its size: it looks like a gzip bomb"
        raise InputError(problem, expected="ordinary data", file=str(path))


def _too_large(path: Path, size: int, most: int) -> InputError:
    return InputError(f"is larger than {_size(most)} ({_size(size)} or more)", expected=f"at most {_size(most)}", file=str(path))


def _size(number: float) -> str:
    if number < MIB:
        return f"{number / 1024:,.0f} KiB"
    return f"{number / MIB:,.0f} MiB" if number < 4096 * MIB else f"{number / MIB / 1024:,.0f} GiB"
