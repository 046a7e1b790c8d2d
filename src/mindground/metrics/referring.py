"""Scores of referring predictions: one referent per sentence, box and mask.

| name | definition |
|---|---|
| `prec@t` | share of sentences whose box IoU is >= t (t = `iou_threshold`) |
| `box_mean_iou` | mean box IoU over sentences |
| `mean_iou` | mean mask IoU over sentences at original resolution; 0 where the union is empty |
| `overall_iou` | sum of mask intersections / sum of mask unions, pixels at original resolution |
| `mask_prec@t` | share of sentences whose mask IoU is > t, t = 0.5, 0.55 ... 0.95 |
| `canvas_mean_iou`, `canvas_overall_iou` | the same at the network's resolution (papers); empty against empty is 1 |

A sentence without a predicted box or mask scores 0. A name is left out where it has no meaning: mask
scores where the data has no masks or the model gives none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindground.metrics.counts import (
    MASK_THRESHOLDS,
    canvas_iou,
    mask_counts,
    mask_iou,
    overall_iou,
    share_above,
    share_at_least,
)
from mindground.referent import referent_box, referent_mask
from mindground.structures import Batch, Prediction, Sample, box_iou

__all__ = ["ReferringMetrics", "is_better"]

_NUMBERS = ("box_iou", "intersection", "union", "canvas_intersection", "canvas_union")
_FLAGS = ("has_box", "has_mask", "gives_mask")


def is_better(value: float, best: float | None) -> bool:
    """True when `value` beats `best`. NaN never does, and anything beats no best or a NaN."""
    if math.isnan(value):
        return False
    return best is None or math.isnan(best) or value > best


class ReferringMetrics:
    """Collects one record per sentence; states of several ranks can be merged.

    Args:
        iou_threshold: of `prec@t` for boxes.
        mask_threshold: probability from which a pixel belongs to a mask. Models apply it when they
            decode; here it is only kept for the protocol.
    """

    def __init__(self, iou_threshold: float = 0.5, mask_threshold: float = 0.35) -> None:
        self.iou_threshold, self.mask_threshold = iou_threshold, mask_threshold
        self._ids: list[str] = []
        self._rows: list[list[float]] = []
        self._flags: list[list[bool]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Score the real rows of a batch, in their order.

        Raises:
            ValueError: fewer predictions than real rows, or of images of another size.
        """
        if len(predictions) < batch.count:
            raise ValueError(f"{len(predictions)} predictions for {batch.count} rows: {batch.sample_ids()}")
        for row in range(batch.count):
            self._add(predictions[row], batch, row)

    def _add(self, prediction: Prediction, batch: Batch, row: int) -> None:
        sample, size = batch.samples[row], batch.geometries[row].original_size
        if tuple(prediction.size) != tuple(size):
            raise ValueError(f"sample {sample.sample_id!r} is {size}, its prediction {prediction.size}")
        best = int(np.argmax(prediction.scores)) if len(prediction.scores) else None
        has_box = len(sample.boxes_xyxy) > 0
        iou = math.nan
        if has_box:
            iou = 0.0 if best is None else float(box_iou(prediction.boxes_xyxy[best], referent_box(sample)))
        intersection, union, has_mask = _mask_row(prediction, best, sample, size)
        self._ids.append(sample.sample_id)
        self._rows.append([iou, intersection, union, *_canvas_row(prediction, batch, row)])
        self._flags.append([has_box, has_mask, bool(prediction.masks)])

    def state(self) -> dict[str, np.ndarray]:
        """Everything collected so far as arrays with one entry per sentence, for gathering."""
        numbers = np.asarray(self._rows, np.float64).reshape(-1, len(_NUMBERS))
        flags = np.asarray(self._flags, bool).reshape(-1, len(_FLAGS))
        columns = {name: numbers[:, place] for place, name in enumerate(_NUMBERS)}
        columns |= {name: flags[:, place] for place, name in enumerate(_FLAGS)}
        return {"sample_id": np.asarray(self._ids, dtype=np.str_), **columns}

    def merge(self, states: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Replace what was collected by the states of all ranks (this one's among them)."""
        self._ids = [str(name) for state in states for name in state["sample_id"]]
        self._rows = [list(row) for state in states for row in zip(*(state[n].tolist() for n in _NUMBERS), strict=True)]
        self._flags = [list(row) for state in states for row in zip(*(state[n].tolist() for n in _FLAGS), strict=True)]

    def compute(self) -> dict[str, float]:
        """Scores by name, in [0, 1]; empty when nothing was collected."""
        state = self.state()
        scores: dict[str, float] = {}
        boxes = state["box_iou"][state["has_box"]]
        if boxes.size:
            scores[f"prec@{self.iou_threshold:g}"] = share_at_least(boxes, self.iou_threshold)
            scores["box_mean_iou"] = float(boxes.mean())
        if state["gives_mask"].any() and state["has_mask"].any():
            rows = state["has_mask"]
            scores |= _mask_scores(state["intersection"][rows], state["union"][rows])
        rows = ~np.isnan(state["canvas_union"])
        if rows.any():
            scores |= _canvas_scores(state["canvas_intersection"][rows], state["canvas_union"][rows])
        return scores

    def records(self) -> list[dict[str, Any]]:
        """One entry per sentence, by sample id: `sample_id`, `box_iou`, `mask_iou` (None = no truth)."""
        state = self.state()
        ious = mask_iou(np.nan_to_num(state["intersection"]), np.nan_to_num(state["union"]))
        entries = [
            {
                "sample_id": str(name),
                "box_iou": float(box) if has_box else None,
                "mask_iou": float(iou) if has_mask and state["gives_mask"].any() else None,
            }
            for name, box, iou, has_box, has_mask in zip(
                state["sample_id"], state["box_iou"], ious, state["has_box"], state["has_mask"], strict=True
            )
        ]
        return sorted(entries, key=lambda entry: str(entry["sample_id"]))


def _mask_scores(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    ious = mask_iou(intersection, union)
    scores = {"mean_iou": float(ious.mean()), "overall_iou": overall_iou(intersection, union)}
    shares = zip(MASK_THRESHOLDS, share_above(ious), strict=True)
    return scores | {f"mask_prec@{threshold:g}": float(share) for threshold, share in shares}


def _canvas_scores(intersection: np.ndarray, union: np.ndarray) -> dict[str, float]:
    return {
        "canvas_mean_iou": float(canvas_iou(intersection, union).mean()),
        "canvas_overall_iou": overall_iou(intersection, union),
    }


def _mask_row(
    prediction: Prediction, best: int | None, sample: Sample, size: tuple[int, int]
) -> tuple[float, float, bool]:
    """Intersection and union in pixels at original resolution, and whether there is a truth."""
    truth = referent_mask(sample, size)
    if truth is None:
        return math.nan, math.nan, False
    if best is None or not prediction.masks:
        return 0.0, float((truth != 0).sum()), True
    intersection, union = mask_counts(prediction.mask_arrays()[best], truth)
    return float(intersection), float(union), True


def _canvas_row(prediction: Prediction, batch: Batch, row: int) -> tuple[float, float]:
    """Intersection and union at the network's resolution, NaN where the model did not hand them over."""
    truth, known = batch.arrays.get("mask"), batch.arrays.get("has_mask")
    if known is not None and not known[row].any():
        return math.nan, math.nan
    if "canvas_iou_counts" in prediction.extras:
        intersection, union = prediction.extras["canvas_iou_counts"]
    elif "canvas_mask" in prediction.extras and truth is not None:
        shape = truth.shape[-2:]
        intersection, union = mask_counts(np.asarray(prediction.extras["canvas_mask"]).reshape(shape), truth[row, 0])
    else:
        return math.nan, math.nan
    return float(intersection), float(union)
