"""One question about one image with its truth: what every annotation format yields."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mindground.errors import DataError
from mindground.structures.mask_file import MaskFile
from mindground.structures.masks import Segmentation, decode_segmentation, encode_mask
from mindground.structures.outlines import outline_box
from mindground.structures.overlap import once_covered

__all__ = ["IgnoredRegion", "MaskedSample", "Overlap", "Sample"]

Overlap = Literal["union", "upstream"]
"""What a pixel is that several parts of one outline cover: of the object, or background as upstream LAVT and RMSIN."""


@dataclass(frozen=True)
class IgnoredRegion:
    """A region that holds an unknown number of objects of one category (COCO: a crowd).

    It is no instance: what is found inside it is neither right nor wrong.

    Attributes:
        box_xyxy: (4,) float32 in original pixels.
        segmentation: its outline, or None where only the box is known.
        label: category id.
    """

    box_xyxy: np.ndarray
    segmentation: Segmentation = None
    label: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "box_xyxy", np.asarray(self.box_xyxy, np.float32).reshape(4))

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 in an image of `size` (height, width); the box, in whole pixels, where there is no outline."""
        if self.segmentation:
            return decode_segmentation(self.segmentation, size)
        mask = np.zeros(size, np.uint8)
        left, top = np.floor(np.clip(self.box_xyxy[:2], 0, None)).astype(int)
        right, bottom = np.ceil(np.clip(self.box_xyxy[2:], 0, None)).astype(int)
        mask[top:bottom, left:right] = 1
        return mask


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
        ignored: regions in which nothing counts, neither as found nor as missed.
        overlap: what pixels are that several parts of one outline cover.
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
    ignored: tuple[IgnoredRegion, ...] = ()
    overlap: Overlap = "union"

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xyxy, np.float32).reshape(-1, 4)
        labels = np.asarray(self.labels, np.int64).reshape(-1)
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "labels", labels if labels.size else np.zeros(len(boxes), np.int64))
        object.__setattr__(self, "segmentations", tuple(self.segmentations) or (None,) * len(boxes))
        object.__setattr__(self, "ignored", tuple(self.ignored))
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
        return np.stack([decode_segmentation(self._read(outline, size), size) for outline in self.segmentations])

    def outlines(self) -> tuple[Segmentation, ...]:
        """`segmentations` as they can be written down: files of masks and parts read as upstream does become RLEs.

        Raises:
            DataError: such a file cannot be read, or parts cannot be drawn because `size` is not known.
        """
        return tuple(self._written(outline) for outline in self.segmentations)

    def with_expression(self, expression: str | None) -> Sample:
        """The same sample with another sentence; nothing is read or computed."""
        made = copy.copy(self)
        object.__setattr__(made, "expression", expression)
        return made

    def _read(self, outline: Segmentation, size: tuple[int, int]) -> Segmentation:
        return once_covered(outline, size) if self.overlap == "upstream" else outline

    def _written(self, outline: Segmentation) -> Segmentation:
        if isinstance(outline, MaskFile):
            return encode_mask(outline.pixels(self.size))
        if self.overlap == "union" or not isinstance(outline, list) or len(outline) < 2:
            return outline
        if self.size is None:
            raise DataError(f"sample {self.sample_id!r} has no size, so the parts of its outline cannot be drawn")
        return once_covered(outline, self.size)


@dataclass(frozen=True)
class MaskedSample(Sample):
    """A sample of files of masks, which are read when `boxes_xyxy` is first asked for: the boxes around them.

    A data set of tens of thousands of masks is listed without opening one. An empty mask has a box of zeros.
    """

    def __post_init__(self) -> None:
        if len(self.boxes_xyxy) == 0 and self.segmentations:
            object.__setattr__(self, "boxes_xyxy", np.zeros((len(self.segmentations), 4), np.float32))
            super().__post_init__()
            object.__delattr__(self, "boxes_xyxy")
        else:
            super().__post_init__()

    def __getattr__(self, name: str) -> Any:
        if name != "boxes_xyxy":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        boxes = [self._box(outline) for outline in self.segmentations]
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
        object.__setattr__(self, "boxes_xyxy", found)
        return found

    def _box(self, outline: Segmentation) -> list[float]:
        try:
            return outline_box(outline) or [0.0] * 4
        except DataError as error:
            raise DataError(f"sample {self.sample_id!r} ({self.image_path}): {error}") from error
