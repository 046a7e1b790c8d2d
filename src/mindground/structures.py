"""The three values that travel through MindGround, all on the host and all numpy.

`Sample` is what every annotation format yields, `Batch` what every model receives, `Prediction`
what every metric, picture and export reads. `Geometry` maps between a sample's original pixels and
the canvas the network sees. Nothing here imports MindSpore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mindground.errors import DataError

__all__ = [
    "Batch",
    "Geometry",
    "Prediction",
    "Sample",
    "box_iou",
    "box_overlap",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "decode_segmentation",
    "encode_mask",
    "mask_box",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]

# One object's outline as COCO writes it: polygons, an RLE (compressed or not), or nothing.
Segmentation = Sequence[Sequence[float] | Mapping[str, Any]] | Mapping[str, Any] | None


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, width, height -> left, top, right, bottom."""
    boxes = np.asarray(boxes, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, right, bottom -> left, top, width, height."""
    boxes = np.asarray(boxes, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xyxy_to_cxcywh(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) corners -> centre x, centre y, width, height, same unit."""
    boxes = np.asarray(boxes, np.float32)
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def cxcywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) centre x, centre y, width, height -> corners, same unit."""
    boxes = np.asarray(boxes, np.float32)
    centre, size = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], -1)


def clip_boxes(boxes_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move every corner into an image of `size` (height, width), in pixels."""
    height, width = size
    limit = np.asarray([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes_xyxy, np.float32), 0, limit)


def box_overlap(boxes_a: np.ndarray, boxes_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row-by-row areas of intersection and union of two (..., 4) xyxy arrays, (...) float64 each."""
    boxes_a, boxes_b = np.asarray(boxes_a, np.float64), np.asarray(boxes_b, np.float64)
    low = np.maximum(boxes_a[..., :2], boxes_b[..., :2])
    high = np.minimum(boxes_a[..., 2:], boxes_b[..., 2:])
    intersection = np.prod(np.clip(high - low, 0, None), -1)
    area_a = np.prod(np.clip(boxes_a[..., 2:] - boxes_a[..., :2], 0, None), -1)
    area_b = np.prod(np.clip(boxes_b[..., 2:] - boxes_b[..., :2], 0, None), -1)
    return intersection, area_a + area_b - intersection


def box_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Row-by-row intersection over union of two (..., 4) xyxy arrays; 0 where the union is empty."""
    intersection, union = box_overlap(boxes_a, boxes_b)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) binary mask -> compressed COCO RLE with `counts` as text, ready for JSON."""
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask) != 0, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_segmentation(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """One object's outline -> (H, W) uint8 of 0 and 1. `size` is the image's (height, width).

    Overlapping polygons of one object are united, never summed.

    Raises:
        DataError: the outline is neither polygons nor RLE, or an RLE of another size.
    """
    height, width = size
    if segmentation is None or (not isinstance(segmentation, Mapping) and len(segmentation) == 0):
        return np.zeros((height, width), np.uint8)
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation
    rles = [_as_rle(part, size) if isinstance(part, Mapping) else _polygon_rle(part, size) for part in parts]
    return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(rles)), np.uint8)


def _as_rle(part: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    if "counts" not in part or "size" not in part:
        raise DataError(f"an RLE needs 'size' and 'counts'; this one has {sorted(part)}")
    if tuple(part["size"]) != tuple(size):
        raise DataError(f"an RLE of size {tuple(part['size'])} belongs to an image of size {tuple(size)}")
    if isinstance(part["counts"], list):
        return coco_mask.frPyObjects(dict(part), *size)
    return part


def _polygon_rle(part: Sequence[float], size: tuple[int, int]) -> Mapping[str, Any]:
    points = [float(value) for value in part]
    if len(points) < 6 or len(points) % 2:
        raise DataError("a polygon needs at least three (x, y) pairs; run tools/data_check.py to list such objects")
    return coco_mask.frPyObjects([points], *size)[0]


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Tight (4,) xyxy box of a binary mask in pixel edges; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return np.zeros(4, np.float32)
    return np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


@dataclass(frozen=True)
class Sample:
    """One question about one image, with its truth: what every format yields.

    A referring sample has an expression and usually one object; an instance sample has
    `expression=None` and any number of objects, including none.

    Attributes:
        image_path: file that holds the image.
        sample_id: unique in its split; errors and result files name it.
        image_id: the same for all samples of one image.
        expression: the sentence, or None when every instance is asked for.
        boxes_xyxy: (N, 4) float32 in original pixels.
        segmentations: N outlines (polygons, RLE or None), decoded only by `masks`.
        labels: (N,) int64 category ids.
        size: original (height, width) as annotated, or None when only the image file knows.
        object_ids: N annotation ids; two sentences about one object share them.
        split: name of the split that the sample belongs to.
    """

    image_path: str
    sample_id: str
    image_id: str
    expression: str | None = None
    boxes_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    segmentations: tuple[Segmentation, ...] = ()
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0,), np.int64))
    size: tuple[int, int] | None = None
    object_ids: tuple[str, ...] = ()
    split: str = ""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xyxy, np.float32).reshape(-1, 4)
        labels = np.asarray(self.labels, np.int64).reshape(-1)
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "labels", labels if labels.size else np.zeros(len(boxes), np.int64))
        object.__setattr__(self, "segmentations", tuple(self.segmentations) or (None,) * len(boxes))
        if not len(boxes) == len(self.labels) == len(self.segmentations):
            raise DataError(
                f"sample {self.sample_id!r} has {len(boxes)} boxes, {len(self.labels)} labels and "
                f"{len(self.segmentations)} segmentations; they must be as many"
            )

    @property
    def has_masks(self) -> bool:
        """True when every object has an outline."""
        return len(self.segmentations) > 0 and all(s is not None for s in self.segmentations)

    def masks(self, size: tuple[int, int]) -> np.ndarray:
        """(N, H, W) uint8 masks in an image of `size` (height, width)."""
        if not self.segmentations:
            return np.zeros((0, *size), np.uint8)
        return np.stack([decode_segmentation(s, size) for s in self.segmentations])


@dataclass(frozen=True)
class Geometry:
    """How one image lies on the network's canvas, and the exact way back.

    canvas_x = (flip(original_x)) * scale_x + offset_x, likewise for y. The resized picture may be
    larger than the canvas (a crop: negative offset) or smaller (padding: positive offset).

    Attributes:
        original_size, resized_size, canvas_size: (height, width) in pixels.
        offset: (x, y) of the resized picture's corner on the canvas; whole pixels unless `window` is given.
        scale: (x, y) factors that map original pixels to resized pixels. For VG-LAW both are the
            unrounded ratio, so that boxes come back exactly.
        flipped: True when the picture was mirrored left to right before being resized.
        upside_down: True when it was mirrored top to bottom.
        window: (top, left, bottom, right) of the canvas on which a picture lies that was resized, cut and resized
            again; None = where the resized picture covers the canvas.
    """

    original_size: tuple[int, int]
    resized_size: tuple[int, int]
    canvas_size: tuple[int, int]
    offset: tuple[float, float] = (0, 0)
    scale: tuple[float, float] = (1.0, 1.0)
    flipped: bool = False
    upside_down: bool = False
    window: tuple[int, int, int, int] | None = None

    def visible(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of the part of the canvas on which the picture lies; the rest is padding."""
        if self.window is not None:
            return self.window
        (height, width), (x, y) = self.resized_size, (int(self.offset[0]), int(self.offset[1]))
        return max(0, y), max(0, x), min(self.canvas_size[0], y + height), min(self.canvas_size[1], x + width)

    def _mirror(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) in pixels of the resized picture, before or after mirroring; changed in place."""
        if self.flipped:
            boxes[:, [0, 2]] = self.resized_size[1] - boxes[:, [2, 0]]
        if self.upside_down:
            boxes[:, [1, 3]] = self.resized_size[0] - boxes[:, [3, 1]]
        return boxes

    def mirror(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, ...) of the resized picture, mirrored as this geometry says; twice gives it back."""
        pixels = pixels[:, ::-1] if self.flipped else pixels
        return pixels[::-1] if self.upside_down else pixels

    def boxes_to_canvas(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(N, 4) original pixels -> canvas pixels; not clipped."""
        boxes = self._mirror(np.array(boxes_xyxy, np.float64).reshape(-1, 4) * (*self.scale, *self.scale))
        return (boxes + (*self.offset, *self.offset)).astype(np.float32)

    def boxes_to_original(self, boxes_xyxy: np.ndarray, clip: bool = True) -> np.ndarray:
        """(N, 4) canvas pixels -> original pixels, moved inside the image unless `clip` is False."""
        boxes = self._mirror(np.array(boxes_xyxy, np.float64).reshape(-1, 4) - (*self.offset, *self.offset))
        boxes = (boxes / (*self.scale, *self.scale)).astype(np.float32)
        return clip_boxes(boxes, self.original_size) if clip else boxes

    def map_to_original(self, canvas: np.ndarray) -> np.ndarray:
        """(H, W) float map on the canvas -> (H, W) of the original image, bilinear.

        What a crop cut away is filled with the map's lowest value.
        """
        if self.window is not None:
            return self._window_to_original(canvas)
        x, y = int(self.offset[0]), int(self.offset[1])
        whole = np.full(self.resized_size, canvas.min(), np.float32)
        top, left, bottom, right = self.visible()
        whole[top - y : bottom - y, left - x : right - x] = canvas[top:bottom, left:right]
        whole = self.mirror(whole)
        size = (self.original_size[1], self.original_size[0])
        return cv2.resize(np.ascontiguousarray(whole), size, interpolation=cv2.INTER_LINEAR)

    def _window_to_original(self, canvas: np.ndarray) -> np.ndarray:
        height, width = self.original_size
        top, left, bottom, right = self.window or self.visible()
        # Pixel centres of the original on the canvas; a box without area is a point, and every axis is for itself.
        steps = np.arange(max(height, width)) + 0.5
        points = self.boxes_to_canvas(np.stack([steps] * 4, 1))
        columns, rows = points[:width, 0], points[:height, 1]
        part = np.ascontiguousarray(canvas[top:bottom, left:right], np.float32)
        at_x, at_y = np.meshgrid(columns - np.float32(left + 0.5), rows - np.float32(top + 0.5))
        found = cv2.remap(part, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cut_x, cut_y = (columns < left) | (columns > right), (rows < top) | (rows > bottom)
        return np.where(cut_y[:, None] | cut_x[None], np.float32(canvas.min()), found)


@dataclass
class Batch:
    """Fixed-shape arrays for the network, and what is needed to come back from them.

    Attributes:
        arrays: name -> array with the batch on its first axis. A model says in `input_names` and
            `target_names` which of them it takes.
        samples: the B samples; when `count` < B the rest repeats a sample to keep the shape.
        geometries: one per row.
        count: rows that are real; metrics and predictions use only these.
    """

    arrays: dict[str, np.ndarray]
    samples: list[Sample]
    geometries: list[Geometry]
    count: int

    def __len__(self) -> int:
        return self.count

    def sample_ids(self) -> list[str]:
        """Ids of the real rows, for error messages."""
        return [sample.sample_id for sample in self.samples[: self.count]]


@dataclass
class Prediction:
    """What a model found in one image for one expression, in original pixels.

    Attributes:
        size: (height, width) of the original image.
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32 in [0, 1]; higher is surer. Exactly 1 where a network has no confidence to give.
        labels: (N,) int64 category ids, 0 where there are none.
        masks: N COCO RLE dicts, or an empty tuple when the model gives no masks.
        expression: the sentence that was asked, if any.
        extras: named arrays a family wants to show (attention maps, canvas-level IoU inputs).
    """

    size: tuple[int, int]
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None
    masks: tuple[Mapping[str, Any], ...] = ()
    expression: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes_xyxy = np.asarray(self.boxes_xyxy, np.float32).reshape(-1, 4)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        count = len(self.boxes_xyxy)
        labels = np.zeros(count, np.int64) if self.labels is None else self.labels
        self.labels = np.asarray(labels, np.int64).reshape(-1)
        if len(self.scores) != count or len(self.labels) != count or len(self.masks) not in (0, count):
            raise ValueError(
                f"{count} boxes need as many scores and labels (got {len(self.scores)}, {len(self.labels)}) "
                f"and as many masks or none (got {len(self.masks)})"
            )

    def mask_arrays(self) -> np.ndarray:
        """(N, H, W) uint8 masks; N is 0 when the model gives none."""
        if not self.masks:
            return np.zeros((0, *self.size), np.uint8)
        return np.stack([decode_segmentation(m, self.size) for m in self.masks])
