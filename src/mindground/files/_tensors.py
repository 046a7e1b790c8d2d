"""Tensors that a file describes and that are not read yet, and their conversion to numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mindground.errors import WeightsError, shown
from mindground.files._budget import Budget
from mindground.files._sizes import checked_count

__all__ = ["BFLOAT16", "StorageRef", "TORCH_DTYPES", "TensorRef", "as_array", "widen_bfloat16"]

BFLOAT16 = "bfloat16"
"""numpy has no such type; its values are read as float32, which represents them exactly."""

TORCH_DTYPES: dict[str, str] = {
    "float64": "float64",
    "double": "float64",
    "float32": "float32",
    "float": "float32",
    "float16": "float16",
    "half": "float16",
    "bfloat16": BFLOAT16,
    "int64": "int64",
    "long": "int64",
    "int32": "int32",
    "int": "int32",
    "int16": "int16",
    "short": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "complex64": "complex64",
    "complex128": "complex128",
}
"""`torch.<name>` -> numpy type name (or `BFLOAT16`)."""


def item_size(kind: str) -> int:
    """Bytes of one number of a kind listed in `TORCH_DTYPES`; 1 for raw bytes (`untyped`)."""
    if kind == "untyped":
        return 1
    return 2 if kind == BFLOAT16 else np.dtype(kind).itemsize


@dataclass
class StorageRef:
    """One flat block of numbers; several tensors may share it.

    Attributes:
        key: name inside the file.
        kind: a value of `TORCH_DTYPES`, or `untyped`.
        count: how many numbers (bytes where untyped) the file says it holds.
        data: the bytes, once they are read.
        read: reads the bytes on demand where `data` is None.
        start: first number, for a storage that is a view into another one.
    """

    key: str
    kind: str
    count: int
    data: bytes | memoryview | None = field(default=None, repr=False)
    read: Callable[[], bytes | memoryview] | None = field(default=None, repr=False)
    start: int = 0
    big_endian: bool = False

    def bytes(self) -> bytes | memoryview:
        """The block's bytes.

        Raises:
            WeightsError: the file does not contain this block.
        """
        if self.data is None and self.read is not None:
            self.data = self.read()
        if self.data is None:
            raise WeightsError(f"storage {shown(self.key)} is named but not in the file")
        return self.data


@dataclass
class TensorRef:
    """A strided view of a storage."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    kind: str

    @property
    def count(self) -> int:
        """Numbers in the tensor."""
        return checked_count(self.size)


def widen_bfloat16(raw: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 -> the same values as float32, in one copy; any layout."""
    wide = np.empty(raw.shape, np.uint32)
    np.left_shift(raw, 16, out=wide, dtype=np.uint32)
    return wide.view(np.float32)


def as_array(name: str, ref: TensorRef, budget: Budget) -> np.ndarray:
    """Read one tensor: contiguous, in the machine's byte order, bfloat16 widened to float32.

    Raises:
        WeightsError: the view reaches outside its storage, or the storage is shorter than stated.
    """
    size, stride, offset, label = ref.size, ref.stride, ref.offset, shown(name)
    if len(size) != len(stride):
        raise WeightsError(f"{budget.path}: tensor {label} has an impossible layout {size}, {stride}; file damaged")
    bfloat16 = ref.kind == BFLOAT16
    carrier = np.dtype(np.uint16) if bfloat16 else np.dtype(ref.kind)
    if not ref.count:  # PyTorch allows any offset for an empty tensor
        return np.zeros(size, np.float32 if bfloat16 else carrier)
    data = ref.storage.bytes()
    width = item_size(ref.kind)
    start = ref.storage.start * item_size(ref.storage.kind)
    available = min((len(data) - start) // width, ref.storage.count * item_size(ref.storage.kind) // width)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= available:
        raise WeightsError(
            f"{budget.path}: tensor {label} {size} reaches number {last} of a storage with {available}; "
            "the file is cut off or damaged, download it again"
        )
    stored = carrier.newbyteorder(">" if ref.storage.big_endian else "<")
    flat = np.frombuffer(data, dtype=stored, count=last - offset + 1, offset=start + offset * width)
    view = np.lib.stride_tricks.as_strided(flat, size, [step * width for step in stride], writeable=False)
    if bfloat16:
        budget.spend(ref.count * 4, f"tensor {label} {size}")
        return widen_bfloat16(view)
    if view.flags.c_contiguous and stored.isnative:
        return view.view(carrier)  # MindSpore refuses a type with an explicit native byte order
    budget.spend(ref.count * width, f"tensor {label} {size}")
    return view.astype(carrier, order="C").view(carrier)
