"""No question beside the image: every instance of the classes that a data set has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from mindground.data.dataset import Dataset
from mindground.errors import DataError
from mindground.files.atomic import write_json
from mindground.files.images import read_image
from mindground.metrics.instances import InstanceMetrics, empty_size_classes
from mindground.structures import (
    IgnoredRegion,
    Prediction,
    Sample,
    Truth,
    decode_segmentation,
    encode_mask,
    instance_truth,
)
from mindground.tasks.base import MetricSettings, Task

__all__ = ["InstanceTask"]

_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class InstanceTask(Task):
    """Samples are images with any number of objects, including none."""

    kind: ClassVar[str] = "instances"
    control: ClassVar[str] = "objects of another image"
    # Image ids of two splits may be the same.
    many_splits: ClassVar[bool] = False
    has_classes: ClassVar[bool] = True

    def truth(self, sample: Sample) -> Truth:
        """Every object."""
        return instance_truth(sample)

    def metrics(self, settings: MetricSettings) -> InstanceMetrics:
        """COCO average precision; the thresholds are COCO's own."""
        return InstanceMetrics(self.interface.answers)

    def metric_names(self, settings: MetricSettings, dataset: Dataset | None = None) -> tuple[str, ...]:
        """COCO's names for every form of answer; masks come first where a model gives them.

        A split whose images are annotated without a size is taken to have every size class.
        """
        forms = [form for form in ("mask", "box") if form in self.interface.answers]
        if dataset is None:
            return tuple(f"{form}_{name}" for form in forms for name in _NAMES)
        with_objects = [sample for sample in dataset.samples if len(sample.boxes_xyxy)]
        if not all(sample.has_masks for sample in with_objects):
            forms = [form for form in forms if form == "box"]
        absent = empty_size_classes(with_objects) if with_objects else _NAMES
        names = [name for name in _NAMES if name not in absent]
        return tuple(f"{form}_{name}" for form in forms for name in names)

    def record(self, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        """Ids, and COCO result records in original pixels."""
        image_id = int(sample.image_id) if sample.image_id.isdecimal() else sample.image_id
        results = prediction.to_coco(image_id)
        return {"sample_id": sample.sample_id, "image_id": sample.image_id, "results": results}

    def write_results(self, path: str | Path, records: Sequence[Mapping[str, Any]]) -> Path:
        """A COCO results file: one list of all detections, which pycocotools' `loadRes` reads. Raises WriteError."""
        return write_json(path, [result for record in records for result in record["results"]], indent=None)

    def controlled(self, dataset: Dataset, seed: int) -> Dataset:
        """Every image gets the objects and ignored regions of another one, which is drawn by `seed`.

        Where the two differ in size, boxes and outlines are scaled.

        Raises:
            DataError: the split has a single image.
        """
        count = len(dataset)
        if count < 2:
            raise DataError("objects cannot be exchanged: the split has a single image; evaluate without the exchange")
        # One random cycle through the images has no fixed point.
        order = np.random.default_rng(seed).permutation(count)
        samples = list(dataset.samples)
        for place, index in enumerate(order):
            giver = _scaled(dataset.samples[order[(place + 1) % count]], samples[index])
            samples[index] = replace(
                samples[index],
                boxes_xyxy=giver.boxes_xyxy,
                segmentations=giver.segmentations,
                labels=giver.labels,
                object_ids=giver.object_ids,
                ignored=giver.ignored,
            )
        return replace(dataset, samples=samples)

    def constant_baseline(self, boxes: Callable[[], np.ndarray], settings: MetricSettings) -> dict[str, Any]:
        """There is none: average precision of one fixed box says nothing about a set of instances."""
        raise DataError("--with-constant compares with one fixed box, which means something for one referent only")


def _scaled(giver: Sample, taker: Sample) -> Sample:
    """A sample with its objects and ignored regions at the size of another one's image."""
    old, new = _size(giver), _size(taker)
    if old == new:
        return giver
    factors = np.asarray([new[1] / old[1], new[0] / old[0]] * 2, np.float32)

    def outline(mask: np.ndarray) -> dict[str, Any]:
        return encode_mask(cv2.resize(mask, (new[1], new[0]), interpolation=cv2.INTER_NEAREST))

    return replace(
        giver,
        boxes_xyxy=giver.boxes_xyxy * factors,
        segmentations=tuple(
            None if given is None else outline(decode_segmentation(given, old)) for given in giver.segmentations
        ),
        ignored=tuple(
            IgnoredRegion(region.box_xyxy * factors, outline(region.mask(old)), region.label)
            for region in giver.ignored
        ),
    )


def _size(sample: Sample) -> tuple[int, int]:
    """(height, width) of a sample's image; its file is read only where no annotation says it."""
    if sample.size is not None:
        return sample.size
    height, width = read_image(sample.image_path).shape[:2]
    return height, width
