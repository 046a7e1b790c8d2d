"""A progress bar with the time left, or a log line now and then."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

__all__ = ["Progress", "duration"]

_LOG = logging.getLogger("mindground")


def duration(seconds: float) -> str:
    """75 -> 1:15, 3725 -> 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """One bar on a terminal, a log line now and then elsewhere, nothing where `shown` is False.

    Args:
        title: what is going on.
        total: steps to the end.
        done: steps done before (a resumed run).
        every: steps between lines when there is no terminal.
        shown: False on all ranks but the first.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, every: int = 10, shown: bool = True) -> None:
        self.title, self.total, self.done, self.every = title, total, done, max(1, every)
        self._started, self._first, self._shown, self._bar = time.monotonic(), done, shown, None
        if shown and sys.stderr.isatty():
            self._bar = self._make_bar()

    def _make_bar(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._task = bar.add_task(self.title, total=self.total, completed=self.done, note="")
        bar.start()
        return bar

    def advance(self, note: str = "") -> None:
        """One step is done; `note` is shown behind it."""
        self.done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=note)
        elif self._shown and (self.done % self.every == 0 or self.done == self.total):
            spent = time.monotonic() - self._started
            left = spent / max(1, self.done - self._first) * (self.total - self.done)
            _LOG.info("%s %d/%d  %s  %s left", self.title, self.done, self.total, note, duration(left))

    def close(self) -> None:
        """Leave the terminal in order; safe to call twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
