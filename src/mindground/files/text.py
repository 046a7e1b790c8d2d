"""Lines of text files, our own and others.

A line ends at a line feed, or a carriage return and a line feed as in files from Windows, and nowhere else.
`str.splitlines` also breaks at U+2028, U+2029, U+0085 and more, which are ordinary characters in a sentence:
JSON may hold them unescaped.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["printable", "read_lines", "split_lines"]

# What cannot be encoded (bytes of a name that are no UTF-8, which Python keeps as half surrogates), and what would
# steer a terminal or reorder a line: control characters, line and paragraph separators, marks of direction.
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


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


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def split_lines(text: str) -> list[str]:
    """Lines without their ends; a text that ends with a line end has no empty line after it, an empty text no line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_lines(path: str | Path, *, errors: str = "strict") -> list[str]:
    """Lines of a UTF-8 file, with or without a byte order mark; see `split_lines`.

    Args:
        path: the file.
        errors: "strict", or "replace" for readers that report a damaged line themselves.

    Raises:
        OSError, UnicodeDecodeError: callers turn them into messages that say what the file was for.
    """
    return split_lines(Path(path).read_bytes().decode("utf-8-sig", errors))
