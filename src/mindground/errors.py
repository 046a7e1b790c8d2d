"""Errors a user can act on.

Every class carries one sentence: what happened, with which value, what to do next. The entry
points (`train.py`, `eval.py`, ...) print that sentence and exit with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import re
import reprlib
from itertools import islice
from typing import Any

__all__ = [
    "MindGroundError",
    "ConfigError",
    "DataError",
    "DatasetNotFoundError",
    "ImageError",
    "GeoError",
    "WeightsError",
    "UnsafeFileError",
    "CheckpointError",
    "DeviceError",
    "WriteError",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "as_sentence",
    "one_line",
    "printable",
    "shown",
]

# What cannot be encoded (bytes of a name that are no UTF-8, which Python keeps as half surrogates), and what would
# steer a terminal or reorder a line: control characters, line and paragraph separators, marks of direction.
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
_LINE_END = re.compile(r"\s*[\r\n]\s*")
_LONGEST_INTEGER = 256
"""Bits; the decimal text of a longer integer takes quadratic time, and Python refuses it above 4300 digits."""
_LONGEST_MESSAGE = 1600
"""Characters; a longer message is one that a value was put into uncut."""


class _Short(reprlib.Repr):
    """Three levels of containers with a few values each; a value of another class is only named."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxtuple = self.maxlist = self.maxarray = self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = self.maxlong = limit

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= _LONGEST_INTEGER else f"<a whole number of {x.bit_length()} bits>"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # The library's own sorts all keys first, which may compare what must not be compared.
        if not x or level <= 0:
            return "{...}" if x else "{}"
        inner = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in islice(x.items(), 4)]
        return "{" + ", ".join(inner) + (", ...}" if len(x) > 4 else "}")

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring]) + ("..." if len(x) > self.maxstring else "")

    def repr_set(self, x: set[Any], level: int) -> str:
        return f"<a set of {len(x)}>"

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        return f"<a set of {len(x)}>"

    def repr_instance(self, x: Any, level: int) -> str:
        # The repr of another class may walk the whole value, or run whatever that class does.
        return repr(x) if x is None or isinstance(x, (bool, float, complex)) else f"<{type(x).__name__}>"


def shown(value: object, limit: int = 80) -> str:
    """A value from a file as a message shows it: its repr, escaped, on one line and cut to about `limit` characters.

    Its cost does not depend on the value: of nested, shared or self-referring containers only the first values of three
    levels are shown, and an object of another class gives the name of its class.
    """
    if type(value) is int and -(2**63) < value < 2**63:
        return str(value)  # an id, of which a reader names one a record
    text = _UNPRINTABLE.sub(_escape, _Short(limit).repr(value))
    return text if len(text) <= 2 * limit else f"{text[: 2 * limit]}..."


def printable(value: object, most: int = 0) -> str:
    """A path or another text as one line of valid Unicode, for terminals, logs, JSON and GeoJSON.

    A byte of a file name that is no UTF-8 becomes \\xNN, a control character its escape; all else stays as it is.

    Args:
        value: a path, or anything that has a text.
        most: characters; a longer text is cut, and its length said. 0 = all.
    """
    text = str(value)
    if most and len(text) > most:
        text = f"{text[:most]}... ({len(text)} characters)"
    return _UNPRINTABLE.sub(_escape, text)


def one_line(error: object) -> str:
    """What a library says of an error, in one line of at most 200 characters; its class where it says nothing."""
    said = " ".join(str(error)[:400].split()) or type(error).__name__
    return _UNPRINTABLE.sub(_escape, said)[:200]


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def as_sentence(message: str) -> str:
    """A message on one line, without control characters, its middle cut out where it is far too long."""
    for _ in range(2):  # an escape is longer than its character
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:1000]} ... ({len(message) - 1400} characters) ... {message[-400:]}"
        message = _UNPRINTABLE.sub(_escape, _LINE_END.sub(" ", message))
    return message


class MindGroundError(Exception):
    """Base of every error whose cause lies with the user's files, keys or machine.

    Its text is one line of at most some 2000 characters without control characters, whatever went into it: names in
    files of others come to terminals and logs this way.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(as_sentence(str(message)))


class ConfigError(MindGroundError):
    """An unknown key, a value of the wrong type or a combination that cannot work."""


class DataError(MindGroundError):
    """An annotation file or sample that contradicts itself or its format."""


class DatasetNotFoundError(DataError):
    """A data set is not where the configuration points; the message says what goes where."""


class ImageError(DataError):
    """A file that is not an image, or an image that cannot be read whole."""


class GeoError(ImageError):
    """A raster whose pixels can be read, but whose place on earth cannot be computed."""


class WeightsError(MindGroundError):
    """A weight file that cannot be read, or does not fit the model it is meant for."""


class UnsafeFileError(WeightsError, DataError):
    """A file asks for code to be run while being read; nothing of it was run."""


class CheckpointError(MindGroundError):
    """A checkpoint that is incomplete, belongs to another run, or could not be written."""


class WriteError(MindGroundError):
    """A file that could not be written; what was there before is unchanged."""


class DeviceError(MindGroundError):
    """A device, mode or precision that this machine does not offer."""


class NonFiniteLossError(MindGroundError):
    """The loss became NaN or infinite; the message names step, rank and sample ids."""


class NonFiniteWeightsError(MindGroundError):
    """Training has ended in weights that are NaN or infinite; the last good checkpoint is unchanged."""
