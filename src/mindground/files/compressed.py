"""Decompression with a limit: a small file must not become gigabytes."""

from __future__ import annotations

import zlib
from typing import Literal

from mindground.errors import WeightsError

__all__ = ["decompress_bounded"]

_WINDOW = {"zlib": 15, "gzip": 31}


def decompress_bounded(data: bytes, kind: Literal["gzip", "zlib"], *, limit: int, name: str) -> bytes:
    """The unpacked bytes of one stream.

    Args:
        data: compressed.
        kind: of the stream.
        limit: bytes that it may unpack to.
        name: of what is unpacked, for messages.

    Raises:
        WeightsError: damaged, cut off, or larger than `limit`.
    """
    stream = zlib.decompressobj(_WINDOW[kind])
    try:
        found = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise WeightsError(f"{name} is damaged ({error}); fetch it again") from error
    if len(found) > limit:
        raise WeightsError(f"{name} unpacks to more than {limit >> 20} MiB; that is no such file")
    if not stream.eof:
        raise WeightsError(f"{name} is cut off; fetch it again")
    return found
