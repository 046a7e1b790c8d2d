"""Lists and dicts that were saved with `torch.save`, such as annotation files of grounding data sets.

Most hold plain Python values only and are read with every name refused. Those that also hold arrays or tensors are read
with the few names that arrays need. Nothing is imported or called either way.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mindground.errors import DataError, MindGroundError, UnsafeFileError
from mindground.files._budget import BROKEN, Budget, why
from mindground.files._globals import Global, Instance, NumpyArray
from mindground.files._pickle import Machine
from mindground.files._tensors import StorageRef, TensorRef, as_array
from mindground.files._torch_legacy import is_legacy, nested_reader, read_torch_legacy
from mindground.files._torch_zip import main_pickle, open_archive, read_torch_zip
from mindground.files.pickles import check_tree, with_encoding

__all__ = ["read_plain_torch"]

_DEEPEST = 32
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def read_plain_torch(path: str | Path) -> Any:
    """Read a `.pth` file of lists, tuples, dicts, text and numbers, in either of PyTorch's forms, or a bare pickle.

    Arrays and tensors in it become numpy arrays.

    Raises:
        UnsafeFileError: the file names a class or function that such files do not need; nothing of it was run.
        DataError: the file is missing, empty, cut off, asks for far more memory than its size explains, or holds
            objects of other classes.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            size = stream.seek(0, io.SEEK_END)
        if not head:
            raise DataError(f"{path}: the file is empty; download it again")
        return _read(path, head in _ZIP, size)
    except DataError:
        raise
    except MindGroundError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except BROKEN as error:
        raise DataError(f"{path}: damaged or cut off ({why(error)}); download it again") from error


def _read(path: Path, zipped: bool, size: int) -> Any:
    if zipped:
        with open_archive(path) as archive:
            data = main_pickle(path, archive)
    else:
        data = path.read_bytes()
    try:
        return with_encoding(lambda encoding: _read_plain(path, data, not zipped, Budget(path, size), encoding))
    except UnsafeFileError:
        # It names a class or function: perhaps an array.
        return _read_named(path, data, zipped, Budget(path, size))


def _read_plain(path: Path, data: bytes, may_be_legacy: bool, budget: Budget, encoding: str) -> Any:
    at = 0
    if may_be_legacy and is_legacy(data, path):
        for _ in range(3):  # PyTorch's magic number, its protocol, and the sizes of the writer's integers
            machine = Machine(data, path, budget, start=at, named=False)
            machine.load()
            at = machine.at
    machine = Machine(data, path, budget, start=at, named=False, encoding=encoding)
    return check_tree(machine.load(), budget, shares=machine.shares)


def _read_named(path: Path, data: bytes, zipped: bool, budget: Budget) -> Any:
    if zipped:
        with open_archive(path) as archive:
            top = check_tree(read_torch_zip(path, archive, budget)[0], budget, shares=True)
            return _Plain(path, budget).convert(top)
    if is_legacy(data, path):
        top = read_torch_legacy(data, path, budget)[0]
    else:
        top = Machine(data, path, budget, nested=nested_reader(path, budget)).load()
    return _Plain(path, budget).convert(check_tree(top, budget, shares=True))


class _Plain:
    """Replaces tensors by arrays; what several containers share stays shared, and is converted once."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path = path
        self._budget = budget
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def convert(self, value: Any, depth: int = 0) -> Any:
        """The value with arrays in place of tensors.

        Raises:
            DataError: it holds an object of another class, holds itself, or is nested too deeply.
        """
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if depth > _DEEPEST or id(value) in self._open:
            raise DataError(f"{self._path}: nested more than {_DEEPEST} deep; it is not a list of annotations")
        self._open.add(id(value))
        result = self._done[id(value)] = self._convert(value, depth)
        self._open.discard(id(value))
        return result

    def _convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(self.convert(item, depth + 1) for item in value)
        if isinstance(value, dict):
            return {self._key(key): self.convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, TensorRef):
            return as_array("value", value, self._budget)
        if isinstance(value, NumpyArray) and value.value is not None:
            return value.value
        if isinstance(value, Instance):
            named = value.name
        else:
            named = value.full if isinstance(value, Global) else f"a {type(value).__name__}"
        named = "a torch storage" if isinstance(value, StorageRef) else named
        raise DataError(
            f"{self._path}: holds an object of {named}; only lists, texts, numbers and arrays are read from it"
        )

    def _key(self, key: Any) -> Any:
        return self.convert(key) if isinstance(key, Global) else key
