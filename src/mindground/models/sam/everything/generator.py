"""Every object of an image: a promptable network is asked at each point of a grid, and the good masks are kept.

session.everything(points_per_side=16)                  -> list of records, as the published generator gives them
MaskGenerator(predictor, points_per_side=16).generate("scene.jpg")                        -> the same
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from mindground.errors import DataError, ImageError
from mindground.models.sam.everything.candidates import Candidates, inclusive_box
from mindground.models.sam.everything.grids import Crop, crops, point_grids
from mindground.models.sam.everything.options import EverythingOptions
from mindground.structures import Prediction, encode_mask

__all__ = ["MaskGenerator", "Opener", "PromptSession", "everything", "generate", "stability_scores"]

# Numbers of logits in original pixels that are computed at once: 64 MiB.
_PIXELS = 1 << 24
_EDGE = 20
"""Pixels: a mask whose box ends so near to where its crop ends is probably cut."""


class PromptSession(Protocol):
    """What is asked of an encoded image."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        ...

    @property
    def image(self) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB; None where only an embedding is there."""
        ...

    def open(self, image: np.ndarray) -> PromptSession:
        """A session about another image (H, W, 3) uint8 RGB with the same network."""
        ...

    def predict(
        self, points: np.ndarray | None = None, labels: np.ndarray | None = None, *, multimask: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (P, N, 2) xy in original pixels with labels (P, N) -> logits (P, C, h, w) and ratings (P, C)."""
        ...

    def upscale(self, logits: np.ndarray) -> np.ndarray:
        """(n, h, w) -> (n, height, width) float32."""
        ...


class Opener(Protocol):
    """What encodes an image; a `Predictor` of a network that reads prompts."""

    def open(self, image: Any) -> PromptSession:
        """An image in any form that it takes -> a session."""
        ...


class MaskGenerator:
    """Finds every object of an image.

    Args:
        predictor: opens images.
        options: of `EverythingOptions`, which are those of segment-anything's `SamAutomaticMaskGenerator`.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """

    def __init__(self, predictor: Opener, **options: Any) -> None:
        self.predictor, self.options = predictor, EverythingOptions.of(options)

    def generate(self, image: Any) -> list[dict[str, Any]]:
        """One record a mask: segmentation, area, bbox, predicted_iou, point_coords, stability_score, crop_box.

        Returns:
            The records; an empty list where no mask is good enough.

        Raises:
            ImageError: not an image, or an answer of numbers that are not finite.
        """
        session = self.predictor.open(image)
        return everything(session, session.image, self.options).records(self.options.output_mode)

    def find(self, image: Any) -> Prediction:
        """The same masks as the value that drawings and exports read, whatever `output_mode` is."""
        session = self.predictor.open(image)
        return everything(session, session.image, self.options).prediction()


def generate(session: PromptSession, image: np.ndarray | None, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of one image that is open already, see `MaskGenerator.generate`.

    Args:
        image: (H, W, 3) uint8 RGB, of which crops are encoded; None where only an embedding is there.
        options: of `EverythingOptions`, by name.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
        DataError: crops of an image of which only the embedding is there.
    """
    checked = EverythingOptions.of(options)
    return everything(session, image, checked).records(checked.output_mode)


def everything(session: PromptSession, image: np.ndarray | None, options: EverythingOptions) -> Candidates:
    """The masks of an image that are good enough, in its pixels; see `generate`.

    Raises:
        DataError: crops are asked for of an image of which only the embedding is there.
        ImageError: the network's answer is not finite.
    """
    if image is None and options.crop_n_layers:
        raise DataError(
            f"crop_n_layers={options.crop_n_layers} needs the pixels of the image, and this session has its embedding "
            "alone; open the image, or take crop_n_layers=0"
        )
    size = (int(session.size[0]), int(session.size[1]))
    grids = point_grids(options)
    parts = []
    for crop in crops(size, options.crop_n_layers, options.crop_overlap_ratio):
        if len(grids[crop.layer]) == 0:
            continue
        asked = session
        if crop.layer and image is not None:
            asked = session.open(np.ascontiguousarray(image[crop.top : crop.bottom, crop.left : crop.right]))
        parts.append(_of_crop(asked, crop, size, grids[crop.layer], options))
    found = Candidates.joined(size, parts)
    if options.crop_n_layers:
        found = found.best_of_crops(options.crop_nms_thresh)
    if options.min_mask_region_area:
        found = found.cleaned(options.min_mask_region_area, max(options.box_nms_thresh, options.crop_nms_thresh))
    return found


def stability_scores(logits: np.ndarray, offset: float) -> np.ndarray:
    """(n,) float32: pixels (n, H, W) above `offset` by pixels above its negative; 0 where there are none."""
    sure = np.count_nonzero(logits > offset, axis=(1, 2)).astype(np.float32)
    maybe = np.count_nonzero(logits > -offset, axis=(1, 2)).astype(np.float32)
    return np.divide(sure, maybe, out=np.zeros_like(sure), where=maybe > 0)


def _of_crop(
    session: PromptSession, crop: Crop, size: tuple[int, int], grid: np.ndarray, options: EverythingOptions
) -> Candidates:
    """The masks of one crop, in pixels of the image."""
    points = grid * np.asarray(crop.size[::-1], np.float64)
    parts = []
    for start in range(0, len(points), options.points_per_batch):
        batch = points[start : start + options.points_per_batch]
        logits, ious = session.predict(batch[:, None], np.ones((len(batch), 1), np.int64), multimask=True)
        if not (np.isfinite(ious).all() and np.isfinite(logits).all()):
            raise ImageError(
                "the network's answer holds numbers that are not finite; take another checkpoint, or float32"
            )
        count = ious.shape[1]
        ious = np.asarray(ious, np.float32).reshape(-1)
        logits = np.asarray(logits).reshape(-1, *logits.shape[2:])
        rated = np.flatnonzero(ious > options.pred_iou_thresh) if options.pred_iou_thresh > 0 else np.arange(len(ious))
        for chunk in _chunks(rated, crop.size):
            found = _of_masks(session.upscale(logits[chunk]), crop, size, options)
            for index, box, stability, mask in found:
                at = chunk[index]
                point = batch[at // count] + np.asarray([crop.left, crop.top])
                parts.append((box, ious[at], stability, point, np.asarray(crop[:4], np.int64), mask))
    if not parts:
        return Candidates.none(size)
    boxes, kept, stable, asked, places, masks = zip(*parts, strict=True)
    every = Candidates(
        size, np.stack(boxes), np.asarray(kept, np.float32), np.asarray(stable, np.float32), np.stack(asked),
        np.stack(places), list(masks),
    )  # fmt: skip
    return every.best_of_crop(options.box_nms_thresh)


def _chunks(indexes: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    step = max(1, _PIXELS // (size[0] * size[1]))
    for start in range(0, len(indexes), step):
        yield indexes[start : start + step]


def _of_masks(
    logits: np.ndarray, crop: Crop, size: tuple[int, int], options: EverythingOptions
) -> Iterator[tuple[int, np.ndarray, np.float32, dict[str, Any]]]:
    """Of logits (n, h, w) of a crop those that are stable and whole: index, box, stability and RLE in the image."""
    stability = stability_scores(logits, options.stability_score_offset)
    for index in np.flatnonzero(stability >= options.stability_score_thresh):
        inside = logits[index] > 0
        if not inside.any():
            continue
        box = inclusive_box(inside) + np.asarray([crop.left, crop.top, crop.left, crop.top])
        if _cut_by(crop, box, size):
            continue
        if crop.layer:
            whole = np.zeros(size, bool)
            whole[crop.top : crop.bottom, crop.left : crop.right] = inside
            inside = whole
        yield int(index), box, stability[index], encode_mask(inside)


def _cut_by(crop: Crop, box: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a box ends near an edge of its crop that is not near the same edge of the image."""
    near_crop = np.abs(box - np.asarray(crop[:4])) <= _EDGE
    near_image = np.abs(box - np.asarray([0, 0, size[1], size[0]])) <= _EDGE
    return bool((near_crop & ~near_image).any())
