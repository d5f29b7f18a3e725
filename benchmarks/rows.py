"""Results of finished runs: a CSV file, a row each, appended as they finish, so that an interrupted benchmark goes on where it was."""

from __future__ import annotations

import csv
import datetime
import fcntl
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def stored(path: Path) -> list[dict[str, str]]:
    """What is there; empty without the file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def append(path: Path, columns: Sequence[str], *rows: Mapping[str, Any]) -> None:
    """Rows more, all or none of them; a new file begins with the names of the columns.

    Raises:
        ValueError: the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        before = stream.read()
        if before and (found := next(csv.reader(io.StringIO(before)))) != list(columns):
            raise ValueError(f"{path} has the columns {', '.join(found)}, not {', '.join(columns)}")
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        if not before:
            writer.writeheader()
        elif not before.endswith("\n"):
            text.write("\n")
        writer.writerows(rows)
        os.write(stream.fileno(), text.getvalue().encode())
        os.fsync(stream.fileno())


def append_today(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Rows more, each with what is the same `about` all of them, and the date."""
    extra = dict(about) | {"date": datetime.date.today().isoformat()}
    append(path, [*rows[0], *extra], *(dict(row) | extra for row in rows))


def replace(path: Path, text: str) -> None:
    """The content of a file, the old one or the new one at any moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
