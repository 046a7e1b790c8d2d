"""DarkNet's `.weights` files: a header of whole numbers and one long row of float32; nothing in them can run."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WeightsError

__all__ = ["VALUES", "read_darknet", "starts_like_darknet"]

VALUES = "darknet.values"
"""Name under which the row of numbers is given."""

# Versions that were ever written; the format has no mark of its own.
_MINORS = range(1, 6)


def starts_like_darknet(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes may be one: version 0.1 to 0.5, and whole float32 numbers behind the header."""
    if len(head) < 16:
        return False
    major, minor, revision = struct.unpack("<3i", head[:12])
    if major != 0 or minor not in _MINORS or not 0 <= revision < 100:
        return False
    length = _header(major, minor)
    return size > length and (size - length) % 4 == 0


def _header(major: int, minor: int) -> int:
    """Bytes before the numbers: the count of images seen takes eight from version 0.2 on."""
    return 20 if major * 10 + minor >= 2 else 16


def read_darknet(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The numbers as `VALUES` (n,) float32, read where they are used, and version and images seen.

    Raises:
        WeightsError: the file is too short, of another version, or ends within a number.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(20)
    if not starts_like_darknet(head, size):
        raise WeightsError(f"{path}: not a .weights file of DarkNet, or cut off within a number; download it again")
    major, minor, revision = struct.unpack("<3i", head[:12])
    length = _header(major, minor)
    seen = struct.unpack("<q" if length == 20 else "<i", head[12:length])[0]
    values = np.memmap(path, np.dtype("<f4"), "r", length, ((size - length) // 4,))
    return {VALUES: np.asarray(values)}, {"version": f"{major}.{minor}.{revision}", "seen": seen}
