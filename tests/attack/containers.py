"""Bytes of the other formats: safetensors, MindSpore ckpt, npy, PNG, TIFF, streams of zeros."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "field",
    "gzip_zeros",
    "npy",
    "npy_of",
    "npz_of",
    "parameter",
    "png",
    "png_chunk",
    "safetensors",
    "small_png",
    "tiff",
    "varint",
    "zlib_zeros",
]

_STEP = b"\0" * (1 << 20)


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; `header` is JSON-able, or bytes as they stand; `length` replaces its true length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def varint(value: int) -> bytes:
    """A number of protocol buffers; negative ones as 64 bits."""
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(place: int, payload: bytes | int) -> bytes:
    """One field of protocol buffers: a number, or bytes with their length."""
    if isinstance(payload, int):
        return varint(place << 3) + varint(payload)
    return varint(place << 3 | 2) + varint(len(payload)) + payload


def parameter(tag: bytes, dims: Sequence[int], kind: bytes, content: bytes, more: bytes = b"") -> bytes:
    """One parameter of a MindSpore ckpt; `more` are further fields of it."""
    held = b"".join(field(1, size) for size in dims) + field(2, kind) + field(3, content)
    return field(1, field(1, tag) + field(2, held) + more)


def npy(header: str, payload: bytes = b"", version: int = 1) -> bytes:
    """An .npy file with this header, whatever it says."""
    raw = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + payload


def npy_of(array: np.ndarray) -> bytes:
    """An .npy file as numpy writes it."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz_of(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    """An .npz file as numpy writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy_of(array))
    return out.getvalue()


def zlib_zeros(count: int, before: bytes = b"") -> bytes:
    """A zlib stream of `before` and `count` zeros, made without holding them."""
    packer = zlib.compressobj(6)
    parts = [packer.compress(before), *(packer.compress(_STEP) for _ in range(count >> 20))]
    return b"".join([*parts, packer.compress(_STEP[: count & 0xFFFFF]), packer.flush()])


def gzip_zeros(count: int) -> bytes:
    """A gzip file of `count` zeros."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6) as stream:
        for _ in range(count >> 20):
            stream.write(_STEP)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", *, depth: int = 8, color: int = 2, more: bytes = b"") -> bytes:
    """A PNG whose IDAT is `pixels` (a zlib stream), with further chunks before it."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", head), more, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def small_png(width: int = 30, height: int = 20) -> bytes:
    """A black RGB image."""
    return png(width, height, zlib.compress(bytes(height * (1 + 3 * width))))


_TYPES = {3: "<H", 4: "<I", 12: "<d"}


def tiff(
    width: int,
    height: int,
    strip: bytes = b"",
    *,
    bits: Sequence[int] = (8, 8, 8),
    sample_format: int = 1,
    compression: int = 1,
    more: Sequence[tuple[int, int, Sequence[float]]] = (),
) -> bytes:
    """A little-endian TIFF of one strip; `more` are further tags (number, type 3, 4 or 12, values)."""
    entries: list[tuple[int, int, Sequence[float]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, list(bits)),
        (259, 3, [compression]),
        (262, 3, [2 if len(bits) >= 3 else 1]),
        (273, 4, [0]),
        (277, 3, [len(bits)]),
        (278, 4, [height]),
        (279, 4, [len(strip)]),
        (339, 3, [sample_format] * len(bits)),
        *more,
    ]
    entries.sort()
    behind = 8 + 2 + 12 * len(entries) + 4
    far, directory, place = b"", struct.pack("<H", len(entries)), 0
    for tag, kind, values in entries:
        raw = b"".join(struct.pack(_TYPES[kind], value) for value in values)
        if tag == 273:
            place = 8 + len(directory) + 8
        head = struct.pack("<HHI", tag, kind, len(values))
        if len(raw) <= 4:
            directory += head + raw.ljust(4, b"\0")
        else:
            directory += head + struct.pack("<I", behind + len(far))
            far += raw
    data = bytearray(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + far)
    struct.pack_into("<I", data, place, len(data))
    return bytes(data) + strip
