"""One sentence, one referent: a box, a mask, or both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.shuffle import shuffle_expressions
from mindground.files.atomic import write_text
from mindground.metrics.baselines import best_constant_box
from mindground.metrics.counts import MASK_THRESHOLDS
from mindground.metrics.matching import ious
from mindground.metrics.referring import CANVAS_THRESHOLDS, ReferringMetrics
from mindground.structures import Prediction, Sample, Truth, referent_truth
from mindground.tasks.base import MetricSettings, Task
from mindground.visualize.caption import Caption, plain_caption

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
        thresholds = (settings.iou_threshold, settings.mask_threshold, settings.box_thresholds)
        return ReferringMetrics(*thresholds, settings.mask_protocol)

    def metric_names(self, settings: MetricSettings, dataset: Dataset | None = None) -> tuple[str, ...]:
        """Box scores where the model answers with boxes, mask scores where it does with masks and a sample has one."""
        thresholds = dict.fromkeys((settings.iou_threshold, *settings.box_thresholds))
        boxes = (*(f"prec@{value:g}" for value in thresholds), "box_mean_iou", "box_overall_iou")
        masks = ("mean_iou", "overall_iou", *(f"mask_prec@{value:g}" for value in MASK_THRESHOLDS))
        canvas: tuple[str, ...] = ("canvas_mean_iou", "canvas_overall_iou")
        if settings.mask_protocol != "vglaw":
            canvas = (*canvas, *(f"canvas_prec@{value:g}" for value in CANVAS_THRESHOLDS))
        if settings.mask_protocol == "seqtr":
            boxes = (*boxes, f"upstream_prec@{settings.iou_threshold:g}")
            shares = (f"upstream_mask_prec@{value:g}" for value in CANVAS_THRESHOLDS)
            canvas = (*canvas, "upstream_mean_iou", *shares)
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

    def caption(
        self,
        sample: Sample | None,
        prediction: Prediction,
        categories: Mapping[int, str] | None = None,
        min_score: float | None = None,
    ) -> Caption:
        """The sentence, and the IoU with the truth: of boxes, and of masks where both sides have them.

        Classes are not named: the sentence says what is looked for. All predictions are shown by default.
        """
        words = plain_caption(prediction, min_score)
        if sample is None:
            return words
        words = replace(words, sentence=words.sentence or sample.expression or "")
        if not words.shown or not len(sample.boxes_xyxy):
            return words
        found = zip(("box IoU", "mask IoU"), ious(prediction, referent_truth(sample)), strict=True)
        numbers = [f"{name} {value:.2f}" for name, value in found if value is not None]
        return replace(words, note="  ·  ".join(filter(None, (words.note, *numbers))))

    def curve_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """Precision at the threshold and mean IoUs, of what the model answers."""
        boxes = (f"prec@{settings.iou_threshold:g}", "box_mean_iou") if "box" in self.interface.answers else ()
        return (*boxes, "mean_iou") if "mask" in self.interface.answers else boxes

    def summary_lines(self, values: Mapping[str, Any], settings: MetricSettings) -> list[str]:
        """With `mask_protocol` lavt or seqtr the papers' names, in percent, at network size and at original size."""
        if settings.mask_protocol == "vglaw":
            return []
        lines = []
        for size, prefix, share in (
            ("at network size (as papers count)", "canvas_", "canvas_prec"),
            ("at original size", "", "mask_prec"),
        ):
            named = {"mIoU": f"{prefix}mean_iou", "oIoU": f"{prefix}overall_iou"}
            named |= {f"P@{threshold:g}": f"{share}@{threshold:g}" for threshold in CANVAS_THRESHOLDS}
            found = [f"{name} {100 * values[key]:.2f}" for name, key in named.items() if key in values]
            lines += [f"{size}: {'  '.join(found)}"] if found else []
        return lines

    def area_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """The classes of area hold scores of boxes."""
        return (f"prec@{settings.iou_threshold:g}", "box_mean_iou", "box_overall_iou")
