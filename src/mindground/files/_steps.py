"""Every pickle instruction that is read, and what it does to the machine.

Each function takes the machine and the place behind the instruction's code, and returns the place of the next one.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mindground.files import _opcodes as op

if TYPE_CHECKING:
    from mindground.files._pickle import Machine

    Step = Callable[[Machine, int], int]

__all__ = ["NOTHING", "STEPS"]

NOTHING = object()
"""In the table of remembered values: a number that was left out."""

STEPS: dict[bytes, Step] = {}
"""Instruction code -> its function."""


def _step(*codes: bytes) -> Callable[[Step], Step]:
    def add(step: Step) -> Step:
        STEPS.update(dict.fromkeys(codes, step))
        return step

    return add


# -- plain values --------------------------------------------------------------------------------------------------


def _constant(code: bytes, value: Any) -> None:
    @_step(code)
    def push(m: Machine, at: int) -> int:
        m.stack.append(value)
        return at


def _counted(code: bytes, width: int, decode: Callable[[Machine, bytes], Any]) -> None:
    """An argument behind its own length of `width` bytes."""

    @_step(code)
    def push(m: Machine, at: int) -> int:
        size = op.number(m.data, at, width)
        at += width
        m.stack.append(decode(m, op.take(m.data, at, size)))
        return at + size


def _lined(code: bytes, decode: Callable[[Machine, bytes], Any]) -> None:
    """An argument up to the end of the line."""

    @_step(code)
    def push(m: Machine, at: int) -> int:
        text, at = op.line(m.data, at)
        m.stack.append(decode(m, text))
        return at


def _unicode(m: Machine, raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _raw(m: Machine, raw: bytes) -> bytes:
    return raw


def _text(m: Machine, raw: bytes) -> str:
    return op.python2_text(raw, m.encoding)


def _integer(m: Machine, raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


for _code, _value in ((pickle.NONE, None), (pickle.NEWTRUE, True), (pickle.NEWFALSE, False), (pickle.EMPTY_TUPLE, ())):
    _constant(_code, _value)
for _code, _width, _decode in (
    (pickle.BINUNICODE, 4, _unicode),
    (pickle.BINUNICODE8, 8, _unicode),
    (pickle.SHORT_BINBYTES, 1, _raw),
    (pickle.BINBYTES, 4, _raw),
    (pickle.BINBYTES8, 8, _raw),
    (pickle.BYTEARRAY8, 8, _raw),
    (pickle.SHORT_BINSTRING, 1, _text),
    (pickle.BINSTRING, 4, _text),
    (pickle.LONG1, 1, _integer),
    (pickle.LONG4, 4, _integer),
):
    _counted(_code, _width, _decode)
_lined(pickle.INT, lambda m, text: op.decimal(text))
_lined(pickle.LONG, lambda m, text: op.decimal(text))
_lined(pickle.FLOAT, lambda m, text: float(text))
_lined(pickle.STRING, lambda m, text: op.python2_text(op.escaped(text), m.encoding))
_lined(pickle.UNICODE, lambda m, text: text.decode("raw-unicode-escape"))


@_step(pickle.SHORT_BINUNICODE)
def _short_text(m: Machine, at: int) -> int:
    end = at + 1 + m.data[at]
    m.stack.append(op.take(m.data, at + 1, end - at - 1).decode("utf-8", "surrogatepass"))
    return end


@_step(pickle.BININT1)
def _int1(m: Machine, at: int) -> int:
    m.stack.append(m.data[at])
    return at + 1


@_step(pickle.BININT2)
def _int2(m: Machine, at: int) -> int:
    m.stack.append(op.number(m.data, at, 2))
    return at + 2


@_step(pickle.BININT)
def _int4(m: Machine, at: int) -> int:
    m.stack.append(op.number(m.data, at, 4, signed=True))
    return at + 4


@_step(pickle.BINFLOAT)
def _float(m: Machine, at: int) -> int:
    m.stack.append(struct.unpack(">d", op.take(m.data, at, 8))[0])
    return at + 8


# -- the file itself, and the stack --------------------------------------------------------------------------------


@_step(pickle.PROTO)
def _proto(m: Machine, at: int) -> int:
    if m.data[at] > pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"pickle protocol {m.data[at]}")
    return at + 1


@_step(pickle.FRAME)
def _frame(m: Machine, at: int) -> int:
    return at + 8


@_step(pickle.MARK)
def _mark(m: Machine, at: int) -> int:
    m.marks.append(len(m.stack))
    return at


@_step(pickle.POP)
def _pop(m: Machine, at: int) -> int:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.stack.pop()
    return at


@_step(pickle.POP_MARK)
def _pop_mark(m: Machine, at: int) -> int:
    m.pop_to_mark()
    return at


@_step(pickle.DUP)
def _dup(m: Machine, at: int) -> int:
    m.shared(m.stack[-1])
    return at


@_step(pickle.MEMOIZE)
def _memoize(m: Machine, at: int) -> int:
    m.memo.append(m.stack[-1])
    return at


@_step(pickle.BINPUT)
def _put1(m: Machine, at: int) -> int:
    m.remember(m.data[at], at)
    return at + 1


@_step(pickle.LONG_BINPUT)
def _put4(m: Machine, at: int) -> int:
    m.remember(op.number(m.data, at, 4), at)
    return at + 4


@_step(pickle.PUT)
def _put(m: Machine, at: int) -> int:
    text, after = op.line(m.data, at)
    m.remember(int(text), at)
    return after


@_step(pickle.BINGET)
def _get1(m: Machine, at: int) -> int:
    m.recall(m.data[at])
    return at + 1


@_step(pickle.LONG_BINGET)
def _get4(m: Machine, at: int) -> int:
    m.recall(op.number(m.data, at, 4))
    return at + 4


@_step(pickle.GET)
def _get(m: Machine, at: int) -> int:
    text, at = op.line(m.data, at)
    m.recall(int(text))
    return at


# -- containers ----------------------------------------------------------------------------------------------------


def _made(code: bytes, make: Callable[[Machine], Any]) -> None:
    @_step(code)
    def push(m: Machine, at: int) -> int:
        m.stack.append(make(m))
        return at


def _dict(m: Machine) -> dict[Any, Any]:
    items = m.pop_to_mark()
    m.stack.append({})
    m.update(items)
    made: dict[Any, Any] = m.stack.pop()
    return made


_made(pickle.EMPTY_LIST, lambda m: [])
_made(pickle.EMPTY_DICT, lambda m: {})
_made(pickle.EMPTY_SET, lambda m: set())
_made(pickle.LIST, lambda m: m.pop_to_mark())
_made(pickle.TUPLE, lambda m: tuple(m.pop_to_mark()))
_made(pickle.DICT, _dict)
_made(pickle.FROZENSET, lambda m: frozenset(m.members(m.pop_to_mark())))


def _tuple(code: bytes, size: int) -> None:
    @_step(code)
    def pack(m: Machine, at: int) -> int:
        if len(m.stack) < size:
            raise IndexError("fewer values than the tuple has")
        m.stack[-size:] = [tuple(m.stack[-size:])]
        return at


for _code, _size in ((pickle.TUPLE1, 1), (pickle.TUPLE2, 2), (pickle.TUPLE3, 3)):
    _tuple(_code, _size)


@_step(pickle.APPEND)
def _append(m: Machine, at: int) -> int:
    m.extend([m.stack.pop()])
    return at


@_step(pickle.APPENDS)
def _appends(m: Machine, at: int) -> int:
    m.extend(m.pop_to_mark())
    return at


@_step(pickle.SETITEM)
def _setitem(m: Machine, at: int) -> int:
    value, key = m.stack.pop(), m.stack.pop()
    m.update([key, value])
    return at


@_step(pickle.SETITEMS)
def _setitems(m: Machine, at: int) -> int:
    m.update(m.pop_to_mark())
    return at


@_step(pickle.ADDITEMS)
def _additems(m: Machine, at: int) -> int:
    items = m.members(m.pop_to_mark())
    target = m.stack[-1]
    if type(target) is not set:
        raise ValueError(f"members added to a {type(target).__name__}")
    target.update(items)
    return at


# -- names and calls -----------------------------------------------------------------------------------------------


def _name(m: Machine, at: int) -> tuple[Any, int]:
    module, at = op.line(m.data, at)
    name, at = op.line(m.data, at)
    return m.name(module.decode("utf-8"), name.decode("utf-8")), at


@_step(pickle.GLOBAL)
def _global(m: Machine, at: int) -> int:
    found, at = _name(m, at)
    m.stack.append(found)
    return at


@_step(pickle.STACK_GLOBAL)
def _stack_global(m: Machine, at: int) -> int:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.name(module, name))
    return at


@_step(pickle.REDUCE, pickle.NEWOBJ)
def _reduce(m: Machine, at: int) -> int:
    arguments, target = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(target, arguments))
    return at


@_step(pickle.NEWOBJ_EX)
def _newobj_ex(m: Machine, at: int) -> int:
    keywords, arguments, target = m.stack.pop(), m.stack.pop(), m.stack.pop()
    if keywords:
        raise ValueError("an object made with keyword arguments")
    m.stack.append(m.call(target, arguments))
    return at


@_step(pickle.INST)
def _inst(m: Machine, at: int) -> int:
    found, at = _name(m, at)
    m.stack.append(m.call(found, tuple(m.pop_to_mark())))
    return at


@_step(pickle.OBJ)
def _obj(m: Machine, at: int) -> int:
    target, *arguments = m.pop_to_mark()
    m.stack.append(m.call(target, tuple(arguments)))
    return at


@_step(pickle.BUILD)
def _build(m: Machine, at: int) -> int:
    m.build(m.stack.pop())
    return at


@_step(pickle.PERSID)
def _persid(m: Machine, at: int) -> int:
    text, at = op.line(m.data, at)
    m.external(text.decode("ascii", "replace"))
    return at


@_step(pickle.BINPERSID)
def _binpersid(m: Machine, at: int) -> int:
    m.external(m.stack.pop())
    return at
