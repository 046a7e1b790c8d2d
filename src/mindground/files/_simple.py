"""Containers of arrays without executable content: numpy .npz and safetensors."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WeightsError, shown
from mindground.files._budget import BROKEN, why
from mindground.files._sizes import checked_count, checked_sizes
from mindground.files._tensors import widen_bfloat16
from mindground.files._torch_zip import check_sizes
from mindground.files.npy import NPY_DAMAGE, read_npy_stream

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
        where = f"{path}: array {shown(name)}"
        try:
            with archive.open(part) as stream:
                tensors[name] = read_npy_stream(
                    stream, part.file_size, kinds="biufcSU", max_bytes=part.file_size, name=where
                )
        except NPY_DAMAGE as error:
            raise WeightsError(f"{where} is damaged or cut off ({why(error)}); download it again") from error
    return tensors


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
        raise WeightsError(f"{path}: the safetensors header is damaged ({why(error)}); download it again") from error
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
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: the safetensors metadata {shown(metadata)} is no table of texts; get it again")
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    tensors: dict[str, np.ndarray] = {}
    position = 0
    try:
        ordered = sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
        with open(path, "rb") as stream:
            stream.seek(start)
            for name, entry in ordered:
                first, last = entry["data_offsets"]
                if type(first) is not int or type(last) is not int or first != position or not first <= last <= size:
                    raise WeightsError(
                        f"{path}: tensor {shown(name)} should be at {shown(first)}:{shown(last)} of {size} bytes; "
                        "the file is cut off or damaged, download it again"
                    )
                tensors[name] = _plain_array(path, name, entry, stream.read(last - first))
                position = last
    except BROKEN as error:
        raise WeightsError(f"{path}: the safetensors header is damaged ({why(error)}); download it again") from error
    if position != size:
        raise WeightsError(f"{path}: {size - position} bytes belong to no tensor; the file is damaged")
    return {name: tensors[name] for name in entries}, dict(metadata)


def _plain_array(path: Path, name: str, entry: dict[str, Any], data: bytes) -> np.ndarray:
    code, shape = entry["dtype"], checked_sizes(entry["shape"])
    if type(code) is not str or code not in _DTYPES:
        kind = code if type(code) is str and code.isalnum() else shown(code)
        raise WeightsError(
            f"{path}: tensor {shown(name)} is of type {kind}, which is not supported; convert it to F16 or F32"
        )
    dtype = np.dtype(_DTYPES[code])
    if checked_count(shape) * dtype.itemsize != len(data):
        raise WeightsError(
            f"{path}: tensor {shown(name)} {shape} of {code} does not fit into {len(data)} bytes; file damaged"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    if code == "BF16":
        return widen_bfloat16(array)
    return array.astype(dtype.newbyteorder("="), copy=False)
