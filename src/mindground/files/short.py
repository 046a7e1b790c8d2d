"""Values of untrusted files in messages: short, on one line, and never costly to make."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any

__all__ = ["short"]

_LONGEST_INTEGER = 256
"""Bits; the decimal text of a longer integer takes quadratic time, and Python refuses it above 4300 digits."""


class _Short(reprlib.Repr):
    """Two levels of containers with four values each; a value of another class is only named."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = self.maxarray = self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = self.maxlong = characters

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > _LONGEST_INTEGER:
            return f"<integer of {x.bit_length()} bits>"
        return repr(x)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # The library's own sorts all keys first, which may compare what must not be compared.
        if not x or level <= 0:
            return "{...}" if x else "{}"
        inner = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in islice(x.items(), 4)]
        return "{" + ", ".join(inner) + (", ...}" if len(x) > 4 else "}")

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring]) + ("..." if len(x) > self.maxstring else "")

    def repr_set(self, x: set[Any], level: int) -> str:
        return f"<set of {len(x)}>"

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        return f"<set of {len(x)}>"

    def repr_instance(self, x: Any, level: int) -> str:
        if x is None or isinstance(x, (bool, float, complex)):
            return repr(x)
        return f"<{type(x).__name__}>"


def short(value: Any, characters: int = 80) -> str:
    """`repr(value)`, cut to about `characters` characters, without control characters or line breaks.

    Its cost does not depend on the value: of nested, shared or self-referring containers only the first values of two
    levels are shown, and objects of other classes give their class name.
    """
    text = _Short(characters).repr(value)
    return text if len(text) <= 2 * characters else text[: 2 * characters] + "..."
