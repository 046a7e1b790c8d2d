"""From the image names of annotation files to the images on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from mindground.data.formats.fields import Reading, RecordError, plain_text
from mindground.errors import shown

__all__ = ["ImageNames"]

_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


class ImageNames:
    """Paths of images below one folder, by the names that exporters write.

    A name may have backslashes (Windows), percent-encoded letters (labelling servers) or the folders of the machine it
    was written on. The name as it stands comes first; others are tried where there is no such file.

    Args:
        folder: where the images are.
        reading: is told of names from other machines.
    """

    def __init__(self, folder: Path, reading: Reading) -> None:
        self.folder = folder
        self._base = str(folder)
        self._reading = reading

    def path(self, name: object, where: str) -> str:
        """Path of the image, which need not exist.

        Raises:
            RecordError: no text, or it names a device, a pipe or a folder.
        """
        given = plain_text(name, "the image's name", where, empty=False)
        given = given.replace("\\", "/")
        if _ABSOLUTE.match(given):
            return self._absolute(given, where)
        path = os.path.join(self._base, given)
        if "%" in given and _ESCAPED.search(given) and not os.path.isfile(path):
            decoded = os.path.join(self._base, _unquoted(given))
            return decoded if os.path.isfile(decoded) else path
        return path

    def _absolute(self, name: str, where: str) -> str:
        if os.path.isfile(name):
            return name
        if os.path.exists(name):
            raise RecordError(f"{where}: the image {shown(name)} is no ordinary file; name an image")
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        for start in range(max(1, len(parts) - 8), len(parts)):  # the longest end of the path that is here
            for end in ("/".join(parts[start:]), _unquoted("/".join(parts[start:]))):
                path = os.path.join(self._base, end)
                if os.path.isfile(path):
                    said = f"absolute image names of another machine are looked up below {self._base}"
                    self._reading.note(said, where, "image_name")
                    return path
        return name

    @classmethod
    def find(cls, places: Sequence[Path], name: object, reading: Reading, where: str) -> ImageNames | None:
        """The first of `places` that holds the image `name`; None where none does."""
        silent = Reading([])
        for place in places:
            if os.path.isfile(cls(place, silent).path(name, where)):
                return cls(place, reading)
        return None


def _unquoted(name: str) -> str:
    """`%C3%A9` -> `é`; bytes that are no UTF-8 stay as they are."""
    return unquote(name, errors="strict") if _decodes(name) else name


def _decodes(name: str) -> bool:
    try:
        unquote(name, errors="strict")
    except UnicodeDecodeError:
        return False
    return "%00" not in name
