"""Readers that do what a reader must never do, so that the processes that watch them are tested."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from attack.child import EVIDENCE
from attack.readers import Reader
from mindground.errors import DataError


def _crash(_: Path) -> None:
    ctypes.string_at(0)


def _hang(_: Path) -> None:
    while True:
        pass


def _wait(_: Path) -> None:
    time.sleep(600)


def _allocate(_: Path) -> None:
    bytes(5 << 30)


def _touch(_: Path) -> None:
    for _ in range(4):
        _touched.append(b"\1" * (100 << 20))


_touched: list[bytes] = []


def _allocate_quietly(_: Path) -> None:
    try:
        bytes(5 << 30)
    except MemoryError as error:
        raise DataError("damaged") from error


def _raise(_: Path) -> None:
    raise KeyError("raw")


class _RawError(DataError):
    """Its text is not what the base class makes of it."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    def __str__(self) -> str:
        return self.said


def _many_lines(_: Path) -> None:
    raise _RawError("one\ntwo")


def _control(_: Path) -> None:
    raise _RawError("a \x1b[2J name")


def _long(_: Path) -> None:
    raise _RawError("x" * 5000)


def _refuse(_: Path) -> None:
    raise DataError("one line")


def _execute(folder: Path) -> None:
    (folder / EVIDENCE).write_text("x")


def _outside(folder: Path) -> None:
    (folder.parent / EVIDENCE).write_text("x")


def _leave(_: Path) -> None:
    raise SystemExit(0)


_BEHAVIOURS: dict[bytes, Callable[[Path], None]] = {
    b"allocate": _allocate,
    b"allocate quietly": _allocate_quietly,
    b"control": _control,
    b"crash": _crash,
    b"execute": _execute,
    b"hang": _hang,
    b"leave": _leave,
    b"long": _long,
    b"many lines": _many_lines,
    b"outside": _outside,
    b"raise": _raise,
    b"read": lambda folder: None,
    b"refuse": _refuse,
    b"touch": _touch,
    b"wait": _wait,
}


def _behave(folder: Path) -> None:
    _BEHAVIOURS[(folder / "wish").read_bytes()](folder)


READERS: Mapping[str, Reader] = {"unruly": Reader("unruly", "wish", _behave, lambda: [b"read"], "bytes")}
"""One reader that does what its file says."""
