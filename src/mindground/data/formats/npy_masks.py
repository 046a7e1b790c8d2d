"""Masks that lie in `.npy` files, one a reference."""

from __future__ import annotations

import io
import math
import struct
import tokenize
from pathlib import Path

import numpy as np

from mindground.data.formats.fields import RecordError
from mindground.data.formats.files import read_file
from mindground.errors import DataError, shown
from mindground.structures.outlines import MAX_PIXELS

__all__ = ["read_mask"]

MAX_HEADER = 1 << 16
_DAMAGE = (ValueError, OSError, EOFError, MemoryError, TypeError, SyntaxError, tokenize.TokenError, OverflowError)


def read_mask(path: Path) -> np.ndarray:
    """The array of one `.npy` file: numbers or truth values, no more of them than an image has pixels.

    The size that the header promises is compared with the file before anything is allocated.

    Raises:
        DataError: it is no such file, cut short, of another kind, or too large.
    """
    content = read_file(path)
    said = f"{path} is not a plain (H, W) array"
    try:
        count = _promised(content)
        if count > MAX_PIXELS:
            raise RecordError(f"{said}: it has {count} values; {MAX_PIXELS} are the most that are read")
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False, max_header_size=MAX_HEADER)
    except DataError:
        raise
    except _DAMAGE as error:
        raise RecordError(f"{said} ({shown(str(error))}); write it with numpy.save") from error
    return array


def _promised(content: bytes) -> int:
    """Values that the header promises, of which the file holds enough bytes."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    width = 2 if version == (1, 0) else 4
    (length,) = struct.unpack("<H" if width == 2 else "<I", stream.read(width).ljust(width, b"\0"))
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    stream.seek(6 + 2)
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream, max_header_size=MAX_HEADER)
    if kind.kind not in "biuf":
        raise ValueError(f"values of type {kind}")
    count = math.prod(shape)
    if len(shape) > 8 or min(shape, default=0) < 0 or count * kind.itemsize > len(content) - stream.tell():
        raise ValueError(f"a header of shape {shown(shape)} over {len(content)} bytes")
    return count
