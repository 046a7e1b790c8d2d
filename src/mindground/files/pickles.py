"""Pickles of plain data only, such as the refer annotation files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from mindground.errors import DataError, UnsafeFileError, WeightsError
from mindground.files._budget import Budget
from mindground.files._opcodes import NotUtf8Error
from mindground.files._pickle import Machine

__all__ = ["check_tree", "read_plain_pickle", "with_encoding"]

_Value = TypeVar("_Value")
_DEEPEST = 64
_MOST_VALUES = 100_000
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


def with_encoding(read: Callable[[str], _Value]) -> _Value:
    """What `read(encoding)` gives: byte strings of Python 2 are UTF-8 and, where that fails, latin1."""
    try:
        return read("utf-8")
    except NotUtf8Error:
        return read("latin1")


def read_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of dicts, lists, tuples, sets, text, numbers, booleans and None.

    Python 2 files are understood: their byte strings become text, read as UTF-8 and, where that fails, latin1.

    Raises:
        UnsafeFileError: the file names a class or function; nothing of it was run.
        DataError: it is missing, empty, cut off, nested too deeply, or asks for far more memory than its size explains.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not data:
        raise DataError(f"{path}: the file is empty; download it again")
    budget = Budget(path, len(data))

    def read(encoding: str) -> Any:
        machine = Machine(data, path, budget, named=False, encoding=encoding)
        return check_tree(machine.load(), budget, shares=machine.shares)

    try:
        return with_encoding(read)
    except UnsafeFileError:
        raise
    except WeightsError as error:
        raise DataError(str(error)) from error


def check_tree(top: Any, budget: Budget, *, shares: bool) -> Any:
    """Return what a pickle gave if a program that visits, prints or copies all of it comes to an end.

    A pickle can put one container in several places. Visited from each of them, 40 of them are a million million
    values. A container in itself, or nesting of any depth, ends most programs with an error.

    Args:
        top: the value.
        budget: of its file.
        shares: a container may stand in several places.

    Raises:
        DataError: nested more than 64 deep, or more values than the file's size explains.
    """
    _Tree(budget, shares).measure(top, 0)
    return top


class _Tree:
    """Counts values as a visitor that knows nothing about shared containers meets them."""

    def __init__(self, budget: Budget, shares: bool) -> None:
        self._path = budget.path
        self._most = _MOST_VALUES + 4 * budget.size
        self._known: dict[int, tuple[int, int]] | None = {} if shares else None

    def measure(self, value: Any, depth: int) -> tuple[int, int]:
        """(values inside, levels of containers) of a value; other values than containers have (0, 0)."""
        if type(value) not in _CONTAINERS:
            return 0, 0
        if self._known is not None and id(value) in self._known:
            return self._known[id(value)]
        if depth > _DEEPEST:
            self._refuse(f"nested more than {_DEEPEST} deep, or holds itself")
        items: Iterable[Any] = value.values() if type(value) is dict else value
        count, levels = len(value), 0
        for item in items:
            if type(item) in _CONTAINERS:
                inside, below = self.measure(item, depth + 1)
                count += inside
                levels = max(levels, below)
        if count > self._most:
            self._refuse(f"so often shared that {count} values are visited")
        if levels >= _DEEPEST:
            self._refuse(f"nested more than {_DEEPEST} deep")
        if self._known is not None:
            self._known[id(value)] = count, levels + 1
        return count, levels + 1

    def _refuse(self, what: str) -> None:
        raise DataError(f"{self._path}: is {what}; it is damaged or hostile, do not use it")
