"""COCO average precision of instance predictions, box and mask, by pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mindground.metrics.coco import CocoScores, coco_scores
from mindground.metrics.counts import first_of_each
from mindground.structures import Batch, Prediction, Sample, encode_mask, mask_box, xyxy_to_xywh

__all__ = ["InstanceMetrics", "empty_size_classes"]

# Of COCO, in pixels; the boundaries belong to both neighbours.
_SIZE_CLASSES = {"ap_small": (0.0, 32.0**2), "ap_medium": (32.0**2, 96.0**2), "ap_large": (96.0**2, 1e10)}
_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class InstanceMetrics:
    """AP over IoU 0.5 ... 0.95 with at most 100 detections an image.

    `compute` gives `box_ap`, `box_ap50`, `box_ap75`, `box_ap_small` ... and the same with `mask_`
    where the truth has masks. A size class without objects is omitted. Nothing found is 0, and so is a mask that a
    prediction lacks.

    A prediction inside an ignored region of its category (a COCO crowd) counts neither as right nor as wrong.

    Args:
        forms: what the model answers with, `box`, `mask` or both.
        box_areas: an object's size class follows from the area of its box, and crowds do not count, as where a
            published evaluation takes its truth from loaded samples. Otherwise areas are those of masks.
    """

    def __init__(self, forms: Sequence[str] = ("box", "mask"), box_areas: bool = False) -> None:
        self.forms, self.box_areas = tuple(forms), box_areas
        self._images: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._images)

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Collect the real samples of a batch.

        Raises:
            ValueError: fewer predictions than real samples.
        """
        if len(predictions) < batch.count:
            raise ValueError(f"{len(predictions)} predictions for {batch.count} samples: {batch.sample_ids()}")
        for index in range(batch.count):
            size = batch.geometries[index].original_size
            truth, found = _truth(batch.samples[index], size), _found(predictions[index])
            ignored = [] if self.box_areas else _ignored(batch.samples[index], size)
            if self.box_areas:
                truth = [{**entry, "area": entry["bbox"][2] * entry["bbox"][3]} for entry in truth]
            name = batch.samples[index].sample_id
            self._images.append({"sample_id": name, "size": size, "truth": truth, "ignored": ignored, "found": found})

    def state(self) -> dict[str, Any]:
        """The collected images, for gathering over ranks."""
        return {"images": list(self._images)}

    def merge(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Replace the collected images by those of all ranks, this one included; every image counts once.

        Raises:
            DataError: two ranks scored images of one id differently.
        """
        images = [image for state in states for image in state["images"]]
        values = [[len(image["truth"]), sum(entry["score"] for entry in image["found"])] for image in images]
        self._images = [images[index] for index in first_of_each([image["sample_id"] for image in images], values)]

    def compute(self) -> dict[str, float]:
        """Scores by name, in [0, 1]; empty where no true object was collected."""
        truth = [entry for image in self._images for entry in image["truth"]]
        if not truth:
            return {}
        scores = self._average_precision("bbox", "box") if "box" in self.forms else {}
        if "mask" in self.forms and all("segmentation" in entry for entry in truth):
            scores |= self._average_precision("segm", "mask")
        return scores

    def records(self) -> list[dict[str, Any]]:
        """One entry per image, sorted by `sample_id`, with the numbers of true `objects` and of predictions `found`."""
        entries = [
            {"sample_id": image["sample_id"], "objects": len(image["truth"]), "found": len(image["found"])}
            for image in self._images
        ]
        return sorted(entries, key=lambda entry: entry["sample_id"])

    def breakdown(self) -> dict[str, dict[str, dict[str, float]]]:
        """Empty: COCO's size classes are among the scores already."""
        return {}

    def detailed(self, kind: str, limits: tuple[int, int, int] = (1, 10, 100)) -> CocoScores:
        """All of COCO's numbers, average precision of every class, and curves.

        Args:
            kind: `bbox` or `segm`.
            limits: see `coco_scores`.
        """
        return coco_scores(self._images, kind, limits)

    def _average_precision(self, kind: str, prefix: str) -> dict[str, float]:
        pairs = zip(_NAMES, self.detailed(kind).stats[: len(_NAMES)], strict=True)
        return {f"{prefix}_{name}": float(value) for name, value in pairs if value >= 0}


def _truth(sample: Sample, size: tuple[int, int]) -> list[dict[str, Any]]:
    masks = sample.masks(size) if sample.has_masks else None
    entries = []
    areas = _areas(sample, masks)
    for index, box in enumerate(xyxy_to_xywh(sample.boxes_xyxy)):
        entry = {"category_id": int(sample.labels[index]), "bbox": box.tolist(), "iscrowd": 0, "area": areas[index]}
        if masks is not None:
            entry["segmentation"] = encode_mask(masks[index])
        entries.append(entry)
    return entries


def _areas(sample: Sample, masks: np.ndarray | None) -> list[float]:
    """Pixels of every object: of its mask where there is one, of its box otherwise."""
    if masks is not None:
        return [float(np.count_nonzero(mask)) for mask in masks]
    return [float(box[2] * box[3]) for box in xyxy_to_xywh(sample.boxes_xyxy)]


def empty_size_classes(samples: Sequence[Sample]) -> set[str]:
    """Names of the size classes of which no sample has an object, as far as annotations alone tell."""
    empty = set(_SIZE_CLASSES)
    for sample in samples:
        if not empty or (sample.has_masks and sample.size is None):
            return set()
        areas = _areas(sample, sample.masks(sample.size) if sample.has_masks and sample.size else None)
        for name in tuple(empty):
            low, high = _SIZE_CLASSES[name]
            if any(low <= area <= high for area in areas):
                empty.discard(name)
    return empty


def _ignored(sample: Sample, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Regions as crowds of COCO: pycocotools measures how much of a detection is inside, and ignores both."""
    entries = []
    for region in sample.ignored:
        mask = region.mask(size)
        box = xyxy_to_xywh(region.box_xyxy)
        entry = {"category_id": int(region.label), "bbox": box.tolist(), "iscrowd": 1}
        entries.append({**entry, "area": float(np.count_nonzero(mask)), "segmentation": encode_mask(mask)})
    return entries


def _found(prediction: Prediction) -> list[dict[str, Any]]:
    boxes = prediction.boxes_xyxy
    if prediction.masks and not boxes.any():  # a model that gives masks only
        boxes = np.stack([mask_box(mask) for mask in prediction.mask_arrays()])
    entries = []
    for index, box in enumerate(xyxy_to_xywh(boxes)):
        label = 0 if prediction.labels is None else int(prediction.labels[index])
        entry = {"category_id": label, "bbox": box.tolist(), "score": float(prediction.scores[index])}
        if prediction.masks:
            entry["segmentation"] = _packed(prediction.masks[index])
        entries.append(entry)
    return entries


def _packed(rle: Mapping[str, Any]) -> dict[str, Any]:
    """A compressed RLE from a compressed or an uncompressed one."""
    if isinstance(rle["counts"], list):
        return dict(coco_mask.frPyObjects(dict(rle), *rle["size"]))
    return dict(rle)
