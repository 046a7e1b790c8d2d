"""COCO's average precision of images in memory, by pycocotools: totals, a table of classes, precision-recall curves."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["STATS", "CocoScores", "coco_scores"]

STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
         "ar1", "ar2", "ar3", "ar_small", "ar_medium", "ar_large")  # fmt: skip
"""Names of the twelve numbers; ar1 to ar3 are recalls at the three limits of detections."""
# Of the precision array: all sizes of objects, and the limit that average precision counts by.
_ALL_SIZES, _PRECISION_LIMIT = 0, 100


class CocoScores(NamedTuple):
    """Scores of one kind.

    Attributes:
        stats: (12,) float64 of `STATS`; -1 where there is no object.
        categories: ids, rising.
        precision: (10, 101, K): at every IoU from 0.5 to 0.95, recall from 0 to 1 and category; -1 without an object.
    """

    stats: np.ndarray
    categories: tuple[int, ...]
    precision: np.ndarray

    def of_classes(self) -> dict[int, float]:
        """Average precision of every category that has an object."""
        found = {}
        for place, category in enumerate(self.categories):
            values = self.precision[:, :, place]
            if (values > -1).any():
                found[category] = float(values[values > -1].mean())
        return found

    def curve(self, category: int, iou: float = 0.5) -> np.ndarray:
        """(101,) precision at recalls 0, 0.01, ... 1 of one category."""
        level = round((iou - 0.5) / 0.05)
        return self.precision[level, :, self.categories.index(category)]


def coco_scores(
    images: Sequence[Mapping[str, Any]], kind: str, limits: tuple[int, int, int] = (1, 10, 100)
) -> CocoScores:
    """Scores of images, each with `size` (height, width) and lists of COCO records without image ids.

    Average precision counts the 100 surest detections of an image and a category.

    Args:
        images: with `truth`, `ignored` (crowds) and `found`.
        kind: `bbox` or `segm`; detections without a mask do not count as `segm`. The area of a detection is that of
            its mask there.
        limits: detections of an image and a category that recalls count; 100 must be among them.
    """
    shown, annotations, results = [], [], []
    for number, image in enumerate(images, 1):
        shown.append({"id": number, "height": image["size"][0], "width": image["size"][1]})
        annotations += [{**entry, "image_id": number} for entry in (*image["truth"], *image["ignored"])]
        results += [{**entry, "image_id": number} for entry in image["found"]]
    for number, entry in enumerate(annotations, 1):
        entry["id"] = number
    if kind == "segm":
        results = [{key: entry[key] for key in entry if key != "bbox"} for entry in results if "segmentation" in entry]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints tables
        categories = [{"id": label} for label in sorted({entry["category_id"] for entry in annotations})]
        coco = COCO()
        coco.dataset = {"images": shown, "annotations": annotations, "categories": categories}
        coco.createIndex()
        scorer = COCOeval(coco, coco.loadRes(results) if results else _no_results(coco), kind)
        scorer.params.maxDets = list(limits)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    place = limits.index(_PRECISION_LIMIT)
    precision = scorer.eval["precision"][:, :, :, _ALL_SIZES, place]
    stats = np.asarray(scorer.stats)
    if place != len(limits) - 1:
        stats = stats.copy()
        stats[:6] = _averages(scorer, place)
    return CocoScores(stats, tuple(int(item["id"]) for item in categories), precision)


def _averages(scorer: COCOeval, place: int) -> list[float]:
    """Average precisions at the limit of index `place`: some versions of pycocotools take the largest limit instead."""
    whole = scorer.eval["precision"][:, :, :, :, place]
    parts = [
        whole[..., _ALL_SIZES],
        whole[0, ..., _ALL_SIZES],
        whole[5, ..., _ALL_SIZES],
        *(whole[..., n] for n in (1, 2, 3)),
    ]
    return [float(part[part > -1].mean()) if (part > -1).any() else -1.0 for part in parts]


def _no_results(truth: COCO) -> COCO:
    """Detections of the same images, none at all; `loadRes` refuses an empty list."""
    nothing = COCO()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing
