"""The two processes that read: without MindSpore, and with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from attack.child import Input, Outcome, Readers
from attack.readers import READERS

Run = Callable[[str, Sequence[Input]], list[Outcome]]


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """`run(reader, inputs)`: their outcomes. A process starts when it is first needed."""
    started: dict[bool, Readers] = {}
    with ExitStack() as stack:

        def call(name: str, inputs: Sequence[Input]) -> list[Outcome]:
            heavy = READERS[name].heavy
            if heavy not in started:
                names = [reader.name for reader in READERS.values() if reader.heavy is heavy]
                started[heavy] = stack.enter_context(Readers(names=names))
            return started[heavy].run(name, inputs)

        yield call
