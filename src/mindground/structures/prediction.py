"""What a model found in one image: the one value that metrics, drawings and exports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindground.structures.boxes import xyxy_to_xywh
from mindground.structures.masks import decode_segmentation
from mindground.structures.probability import ProbabilityMap

__all__ = ["Prediction"]


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
        mask_scores: (N,) float32, mean probability of the pixels of each mask, 0 for an empty one; None where the
            network gives no probability of a pixel.
        probability: of every pixel of the image, where it was asked for (`Predictor(..., probability=True)`).
    """

    size: tuple[int, int]
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None
    masks: tuple[Mapping[str, Any], ...] = ()
    expression: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    mask_scores: np.ndarray | None = None
    probability: ProbabilityMap | None = None

    def __post_init__(self) -> None:
        self.boxes_xyxy = np.asarray(self.boxes_xyxy, np.float32).reshape(-1, 4)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        count = len(self.boxes_xyxy)
        labels = np.zeros(count, np.int64) if self.labels is None else self.labels
        self.labels = np.asarray(labels, np.int64).reshape(-1)
        if self.mask_scores is not None:
            self.mask_scores = np.asarray(self.mask_scores, np.float32).reshape(-1)
            if len(self.mask_scores) != count:
                raise ValueError(f"{count} boxes need as many mask scores or none (got {len(self.mask_scores)})")
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

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def select(self, indexes: np.ndarray) -> Prediction:
        """The predictions at `indexes` (K,), in their order; what concerns the whole image stays."""
        keep = np.asarray(indexes, np.int64).reshape(-1)
        return Prediction(
            self.size,
            self.boxes_xyxy[keep],
            self.scores[keep],
            None if self.labels is None else self.labels[keep],
            tuple(self.masks[index] for index in keep) if self.masks else (),
            self.expression,
            dict(self.extras),
            None if self.mask_scores is None else self.mask_scores[keep],
            self.probability,
        )

    def at_least(self, min_score: float) -> Prediction:
        """The prediction without what scores below `min_score`; it may be left empty."""
        keep = np.flatnonzero(self.scores >= min_score)
        return self if len(keep) == len(self.scores) else self.select(keep)

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """COCO-style result records: box as [left, top, width, height], mask as RLE, all in original pixels."""
        records = []
        labels = np.zeros(len(self), np.int64) if self.labels is None else self.labels
        for index, box in enumerate(xyxy_to_xywh(self.boxes_xyxy)):
            record: dict[str, Any] = {
                "image_id": image_id,
                "category_id": int(labels[index]),
                "bbox": [round(float(value), 3) for value in box],
                "area": round(float(box[2] * box[3]), 3),
                "score": round(float(self.scores[index]), 6),
            }
            if self.mask_scores is not None:
                record["mask_score"] = round(float(self.mask_scores[index]), 6)
            if self.expression is not None:
                record["text"] = self.expression
            if self.masks:
                record["segmentation"] = dict(self.masks[index])
                record["area"] = int(decode_segmentation(self.masks[index], self.size).sum())
            records.append(record)
        return records
