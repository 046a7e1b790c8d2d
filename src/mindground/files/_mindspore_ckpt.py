"""MindSpore `.ckpt` files: protobuf messages, read without MindSpore.

    Checkpoint { repeated Value value = 1 }
    Value { string tag = 1; TensorProto tensor = 2 }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }

A tensor above the writer's slice size is stored as several values with the same tag, which the reader joins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WeightsError, shown
from mindground.files._budget import why
from mindground.files._sizes import MOST_DIMENSIONS, checked_count
from mindground.files._tensors import widen_bfloat16

__all__ = ["starts_like_ckpt", "read_mindspore_ckpt"]

_DTYPES = {
    "Int8": "<i1",
    "UInt8": "<u1",
    "Int16": "<i2",
    "UInt16": "<u2",
    "Int32": "<i4",
    "UInt32": "<u4",
    "Int64": "<i8",
    "UInt64": "<u8",
    "Float16": "<f2",
    "Float32": "<f4",
    "Float64": "<f8",
    "Bool": "?",
    "BFloat16": "<u2",
    "Complex64": "<c8",
    "Complex128": "<c16",
}


_LONGEST_TAG = 4096


class _CutOffError(ValueError):
    """The bytes end inside a field."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _CutOffError("a number extends beyond the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, value) pairs of one message, one by one; nested messages are views."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if number == 0 or at + length > len(data):
            raise _CutOffError("a field extends beyond the end")
        yield number, data[at : at + length]
        at += length


def _dims(values: list[Any]) -> tuple[int, ...]:
    dims: list[int] = []
    for value in values:
        if isinstance(value, int):
            dims.append(value)
            continue
        at = 0
        while at < len(value) and len(dims) <= MOST_DIMENSIONS:  # packed form
            number, at = _varint(value, at)
            dims.append(number)
    checked_count(dims)
    return tuple(dims)


def starts_like_ckpt(head: bytes) -> bool:
    """Whether a file starts like a checkpoint: a value whose first field is a tag of printable text."""
    try:
        view = memoryview(head)
        key, at = _varint(view, 0)
        _, at = _varint(view, at)
        inner, at = _varint(view, at)
        length, at = _varint(view, at)
        tag = bytes(view[at : at + length]).decode("utf-8")
    except ValueError:
        return False
    return key == 0x0A and inner == 0x0A and 0 < length < 4096 and tag.isprintable() and len(tag) > 0


def read_mindspore_ckpt(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and texts of a checkpoint.

    Raises:
        WeightsError: damaged, cut off, or holding types that are not supported.
    """
    data = memoryview(path.read_bytes())
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    parts: dict[str, list[memoryview]] = {}
    try:
        for number, value in _fields(data):
            if number != 1:
                if number == 536870911:
                    continue
                raise ValueError(f"field {number}")
            tag, kind, dims, content = _value(value)
            kinds.setdefault(tag, (kind, dims))
            parts.setdefault(tag, []).append(content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise WeightsError(
            f"{path}: not a whole MindSpore checkpoint of {len(data)} bytes ({why(error)}); it is cut off, "
            "damaged or encrypted"
        ) from error
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, Any] = {}
    for tag, (kind, dims) in kinds.items():
        whole = parts[tag][0] if len(parts[tag]) == 1 else memoryview(b"".join(parts[tag]))
        if kind in ("str", "Str", "String"):
            metadata[tag] = _text(bytes(whole))
            continue
        tensors[tag] = _array(path, tag, kind, dims, whole)
    return tensors, metadata


def _text(raw: bytes) -> str:
    """MindSpore writes text as numpy does, four bytes a character; other writers use UTF-8."""
    try:
        return raw.decode("utf-32-le") if len(raw) % 4 == 0 else raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def _value(message: memoryview) -> tuple[str, str, tuple[int, ...], memoryview]:
    fields = dict(_fields(message))
    tag = _bytes(fields, 1).decode("utf-8")
    if not 0 < len(tag) <= _LONGEST_TAG:
        raise ValueError(f"a name of {len(tag)} characters")
    if 2 not in fields:
        raise ValueError(f"{shown(tag)} is a hash table, which is not supported")
    single: dict[int, Any] = {}
    sizes: list[Any] = []
    for number, value in _fields(_view(fields, 2)):
        single[number] = value
        if number == 1:
            sizes.append(value)
        if len(sizes) > MOST_DIMENSIONS:
            raise ValueError(f"{shown(tag)} has more than {MOST_DIMENSIONS} dimensions")
    dims = _dims(sizes)
    content = _view(single, 3) if 3 in single else memoryview(b"")
    return tag, _bytes(single, 2).decode("utf-8"), dims, content


def _view(fields: dict[int, Any], number: int) -> memoryview:
    """A field that holds bytes; a number in its place would be a length for `bytes`."""
    value = fields[number]
    if not isinstance(value, memoryview):
        raise ValueError(f"field {number} is a number")
    return value


def _bytes(fields: dict[int, Any], number: int) -> bytes:
    return bytes(_view(fields, number))


def _array(path: Path, tag: str, kind: str, dims: tuple[int, ...], data: memoryview) -> np.ndarray:
    if kind not in _DTYPES:
        raise WeightsError(
            f"{path}: tensor {shown(tag)} is of type {shown(kind)}, which is not supported; re-save it as Float32"
        )
    dtype = np.dtype(_DTYPES[kind])
    if dims == (0,) and len(data) == dtype.itemsize:
        dims = ()  # how MindSpore writes scalars
    if checked_count(dims) * dtype.itemsize != len(data):
        raise WeightsError(
            f"{path}: tensor {shown(tag)} {dims} of {kind} has {len(data)} bytes; the file is cut off or damaged"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(dims)
    if kind == "BFloat16":
        return widen_bfloat16(array)
    return array.astype(dtype.newbyteorder("="), copy=False)
