"""Torch files from before 1.6: pickles one after the other, then the storages as raw bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindground.errors import WeightsError, shown
from mindground.files._budget import Budget
from mindground.files._opcodes import Source
from mindground.files._pickle import Machine
from mindground.files._references import storage_reference
from mindground.files._tensors import StorageRef, item_size

__all__ = ["LEGACY_MAGIC", "is_legacy", "nested_reader", "read_torch_legacy"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_INNER_GROWTH = 16
_INNER_START = 8192


class _Storages:
    """Storages named by the pickle; their bytes follow it and are read afterwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.roots: dict[str, StorageRef] = {}
        self._views: list[tuple[StorageRef, StorageRef]] = []

    def __call__(self, reference: Any) -> StorageRef:
        kind, key, count, view = storage_reference(self._path, reference)
        root = self.roots.get(key)
        if root is None:
            root = self.roots[key] = StorageRef(key, kind, count)
        if view is None:
            return root
        start, length = view
        if start + length > root.count:
            raise WeightsError(f"{self._path}: a view reaches outside storage {shown(key)}; the file is damaged")
        part = StorageRef(key, root.kind, length, start=start)
        self._views.append((part, root))
        return part

    def fill(self, keys: Any, data: Source, at: int) -> None:
        """Take the raw bytes, which start at `at`, in the order of `keys`."""
        if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
            raise WeightsError(f"{self._path}: the list of storages is damaged; download the file again")
        names = [key if type(key) is str else shown(key) for key in keys]
        if len(set(names)) != len(names):
            raise WeightsError(f"{self._path}: the list of storages is damaged; download the file again")
        for key in names:
            label, head = shown(key), data[at : at + 8]
            if len(head) < 8:
                raise WeightsError(f"{self._path}: cut off before storage {label}; download it again")
            count = int.from_bytes(head, "little", signed=True)
            root = self.roots.get(key)
            if root is None or root.count != count:
                raise WeightsError(f"{self._path}: storage {label} of {count} numbers does not match the pickle")
            wanted = count * item_size(root.kind)
            root.data = data[at + 8 : at + 8 + wanted]
            if len(root.data) < wanted:
                raise WeightsError(
                    f"{self._path}: cut off inside storage {label} ({len(root.data)} of {wanted} bytes); "
                    "download it again"
                )
            at += 8 + wanted
        for part, root in self._views:
            part.data = root.data


def is_legacy(head: bytes, path: Path) -> bool:
    """Whether the first 32 bytes are those of a legacy torch file."""
    try:
        magic = Machine(head[:32], path, Budget(path, 32)).load()
    except WeightsError:
        return False
    return type(magic) is int and magic == LEGACY_MAGIC


def read_torch_legacy(data: Source, path: Path, budget: Budget, depth: int = 0) -> tuple[Any, set[str]]:
    """Contents of a legacy file.

    Args:
        data: the whole file.
        path: it, or the file that holds it, for messages.
        budget: what the file may still take in memory.
        depth: 1 for a file inside a pickle; one inside that is refused.

    Returns:
        The top object with tensors as references, and names of inert objects.

    Raises:
        UnsafeFileError: it names something that is not allowed.
        WeightsError: damaged, cut off, or not such a file.
    """
    # An inner file gets what its own bytes explain, and not 64 MiB each time.
    most = _INNER_GROWTH * len(data) + _INNER_START if depth else 0
    head: list[Any] = []
    at = 0
    for _ in range(3):  # magic number, protocol, the writer's integer sizes; storages are always little-endian
        machine = Machine(data, path, budget, start=at, most=most)
        head.append(machine.load())
        at = machine.at
        if type(head[0]) is not int or head[0] != LEGACY_MAGIC:
            break
    if len(head) < 3 or type(head[1]) is not int or head[1] != _PROTOCOL:
        raise WeightsError(f"{path}: not a PyTorch file (it starts with {', '.join(shown(v) for v in head[:2])})")
    storages = _Storages(path)
    nested = nested_reader(path, budget, depth + 1)
    machine = Machine(data, path, budget, start=at, most=most, persistent=storages, nested=nested)
    top = machine.load()
    keys = Machine(data, path, budget, start=machine.at, most=most)
    names = keys.load()
    storages.fill(names, data, keys.at)
    return top, machine.inert


def nested_reader(path: Path, budget: Budget, depth: int = 0) -> Callable[[bytes], Any] | None:
    """Reads a torch file stored as bytes inside a pickle (tensors pickled without torch.save); one level deep."""
    if depth > 1:
        return None

    def read(data: bytes) -> Any:
        if data[:2] == b"PK":
            raise WeightsError(f"{path}: holds a zip archive inside a pickle; re-save it with torch.save")
        return read_torch_legacy(data, path, budget, depth)[0]

    return read
