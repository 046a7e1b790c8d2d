"""Files of strangers are opened only when they are regular files, and read whole only up to a limit."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from mindground.errors import ImageError, printable

__all__ = ["MAX_FILE_BYTES", "check_regular", "digest_of", "read_regular"]

# No photograph and no tile is larger; larger rasters are read in windows and not as bytes.
MAX_FILE_BYTES = 10**9


def check_regular(path: str | Path, *, limit: int | None = MAX_FILE_BYTES) -> None:
    """Raise ImageError unless the path is a regular file of at most `limit` bytes; nothing is opened."""
    name = printable(path, 300)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name} cannot be opened ({reason}); check data.image_root") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
        raise ImageError(f"{name} is {kind}, not an image file; check the path")
    if limit is not None and status.st_size > limit:
        raise ImageError(f"{name} has {status.st_size} bytes, more than {limit}; cut it into tiles first")


def read_regular(path: str | Path) -> bytes:
    """The bytes of a regular file of at most `MAX_FILE_BYTES`. Raises ImageError."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise _not_opened(path, error) from error


def digest_of(path: str | Path) -> str:
    """Hexadecimal digest of the bytes of a regular file, of any size (rasters may be large). Raises ImageError."""
    check_regular(path, limit=None)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise _not_opened(path, error) from error


def _not_opened(path: str | Path, error: OSError) -> ImageError:
    return ImageError(f"{printable(path, 300)} cannot be opened ({error.strerror}); check data.image_root")
