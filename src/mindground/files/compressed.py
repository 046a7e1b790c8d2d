"""Decompression with a limit, so that a small file cannot fill the memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any, Literal, Protocol

from mindground.errors import DataError

__all__ = ["Compression", "decompress_bounded"]

Compression = Literal["gzip", "zlib", "bz2", "lzma"]

_DICTIONARY = 128 << 20
"""Bytes of memory that an lzma stream may ask for; the strongest preset asks for 65 MiB."""


class _Stream(Protocol):
    """One compressed stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def _open(kind: Compression) -> Any:
    if kind in ("gzip", "zlib"):
        return zlib.decompressobj(wbits=31 if kind == "gzip" else 15)
    return bz2.BZ2Decompressor() if kind == "bz2" else lzma.LZMADecompressor(memlimit=_DICTIONARY)


def decompress_bounded(data: bytes, kind: Compression, *, limit: int, name: str) -> bytes:
    """Decompress a whole file or field.

    Streams one after the other are joined, as the tools of these formats do; zeros behind the last one are padding.

    Args:
        data: the compressed bytes.
        kind: the format; `lzma` is .xz or .lzma.
        limit: the most bytes that the result may have.
        name: what is decompressed, for messages (usually the file).

    Raises:
        DataError: the result is longer than `limit`, or the data is damaged, cut off or of another format.
    """
    parts: list[bytes] = []
    room = limit
    rest = bytes(data)
    try:
        while True:
            stream: _Stream = _open(kind)
            # One byte more than there is room for tells that the limit is exceeded.
            part = stream.decompress(rest, room + 1)
            while part and not stream.eof and len(part) <= room:
                parts.append(part)
                room -= len(part)
                part = stream.decompress(_left(stream), room + 1)
            if len(part) > room:
                raise DataError(
                    f"{name}: {len(data)} bytes of {kind} expand to more than {limit} bytes, far more than such a file "
                    "needs; it is damaged or hostile, do not use it"
                )
            parts.append(part)
            room -= len(part)
            if not stream.eof:
                raise DataError(f"{name}: the {kind} data of {len(data)} bytes is cut off; get the file again")
            rest = stream.unused_data
            if not rest.strip(b"\0"):
                return b"".join(parts)
            if kind == "zlib":
                raise DataError(f"{name}: {len(rest)} bytes follow the zlib data; get the file again")
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise DataError(
            f"{name}: not whole {kind} data ({error or type(error).__name__}); get the file again"
        ) from error


def _left(stream: Any) -> bytes:
    """Input that a stream still has to be given: zlib hands it back, the others keep it."""
    return bytes(getattr(stream, "unconsumed_tail", b""))
