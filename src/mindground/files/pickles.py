"""Pickles of plain data only, such as the refer annotation files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mindground.errors import DataError, UnsafeFileError, WeightsError
from mindground.files._budget import Budget
from mindground.files._opcodes import NotUtf8Error
from mindground.files._pickle import Machine

__all__ = ["read_plain_pickle", "with_encoding"]

_Value = TypeVar("_Value")


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
        DataError: it is missing, empty, cut off, or asks for far more memory than its size explains.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not data:
        raise DataError(f"{path}: the file is empty; download it again")
    budget = Budget(path, len(data))
    try:
        return with_encoding(lambda encoding: Machine(data, path, budget, named=False, encoding=encoding).load())
    except UnsafeFileError:
        raise
    except WeightsError as error:
        raise DataError(str(error)) from error
