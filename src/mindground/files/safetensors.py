"""Write safetensors files atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindground.errors import CheckpointError
from mindground.files.atomic import atomic_file

__all__ = ["write_safetensors_atomic"]

_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_safetensors_atomic(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write tensors and text metadata as a safetensors container, whatever the extension of `path`.

    Returns the path. Arrays are written one after the other, without a second copy of all of them.

    Raises:
        CheckpointError: an array of a type that safetensors does not have, or the disk is full or fails.
    """
    path = Path(path)
    # Widest numbers first keeps every tensor aligned, the order that the safetensors library itself uses.
    names = sorted(tensors, key=lambda name: (-np.asarray(tensors[name]).dtype.itemsize, name))
    header: dict[str, object] = {}
    if metadata:
        wrong = [key for key, value in metadata.items() if not isinstance(key, str) or not isinstance(value, str)]
        if wrong:
            raise CheckpointError(f"{path}: metadata {wrong[0]!r} is not text; store it as a JSON string")
        header["__metadata__"] = dict(metadata)
    offset = 0
    for name in names:
        array = np.asarray(tensors[name])
        if array.dtype.name not in _CODES:
            raise CheckpointError(f"{path}: tensor {name!r} of type {array.dtype} cannot be stored; convert it first")
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for name in names:
            array = np.asarray(tensors[name])
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            stream.write(little.reshape(-1).view(np.uint8).data)
    return path
