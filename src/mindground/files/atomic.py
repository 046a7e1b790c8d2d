"""The atomic writer for all files of this package: a file is either complete or absent."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from mindground.errors import WriteError, printable
from mindground.files.outputs import note_output, refuse_output

__all__ = ["atomic_file", "json_text", "remove_unfinished", "write_bytes", "write_json", "write_text"]

_SUFFIX = ".tmp"


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` only if the block ends without an error.

    It is written beside its destination under a temporary name, flushed to disk and then renamed, so that readers see
    the old file or the complete new one, also with several writers. After an error the earlier file is unchanged and
    the unfinished one is removed. A link at `path` is replaced itself; what it points at is not touched. Inside
    `outputs.guarded` it replaces no input and no earlier result.

    Raises:
        WriteError: the folder cannot be made, the disk is full or fails, or the file must not be replaced.
    """
    path = Path(path)
    if "\0" in str(path):
        raise WriteError(f"{printable(path)}: a file name cannot hold the character 0; choose another name")
    refuse_output(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=_SUFFIX)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
        # `mkstemp` makes private files; ours get the permissions of the user's mask.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        note_output(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        name = printable(path, 300)
        kept = "; the file that was there before is unchanged" if os.path.isfile(path) else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(f"{name}: the disk is full{kept}; free space or choose another folder") from error
        raise WriteError(
            f"{name}: cannot be written ({printable(error.strerror or error, 300)}){kept}; choose another folder"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def remove_unfinished(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left beside it; only while nobody else writes it.

    Raises:
        OSError: the folder cannot be listed, or a file in it cannot be removed.
    """
    with os.scandir(path.parent) as entries:
        left = [
            entry.path
            for entry in entries
            if entry.name.startswith(_prefix(path)) and entry.name.endswith(_SUFFIX) and not entry.is_dir()
        ]
    for name in left:
        os.unlink(name)


def _prefix(path: Path) -> str:
    # Names are limited in bytes; a letter has up to four.
    return f".{path.name[:32]}."


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a whole file and return its path. Raises WriteError."""
    with atomic_file(path) as stream:
        stream.write(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a whole file as UTF-8 and return its path; half a surrogate pair becomes \\udXXX. Raises WriteError."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> Path:
    """Write a JSON file, see `json_text`, and return its path. Raises WriteError."""
    return write_text(path, json_text(value, indent=indent) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: numbers that are not finite, which JSON does not have, become null."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


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
