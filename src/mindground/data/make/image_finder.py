"""Where the images of an exported annotation file lie: below one folder, beside the file, or under a shorter name."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

from mindground.data.formats.fields import Reading
from mindground.data.formats.image_names import ImageNames
from mindground.errors import DataError, DatasetNotFoundError, shown

__all__ = ["ImageFinder"]


class ImageFinder:
    """Finds the files that an annotation file names.

    Args:
        folder: the folder of images that was given.
        beside: folder of the annotation file, where exports such as Roboflow's put the images, too.
        where: the annotation file, for errors.
    """

    def __init__(self, folder: Path, beside: Path, where: str) -> None:
        self.places = [folder, *([beside] if beside.resolve() != folder.resolve() else [])]
        self.where = where
        self.missing: list[str] = []

    def find(self, name: str) -> Path | None:
        """The file of an image, or None, which `missing` then names.

        The name is tried as `ImageNames` reads it, then without its leading folders, one after the other.

        Raises:
            DataError: the image lies in both folders and the two files differ, or the name is no name of a file.
        """
        for found in zip(*(list(self._paths(place, name)) for place in self.places), strict=True):
            there = [path for path in dict.fromkeys(found) if os.path.isfile(path)]
            if len(there) == 2 and not filecmp.cmp(there[0], there[1], shallow=False):
                raise DataError(
                    f"{self.where}: the image {shown(name)} lies in {self.places[0]} and, another one, beside the "
                    f"annotations in {self.places[1]}; name the folder that is meant with --images, one file a call"
                )
            if there:
                return there[0]
        self.missing.append(name)
        return None

    def require_all(self) -> None:
        """Raises DatasetNotFoundError that counts the images that are missing and names the first."""
        if self.missing:
            raise DatasetNotFoundError(
                f"{self.where}: {len(self.missing)} of its images are not in {self.places[0]}, "
                f"{shown(self.missing[0])} first; put them there, or name their folder with --images"
            )

    def _paths(self, place: Path, name: str) -> Iterator[Path]:
        names = ImageNames(place, Reading([]))
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for spelling in (name, *("/".join(parts[start:]) for start in range(1, len(parts)))):
            yield Path(names.path(spelling, self.where))
