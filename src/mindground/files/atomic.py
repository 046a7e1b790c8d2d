"""The atomic writer for all files of this package: a file is either complete or absent."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from mindground.errors import WriteError

__all__ = ["atomic_file", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` only if the block ends without an error.

    It is written beside its destination under a temporary name, flushed to disk and then renamed, so that readers see
    the old file or the complete new one, also with several writers. After an error the earlier file is unchanged and
    the unfinished one is removed.

    Raises:
        WriteError: the folder cannot be made, or the disk is full or fails.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
        # `mkstemp` makes private files; ours get the permissions of the user's mask.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        kept = "; the file that was there before is unchanged" if path.exists() else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(f"{path}: the disk is full{kept}; free space or choose another folder") from error
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}){kept}; choose another folder"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a whole file and return its path. Raises WriteError."""
    with atomic_file(path) as stream:
        stream.write(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a whole file as UTF-8 and return its path. Raises WriteError."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> Path:
    """Write a JSON file and return its path. Raises WriteError."""
    return write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def _umask() -> int:
    """The process's file mode mask, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _remove(temporary: Path | None) -> None:
    try:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    except OSError:
        # The original error says more than one about the removal.
        return


def _sync_folder(folder: Path) -> None:
    """Flush the rename itself to disk, where the system can open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
