"""COCO scores of instances."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.metrics.coco import STATS
from mindground.metrics.instances import InstanceMetrics
from mindground.structures import Batch, Geometry, IgnoredRegion, Prediction, Sample, encode_mask, mask_box


def _collected(case: Case, box_areas: bool) -> InstanceMetrics:
    """The product's metrics on the images of a case, one batch an image."""
    given, size = case.inputs, (case.config["height"], case.config["width"])
    metrics = InstanceMetrics(box_areas=box_areas)
    for image in range(case.config["num_images"]):
        own = given["gt_image"] == image
        objects, crowds = np.flatnonzero(own & (given["gt_crowd"] == 0)), np.flatnonzero(own & (given["gt_crowd"] == 1))
        masks, labels = given["gt_mask"], given["gt_label"]
        ignored = [
            IgnoredRegion(mask_box(masks[place]), encode_mask(masks[place]), int(labels[place])) for place in crowds
        ]
        sample = Sample(
            "", str(image), str(image), None, np.asarray([mask_box(masks[place]) for place in objects]),
            tuple(encode_mask(masks[place]) for place in objects), labels[objects], size, ignored=tuple(ignored),
        )  # fmt: skip
        found = np.flatnonzero(given["dt_image"] == image)
        rles = tuple(encode_mask(given["dt_mask"][place]) for place in found)
        answer = Prediction(size, given["dt_box"][found], given["dt_score"][found], given["dt_label"][found], rles)
        metrics.update([answer], Batch({}, [sample], [Geometry(size, size, size)], 1))
    return metrics


@claim(model="rsprompter", holds=("input/gt_crowd", "output/file_segm"), modes=("host",))
def check_coco(case: Case, mode: str, checks: Checks) -> None:
    limits = (100, 300, 1000)
    for truth, box_areas in (("file", False), ("sample", True)):
        metrics = _collected(case, box_areas)
        for kind in ("bbox", "segm"):
            scores = metrics.detailed(kind, limits)
            checks.output(f"{truth}_{kind}", scores.stats, case.outputs[f"{truth}_{kind}"], 1e-6)
        if box_areas:
            of_classes = scores.of_classes()
            ours = [of_classes[label] for label in range(case.config["num_classes"])]
            checks.output("class_ap", ours, case.outputs["class_ap"], 1e-6)
    for number, mask in enumerate(case.inputs["gt_mask"][:3]):
        counts = np.frombuffer(encode_mask(mask)["counts"].encode("ascii"), np.uint8)
        checks.exact(f"rle.{number}", counts, case.outputs[f"rle.{number}"])


@claim(model="rsprompter", holds=("input/gt_crowd", "output/segm_mAP_50"), modes=("host",))
def check_published_names(case: Case, mode: str, checks: Checks) -> None:
    metrics = _collected(case, True)
    names: dict[str, Any] = {
        "ap": "",
        "ap50": "_50",
        "ap75": "_75",
        "ap_small": "_s",
        "ap_medium": "_m",
        "ap_large": "_l",
    }
    for kind in ("bbox", "segm"):
        stats = dict(zip(STATS, metrics.detailed(kind).stats, strict=True))
        for name, suffix in names.items():
            checks.output(f"{kind}{suffix}", np.round(stats[name], 3), case.outputs[f"{kind}_mAP{suffix}"], 1e-6)
