"""How long work tells what it is doing: one interface for reading, featurizing, training and writing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfmat.data.featurize import RowsDone
    from tfmat.target import Target
    from tfmat.training.loop import Report


class Progress:
    """Follows long work. This one logs what it is told and shows nothing else; the command line has one that draws bars."""

    def tell(self, message: str) -> None:
        """Take note of something that the user should know: one line."""
        logging.getLogger("tfmat").info(message)

    def task(self, description: str) -> AbstractContextManager[None]:
        """Surround work of which no part can be counted, such as writing a file."""
        return nullcontext()

    def rows(self, description: str) -> AbstractContextManager[RowsDone | None]:
        """Surround work on rows; what it gives is called with the number of rows that are done."""
        return nullcontext()

    def training(self, rows: int, targets: Sequence[Target]) -> AbstractContextManager[Report | None]:
        """Surround the training on so many rows; what it gives is called after every step and epoch."""
        return nullcontext()


SILENT = Progress()
"""What callers pass who do not want to follow the work."""


def shortened_list(names: Sequence[Any], most: int = 8) -> str:
    """Write a list as ``a, b, c and 4 more``."""
    rest = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {rest} more" if rest > 0 else "")
