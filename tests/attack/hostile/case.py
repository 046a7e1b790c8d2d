"""One hostile file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attack.child import BAD, Input, Outcome, Verdict

__all__ = ["Case", "either", "read", "refused"]


@dataclass(frozen=True)
class Case:
    """One hostile file.

    Attributes:
        name: kind and what it does; the reader follows in tests.
        reader: key of `attack.readers.READERS`.
        data: its bytes, or what makes them.
        expected: verdicts that are right.
        beside: further files; None makes a FIFO.
    """

    name: str
    reader: str
    data: bytes | Callable[[], bytes]
    expected: frozenset[Verdict]
    beside: Mapping[str, bytes | None] = field(default_factory=dict)

    def given(self) -> Input:
        """What `Readers.run` takes."""
        return Input(self.data if isinstance(self.data, bytes) else self.data(), self.beside)

    def failure(self, outcome: Outcome) -> str:
        """What is wrong with an outcome; empty when it is right."""
        if outcome.verdict in self.expected:
            return ""
        wanted = " or ".join(sorted(verdict.value for verdict in self.expected))
        bad = outcome.kind if outcome.verdict in BAD else outcome.verdict.value
        return f"{self.reader}: {self.name}: {bad}, not {wanted}; {outcome.message[:200]!r}"


_REFUSED, _READ = frozenset({Verdict.REFUSED}), frozenset({Verdict.READ})


def refused(name: str, reader: str, data: bytes | Callable[[], bytes], **beside: Mapping[str, bytes | None]) -> Case:
    """It must not be read."""
    return Case(name, reader, data, _REFUSED, **beside)


def read(name: str, reader: str, data: bytes | Callable[[], bytes], **beside: Mapping[str, bytes | None]) -> Case:
    """It looks odd and is right."""
    return Case(name, reader, data, _READ, **beside)


def either(name: str, reader: str, data: bytes | Callable[[], bytes], **beside: Mapping[str, bytes | None]) -> Case:
    """Reading it is as right as refusing it, within the limits."""
    return Case(name, reader, data, _REFUSED | _READ, **beside)
