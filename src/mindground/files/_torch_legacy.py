"""Torch files from before 1.6: pickles one after the other, then the storages as raw bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindground.errors import WeightsError
from mindground.files._globals import storage_kind
from mindground.files._pickle import ByteStream, Machine
from mindground.files._tensors import StorageRef, item_size

__all__ = ["LEGACY_MAGIC", "read_torch_legacy"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Storages:
    """Storages named by the pickle; their bytes follow it and are read afterwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.roots: dict[str, StorageRef] = {}
        self._views: list[tuple[StorageRef, StorageRef]] = []

    def __call__(self, reference: Any) -> StorageRef:
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != "storage":
            kind = reference[0] if type(reference) is tuple and reference else reference
            raise WeightsError(
                f"{self._path}: holds a whole pickled module ({str(kind)[:40]}), not a dictionary of tensors; "
                "save its state_dict() instead"
            )
        _, storage, key, _, count = reference[:5]
        view = reference[5] if len(reference) > 5 else None
        key = str(key)
        root = self.roots.get(key)
        if root is None:
            root = self.roots[key] = StorageRef(key, storage_kind(storage), int(count))
        if view is None:
            return root
        part = StorageRef(key, root.kind, int(view[2]), start=int(view[1]))
        if part.start < 0 or part.count < 0 or part.start + part.count > root.count:
            raise WeightsError(f"{self._path}: a view reaches outside storage {key!r}; the file is damaged")
        self._views.append((part, root))
        return part

    def fill(self, keys: Any, stream: ByteStream) -> None:
        """Read the raw bytes in the order of `keys`."""
        if type(keys) is not list or len(set(map(str, keys))) != len(keys):
            raise WeightsError(f"{self._path}: the list of storages is damaged; download the file again")
        for key in map(str, keys):
            head = stream.read(8)
            if len(head) < 8:
                raise WeightsError(f"{self._path}: cut off before storage {key!r}; download it again")
            (count,) = struct.unpack("<q", head)
            root = self.roots.get(key)
            if root is None or root.count != count:
                raise WeightsError(f"{self._path}: storage {key!r} of {count} numbers does not match the pickle")
            wanted = count * item_size(root.kind)
            root.data = stream.read(wanted) if wanted else b""
            if len(root.data) < wanted:
                raise WeightsError(
                    f"{self._path}: cut off inside storage {key!r} ({len(root.data)} of {wanted} bytes); "
                    "download it again"
                )
        for part, root in self._views:
            part.data = root.data


def read_torch_legacy(stream: ByteStream, path: Path, depth: int = 0) -> tuple[Any, set[str]]:
    """Contents of a legacy file; `stream` is positioned at its start.

    Returns:
        The top object with tensors as references, and names of inert objects.

    Raises:
        UnsafeFileError: it names something that is not allowed.
        WeightsError: damaged, cut off, or not such a file.
    """
    magic = Machine(stream, path).load()
    protocol = Machine(stream, path).load() if magic == LEGACY_MAGIC else None
    if magic != LEGACY_MAGIC or protocol != _PROTOCOL:
        raise WeightsError(f"{path}: not a PyTorch file (magic number {str(magic)[:40]}, protocol {protocol})")
    Machine(stream, path).load()  # the writer's byte order and integer sizes; storages are always little-endian
    storages = _Storages(path)
    machine = Machine(stream, path, storages, nested=nested_reader(path, depth + 1))
    top = machine.load()
    storages.fill(Machine(stream, path).load(), stream)
    return top, machine.inert


def nested_reader(path: Path, depth: int = 0) -> Callable[[bytes], Any] | None:
    """Reads a torch file stored as bytes inside a pickle (tensors pickled without torch.save); one level deep."""
    if depth > 1:
        return None

    def read(data: bytes) -> Any:
        if data[:2] == b"PK":
            raise WeightsError(f"{path}: holds a zip archive inside a pickle; re-save it with torch.save")
        return read_torch_legacy(io.BytesIO(data), path, depth)[0]

    return read
