"""Arguments of pickle instructions: how each is stored, without ever reading beyond the data."""

from __future__ import annotations

import codecs
import mmap
import pickle

from mindground.errors import shown

__all__ = ["COSTS", "NotUtf8Error", "Source", "decimal", "escaped", "line", "number", "python2_text", "take"]

Source = bytes | mmap.mmap
"""The bytes of a pickle: a whole file in memory, or mapped."""


class NotUtf8Error(Exception):
    """A byte string of Python 2 that is no UTF-8; the file is read again as latin1."""


def take(data: Source, at: int, size: int) -> bytes:
    """Exactly `size` bytes at a place.

    Raises:
        EOFError: there are fewer.
    """
    found = data[at : at + size]
    if len(found) != size:
        raise EOFError(f"{size} bytes are announced and {len(found)} are left")
    return found


def number(data: Source, at: int, size: int, *, signed: bool = False) -> int:
    """A little-endian integer. Raises EOFError."""
    return int.from_bytes(take(data, at, size), "little", signed=signed)


def line(data: Source, at: int) -> tuple[bytes, int]:
    """(text up to the next line break, the place behind the break). Raises EOFError."""
    end = data.find(b"\n", at)
    if end < 0:
        raise EOFError("a line without an end")
    return data[at:end], end + 1


def decimal(text: bytes) -> int | bool:
    """The argument of INT and LONG; INT writes booleans as 00 and 01."""
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text[:-1] if text.endswith(b"L") else text)


def escaped(text: bytes) -> bytes:
    """The argument of STRING, a Python 2 literal in quotes."""
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError(f"a text without quotes, {shown(text)}")
    # Not in the type stubs; the function that Python's own unpickler uses.
    return bytes(codecs.escape_decode(text[1:-1])[0])  # type: ignore[attr-defined]


def python2_text(raw: bytes, encoding: str) -> str:
    """A byte string of Python 2 as text.

    Raises:
        NotUtf8Error: it is not in this encoding.
    """
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotUtf8Error(str(error)) from error


def _costs() -> list[int]:
    """Bytes of memory that each instruction takes at least, on the stack and as an object, rounded up.

    An instruction costs time as well, so none is free: this bounds their number where the data was compressed.
    """
    by_name: dict[int, str] = {
        16: "PROTO FRAME STOP POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT1 EMPTY_TUPLE GET BINGET LONG_BINGET "
        "SETITEM SETITEMS APPEND APPENDS ADDITEMS BUILD",
        24: "PUT BINPUT LONG_BINPUT MEMOIZE",
        48: "MARK INT BININT BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT TUPLE",
        72: "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
        "BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST EMPTY_DICT DICT TUPLE1 TUPLE2 TUPLE3",
        232: "EMPTY_SET FROZENSET GLOBAL STACK_GLOBAL",
        400: "REDUCE NEWOBJ NEWOBJ_EX INST OBJ PERSID BINPERSID",
    }
    costs = [16] * 256
    for cost, names in by_name.items():
        for name in names.split():
            costs[getattr(pickle, name)[0]] = cost
    return costs


COSTS: list[int] = _costs()
"""By instruction code."""
