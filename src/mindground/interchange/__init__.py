"""Annotations of other tools: one reader and one writer a format, and what travels between them.

found = read("labels.json")                  # the format is recognised by its content
write("out.xml", found, "cvat")
"""

from __future__ import annotations

from mindground.interchange.model import Annotations, Context, ImageItems, Item
from mindground.interchange.registry import FORMATS, convert, find, read, recognise, write

__all__ = [
    "FORMATS",
    "Annotations",
    "Context",
    "ImageItems",
    "Item",
    "convert",
    "find",
    "read",
    "recognise",
    "write",
]
