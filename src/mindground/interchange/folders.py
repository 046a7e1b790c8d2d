"""Annotation files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from mindground.errors import DataError, DatasetNotFoundError

__all__ = ["MAX_FILES", "files_in"]

MAX_FILES = 1_000_000
_DEPTH = 4


def files_in(path: Path, *ends: str) -> list[Path]:
    """The file itself, or the ordinary files of a folder and its sub-folders with these endings, in order of name.

    Hidden files are left out, and links to folders are not followed.

    Raises:
        DatasetNotFoundError: there is nothing. DataError: too many files.
    """
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise DatasetNotFoundError(f"{path} does not exist; name a file or a folder of annotations")
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        if len(Path(folder).relative_to(path).parts) >= _DEPTH:
            folders[:] = []
        found += [
            Path(folder, name)
            for name in names
            if name[0] != "." and name.lower().endswith(ends) and os.path.isfile(os.path.join(folder, name))
        ]
        if len(found) > MAX_FILES:
            raise DataError(f"{path} holds more than {MAX_FILES} files; convert its folders one by one")
    if not found:
        raise DatasetNotFoundError(f"{path} holds no {' or '.join(ends)} file; name the folder of the annotations")
    return sorted(found)
