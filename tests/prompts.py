"""A promptable network without a network: the object at a point is the area of one colour around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mindground.errors import DataError
from mindground.files.images import read_image
from mindground.models.sam.everything import generate
from mindground.structures import Geometry, Prediction, ProbabilityMap, encode_mask, mask_box
from mindground.visualize.caption import plain_caption

RATINGS = (0.95, 0.99, 0.97)


class ColourSession:
    """Three answers a prompt: the area of one colour; one that is unstable; the whole image."""

    asked: list[int]
    largest: int

    def __init__(self, image: np.ndarray, keep_image: bool = True) -> None:
        self.pixels, self.size = image, image.shape[:2]
        self.image = image if keep_image else None
        self.asked, self.largest, self.opened = [], 0, []
        self.embedding = np.broadcast_to(np.float32(image.mean()), (1, 4, 2, 2))

    def open(self, image: np.ndarray) -> ColourSession:
        made = ColourSession(image)
        self.opened.append(image.shape[:2])
        return made

    def predict(
        self, points: Any = None, labels: Any = None, boxes: Any = None, mask_input: Any = None, multimask: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        at = np.asarray(points)[:, 0] if points is not None else (boxes[:, :2] + boxes[:, 2:]) / 2
        self.asked.append(len(at))
        logits = []
        for x, y in at:
            area = self.area(float(x), float(y))
            inside = np.where(area, 8.0, -8.0)
            logits.append([inside, inside / 10, np.full(self.size, 9.0)][: 3 if multimask else 1])
        return np.asarray(logits, np.float32), np.tile(np.float32(RATINGS[: 3 if multimask else 1]), (len(at), 1))

    def area(self, x: float, y: float) -> np.ndarray:
        seed = self.pixels[min(int(y), self.size[0] - 1), min(int(x), self.size[1] - 1)]
        _, labels = cv2.connectedComponents((self.pixels == seed).all(-1).astype(np.uint8), connectivity=4)
        return labels == labels[min(int(y), self.size[0] - 1), min(int(x), self.size[1] - 1)]

    def upscale(self, logits: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, logits.size)
        return logits

    def __call__(
        self,
        points: Any = None,
        labels: Any = None,
        *,
        box: Any = None,
        boxes: Any = None,
        multimask: bool = True,
        **rest: Any,
    ) -> Prediction:
        self.last = {"points": points, "labels": labels, "box": box, "boxes": boxes, "multimask": multimask}
        at = None if points is None else np.asarray([points], np.float64)
        boxes = boxes if box is None else np.asarray([box], np.float64)
        logits, ratings = self.predict(at, labels, boxes, multimask=multimask)
        masks = logits.reshape(-1, *logits.shape[2:]) > 0
        return Prediction(
            self.size,
            np.stack([mask_box(m) for m in masks]),
            ratings.reshape(-1),
            masks=tuple(map(encode_mask, masks)),
        )

    def everything(self, **options: Any) -> Any:
        return generate(self, self.image, options)

    def __enter__(self) -> ColourSession:
        return self

    def __exit__(self, *reason: object) -> None:
        return None


class ColourPredictor:
    """Opens images and files of them."""

    name, config, categories, asks_prompt, asks_expression = "colours.ckpt", None, {}, True, False
    network_key = "colours"

    def __init__(self) -> None:
        self.sessions: list[ColourSession] = []

    def open(self, image: Any, **rest: Any) -> ColourSession:
        pixels = read_image(image) if isinstance(image, (str, Path)) else np.asarray(image)
        self.sessions.append(ColourSession(pixels))
        return self.sessions[-1]


class Grounder:
    """A grounding network that answers with a given box, and where it has one with a map of logits (90, 120)."""

    name, config, categories, asks_expression, gives_scores = "words.ckpt", None, {1: "ship"}, True, True

    def __init__(self, box: Any = (15, 5, 55, 45), logits: np.ndarray | None = None, score: float = 0.8) -> None:
        self.box, self.logits, self.score = box, logits, score
        self.gives_probability = logits is not None
        self.calls: list[Any] = []

    def __call__(self, image: Any, text: Any = None, min_score: float = 0.0, **options: Any) -> Any:
        self.calls.append((text, min_score, options))
        if text is None:
            raise DataError("give a sentence")
        one = isinstance(text, str)
        found = [self.answer(t, options).at_least(min_score) for t in ([text] if one else text)]
        return found[0] if one else found

    def answer(self, text: str, options: dict[str, Any]) -> Prediction:
        made = Prediction((90, 120), [self.box], [self.score], expression=text, extras={"unknown_words": []})
        if options.get("probability"):
            made.masks = (encode_mask(self.logits > 0),)
            made.probability = ProbabilityMap(self.logits, Geometry(*[(90, 120)] * 3))
        return made

    def unknown_words(self, sentence: str) -> list[str]:
        return ["x"]

    def caption(self, prediction: Prediction, min_score: float | None = None) -> Any:
        return plain_caption(prediction, min_score)


def scene(size: tuple[int, int] = (90, 120), objects: Sequence[tuple[int, int, int, int]] = ()) -> np.ndarray:
    """(H, W, 3) uint8 with rectangles (xyxy, the right and lower edge outside) in different colours."""
    image = np.full((*size, 3), 60, np.uint8)
    for index, (left, top, right, bottom) in enumerate(objects):
        image[top:bottom, left:right] = (200 - 20 * index, 30 + 40 * index, 90)
    return image


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
