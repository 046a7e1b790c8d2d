"""Bytes of the other formats: safetensors, MindSpore ckpt, npy, PNG, TIFF, streams of zeros."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "deflate_zeros",
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
    "zip_zeros",
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


def deflate_zeros(count: int, before: bytes = b"") -> bytes:
    """A raw deflate stream of `before` and `count` zeros: one packed block, again and again."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    head = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(_STEP) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (count >> 20) + packer.compress(_STEP[: count & 0xFFFFF]) + packer.flush()


def _checksum(function: Callable[[bytes, int], int], start: int, count: int, before: bytes) -> int:
    value = function(before, start)
    for _ in range(count >> 20):
        value = function(_STEP, value)
    return function(_STEP[: count & 0xFFFFF], value)


def zlib_zeros(count: int, before: bytes = b"") -> bytes:
    """A zlib stream of `before` and `count` zeros, made without holding them."""
    check = _checksum(zlib.adler32, 1, count, before)
    return b"\x78\x9c" + deflate_zeros(count, before) + struct.pack(">I", check)


def gzip_zeros(count: int) -> bytes:
    """A gzip file of `count` zeros."""
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    check = _checksum(zlib.crc32, 0, count, b"")
    return head + deflate_zeros(count) + struct.pack("<II", check, count % 2**32)


def zip_zeros(name: str, before: bytes, count: int) -> bytes:
    """A zip file with one deflated member of `before` and `count` zeros, less than 4 GB."""
    raw, check = deflate_zeros(count, before), _checksum(zlib.crc32, 0, count, before)
    sizes = struct.pack("<IIIHH", check, len(raw), len(before) + count, len(name), 0)
    local = struct.pack("<IHHHHH", 0x04034B50, 20, 0, 8, 0, 0) + sizes + name.encode() + raw
    directory = struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 8, 0, 0) + sizes + bytes(14) + name.encode()
    return local + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(directory), len(local), 0)


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
