"""No question beside the image: every instance of the classes that a data set has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindground.data.dataset import Dataset
from mindground.errors import DataError
from mindground.files.atomic import write_json
from mindground.metrics.instances import InstanceMetrics
from mindground.structures import Prediction, Sample, Truth, instance_truth
from mindground.tasks.base import MetricSettings, Task

__all__ = ["InstanceTask"]

_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class InstanceTask(Task):
    """Samples are images with any number of objects, including none."""

    kind: ClassVar[str] = "instances"
    control: ClassVar[str] = "objects of another image"
    # Image ids of two splits may be the same.
    many_splits: ClassVar[bool] = False

    def truth(self, sample: Sample) -> Truth:
        """Every object."""
        return instance_truth(sample)

    def metrics(self, settings: MetricSettings) -> InstanceMetrics:
        """COCO average precision; the thresholds are COCO's own."""
        return InstanceMetrics()

    def metric_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """COCO's names for every form of answer; masks come first where a model gives them."""
        forms = [form for form in ("mask", "box") if form in self.interface.answers]
        return tuple(f"{form}_{name}" for form in forms for name in _NAMES)

    def record(self, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        """Ids, and COCO result records in original pixels."""
        image_id = int(sample.image_id) if sample.image_id.isdecimal() else sample.image_id
        results = prediction.to_coco(image_id)
        return {"sample_id": sample.sample_id, "image_id": sample.image_id, "results": results}

    def write_results(self, path: str | Path, records: Sequence[Mapping[str, Any]]) -> Path:
        """A COCO results file: one list of all detections, which pycocotools' `loadRes` reads. Raises WriteError."""
        return write_json(path, [result for record in records for result in record["results"]], indent=None)

    def controlled(self, dataset: Dataset, seed: int) -> Dataset:
        """Every image gets the objects of another one, which is drawn by `seed`.

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
            giver = dataset.samples[order[(place + 1) % count]]
            samples[index] = replace(
                samples[index],
                boxes_xyxy=giver.boxes_xyxy,
                segmentations=(None,) * len(giver.boxes_xyxy)
                if giver.size != samples[index].size
                else giver.segmentations,
                labels=giver.labels,
                object_ids=giver.object_ids,
            )
        return replace(dataset, samples=samples)

    def constant_baseline(self, boxes: Callable[[], np.ndarray], settings: MetricSettings) -> dict[str, Any]:
        """There is none: average precision of one fixed box says nothing about a set of instances."""
        raise DataError("--with-constant compares with one fixed box, which means something for one referent only")
