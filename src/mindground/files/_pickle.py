"""A pickle reader that cannot execute anything.

Python's own unpickler imports what a file names and calls it. This one interprets the same instructions and never
imports: names stay names, and functions of `_globals` do the few constructions that weight files need. A name that
`_globals` does not list stops the reading before it is used.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, cast

from mindground.errors import MindGroundError, UnsafeFileError, WeightsError
from mindground.files._globals import ALLOWED, Buildable, Call, Global, Instance, canonical

__all__ = ["BROKEN", "ByteStream", "Machine"]

BROKEN = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""What damaged data raises while it is parsed."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 FLOAT BINFLOAT BINBYTES SHORT_BINBYTES BINBYTES8".split()
)


class ByteStream(Protocol):
    """The source of the bytes: an open file, BytesIO or mmap."""

    def read(self, size: int = -1, /) -> bytes: ...

    def readline(self) -> bytes: ...

    def tell(self) -> int: ...


class _Mark:
    """Marks a position on the stack."""


_MARK = _Mark()


class Machine:
    """Reads one pickle from a stream, which is then positioned right behind it.

    Args:
        stream: where the pickle starts.
        path: the file, for messages.
        persistent: resolves an external reference (a torch storage); None refuses them.
        scripted: also accept the class names of a TorchScript archive (`__torch__...`) as inert objects.
        nested: reads a torch file that is stored as bytes inside the pickle; None refuses it.

    Attributes:
        inert: names of objects that were kept as inert placeholders.
    """

    def __init__(
        self,
        stream: ByteStream,
        path: Path,
        persistent: Callable[[Any], Any] | None = None,
        *,
        scripted: bool = False,
        nested: Callable[[bytes], Any] | None = None,
    ) -> None:
        self._stream = stream
        self._path = path
        self._persistent = persistent
        self._scripted = scripted
        self._nested = nested
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.inert: set[str] = set()

    def load(self) -> Any:
        """The value that the pickle describes.

        Raises:
            UnsafeFileError: it names something that is not allowed.
            WeightsError: it is damaged or cut off.
        """
        try:
            for opcode, argument, _ in pickletools.genops(cast(IO[bytes], self._stream)):
                name = opcode.name
                if name == "STOP":
                    return self._stack.pop()
                self._step(name, argument)
        except MindGroundError:
            raise
        except BROKEN as error:
            raise WeightsError(
                f"{self._path}: the pickle inside is damaged or cut off ({type(error).__name__}: {error}); "
                "download the file again"
            ) from error
        raise WeightsError(f"{self._path}: the pickle inside ends too early; download the file again")

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            return
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        else:
            raise UnsafeFileError(f"{self._path}: refused, because it uses the pickle instruction {name}")

    # -- stack helpers -------------------------------------------------------------------------------------------

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while True:
            item = self._stack.pop()
            if item is _MARK:
                items.reverse()
                return items
            items.append(item)

    # -- containers ----------------------------------------------------------------------------------------------

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _empty_set(self, _: Any) -> None:
        self._stack.append(set())

    def _bytearray(self, argument: Any) -> None:
        self._stack.append(bytes(argument))

    def _list(self, _: Any) -> None:
        self._stack.append(self._pop_to_mark())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _tuple1(self, _: Any) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self._stack[-2:] = [(self._stack[-2], self._stack[-1])]

    def _tuple3(self, _: Any) -> None:
        self._stack[-3:] = [(self._stack[-3], self._stack[-2], self._stack[-1])]

    def _dict(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(self._pop_to_mark()))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Instance):
            target.items.extend(items)
        elif type(target) is list:
            target.extend(items)
        else:
            raise ValueError(f"items added to a {type(target).__name__}")

    def _additems(self, _: Any) -> None:
        items = self._pop_to_mark()
        target = self._stack[-1]
        if type(target) is not set:
            raise ValueError(f"members added to a {type(target).__name__}")
        target.update(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        mapping = target.mapping if isinstance(target, Instance) else target
        if type(mapping) is not dict:
            raise ValueError(f"entries added to a {type(target).__name__}")
        mapping.update(zip(items[::2], items[1::2], strict=True))

    # -- names and calls -----------------------------------------------------------------------------------------

    def _named(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a class name that is not text")
        found = Global(*canonical(module, name))
        if found.full in ALLOWED or (self._scripted and found.module.split(".")[0] == "__torch__"):
            return found
        raise UnsafeFileError(
            f"{self._path}: refused, because reading it would run or import {module}.{name}, which weight files do not "
            "need; nothing was run. Get the file from a source you trust, or re-save its tensors as safetensors"
        )

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._named(module, name))

    def _call(self, target: Any, arguments: Any) -> Any:
        if not isinstance(target, Global) or type(arguments) not in (tuple, list):
            raise UnsafeFileError(f"{self._path}: refused, because it calls something that is not a name")
        if target.full not in ALLOWED:
            return Instance(target.full, tuple(arguments))
        call = Call(target, tuple(arguments), self._path, self._call, self._nested)
        value = ALLOWED[target.full](call)
        if isinstance(value, Instance):
            self.inert.add(value.name)
        return value

    def _reduce(self, _: Any) -> None:
        arguments, target = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call(target, arguments))

    def _newobj_ex(self, _: Any) -> None:
        keywords, arguments, target = self._stack.pop(), self._stack.pop(), self._stack.pop()
        if keywords:
            raise ValueError("an object made with keyword arguments")
        self._stack.append(self._call(target, arguments))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._call(self._named(module, name), self._pop_to_mark()))

    def _obj(self, _: Any) -> None:
        target, *arguments = self._pop_to_mark()
        self._stack.append(self._call(target, arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif type(target) is not dict:  # an OrderedDict has `_metadata` of modules, which is not used
            raise UnsafeFileError(f"{self._path}: refused, because it sets attributes of a {type(target).__name__}")

    def _persid(self, argument: Any) -> None:
        self._stack.append(self._external(argument))

    def _binpersid(self, _: Any) -> None:
        self._stack.append(self._external(self._stack.pop()))

    def _external(self, reference: Any) -> Any:
        if self._persistent is None:
            raise UnsafeFileError(
                f"{self._path}: refused, because it refers to data outside the file: {str(reference)[:80]}"
            )
        return self._persistent(reference)


_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_mark,
    "DUP": Machine._dup,
    "EMPTY_LIST": Machine._empty_list,
    "EMPTY_DICT": Machine._empty_dict,
    "EMPTY_TUPLE": Machine._empty_tuple,
    "EMPTY_SET": Machine._empty_set,
    "BYTEARRAY8": Machine._bytearray,
    "LIST": Machine._list,
    "TUPLE": Machine._tuple,
    "TUPLE1": Machine._tuple1,
    "TUPLE2": Machine._tuple2,
    "TUPLE3": Machine._tuple3,
    "DICT": Machine._dict,
    "FROZENSET": Machine._frozenset,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "ADDITEMS": Machine._additems,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._newobj_ex,
    "INST": Machine._inst,
    "OBJ": Machine._obj,
    "BUILD": Machine._build,
    "PERSID": Machine._persid,
    "BINPERSID": Machine._binpersid,
}
