"""Write safetensors files that are either complete or not there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mindground.errors import CheckpointError
from mindground.weights.maps import WeightMap

if TYPE_CHECKING:
    from mindspore import nn

__all__ = ["atomic_file", "write_safetensors_atomic", "export"]

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


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes its place under `path` only when the block ends well.

    It is written beside its destination, forced to disk and then renamed. When anything goes wrong, the file that was
    there before stays, and the unfinished one is removed. One process writes one path at a time.

    Raises:
        CheckpointError: the folder cannot be made, or the disk is full or fails.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        kept = "; the file that was there before is unchanged" if path.exists() else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(f"{path}: the disk is full{kept}; free space or choose another folder") from error
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}){kept}") from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        # The error that brought us here says more than a second one about cleaning up would.
        return


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to disk, where the system lets folders be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def write_safetensors_atomic(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write tensors and text metadata as a safetensors container, whatever the extension of `path`.

    Returns the path. Arrays are written one after the other, without a second copy of all of them.

    Raises:
        CheckpointError: an array of a kind safetensors has no code for, or the disk is full or fails.
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


def export(model: nn.Cell, map: WeightMap, path: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a model's parameters under the names of another framework.

    Raises:
        WeightsError: a parameter has no name there.
        CheckpointError: the file cannot be written.
    """
    from mindground.weights.load import parameter_arrays

    return write_safetensors_atomic(path, map.to_theirs(parameter_arrays(model)), metadata)
