"""Metrics of VG-LAW and CLIP-VG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.metrics import ReferringMetrics
from mindground.metrics.counts import canvas_iou, mask_counts, overall_iou, share_above, share_at_least
from mindground.structures import Batch, Geometry, Prediction, Sample, box_iou, cxcywh_to_xyxy


@claim(model="VG-LAW", holds=("output/oiou",), modes=("host",))
def check_metrics(case: Case, mode: str, checks: Checks) -> None:
    """Box and mask IoU, their means and shares, from boxes and logits."""
    inputs, outputs, config = case.inputs, case.outputs, case.meta["config"]
    boxes = box_iou(cxcywh_to_xyxy(inputs["pred_box"]), cxcywh_to_xyxy(inputs["box"]))
    probability = 1 / (1 + np.exp(-inputs["logits"][:, 0].astype(np.float64)))
    intersection, union = mask_counts(probability > config["mask_threshold"], inputs["mask"][:, 0] > 0)
    masks = canvas_iou(intersection, union)
    checks.output("box_iou", boxes, outputs["box_iou"])
    checks.output("prec50", share_at_least(boxes, config["iou_threshold"]), outputs["prec50"])
    checks.output("mask_iou", masks, outputs["mask_iou"])
    checks.output("miou", masks.mean(), outputs["miou"])
    checks.output("prec_at", share_above(masks), outputs["prec_at"])
    checks.output("oiou", overall_iou(intersection, union), outputs["oiou"])


@claim(model="clipvg-metrics", modes=("host",))
def check_boxes(case: Case, mode: str, checks: Checks) -> None:
    """The product's own scores of boxes on a canvas of one pixel, where clamping to [0, 1] is clipping to the image."""
    predicted, truth = (cxcywh_to_xyxy(case.inputs[name]) for name in ("pred", "target"))
    names = [str(place).zfill(4) for place in range(len(truth))]
    metrics = ReferringMetrics(box_thresholds=case.meta["config"]["thresholds"])
    samples = [Sample(name, name, name, "a", box[None]) for name, box in zip(names, truth, strict=True)]
    geometries = [Geometry((1, 1), (1, 1), (1, 1))] * len(samples)
    guesses = [Prediction((1, 1), box[None], np.ones(1)) for box in predicted]
    metrics.update(guesses, Batch({}, samples, geometries, len(samples)))
    scores, outputs = metrics.compute(), case.outputs
    checks.output("iou", [entry["box_iou"] for entry in metrics.records()], outputs["iou"])
    checks.output("val_accu", scores["prec@0.5"], outputs["val_accu"], 1e-6)
    for name in ("val_miou", "meanIoU"):
        checks.output(name, scores["box_mean_iou"], outputs[name])
    checks.output("cumIoU", scores["box_overall_iou"], outputs["cumIoU"])
    for threshold in case.meta["config"]["thresholds"]:
        plain = scores[f"prec@{threshold:g}"]
        checks.output(f"Pr@{threshold}", plain, outputs[f"Pr@{threshold}"], 1e-6)
        strict = scores.get(f"prec_strict@{threshold:g}", plain)
        checks.output(f"strict_Pr@{threshold}", strict, outputs[f"strict_Pr@{threshold}"], 1e-6)
    _fork_overall(predicted, truth, outputs, checks)


def _fork_overall(predicted: np.ndarray, truth: np.ndarray, outputs: Mapping[str, np.ndarray], checks: Checks) -> None:
    """The remote-sensing fork's own "cumIoU", only to tell what its logs mean: sides instead of areas, unclamped."""
    predicted = np.clip(predicted, 0, 1)
    inner = np.minimum(predicted[:, 2:], truth[:, 2:]) - np.maximum(predicted[:, :2], truth[:, :2])
    outer = np.maximum(predicted[:, 2:], truth[:, 2:]) - np.minimum(predicted[:, :2], truth[:, :2])
    ratio = inner.sum(dtype=np.float64) / outer.sum(dtype=np.float64)
    checks.output("fork_cumIoU_ratio", ratio, outputs["fork_cumIoU_ratio"])
    checks.output("fork_cumIoU_logged", ratio / len(truth), outputs["fork_cumIoU_logged"])
