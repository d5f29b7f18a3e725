"""Rows of a user's files that cannot be used: listed with file, row and reason, never silently dropped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfmat.atomic import write_csv
from tfmat.errors import InputError

FILE_NAME = "rejected.csv"
"""What the file of `write_rejections` is usually called."""


@dataclass(frozen=True)
class Rejection:
    """One row or file that is left out.

    Attributes:
        file: where it stands.
        row: the row of a CSV file (the header is row 1) or the line of a JSON lines file; `None` for a file as a whole.
        id: its id, empty where unknown.
        reason: one line.
    """

    file: str
    row: int | None
    id: str
    reason: str

    def __str__(self) -> str:
        return str(InputError(self.reason, file=self.file, row=self.row))


@dataclass
class Rejections:
    """A list of the rows that are rejected, or the first of them as an error.

    Attributes:
        strict: raise the first one instead.
        found: the rejections so far.
    """

    strict: bool = False
    found: list[Rejection] = field(default_factory=list)

    def add(self, error: InputError, *, file: str | None = None, row: int | None = None, identifier: str = "") -> None:
        """Keep `error` as a rejection; with `strict` raise it."""
        located = error.located(file=file, row=row)
        if self.strict:
            raise located from None
        reason = str(InputError(error.problem, expected=error.expected))
        self.found.append(Rejection(located.file or "", located.row, identifier, reason))


def summary(rejections: Sequence[Rejection], read: int) -> str:
    """Say in one line how many rows are left out, and which is the first of them.

    Args:
        rejections: not empty.
        read: number of rows and files that were looked at.
    """
    return f"{len(rejections):,} of {read:,} rejected; the first is {rejections[0]}"


def write_rejections(path: str | os.PathLike[str], rejections: Sequence[Rejection]) -> Path:
    """Write a CSV file with the columns file, row, id and reason, complete or not at all."""
    rows = ([r.file, "" if r.row is None else r.row, r.id, r.reason] for r in rejections)
    return write_csv(path, ["file", "row", "id", "reason"], rows)
