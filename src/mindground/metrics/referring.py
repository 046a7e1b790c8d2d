"""Scores of referring predictions: one referent per sentence, box and mask.

| name | definition |
|---|---|
| `prec@t` | fraction of sentences whose box IoU is >= t (t = `iou_threshold` and each of `box_thresholds`) |
| `prec_strict@t` | fraction whose box IoU is > t, as RSVG's and MGVLF's code counts; given only where it differs |
| `box_mean_iou` | mean box IoU over sentences |
| `box_overall_iou` | cumIoU: sum of box intersections / sum of box unions, pixels at original resolution |
| `mean_iou` | mean mask IoU over sentences at original resolution; 0 where the union is empty |
| `overall_iou` | sum of mask intersections / sum of mask unions, pixels at original resolution |
| `mask_prec@t` | fraction of sentences whose mask IoU is > t, t = 0.5, 0.55 ... 0.95 |
| `canvas_mean_iou`, `canvas_overall_iou` | the same at the network's resolution (papers); empty against empty is 1 |
| `canvas_prec@t` | fraction whose canvas IoU is >= t, t = 0.5, 0.6 ... 0.9; with `protocol` "lavt" and "seqtr" only |

`protocol="lavt"` counts masks as LAVT's and RMSIN's code does: `mask_prec@t` and `canvas_prec@t` take >= t, and empty
against empty is 0 at the network's resolution, too. `protocol="seqtr"` does the same, and gives what SeqTR's and MSAM's
code would have said beside it: `upstream_prec@t`, `upstream_mean_iou` and `upstream_mask_prec@t` are means of the
batches' means, so that a short last batch weighs as much as the others; and where the outline of a referent has several
polygons, the share of the predicted mask that lies in it stands for the IoU, which is more (COCO's rule for crowds).

A sentence without a predicted box or mask scores 0. A name is omitted where it has no meaning: mask
scores where the data has no masks or the model gives none.

Predicted boxes are clipped to the image before they are scored, true ones are not. `breakdown` gives the box
scores of classes of sentences, each with its `count`:

| name | sentences |
|---|---|
| `by_area` | `small`, `medium`, `large`: the referent's box has less than 32^2, less than 96^2, or more pixels (COCO) |
| `by_word` | `left`, `right`, `top`, `bottom`, `middle`: the sentence says so ("upper" is top); `none`: no such word |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindground.metrics.counts import (
    MASK_THRESHOLDS,
    box_shares,
    canvas_iou,
    first_of_each,
    mask_counts,
    mask_iou,
    mean_of_groups,
    overall_iou,
    share_above,
    share_at_least,
)
from mindground.structures import Batch, Prediction, Sample, clip_boxes, intersection_and_union
from mindground.structures.truth import referent_box, referent_mask
from mindground.text import LEGACY_DIRECTIONS, directions

__all__ = ["CANVAS_THRESHOLDS", "ReferringMetrics", "is_better"]

CANVAS_THRESHOLDS: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
_NUMBERS = (
    *("box_intersection", "box_union", "box_area"),
    *("intersection", "union", "canvas_intersection", "canvas_union", "canvas_area", "polygons", "batch"),
)
_WORDS = tuple(f"says_{word}" for word in LEGACY_DIRECTIONS)
_FLAGS = ("has_box", "has_mask", "gives_mask", *_WORDS)
# COCO's size classes: name, and the upper limit of the box area in pixels of the original image.
_AREAS = (("small", 32.0**2), ("medium", 96.0**2), ("large", math.inf))


def is_better(value: float, best: float | None) -> bool:
    """True when `value` beats `best`. NaN never does, and anything beats no best or a NaN."""
    if math.isnan(value):
        return False
    return best is None or math.isnan(best) or value > best


class ReferringMetrics:
    """Collects one record per sentence; states of several ranks can be merged.

    Args:
        iou_threshold: threshold of `prec@t` for boxes.
        mask_threshold: probability from which a pixel belongs to a mask. Models apply it when they
            decode; this class only stores it for the protocol.
        box_thresholds: further thresholds of `prec@t`.
        protocol: how masks count, "vglaw", "lavt" or "seqtr"; see the module's description.

    Raises:
        ValueError: an unknown protocol.
    """

    def __init__(
        self,
        iou_threshold: float = 0.5,
        mask_threshold: float = 0.35,
        box_thresholds: Sequence[float] = (),
        protocol: str = "vglaw",
    ) -> None:
        if protocol not in ("vglaw", "lavt", "seqtr"):
            raise ValueError(f"protocol={protocol!r}; choose vglaw, lavt or seqtr")
        self.protocol = protocol
        self.iou_threshold, self.mask_threshold = iou_threshold, mask_threshold
        self.thresholds = (iou_threshold, *box_thresholds)
        self._ids: list[str] = []
        self._numbers: list[list[float]] = []
        self._batches = 0
        self._flags: list[list[bool]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Score the real samples of a batch, in their order.

        Raises:
            ValueError: fewer predictions than real samples, or a prediction for an image of another size.
        """
        if len(predictions) < batch.count:
            raise ValueError(f"{len(predictions)} predictions for {batch.count} samples: {batch.sample_ids()}")
        for index in range(batch.count):
            self._add(predictions[index], batch, index)
        self._batches += 1

    def _add(self, prediction: Prediction, batch: Batch, index: int) -> None:
        sample, size = batch.samples[index], batch.geometries[index].original_size
        if tuple(prediction.size) != tuple(size):
            raise ValueError(f"sample {sample.sample_id!r} is {size}, its prediction {prediction.size}")
        best = int(np.argmax(prediction.scores)) if len(prediction.scores) else None
        has_box = len(sample.boxes_xyxy) > 0
        box = _box_numbers(prediction, best, sample) if has_box else [math.nan] * 3
        words = directions(sample.expression or "")
        intersection, union, has_mask = _mask_numbers(prediction, best, sample, size)
        self._ids.append(sample.sample_id)
        canvas = (*_canvas_numbers(prediction, batch, index), *_upstream_numbers(prediction, sample))
        self._numbers.append([*box, intersection, union, *canvas, float(self._batches)])
        self._flags.append([has_box, has_mask, bool(prediction.masks), *(word in words for word in LEGACY_DIRECTIONS)])

    def state(self) -> dict[str, np.ndarray]:
        """The collected numbers as arrays with one entry per sentence, for gathering over ranks."""
        numbers = np.asarray(self._numbers, np.float64).reshape(-1, len(_NUMBERS))
        flags = np.asarray(self._flags, bool).reshape(-1, len(_FLAGS))
        columns = {name: numbers[:, column] for column, name in enumerate(_NUMBERS)}
        columns |= {name: flags[:, column] for column, name in enumerate(_FLAGS)}
        return {"sample_id": np.asarray(self._ids, dtype=np.str_), **columns}

    def merge(self, states: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Replace the collected sentences by those of all ranks, this one included; every sample counts once.

        Raises:
            DataError: two ranks scored samples of one id differently.
        """
        ids = [str(name) for state in states for name in state["sample_id"]]
        numbers = [list(e) for state in states for e in zip(*(state[n].tolist() for n in _NUMBERS), strict=True)]
        ranks = [rank for rank, state in enumerate(states) for _ in state["sample_id"]]
        scored = [entry[:-1] for entry in numbers]  # without the number of the batch
        flags = [list(e) for state in states for e in zip(*(state[n].tolist() for n in _FLAGS), strict=True)]
        keep = first_of_each(ids, scored)
        # Every rank counts its own batches.
        joint = [[*scored[i], numbers[i][-1] * len(states) + ranks[i]] for i in keep]
        self._ids, self._numbers = [ids[i] for i in keep], joint
        self._flags = [flags[i] for i in keep]

    def compute(self) -> dict[str, float]:
        """Scores by name, in [0, 1]; empty when nothing was collected."""
        state = self.state()
        scores: dict[str, float] = {}
        if state["has_box"].any():
            scores |= self._box_scores(state, state["has_box"])
        if state["gives_mask"].any() and state["has_mask"].any():
            known = state["has_mask"]
            scores |= _mask_scores(state["intersection"][known], state["union"][known], self.protocol)
        known = ~np.isnan(state["canvas_union"])
        if known.any():
            scores |= _canvas_scores(state["canvas_intersection"][known], state["canvas_union"][known], self.protocol)
        return scores | (_upstream_scores(state, self.iou_threshold) if self.protocol == "seqtr" else {})

    def breakdown(self) -> dict[str, dict[str, dict[str, float]]]:
        """Box scores by area and by word of place: {`by_area` or `by_word`: {class: scores and `count`}}.

        A class without sentences is omitted.
        """
        state = self.state()
        lower = (0.0, *(limit for _, limit in _AREAS[:-1]))
        groups = {
            "by_area": {
                name: (state["box_area"] >= low) & (state["box_area"] < high)
                for (name, high), low in zip(_AREAS, lower, strict=True)
            },
            "by_word": {word: state[f"says_{word}"] for word in LEGACY_DIRECTIONS},
        }
        groups["by_word"]["none"] = ~np.any([state[name] for name in _WORDS], 0)
        found: dict[str, dict[str, dict[str, float]]] = {}
        for kind, classes in groups.items():
            for name, members in classes.items():
                selected = members & state["has_box"]
                if selected.any():
                    scores = {"count": float(selected.sum()), **self._box_scores(state, selected)}
                    found.setdefault(kind, {})[name] = scores
        return found

    def _box_scores(self, state: Mapping[str, np.ndarray], selected: np.ndarray) -> dict[str, float]:
        intersection, union = state["box_intersection"][selected], state["box_union"][selected]
        ious = mask_iou(intersection, union)
        scores = box_shares(ious, self.thresholds)
        return scores | {"box_mean_iou": float(ious.mean()), "box_overall_iou": overall_iou(intersection, union)}

    def records(self) -> list[dict[str, Any]]:
        """One entry per sentence, sorted by `sample_id`: `sample_id`, `box_iou`, `mask_iou` (None = no truth)."""
        state = self.state()
        boxes = mask_iou(np.nan_to_num(state["box_intersection"]), np.nan_to_num(state["box_union"]))
        ious = mask_iou(np.nan_to_num(state["intersection"]), np.nan_to_num(state["union"]))
        entries = [
            {
                "sample_id": str(name),
                "box_iou": float(box) if has_box else None,
                "mask_iou": float(iou) if has_mask and state["gives_mask"].any() else None,
            }
            for name, box, iou, has_box, has_mask in zip(
                state["sample_id"], boxes, ious, state["has_box"], state["has_mask"], strict=True
            )
        ]
        return sorted(entries, key=lambda entry: str(entry["sample_id"]))


def _box_numbers(prediction: Prediction, best: int | None, sample: Sample) -> list[float]:
    """Intersection and union of the box of the highest score with the truth, and the truth's area, in pixels."""
    truth = referent_box(sample)
    guess = np.zeros(4) if best is None else clip_boxes(prediction.boxes_xyxy[best], prediction.size)
    area = float(np.prod(np.clip(np.asarray(truth[2:] - truth[:2], np.float64), 0, None)))
    return [*(float(value) for value in intersection_and_union(guess, truth)), area]


def _mask_scores(intersection: np.ndarray, union: np.ndarray, protocol: str) -> dict[str, float]:
    ious = mask_iou(intersection, union)
    scores = {"mean_iou": float(ious.mean()), "overall_iou": overall_iou(intersection, union)}
    if protocol != "vglaw":
        shares = [share_at_least(ious, threshold) for threshold in MASK_THRESHOLDS]
    else:
        shares = [float(share) for share in share_above(ious)]
    named = zip(MASK_THRESHOLDS, shares, strict=True)
    return scores | {f"mask_prec@{threshold:g}": share for threshold, share in named}


def _canvas_scores(intersection: np.ndarray, union: np.ndarray, protocol: str) -> dict[str, float]:
    ious = canvas_iou(intersection, union, empty=1.0 if protocol == "vglaw" else 0.0)
    scores = {"canvas_mean_iou": float(ious.mean()), "canvas_overall_iou": overall_iou(intersection, union)}
    if protocol != "vglaw":
        scores |= {f"canvas_prec@{threshold:g}": share_at_least(ious, threshold) for threshold in CANVAS_THRESHOLDS}
    return scores


def _upstream_scores(state: Mapping[str, np.ndarray], threshold: float) -> dict[str, float]:
    """What SeqTR's code reports: means of batches, at the network's resolution, several polygons as a crowd."""
    scores: dict[str, float] = {}
    known = state["has_box"]
    if known.any():
        hits = mask_iou(state["box_intersection"][known], state["box_union"][known]) >= threshold
        scores[f"upstream_prec@{threshold:g}"] = mean_of_groups(hits, state["batch"][known])
    known = ~np.isnan(state["canvas_union"]) & ~np.isnan(state["canvas_area"])
    if known.any():
        several = state["polygons"][known] > 1
        over = np.where(several, state["canvas_area"][known], state["canvas_union"][known])
        ious, batches = mask_iou(state["canvas_intersection"][known], over), state["batch"][known]
        scores["upstream_mean_iou"] = mean_of_groups(ious, batches)
        for limit in CANVAS_THRESHOLDS:
            scores[f"upstream_mask_prec@{limit:g}"] = mean_of_groups(ious >= limit, batches)
    return scores


def _upstream_numbers(prediction: Prediction, sample: Sample) -> tuple[float, float]:
    """Pixels of the predicted mask at the network's resolution (NaN where unknown); polygons of the truth."""
    area = float(prediction.extras.get("canvas_area", math.nan))
    return area, float(sum(len(outline) for outline in sample.segmentations if isinstance(outline, list)))


def _mask_numbers(
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


def _canvas_numbers(prediction: Prediction, batch: Batch, index: int) -> tuple[float, float]:
    """Intersection and union at the network's resolution, NaN where the model does not give them."""
    truth, known = batch.arrays.get("mask"), batch.arrays.get("has_mask")
    if known is not None and not known[index].any():
        return math.nan, math.nan
    if "canvas_iou_counts" in prediction.extras:
        intersection, union = prediction.extras["canvas_iou_counts"]
    elif "canvas_mask" in prediction.extras and truth is not None:
        shape = truth.shape[-2:]
        intersection, union = mask_counts(np.asarray(prediction.extras["canvas_mask"]).reshape(shape), truth[index, 0])
    else:
        return math.nan, math.nan
    return float(intersection), float(union)
