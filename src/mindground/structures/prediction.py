"""What a model found in one image: the one value that metrics, pictures and exports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindground.structures.masks import decode_segmentation

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
