"""Points, boxes and earlier masks are the question: a mask for every object of an image, asked for one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mindground.data.dataset import Dataset
from mindground.errors import DataError
from mindground.metrics.prompted import PROMPTED_NAMES, PromptedMetrics
from mindground.structures import Prediction, Sample
from mindground.tasks.base import MetricSettings
from mindground.tasks.instances import InstanceTask
from mindground.visualize.caption import Caption, plain_caption

__all__ = ["PromptedTask"]


class PromptedTask(InstanceTask):
    """Samples are images with any number of objects that have masks; their classes play no part."""

    has_classes: ClassVar[bool] = False

    def metrics(self, settings: MetricSettings) -> PromptedMetrics:  # type: ignore[override]
        """Mean IoU by kind of prompt."""
        return PromptedMetrics()

    def metric_names(self, settings: MetricSettings, dataset: Dataset | None = None) -> tuple[str, ...]:
        """`iou_box` and the others of `metrics.prompted`, where objects have masks."""
        masked = dataset is None or any(sample.has_masks for sample in dataset.samples)
        return ("iou_box", *(name for name in PROMPTED_NAMES if name != "iou_box")) if masked else ()

    def controlled(self, dataset: Dataset, seed: int) -> Dataset:
        """There is none: prompts follow from the truth, so those of another image ask for other masks."""
        raise DataError(
            "prompts are drawn from the truth, so exchanged objects are only other prompts; evaluate without the "
            "exchange: iou_box_as_mask says what a prompt alone is worth"
        )

    def caption(
        self,
        sample: Sample | None,
        prediction: Prediction,
        categories: Mapping[int, str] | None = None,
        min_score: float | None = None,
    ) -> Caption:
        """How many masks there are, and the mean IoU by their boxes where the truth is known."""
        words = plain_caption(prediction, min_score)
        if sample is None or "prompt_iou" not in prediction.extras:
            return words
        figures = np.asarray(prediction.extras["prompt_iou"]).reshape(-1, len(PROMPTED_NAMES))
        if not len(figures):
            return replace(words, note="no object")
        place = PROMPTED_NAMES.index("iou_box")
        return replace(words, note=f"mean mask IoU by box {figures[:, place].mean():.2f}", legend="mask of its box")

    def curve_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """By point, by box and after clicks."""
        return PROMPTED_NAMES[:3]

    def constant_baseline(self, boxes: Callable[[], np.ndarray], settings: MetricSettings) -> dict[str, Any]:
        """There is none: what a prompt alone is worth stands among the metrics."""
        raise DataError("--with-constant means nothing here: iou_box_as_mask says what a box alone is worth")

    def area_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """No classes of area."""
        return ()

    def summary_lines(self, values: Mapping[str, Any], settings: MetricSettings) -> list[str]:
        """The four figures in one line."""
        found: Sequence[str] = [f"{name} {values[name]:.3f}" for name in PROMPTED_NAMES if name in values]
        return ["mean mask IoU: " + "  ".join(found)] if found else []
