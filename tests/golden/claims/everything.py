"""The everything mode of SAM, on a network that is a formula, and what it does with small regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.data.transforms.base import TransformParams
from mindground.data.transforms.long_side import LongSideTransform
from mindground.models.sam.everything.candidates import inclusive_box
from mindground.models.sam.everything.generator import everything, stability_scores
from mindground.models.sam.everything.grids import crops, point_grids
from mindground.models.sam.everything.options import EverythingOptions
from mindground.models.sam.upscale import upscaled
from mindground.structures import decode_segmentation, encode_mask, instance_truth
from mindground.structures.outlines import run_lengths
from mindground.structures.regions import clean_mask


class Formula:
    """A session whose decoder is the formula of the case; images and masks are resized as the product does it."""

    def __init__(self, image: np.ndarray, side: int, low: int) -> None:
        self.image, self.side, self.low = image, side, low
        self.size = image.shape[:2]
        zeros, ones = [0.0] * 3, [1.0] * 3
        self.transform = LongSideTransform(img_size=side, mean=zeros, std=ones, truth=instance_truth)
        self.low_size = self.transform.geometry_of(self.size).resized_size

    def open(self, image: np.ndarray) -> Formula:
        return Formula(image, self.side, self.low)

    def resized(self) -> np.ndarray:
        params = TransformParams(self.side)
        return self.transform.resample(self.image, params, self.transform.geometry_of(self.size), nearest=False)[0]

    def predict(
        self, points: np.ndarray | None = None, labels: np.ndarray | None = None, *, multimask: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        assert points is not None and labels is not None and (labels == 1).all() and multimask
        height, width = self.size
        ratio = np.asarray([self.low_size[1] / width, self.low_size[0] / height])
        p = (points[:, 0] * ratio).astype(np.float32)[:, :, None, None, None]
        px, py, m = p[:, 0], p[:, 1], np.arange(3, dtype=np.float32)[None, :, None, None]
        y, x = np.mgrid[: self.low, : self.low].astype(np.float32)
        radius = 6 + 5 * m + 3 * np.sin(np.float32(0.13) * px + np.float32(0.29) * py)
        logits = (radius - np.hypot(4 * x + 2 - px, 4 * y + 2 - py)) / 3
        logits = logits + np.float32(0.8) * np.cos(np.float32(0.9) * x + m) * np.cos(np.float32(0.7) * y)
        angle = np.float32(0.37) * px + np.float32(0.21) * py + np.float32(1.7) * m
        return logits.astype(np.float32), (0.75 + np.float32(0.2) * np.sin(angle))[..., 0, 0].astype(np.float32)

    def upscale(self, logits: np.ndarray) -> np.ndarray:
        return upscaled(logits, self.side, self.low_size, self.size)


@claim(model="rsprompter", holds=("config.amg",), modes=("host",))
def check_everything(case: Case, mode: str, checks: Checks) -> None:
    """The whole procedure with crops, filters, suppression and small regions, in all three forms of masks."""
    settings: dict[str, Any] = case.config["amg"]
    options = EverythingOptions.of(settings)
    session = Formula(case.inputs["image"], case.config["image_size"], case.config["low_res"])
    height, width = session.size
    checks.exact("resized", session.resized(), case.outputs["resized"])
    checks.output("grid", point_grids(options)[0], case.outputs["grid"], 1e-6)
    made = crops((height, width), options.crop_n_layers, options.crop_overlap_ratio)
    checks.exact("crops", np.asarray(made), case.outputs["crops"])
    found = everything(session, session.image, options)
    checks.exact("boxes", found.boxes, case.outputs["boxes"])
    checks.output("iou", found.ious, case.outputs["iou"], 1e-5)
    checks.output("stability", found.stability, case.outputs["stability"], 1e-5)
    checks.output("points", found.points, case.outputs["points"], 1e-6)
    checks.exact("crop_boxes", found.crops, case.outputs["crop_boxes"])
    for form in ("binary_mask", "uncompressed_rle", "coco_rle"):
        records = found.records(form)
        masks = np.stack([_mask(record["segmentation"], (height, width)) for record in records])
        checks.exact(f"{form} masks", masks, case.outputs["masks"])
        checks.exact(f"{form} area", [record["area"] for record in records], case.outputs["area"])
    for batch in (1, 64):
        again = everything(session, session.image, replace(options, points_per_batch=batch))
        checks.exact(f"boxes in batches of {batch}", again.boxes, case.outputs["boxes"])


def _mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, np.ndarray):
        assert segmentation.dtype == bool
        return segmentation
    return decode_segmentation(segmentation, size).astype(bool)


@claim(model="rsprompter", holds=("config.min_area", "output/cleaned"), modes=("host",))
def check_small_regions(case: Case, mode: str, checks: Checks) -> None:
    """Holes and islands of a few pixels, tight boxes, run lengths and stability."""
    for index, mask in enumerate(case.inputs["masks"]):
        cleaned, changed = clean_mask(mask, case.config["min_area"])
        checks.exact(f"cleaned {index}", cleaned, case.outputs["cleaned"][index])
        checks.exact(f"changed {index}", changed, case.outputs["changed"][index])
        checks.exact(f"box {index}", inclusive_box(cleaned), case.outputs["boxes"][index])
        checks.exact(f"rle {index}", run_lengths(encode_mask(cleaned)), case.outputs[f"rle.{index}"])
    checks.output("stability", stability_scores(case.inputs["logits"], 1.0), case.outputs["stability"], 1e-6)
