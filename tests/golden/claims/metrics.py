"""Metrics of VG-LAW."""

from __future__ import annotations

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.metrics.counts import canvas_iou, mask_counts, overall_iou, share_above, share_at_least
from mindground.structures import box_iou, cxcywh_to_xyxy


@claim("vglaw-metrics", modes=("host",))
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
