"""What names in a pickle become: names, objects kept as data, and arrays under construction. Nothing is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import shown
from mindground.files._budget import Budget
from mindground.files._sizes import checked_count, checked_sizes
from mindground.files._tensors import BFLOAT16

if TYPE_CHECKING:
    from mindground.files._keys import Keys

__all__ = [
    "Buildable",
    "Call",
    "Global",
    "Instance",
    "NumpyArray",
    "NumpyType",
    "STORAGES",
    "array_from_bytes",
    "canonical",
    "named",
    "storage_kind",
]


@dataclass(frozen=True)
class Global:
    """A name in a pickle; never imported."""

    module: str
    name: str

    @property
    def full(self) -> str:
        """`module.name`."""
        return f"{self.module}.{self.name}"


class Buildable:
    """A value whose state follows in the pickle after its construction."""

    def build(self, state: Any, budget: Budget) -> None:
        """Take the state; copies of what it holds are counted in `budget`."""
        raise TypeError(f"{type(self).__name__} takes no state")


@dataclass(eq=False)
class Instance(Buildable):
    """An object of an unknown class, kept as data: the class name, the arguments and the state."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    mapping: dict[Any, Any] = field(default_factory=dict)

    def build(self, state: Any, budget: Budget) -> None:
        self.state = state


@dataclass(eq=False)
class NumpyType(Buildable):
    """A numpy type; its state may only set the byte order."""

    dtype: np.dtype

    def build(self, state: Any, budget: Budget) -> None:
        order, parts, names = state[1], state[2], state[3]
        if parts is not None or names is not None:
            raise ValueError("a numpy type with fields")
        if order in ("<", ">", "=", "|"):
            self.dtype = self.dtype.newbyteorder(order)


@dataclass(eq=False)
class NumpyArray(Buildable):
    """A numpy array under construction."""

    value: np.ndarray | None = None

    def build(self, state: Any, budget: Budget) -> None:
        _, shape, kind, fortran, raw = state
        self.value = array_from_bytes(raw, kind, shape, "F" if fortran else "C", budget)


@dataclass(frozen=True)
class Call:
    """One construction a pickle asks for.

    Attributes:
        target: the name that is called.
        args: its arguments.
        path: the file, for messages.
        again: calls another allowed name.
        nested: reads a torch file stored as bytes.
        budget: counts copies.
        keys: verifies keys and members before they are hashed.
    """

    target: Global
    args: tuple[Any, ...]
    path: Path
    again: Callable[[Any, Any], Any]
    nested: Callable[[bytes], Any] | None
    budget: Budget
    keys: Keys

    def copied(self, size: int) -> None:
        """Count a copy of `size` bytes."""
        self.budget.spend(size, f"a call of {self.target.full}")


def canonical(module: str, name: str) -> tuple[str, str]:
    """Names of Python 2 and of numpy 2 -> the spelling used in `ALLOWED`."""
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    if module.startswith("numpy._core."):
        module = "numpy.core." + module[len("numpy._core.") :]
    return module, name


STORAGES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "untyped",
    "_UntypedStorage": "untyped",
}
"""Class of a torch storage -> its kind of number."""


def storage_kind(storage: Any) -> str:
    """Kind of number of a torch storage class.

    Raises:
        ValueError: not a storage class.
    """
    if type(storage) is not Global or storage.name not in STORAGES:
        raise ValueError(f"unknown storage class {named(storage)}")
    return STORAGES[storage.name]


def named(value: Any) -> str:
    """A value in a message, where a name is expected."""
    return value.full if type(value) is Global else shown(value)


def array_from_bytes(raw: Any, kind: Any, shape: Any, order: str, budget: Budget) -> np.ndarray:
    """A numpy array of the shape and type that a pickle states, as a view of its bytes where that is possible.

    Raises:
        ValueError: bytes, shape and type do not agree, or the type holds Python objects.
        WeightsError: the copies exceed the budget.
    """
    if not isinstance(kind, NumpyType) or kind.dtype.hasobject:
        raise ValueError("a numpy array of Python objects")
    if type(raw) is str:
        # Python 2 wrote raw bytes as text; read as latin1, each character is one byte again.
        budget.spend(len(raw), "an array's bytes")
        raw = raw.encode("latin1")
    if type(raw) is not bytes:
        raise ValueError(f"array data of type {type(raw).__name__}")
    sizes = checked_sizes(shape)
    count = checked_count(sizes)
    if count * kind.dtype.itemsize != len(raw):
        raise ValueError(f"array {sizes} of {kind.dtype} with {len(raw)} bytes")
    if not raw:
        return np.zeros(sizes, kind.dtype.newbyteorder("="))
    array = np.frombuffer(raw, dtype=kind.dtype).reshape(sizes, order="F" if order == "F" else "C")
    if not array.dtype.isnative:
        budget.spend(len(raw), "an array's bytes")
    # A type without an explicit byte order: MindSpore refuses an explicit native one.
    native = np.dtype(array.dtype.newbyteorder("=").str)
    return array.view(native) if array.dtype.isnative else array.astype(native)
