"""Progress on stderr: rich bars on a terminal, one plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def _metrics_text(metrics: dict[str, Any]) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in metrics.items()}
    return "  ".join(f"{key} {text}" for key, text in shown.items())


class Bar:
    """One running count; `update` takes the number done so far and any metrics to show."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._started = self._last_line = time.monotonic()
        self._rich: RichProgress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
            )
            self._rich = RichProgress(*columns, console=console, transient=True)
            self._rich.start()
            self._task = self._rich.add_task(what, total=total, metrics="")

    def update(self, done: int, **metrics: Any) -> None:
        """Show that `done` of the total are finished."""
        if self._rich is not None:
            self._rich.update(self._task, completed=done, metrics=_metrics_text(metrics))
            return
        now = time.monotonic()
        if done >= self._total or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            seconds = now - self._started
            line = f"  {self._what} {done}/{self._total}  {seconds:.0f} s  {_metrics_text(metrics)}".rstrip()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._rich is not None:
            self._rich.stop()


class Progress:
    """Where a stage reports how far it is; `quiet` swallows everything (tests, --json)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, stderr=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it writes to that one's stderr."""
        return partial(Progress, quiet=self._console.quiet), ()

    def line(self, text: str) -> None:
        """One line of plain text."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def bar(self, what: str, total: int) -> Bar:
        """A counter that the caller moves and closes."""
        return Bar(self._console, what, total)

    def track(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items while counting them."""
        bar = self.bar(what, total)
        try:
            for done, item in enumerate(items, start=1):
                yield item
                bar.update(done)
        finally:
            bar.close()


def or_quiet(progress: Progress | None) -> Progress:
    """The given progress, or one that says nothing."""
    return progress if progress is not None else Progress(quiet=True)
