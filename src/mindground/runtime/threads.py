"""Threads: MindSpore builds, compiles and runs networks for one thread of a process at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_at_a_time"]

# Two threads that compile or run graphs at the same time end the interpreter. A thread may enter several times.
_LOCK = threading.RLock()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Inside the block no other thread of this process builds, compiles or runs a network of this package."""
    with _LOCK:
        yield
