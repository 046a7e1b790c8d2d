"""The WHU building set as COCO instances: every connected part of a label is a building."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mindground.errors import DataError, DatasetNotFoundError
from mindground.files.atomic import write_json
from mindground.files.mask_images import read_mask
from mindground.structures import encode_mask

__all__ = ["Building", "WhuReport", "buildings_of", "convert_whu", "whu_folders"]

CATEGORY = {"id": 1, "name": "building"}
_SUFFIXES = (".tif", ".tiff", ".png")


class Building(NamedTuple):
    """One part of a label: mask (H, W) bool, box x, y, width, height in pixels, and its number of pixels."""

    mask: np.ndarray
    box_xywh: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class WhuReport:
    """What was written."""

    path: Path
    images: int
    buildings: int
    empty: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `empty` counts images without a building."""
        return {"path": str(self.path), "images": self.images, "buildings": self.buildings, "empty": self.empty}


def buildings_of(label: np.ndarray) -> Iterator[Building]:
    """Parts of a label (H, W), not 0 on buildings, that hang together by sides (not by corners).

    They come in the order in which OpenCV numbers them, however small.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats((label != 0).astype(np.uint8), connectivity=4)
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        yield Building(parts == number, (x, y, width, height), area)


def whu_folders(root: Path, split: str) -> tuple[Path, Path]:
    """Folders of images and labels of a split: `imgs/<split>/image` and `label`, or the same right below `root`.

    Raises:
        DatasetNotFoundError: neither is there.
    """
    for base in (root / "imgs" / split, root / split):
        if (base / "image").is_dir() and (base / "label").is_dir():
            return base / "image", base / "label"
    raise DatasetNotFoundError(
        f"{root} has no imgs/{split}/image and imgs/{split}/label; unpack the WHU building set there, or name another "
        "split"
    )


def convert_whu(root: str | Path, split: str, out: str | Path = "") -> WhuReport:
    """Write the COCO file of one split; images and annotations are numbered from 0, images by their names.

    Args:
        root: folder of the set.
        split: train, val or test.
        out: file; empty = `annotations/WHU_building_<split>.json` below `root`.

    Raises:
        DatasetNotFoundError: folders or labels are missing.
        DataError: an image without a label or one of another size.
        ImageError, WriteError: a file cannot be read, or not be written.
    """
    images, labels = whu_folders(Path(root), split)
    names = sorted(path.name for path in images.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not names:
        raise DatasetNotFoundError(f"{images} holds no .tif or .png; unpack the images there")
    shown: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty = 0
    for number, name in enumerate(names):
        if not (labels / name).is_file():
            raise DataError(f"{labels / name} is missing, the label of {images / name}; unpack the set again")
        label = read_mask(labels / name)
        shown.append({"id": number, "file_name": name, "height": label.shape[0], "width": label.shape[1]})
        before = len(annotations)
        for building in buildings_of(label):
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": CATEGORY["id"], "iscrowd": 0,
                    "bbox": list(building.box_xywh), "area": building.area, "segmentation": encode_mask(building.mask),
                }
            )  # fmt: skip
        empty += len(annotations) == before
    path = Path(out) if out else Path(root) / "annotations" / f"WHU_building_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": shown, "annotations": annotations, "categories": [CATEGORY]}
    return WhuReport(write_json(path, content, indent=None), len(shown), len(annotations), empty)
