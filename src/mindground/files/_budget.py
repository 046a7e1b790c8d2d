"""How much memory a file may take, so that a small file cannot exhaust it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindground.errors import WeightsError, one_line

__all__ = ["BROKEN", "LARGEST_START", "Budget", "expanded", "why"]

LARGEST_START = 64 << 20
"""Bytes that any file may expand to, however small it is."""

_GROWTH = 16
_OBJECT_GROWTH = 48

BROKEN = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What damaged data raises while it is parsed."""


def expanded(size: int) -> int:
    """The most bytes of numbers and text that a file of `size` bytes may expand to: 64 MiB, or 16 times its size."""
    return max(LARGEST_START, _GROWTH * size)


def why(error: BaseException) -> str:
    """Class and text of an exception that damaged data raised: one line, shortened and escaped."""
    name, text = type(error).__name__, one_line(error)
    return name if text == name else f"{name}: {text}"


@dataclass
class Budget:
    """The bytes that one file may still expand to.

    Views of what was read cost nothing; copies (transposed, expanded or bfloat16 tensors, text made into bytes, long
    names) are counted against 64 MiB or 16 times the file's size, whichever is more. Python's own objects are larger:
    the annotations of RefCOCO take 17 times the size of their file. Those are counted by the reader of pickles against
    `objects`, 64 MiB and 48 times the size.

    Attributes:
        path: the file, for messages.
        size: its bytes on disk.
    """

    path: Path
    size: int
    used: int = 0

    @property
    def limit(self) -> int:
        """The most bytes of copies."""
        return expanded(self.size)

    @property
    def objects(self) -> int:
        """The most bytes of objects that one pickle may make."""
        return LARGEST_START + _OBJECT_GROWTH * self.size

    def spend(self, size: int, what: str) -> None:
        """Count `size` bytes for `what`.

        Raises:
            WeightsError: the file asks for far more memory than its own size explains.
        """
        self.used += size
        if self.used > self.limit:
            raise WeightsError(
                f"{self.path}: {what} would make this file grow to more than {self.limit} bytes in memory, "
                "far beyond its size on disk; the file is damaged or hostile, do not use it"
            )
