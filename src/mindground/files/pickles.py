"""Pickles of plain data only, such as the refer annotation files."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from mindground.errors import DataError, UnsafeFileError

__all__ = ["PlainUnpickler", "read_plain_pickle"]


class PlainUnpickler(pickle.Unpickler):
    """Numbers, text, lists, tuples, dicts and sets; every named class or function is refused.

    Reads one pickle; the stream is then positioned behind it (a BytesIO only: other streams may be read ahead).
    """

    def __init__(self, stream: io.BytesIO, path: Path, encoding: str) -> None:
        super().__init__(stream, encoding=encoding)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        raise UnsafeFileError(
            f"{self._path}: refused, because reading it would use {module}.{name}, "
            "and this file may hold only numbers, text, lists and dicts; get it again from a source you trust"
        )

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFileError(f"{self._path}: refused, because it refers to the external object {pid!r}")


def read_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of dicts, lists, tuples, sets, text, numbers, booleans and None.

    Python 2 files are understood: their byte strings become text, read as UTF-8 and, where that fails, latin1.

    Raises:
        UnsafeFileError: the file names a class or function; nothing of it was run.
        DataError: the file is missing, empty, cut off or not a pickle.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not data:
        raise DataError(f"{path}: the file is empty; download it again")
    try:
        try:
            return PlainUnpickler(io.BytesIO(data), path, "utf-8").load()
        except UnicodeDecodeError:
            return PlainUnpickler(io.BytesIO(data), path, "latin1").load()
    except UnsafeFileError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything, from EOFError to MemoryError
        raise DataError(
            f"{path}: not a whole pickle file of {len(data)} bytes ({type(error).__name__}: {error}); download it again"
        ) from error
