"""Where the image of an exported annotation lies: names with backslashes, percent signs, paths of another machine."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from mindground.errors import DataError, DatasetNotFoundError

__all__ = ["ImageFinder", "shown"]


def shown(value: object, length: int = 60) -> str:
    """A value from a file in a message: escaped, and not longer than a line takes."""
    text = ascii(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


class ImageFinder:
    """Finds the files that an annotation file names.

    Args:
        folder: the folder of images that was given.
        beside: folder of the annotation file, where exports such as Roboflow's put the images, too.
    """

    def __init__(self, folder: Path, beside: Path) -> None:
        self.folder, self.beside = folder, beside
        self.missing: list[str] = []

    def find(self, name: str) -> Path | None:
        """The file of an image, or None, which `missing` then names.

        The name is tried as it stands, with `/` for backslashes, with percent codes decoded, and then without its
        leading folders, one after the other.

        Raises:
            DataError: the image lies in both folders and the two files differ.
        """
        for spelling in _spellings(name):
            found = [place / spelling for place in (self.folder, self.beside) if _is_file(place / spelling)]
            if len(found) == 2 and not filecmp.cmp(found[0], found[1], shallow=False):
                raise DataError(
                    f"the image {shown(name)} lies in {self.folder} and, another one, beside the annotations in "
                    f"{self.beside}; name the folder that is meant with --images, one file a call"
                )
            if found:
                return found[0]
        self.missing.append(name)
        return None

    def require_all(self, where: str) -> None:
        """Raises DatasetNotFoundError that counts the images that are missing and names the first."""
        if self.missing:
            raise DatasetNotFoundError(
                f"{where}: {len(self.missing)} of its images are not in {self.folder}, {shown(self.missing[0])} first; "
                "put them there, or name their folder with --images"
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _spellings(name: str) -> Sequence[str]:
    """The name itself, then its other readings, whole paths before parts of them."""
    whole = [name, name.replace("\\", "/")]
    whole += [unquote(text) for text in whole]
    parts = []
    for text in whole[1:]:
        # A drive letter and a leading slash belong to another machine.
        pieces = [piece for piece in text.split("/") if piece not in ("", ".", "..") and not piece.endswith(":")]
        parts += ["/".join(pieces[start:]) for start in range(len(pieces))]
    return list(dict.fromkeys([*whole, *parts]))
