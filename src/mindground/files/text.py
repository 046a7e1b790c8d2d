"""Lines of text files, our own and others.

A line ends at a line feed, or a carriage return and a line feed as in files from Windows, and nowhere else.
`str.splitlines` also breaks at U+2028, U+2029, U+0085 and more, which are ordinary characters in a sentence:
JSON may hold them unescaped.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_lines", "split_lines"]


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
