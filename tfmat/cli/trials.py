"""How a search goes: a live table of its trials on a terminal, a line a trial elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfmat.cli.errors import tell
from tfmat.cli.progress import SILENCE, on_terminal, progress_bar
from tfmat.cli.tables import duration, number, shortened, with_unit

if TYPE_CHECKING:
    from tfmat.tuning.results import TrialResult

ROWS = 12
"""Trials in the live table: the best one, and the last ones."""


class TrialsProgress:
    """Context manager, told by `tfmat.tuning.search` how it goes.

    Args:
        plan: epochs of each trial, in about their order; empty in a worker, which does not know how many are left for it.
        objective: what is minimised.
        unit: of it.
    """

    def __init__(self, plan: Sequence[int], objective: str, unit: str) -> None:
        self._plan, self._objective, self._unit = plan, objective, unit
        self._results: dict[str, TrialResult] = {}
        self._live: Any = None
        self._bar: Any = None
        self._began = time.monotonic()
        self._last_line = self._began
        self._before = 0.0
        self._share, self._where = 0.0, ""
        self._lock = threading.Lock()  # in a chief, workers' trials are told from another thread

    def __enter__(self) -> TrialsProgress:
        if on_terminal():
            from rich.console import Console
            from rich.live import Live

            self._bar = progress_bar()
            self._bar.add_task("trials", total=sum(self._plan) or None, left="", note="")
            self._live = Live(self._shown(), console=Console(stderr=True), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def opened(self, results: Sequence[TrialResult]) -> None:
        """The trials of an earlier run."""
        self._results = {result.name: result for result in results}
        self._began, self._before = time.monotonic(), self._done()
        ended = self._ended()
        if ended:
            tell(f"going on with {ended} finished trials")
        self._refresh()

    def began(self, result: TrialResult) -> None:
        """A trial begins."""
        with self._lock:
            self._results[result.name] = result
            self._share, self._where = 0.0, ""
            self._refresh()

    def report(self, epoch: int, epochs: int, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """A step of the trial that runs in this process."""
        now = time.monotonic()
        self._share = min((epoch - 1 + step / steps) / max(epochs, 1), 1.0)
        self._where = f"epoch {epoch}/{epochs}"
        if self._live is not None:
            self._refresh()
        elif now - self._last_line > SILENCE:
            self._last_line = now
            running = [result.name for result in self._results.values() if result.status == "running"]
            tell(", ".join(part for part in (f"trial {', '.join(running)}: {self._where}", self._left()) if part))

    def ended(self, result: TrialResult) -> None:
        """A trial has ended."""
        with self._lock:
            self._results[result.name] = result
            self._share, self._where = 0.0, ""
            if self._live is not None:
                if result.error:
                    self._live.console.print(f"tfmat: trial {result.name} failed: {result.error}", markup=False, highlight=False)
                self._refresh()
            else:
                self._last_line = time.monotonic()
                tell(self._line(result))

    def _line(self, result: TrialResult) -> str:
        count = f"trial {result.name} ({self._ended()} of {len(self._plan):,})" if self._plan else f"trial {result.name}"
        values = ", ".join(f"{name}={_short(value)}" for name, value in result.values.items())
        if result.objective is None:
            return f"{count} failed: {result.error or 'for an unknown reason'} ({values})"
        text = f"{count}: {self._objective} {number(result.objective)} {self._unit}".rstrip()
        best = self._best()
        told = ""
        if best is not None and best.objective is not None:
            told = "the best so far" if best is result else f"best {number(best.objective)} in trial {best.name}"
        parts = (text, told, f"{result.epochs} epochs", duration(result.seconds), values, self._left())
        return ", ".join(part for part in parts if part)

    def _best(self) -> TrialResult | None:
        from tfmat.tuning.results import best_of

        return best_of(list(self._results.values()))

    def _ended(self) -> int:
        return sum(result.status != "running" for result in self._results.values())

    def _done(self) -> float:
        """Epochs."""
        ended = self._ended()
        running = self._plan[ended] if ended < len(self._plan) else 0
        return sum(self._plan[:ended]) + self._share * running

    def _left(self) -> str:
        done, total, passed = self._done(), sum(self._plan), time.monotonic() - self._began
        rate = (done - self._before) / passed if passed > 0 else 0.0
        return f"{duration((total - done) / rate)} left" if rate > 0 and done < total else ""

    def _refresh(self) -> None:
        if self._live is None:
            return
        note = ", ".join(part for part in (f"{self._ended()} of {len(self._plan):,}" if self._plan else "", self._where) if part)
        self._bar.update(0, completed=self._done(), left=self._left(), note=note)
        self._live.update(self._shown())

    def _shown(self) -> Any:
        from rich.console import Group

        return Group(self._table(), self._bar)

    def _table(self) -> Any:
        from rich.table import Table

        results = list(self._results.values())
        best = self._best()
        shown = results[-ROWS:]
        if best is not None and best not in shown:
            shown = [best, *shown[1:]]
        names = list(dict.fromkeys(name for result in results for name in result.values))
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("trial")
        table.add_column(with_unit(self._objective, self._unit), justify="right")
        for title in ("epochs", "time", *names):
            table.add_column(title.replace("_", " "), justify="right")
        for result in shown:
            score = result.status if result.objective is None else number(result.objective)
            cells = [result.name, score, str(result.epochs or ""), duration(result.seconds) if result.seconds else ""]
            cells += [_short(result.values.get(name, "")) for name in names]
            style = "bold green" if result is best else "red" if result.status == "failed" else "dim" if result.status == "running" else ""
            table.add_row(*cells, style=style)
        return table


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else shortened(value, 16)
