"""A network without weights that answers from pixel values, and scenes for it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mindground.structures import Prediction, encode_mask, mask_box


def detector(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> Prediction:
    """Every connected part of one colour: its red value is the label, its green value the score."""
    assert texts is None
    boxes, scores, labels, masks = [], [], [], []
    red = image[..., 0]
    for label in np.unique(red[red > 0]):
        count, numbers = cv2.connectedComponents((red == label).astype(np.uint8), connectivity=8)
        for number in range(1, count):
            mask = numbers == number
            boxes.append(mask_box(mask))
            scores.append(image[mask][0, 1] / 255)
            labels.append(int(label))
            masks.append(encode_mask(mask))
    size = (image.shape[0], image.shape[1])
    return Prediction(size, np.asarray(boxes), np.asarray(scores), np.asarray(labels), tuple(masks)).at_least(min_score)


def boxes_only(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> Prediction:
    """The same without masks."""
    found = detector(image, texts, min_score)
    return Prediction(found.size, found.boxes_xyxy, found.scores, found.labels)


def referring(image: np.ndarray, texts: Sequence[str] | None, min_score: float = 0.0) -> list[Prediction]:
    """For every sentence the surest part, or a weak box over the whole tile: it always answers."""
    size = (image.shape[0], image.shape[1])
    answers = []
    for text in texts or ():
        found = boxes_only(image, None)
        if len(found):
            found = found.select(np.asarray([int(found.scores.argmax())]))
        else:
            found = Prediction(size, np.asarray([[0, 0, size[1], size[0]]]), np.asarray([0.1]))
        answers.append(Prediction(size, found.boxes_xyxy, found.scores, expression=text).at_least(min_score))
    return answers


def blobs(seed: int, size: tuple[int, int], count: int, largest: int, *, round_ones: bool = True) -> np.ndarray:
    """(H, W, 3) scene of separate objects, from a few pixels to `largest`, in four classes."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((*size, 3), np.uint8)
    taken = np.zeros(size, np.uint8)
    for _ in range(count):
        width, height = (int(side) for side in rng.integers(3, largest, 2))
        x, y = int(rng.integers(0, size[1] - 4)), int(rng.integers(0, size[0] - 4))
        shape = np.zeros(size, np.uint8)
        if round_ones and rng.random() < 0.6:
            axes = (max(2, width // 2), max(2, height // 2))
            cv2.ellipse(shape, (x, y), axes, float(rng.integers(0, 180)), 0, 360, 1, -1)
        else:
            shape[y : y + height, x : x + width] = 1
        wide = cv2.dilate(shape, np.ones((5, 5), np.uint8))
        if (wide & taken).any():
            continue
        taken |= wide
        scene[shape > 0] = (int(rng.integers(1, 5)), int(rng.integers(120, 250)), 7)
    return scene
