"""Containers of arrays without executable content: numpy .npz and safetensors."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import UnsafeFileError, WeightsError
from mindground.files._pickle import BROKEN
from mindground.files._tensors import widen_bfloat16
from mindground.files._torch_zip import check_sizes

__all__ = ["read_npz", "read_safetensors", "safetensors_header"]

_LONGEST_HEADER = 100 << 20
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
    "BF16": "<u2",
}


def read_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Arrays of a numpy archive by name.

    Raises:
        UnsafeFileError: an array of Python objects (which is a pickle).
        WeightsError: damaged, cut off, or stating sizes that it does not have.
    """
    check_sizes(path, archive)
    tensors: dict[str, np.ndarray] = {}
    for part in archive.infolist():
        if part.is_dir():
            continue
        name = part.filename.removesuffix(".npy")
        try:
            with archive.open(part) as stream:
                tensors[name] = _read_npy(path, name, stream, part.file_size)
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, *BROKEN) as error:
            raise WeightsError(f"{path}: array {name!r} is damaged or cut off ({error}); download it again") from error
    return tensors


def _read_npy(path: Path, name: str, stream: Any, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"numpy format {version}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{path}: refused, because array {name!r} holds Python objects, which are a numpy.object pickle; "
            "re-save it with numbers only"
        )
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count * dtype.itemsize > size:
        raise ValueError(f"{shape} of {dtype} in {size} bytes")
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{len(data)} of {count * dtype.itemsize} bytes")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)


def safetensors_header(path: Path) -> tuple[dict[str, Any], int] | None:
    """(header, offset of the data in bytes), or None when the file does not begin like safetensors.

    Raises:
        WeightsError: it begins like safetensors, but the header is damaged or cut off.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(9)
        length = int.from_bytes(head[:8], "little")
        if len(head) < 9 or head[8:9] != b"{" or length > _LONGEST_HEADER:
            return None
        if length + 8 > size:
            raise WeightsError(f"{path}: cut off inside the header ({size} of {length + 8} bytes); download it again")
        stream.seek(8)
        text = stream.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the safetensors header is damaged ({error}); download it again") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the safetensors header is not a table; download it again")
    return header, length + 8


def read_safetensors(path: Path, header: dict[str, Any], start: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a safetensors file whose header was read by `safetensors_header`.

    Raises:
        WeightsError: an unknown type of number, or tensors that overlap or reach beyond the file.
    """
    size = path.stat().st_size - start
    metadata = header.get("__metadata__") or {}
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    tensors: dict[str, np.ndarray] = {}
    position = 0
    try:
        ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
        with open(path, "rb") as stream:
            stream.seek(start)
            for name, entry in ordered:
                first, last = entry["data_offsets"]
                if first != position or last < first or last > size:
                    raise WeightsError(
                        f"{path}: tensor {name!r} should be at {first}:{last} of {size} bytes; "
                        "the file is cut off or damaged, download it again"
                    )
                tensors[name] = _plain_array(path, name, entry, stream.read(last - first))
                position = last
    except BROKEN as error:
        raise WeightsError(f"{path}: the safetensors header is damaged ({error}); download it again") from error
    if position != size:
        raise WeightsError(f"{path}: {size - position} bytes belong to no tensor; the file is damaged")
    return {name: tensors[name] for name in entries}, dict(metadata)


def _plain_array(path: Path, name: str, entry: dict[str, Any], data: bytes) -> np.ndarray:
    code, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
    if code not in _DTYPES:
        raise WeightsError(
            f"{path}: tensor {name!r} is of type {code}, which is not supported; convert it to F16 or F32"
        )
    dtype = np.dtype(_DTYPES[code])
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data):
        raise WeightsError(
            f"{path}: tensor {name!r} {shape} of {code} does not fit into {len(data)} bytes; file damaged"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    if code == "BF16":
        return widen_bfloat16(array.astype(np.uint16))
    return array.astype(dtype.newbyteorder("="), copy=False)
