"""Sizes and places of images that belong to annotations."""

from __future__ import annotations

import os
from pathlib import Path

from mindground.data.formats.fields import Reading
from mindground.data.formats.image_names import ImageNames
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.files._tiff import TIFF_MAGIC, read_header
from mindground.files.images import open_image
from mindground.files.regular import check_regular, read_regular

__all__ = ["IMAGE_ENDS", "image_of", "image_size", "safe_name", "sized"]

IMAGE_ENDS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_TURNED = (5, 6, 7, 8)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file as it is shown; nothing is decoded.

    Raises:
        ImageError: it is no image.
    """
    check_regular(path, limit=None)
    with path.open("rb") as file:
        tiff = file.read(4) in TIFF_MAGIC
        file.seek(0)
        header = read_header(file) if tiff else None
    if header is not None:
        turned = not header.georeferenced and header.orientation in _TURNED
        return (header.width, header.height) if turned else (header.height, header.width)
    with open_image(read_regular(path), str(path)) as image:
        try:
            turned = image.getexif().get(0x0112) in _TURNED
        except Exception:  # damaged tags: plugins of Pillow raise what they like
            turned = False
        return (image.width, image.height) if turned else (image.height, image.width)


def image_of(name: str, folder: Path | None, where: str) -> Path | None:
    """The file of an image by its name, or by its name without ending; None where it is not there.

    Raises:
        RecordError: it names a device, a pipe or a folder.
    """
    if folder is None:
        return None
    path = Path(ImageNames(folder, Reading()).path(name, where))
    if os.path.isfile(path):
        return path
    for end in IMAGE_ENDS:
        for made in (end, end.upper()):
            if os.path.isfile(found := Path(f"{path}{made}")):
                return found
    return None


def sized(name: str, size: tuple[int, int] | None, folder: Path | None, where: str) -> tuple[int, int]:
    """The size of an image, from its file where the annotations do not say it.

    Raises:
        DatasetNotFoundError: neither says it.
    """
    if size is not None:
        return size
    path = image_of(name, folder, where)
    if path is None:
        place = "give --images, the folder of the images" if folder is None else f"it is not in {folder}"
        raise DatasetNotFoundError(f"{where}: the size of {shown(name)} is not known; {place}")
    return image_size(path)


def safe_name(name: str, end: str) -> str:
    """The path of an annotation file that belongs to an image, relative to a folder: no part of it leads outside.

    Raises:
        DataError: the image's name has no part that could name a file.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..") and "\0" not in part]
    if not parts:
        raise DataError(f"the image name {shown(name)} names no file; rename the image")
    if parts[0].endswith(":"):
        parts = parts[1:] or ["image"]
    stem, own = os.path.splitext(parts[-1])
    parts[-1] = (stem if own.lower() in IMAGE_ENDS else parts[-1]) + end
    return "/".join(parts)
