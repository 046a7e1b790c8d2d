"""Where the images of the REFER family lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mindground.data.formats.image_names import ImageNames
from mindground.errors import DatasetNotFoundError

__all__ = ["image_file", "image_folder", "images_from"]

COCO_FOLDERS = ("images/mscoco/images/train2014", "images/coco/images/train2014", "images/train2014", "images")
CLEF_FOLDERS = ("images/saiapr_tc-12", "images/saiaprtc12", "saiapr_tc-12", "saiaprtc12", "images")
COCO_FROM = "http://images.cocodataset.org/zips/train2014.zip"
CLEF_FROM = "the saiapr_tc-12 archive named at https://github.com/lichengunc/refer"
RRSISD_FROM = "the archive of RRSIS-D named at https://github.com/Lsan2401/RMSIN (images/rrsisd/JPEGImages)"
RISBENCH_FROM = "the archive of RISBench named at https://github.com/HIT-SIRS/CroBIM"
_FROM = {"refclef": CLEF_FROM, "rrsisd": RRSISD_FROM, "risbench": RISBENCH_FROM}


def images_from(dataset: str) -> str:
    """Where the images of a data set come from, for messages."""
    return _FROM.get(dataset, COCO_FROM)


def _folders(dataset: str) -> tuple[str, ...]:
    if dataset == "refclef":
        return CLEF_FOLDERS
    if dataset in _FROM:
        own = (f"images/{dataset}/JPEGImages", f"images/{dataset}", f"{dataset}/JPEGImages", f"{dataset}/images")
        return (*own, *(("img_rgb", f"{dataset}/img_rgb") if dataset == "risbench" else ()), "JPEGImages", "images")
    return COCO_FOLDERS


def image_folder(root: str, dataset: str, image_root: str = "") -> Path:
    """Folder of the images: `image_root`, else the first usual place below `root` that exists.

    Raises:
        DatasetNotFoundError: none of the places exists.
    """
    tried = [Path(image_root)] if image_root else [Path(root) / name for name in _folders(dataset)]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise DatasetNotFoundError(
        f"the images of {dataset} are missing: none of {', '.join(map(str, tried))} is a folder. "
        f"Get {images_from(dataset)} and unpack it to {tried[0]}, or set data.image_root"
    )


def image_file(images: ImageNames, name: Any, image_id: Any, dataset: str, where: str) -> str:
    """The image's own file name (a ref's carries an object suffix); RefClef also lies flat as <image_id>.jpg."""
    path = images.path(name, where)
    if dataset != "refclef" or os.path.isfile(path):
        return path
    folder = images.folder
    flat = (os.path.join(folder, f"{image_id}.jpg"), os.path.join(folder, os.path.basename(path)))
    group = f"{image_id // 1000:02d}" if isinstance(image_id, int) else ""
    nested = os.path.join(folder, group, "images", f"{image_id}.jpg")
    return next((name for name in (*flat, nested) if os.path.isfile(name)), path)
