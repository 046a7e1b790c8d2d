"""What may be hashed: keys of dictionaries and members of sets that come out of a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mindground.errors import WeightsError, shown
from mindground.files._globals import Global

__all__ = ["Keys"]

_PLAIN = frozenset({str, bytes, bool, float, type(None), Global})
_WIDEST = 1 << 63
_LONGEST_TUPLE = 16
_DEEPEST_TUPLE = 2
_MOST_TUPLES = 10_000


class Keys:
    """Verifies keys before they are hashed.

    The hash of a tuple visits everything inside it, in C and without a limit: nested deeply it ends the interpreter,
    and shared parts take for ever. Hashes of tuples and of long integers can also be chosen, so that a dictionary of
    them compares each with each other. Texts and bytes are safe: their hash differs in every process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tuples = 0

    def check(self, keys: Iterable[Any]) -> None:
        """Accept text, bytes, numbers, None, names, and short tuples of them.

        Raises:
            WeightsError: another kind of key, or more tuples than any file needs.
        """
        for key in keys:
            if type(key) not in _PLAIN:
                self._check_other(key, 0)

    def _check_other(self, key: Any, depth: int) -> None:
        if type(key) is int:
            if not -_WIDEST <= key < _WIDEST:
                self._refuse(key)
        elif type(key) is tuple and len(key) <= _LONGEST_TUPLE and depth < _DEEPEST_TUPLE:
            self._tuples += 1
            if self._tuples > _MOST_TUPLES:
                raise WeightsError(
                    f"{self._path}: more than {_MOST_TUPLES} tuples are keys of its dictionaries; it is damaged or "
                    "hostile, do not use it"
                )
            for item in key:
                if type(item) not in _PLAIN:
                    self._check_other(item, depth + 1)
        else:
            self._refuse(key)

    def _refuse(self, key: Any) -> None:
        raise WeightsError(
            f"{self._path}: {shown(key)} is the key of a dictionary or the member of a set; text, numbers and short "
            "tuples can be. It is damaged or hostile, do not use it"
        )
