"""An orderly answer to SIGTERM and Ctrl-C."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["RunInterrupted", "StopRequest", "called"]

_LOG = logging.getLogger("mindground")


class RunInterrupted(Exception):  # noqa: N818 - an orderly end, not an error
    """The run was asked to stop; it finished its step and saved. `code` is the exit code (128 + signal)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def called(number: int) -> str:
    """What a signal is called in a message."""
    return "Ctrl-C" if number == signal.SIGINT else f"signal {number}"


class StopRequest:
    """Remembers SIGTERM and SIGINT so that the loop can end between two steps; a second SIGINT ends at once."""

    def __init__(self) -> None:
        self.signal = 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Install the handlers inside the block. Outside the main thread signals stay as they are."""
        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, self._note)
        except ValueError:
            _LOG.debug("not in the main thread: signals are left alone")
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
