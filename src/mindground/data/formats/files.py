"""Reading annotation files from strangers: JSON only, with errors that name the file and the key."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import Sample, Segmentation

__all__ = [
    "Defect",
    "clean_segmentation",
    "read_json",
    "require",
    "require_images",
    "segmentation_box",
]


@dataclass(frozen=True)
class Defect:
    """What is wrong at one place of a data set: a reader raises it, the data check collects it.

    Attributes:
        kind: name of the defect, as the report of tools/data_check.py counts it.
        subject: file, with the object or line in it.
        detail: what stands there, and what should.
        split: the split concerned, where it concerns one.
        numbers: the objects concerned; None where the whole set cannot be trusted.
        serious: False for what one should know of but can train with.
    """

    kind: str
    subject: str
    detail: str
    split: str = ""
    numbers: tuple[int, ...] | None = None
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


def read_json(path: Path) -> Any:
    """Parse one JSON file.

    Raises:
        DataError: it is not UTF-8 JSON, or it ends early.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); it may be cut short, get it again") from error


def require(record: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Complain about the keys that `record` lacks, naming the place it comes from."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where} must be an object with keys {', '.join(keys)}; it is a {type(record).__name__}")
    missing = [key for key in keys if key not in record]
    if missing:
        raise DataError(f"{where} lacks {', '.join(map(repr, missing))}; it has {sorted(map(str, record))}")


def require_images(samples: Sequence[Sample], folder: Path, dataset: str, source: str) -> None:
    """Complain when none of the first hundred images is there: the folder exists, but is not the right one.

    Raises:
        DatasetNotFoundError: with `source`, where the images come from.
    """
    tried = list(dict.fromkeys(sample.image_path for sample in samples))[:100]
    if tried and not any(os.path.isfile(path) for path in tried):
        raise DatasetNotFoundError(
            f"{folder} holds none of the first {len(tried)} images of {dataset} ({tried[0]} is missing). "
            f"Get {source} and unpack it there, or set data.image_root to where the images are"
        )


def clean_segmentation(segmentation: Any, where: str) -> Segmentation:
    """Check an outline from a file: polygons, one RLE, a list of RLEs, or None for none.

    Raises:
        DataError: it is something else.
    """
    if segmentation is None or (isinstance(segmentation, Sequence) and len(segmentation) == 0):
        return None
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation
    if not isinstance(parts, Sequence) or isinstance(parts, (str, bytes)):
        raise DataError(f"{where}: a mask is a list of polygons or an RLE object, not {type(segmentation).__name__}")
    numbers = [part for part in parts if isinstance(part, (int, float))]
    if len(numbers) == len(parts):
        return [[float(value) for value in numbers]]  # one polygon without its outer list, as some exporters write it
    for part in parts:
        if isinstance(part, Mapping):
            require(part, ("size", "counts"), f"{where}: RLE")
        elif not isinstance(part, Sequence) or isinstance(part, (str, bytes)):
            raise DataError(f"{where}: a mask part is a polygon or an RLE object, not {type(part).__name__}")
    return segmentation


def segmentation_box(segmentation: Segmentation) -> list[float] | None:
    """Box (x1, y1, x2, y2) in pixels around an outline, without drawing polygons; None for no outline."""
    from pycocotools import mask as coco_mask

    if not segmentation:
        return None
    boxes = []
    for part in [segmentation] if isinstance(segmentation, Mapping) else segmentation:
        if isinstance(part, Mapping):
            rle = coco_mask.frPyObjects(dict(part), *part["size"]) if isinstance(part["counts"], list) else part
            left, top, width, height = (float(value) for value in coco_mask.toBbox(rle))
            boxes.append((left, top, left + width, top + height))
        else:
            boxes.append((min(part[0::2]), min(part[1::2]), max(part[0::2]), max(part[1::2])))
    columns = list(zip(*boxes, strict=True))
    box = [float(min(columns[0])), float(min(columns[1])), float(max(columns[2])), float(max(columns[3]))]
    return box if all(math.isfinite(value) for value in box) else None
