"""An image of a page: SVG inside the page, with a text for those who do not see it."""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass

import numpy as np

from tfmat.analysis.plots import label

SIZE = (4.6, 3.9)
"""Width and height of a plot [inch]; its text stays legible where a page is 400 pixels wide."""


@dataclass(frozen=True)
class Image:
    """A plot.

    Attributes:
        name: for links and tests, e.g. ``parity-gap``.
        title: heading.
        alternative: what it shows, with the main numbers.
        wide: SVG.
        narrow: SVG for narrow screens, where `wide` would be illegible.
        note: how to read it.
        full: whether it takes the whole width of the page.
    """

    name: str
    title: str
    alternative: str
    wide: bytes
    narrow: bytes | None = None
    note: str = ""
    full: bool = False

    @property
    def source(self) -> str:
        """`wide` as a data URI."""
        return _uri(self.wide)

    @property
    def narrow_source(self) -> str | None:
        """`narrow` as a data URI."""
        return None if self.narrow is None else _uri(self.narrow)


def axis_label(quantity: str, unit: str) -> str:
    """`tfmat.analysis.plots.label` in lines that fit beside a plot of `SIZE`."""
    return textwrap.fill(label(quantity, unit), 46)


def cumulative(errors: np.ndarray, most: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Errors in ascending order and the share of rows up to each [%]; of more than `most` errors as many quantiles."""
    if len(errors) > most:
        share = np.linspace(0, 1, most + 1)
        return np.quantile(errors, share), 100 * share
    return np.sort(errors), 100 * (np.arange(len(errors)) + 1) / len(errors)


def _uri(content: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
