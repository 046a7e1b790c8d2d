"""Masks that the everything mode has found so far, each as run lengths with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindground.structures import Prediction, decode_segmentation, encode_mask, mask_box
from mindground.structures.nms import suppress
from mindground.structures.outlines import run_lengths
from mindground.structures.regions import clean_mask

__all__ = ["Candidates", "inclusive_box"]


def inclusive_box(mask: np.ndarray) -> np.ndarray:
    """Tight (4,) int64 xyxy of a binary mask (H, W), with its last column and row; zeros for an empty mask."""
    box = mask_box(np.asarray(mask)).astype(np.int64)
    return box - np.asarray([0, 0, 1, 1]) if box[2] else box


@dataclass
class Candidates:
    """N masks of one image of `size` (height, width), in its pixels.

    Attributes:
        boxes: (N, 4) int64 xyxy, with the last column and row.
        ious: (N,) float32, as the network rates the masks.
        stability: (N,) float32.
        points: (N, 2) float64 xy, the prompts.
        crops: (N, 4) int64 xyxy, right and bottom outside: where the prompt was asked.
        masks: N COCO RLE dicts.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    ious: np.ndarray
    stability: np.ndarray
    points: np.ndarray
    crops: np.ndarray
    masks: list[Mapping[str, Any]]

    @classmethod
    def none(cls, size: tuple[int, int]) -> Candidates:
        """No masks."""
        whole = np.zeros((0, 4), np.int64)
        return cls(size, whole, np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros((0, 2)), whole, [])

    @classmethod
    def joined(cls, size: tuple[int, int], parts: Sequence[Candidates]) -> Candidates:
        """All masks of several lists, in their order."""
        every = [cls.none(size), *parts]
        return cls(
            size,
            np.concatenate([part.boxes for part in every]),
            np.concatenate([part.ious for part in every]),
            np.concatenate([part.stability for part in every]),
            np.concatenate([part.points for part in every]),
            np.concatenate([part.crops for part in every]),
            [mask for part in every for mask in part.masks],
        )

    def __len__(self) -> int:
        return len(self.masks)

    def select(self, indexes: np.ndarray) -> Candidates:
        """Those at `indexes` (K,), in their order."""
        return Candidates(
            self.size,
            self.boxes[indexes],
            self.ious[indexes],
            self.stability[indexes],
            self.points[indexes],
            self.crops[indexes],
            [self.masks[int(index)] for index in indexes],
        )

    def best_of_crop(self, threshold: float) -> Candidates:
        """Of masks whose boxes cover each other, the one that the network rates best."""
        return self.select(suppress(self.boxes, self.ious, threshold))

    def best_of_crops(self, threshold: float) -> Candidates:
        """Of masks whose boxes cover each other, the one from the smallest crop."""
        sides = (self.crops[:, 2:] - self.crops[:, :2]).astype(np.float32)
        return self.select(suppress(self.boxes, np.float32(1) / (sides[:, 0] * sides[:, 1]), threshold))

    def cleaned(self, min_area: int, threshold: float) -> Candidates:
        """Without holes and islands of fewer than `min_area` pixels; masks that become alike give one, see `suppress`.

        A mask that had none stays rather than one that was changed.
        """
        boxes, masks, unchanged = self.boxes.copy(), list(self.masks), np.ones(len(self), np.float32)
        for index, rle in enumerate(self.masks):
            mask, changed = clean_mask(decode_segmentation(rle, self.size), min_area)
            if changed:
                boxes[index], masks[index], unchanged[index] = inclusive_box(mask), encode_mask(mask), 0
        made = Candidates(self.size, boxes, self.ious, self.stability, self.points, self.crops, masks)
        return made.select(suppress(boxes, unchanged, threshold))

    def records(self, output_mode: str) -> list[dict[str, Any]]:
        """One dict a mask with the published keys; `bbox` and `crop_box` are left, top, width, height.

        `bbox` counts its width from the first to the last column, so one column has width 0, as published.
        """
        found = []
        for index, rle in enumerate(self.masks):
            low, high = self.boxes[index, :2], self.boxes[index, 2:]
            first, last = self.crops[index, :2], self.crops[index, 2:]
            found.append(
                {
                    "segmentation": self._segmentation(rle, output_mode),
                    "area": int(run_lengths(rle)[1::2].sum()),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "predicted_iou": float(self.ious[index]),
                    "point_coords": [self.points[index].tolist()],
                    "stability_score": float(self.stability[index]),
                    "crop_box": [*first.tolist(), *(last - first).tolist()],
                }
            )
        return found

    def prediction(self) -> Prediction:
        """The same as the value that drawings and exports read; its boxes end at the edge of the last pixel."""
        return Prediction(
            self.size,
            self.boxes + np.asarray([0, 0, 1, 1]),
            np.clip(self.ious, 0, 1),
            masks=tuple(self.masks),
            extras={"stability_scores": self.stability, "point_coords": self.points, "crop_boxes": self.crops},
        )

    def _segmentation(self, rle: Mapping[str, Any], output_mode: str) -> Any:
        if output_mode == "binary_mask":
            return decode_segmentation(rle, self.size).astype(bool)
        if output_mode == "uncompressed_rle":
            return {"size": list(self.size), "counts": run_lengths(rle).tolist()}
        return dict(rle)
