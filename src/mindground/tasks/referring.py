"""One sentence, one referent: a box, a mask, or both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.shuffle import shuffle_expressions
from mindground.files.atomic import write_text
from mindground.metrics.baselines import best_constant_box
from mindground.metrics.counts import MASK_THRESHOLDS
from mindground.metrics.referring import ReferringMetrics
from mindground.structures import Prediction, Sample, Truth, referent_truth
from mindground.tasks.base import MetricSettings, Task

__all__ = ["ReferringTask"]


class ReferringTask(Task):
    """Samples have one expression each and one referent, however many objects it names."""

    kind: ClassVar[str] = "referring"
    asks_expression: ClassVar[bool] = True
    control: ClassVar[str] = "exchanged sentences"

    def truth(self, sample: Sample) -> Truth:
        """One box and one mask. Raises DataError for a sample without a box."""
        return referent_truth(sample)

    def metrics(self, settings: MetricSettings) -> ReferringMetrics:
        """See `metrics.referring`."""
        return ReferringMetrics(settings.iou_threshold, settings.mask_threshold, settings.box_thresholds)

    def metric_names(self, settings: MetricSettings, dataset: Dataset | None = None) -> tuple[str, ...]:
        """Box scores where the model answers with boxes, mask scores where it does with masks and a sample has one."""
        thresholds = dict.fromkeys((settings.iou_threshold, *settings.box_thresholds))
        boxes = (*(f"prec@{value:g}" for value in thresholds), "box_mean_iou", "box_overall_iou")
        masks = ("mean_iou", "overall_iou", *(f"mask_prec@{value:g}" for value in MASK_THRESHOLDS))
        canvas = ("canvas_mean_iou", "canvas_overall_iou")
        answers = self.interface.answers
        masked = "mask" in answers and (dataset is None or any(sample.has_masks for sample in dataset.samples))
        return (*(boxes if "box" in answers else ()), *((*masks, *canvas) if masked else ()))

    def record(self, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        """Ids, sentence, boxes in original pixels and scores."""
        return {
            "sample_id": sample.sample_id,
            "image_id": sample.image_id,
            "expression": sample.expression,
            "boxes_xyxy": np.round(prediction.boxes_xyxy.astype(np.float64), 2).tolist(),
            "scores": np.round(prediction.scores.astype(np.float64), 4).tolist(),
        }

    def write_results(self, path: str | Path, records: Sequence[Mapping[str, Any]]) -> Path:
        """JSON lines, one per sample. Raises WriteError."""
        return write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))

    def controlled(self, dataset: Dataset, seed: int) -> Dataset:
        """Sentences exchanged between objects. Raises DataError when the split has a single object."""
        return shuffle_expressions(dataset, seed)

    def constant_baseline(self, boxes: Callable[[], np.ndarray], settings: MetricSettings) -> dict[str, Any]:
        """`prec@t` of the best fixed box on the canvas."""
        value, box = best_constant_box(boxes(), settings.iou_threshold)
        return {f"prec@{settings.iou_threshold:g}": value, "box_xyxy_of_canvas": [round(float(v), 4) for v in box]}
