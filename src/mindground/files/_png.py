"""The chunks of a PNG that hold its pixels."""

from __future__ import annotations

import struct

__all__ = ["pixel_chunks"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def pixel_chunks(data: bytes) -> bytes:
    """The same PNG without text, profiles, animation and whatever else a decoder might follow.

    Raises:
        ValueError: not a PNG, or cut short.
    """
    if data[:8] != _SIGNATURE:
        raise ValueError("no PNG signature")
    kept, at = [_SIGNATURE], 8
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            break
        if kind in _NEEDED:
            kept.append(data[at : at + 12 + size])
        if kind == b"IEND":
            return b"".join(kept)
        at += 12 + size
    raise ValueError("the end is missing")
