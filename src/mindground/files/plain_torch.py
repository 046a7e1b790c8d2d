"""Lists and dicts that were saved with `torch.save`, such as annotation files of grounding data sets.

Most hold plain Python values only and are read by Python's own unpickler with every name refused. Those that also hold
arrays or tensors are read by ours (`_pickle`), which imports and calls nothing.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from mindground.errors import DataError, MindGroundError, UnsafeFileError
from mindground.files._globals import Global, Instance, NumpyArray
from mindground.files._pickle import BROKEN, Machine
from mindground.files._tensors import Budget, StorageRef, TensorRef, as_array
from mindground.files._torch_legacy import LEGACY_MAGIC, nested_reader, read_torch_legacy
from mindground.files._torch_zip import main_pickle, open_archive, read_torch_zip
from mindground.files.pickles import PlainUnpickler

__all__ = ["read_plain_torch"]

_DEEPEST = 32
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def read_plain_torch(path: str | Path) -> Any:
    """Read a `.pth` file of lists, tuples, dicts, text and numbers, in either of PyTorch's forms, or a bare pickle.

    Arrays and tensors in it become numpy arrays.

    Raises:
        UnsafeFileError: the file names a class or function that such files do not need; nothing of it was run.
        DataError: the file is missing, empty, cut off, or holds objects of other classes.
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
    except (pickle.UnpicklingError, *BROKEN) as error:
        raise DataError(f"{path}: damaged or cut off ({type(error).__name__}: {error}); download it again") from error


def _read(path: Path, zipped: bool, size: int) -> Any:
    try:
        return _read_plain(path, zipped)
    except UnsafeFileError:
        # It names a class or function: perhaps an array, which our slower reader knows; other names it refuses as well.
        return _read_named(path, zipped, size)


def _read_plain(path: Path, zipped: bool) -> Any:
    if zipped:
        with open_archive(path) as archive:
            stream = io.BytesIO(main_pickle(path, archive))
    else:
        stream = io.BytesIO(path.read_bytes())
    for encoding in ("utf-8", "latin1"):  # byte strings of Python 2
        stream.seek(0)
        try:
            first = PlainUnpickler(stream, path, encoding).load()
            if zipped or first != LEGACY_MAGIC:
                return first
            for _ in range(2):  # PyTorch's protocol, and the sizes of the writer's integers
                PlainUnpickler(stream, path, encoding).load()
            return PlainUnpickler(stream, path, encoding).load()
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path}: its texts are in no known encoding; download it again")


def _read_named(path: Path, zipped: bool, size: int) -> Any:
    budget = Budget.for_file(path, size)
    if zipped:
        with open_archive(path) as archive:
            top, _, _ = read_torch_zip(path, archive)
            return _plain(top, path, budget)
    stream = io.BytesIO(path.read_bytes())
    try:
        legacy = Machine(io.BytesIO(stream.getvalue()[:32]), path).load() == LEGACY_MAGIC
    except MindGroundError:
        legacy = False
    top = read_torch_legacy(stream, path)[0] if legacy else Machine(stream, path, nested=nested_reader(path)).load()
    return _plain(top, path, budget)


def _plain(value: Any, path: Path, budget: Budget, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise DataError(f"{path}: nested more than {_DEEPEST} deep; it is not a list of annotations")
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_plain(item, path, budget, depth + 1) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item, path, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, TensorRef):
        return as_array("value", value, budget)
    if isinstance(value, NumpyArray) and value.value is not None:
        return value.value
    if isinstance(value, (Instance, Global, StorageRef)):
        named = value.name if isinstance(value, Instance) else getattr(value, "full", "a torch storage")
        raise DataError(f"{path}: holds an object of {named}; only lists, texts, numbers and arrays are read from it")
    raise DataError(f"{path}: holds a {type(value).__name__}; only lists, texts, numbers and arrays are read from it")
