"""Data of instance sets: preparation, conversion of labels, windows around masks."""

from __future__ import annotations

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.data.make.whu import buildings_of
from mindground.data.transforms.base import Crop
from mindground.data.transforms.keep_ratio import fitted_size
from mindground.data.transforms.scale_jitter import ScaleJitterParams, ScaleJitterTransform, truncated_size
from mindground.detection.mask_crops import crop_around, label_of_crop, upstream_scores
from mindground.structures import Example, Sample, instance_truth

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_IMAGE = 2e-3  # the case's own statement about OpenCV


def _compare(checks: Checks, case: Case, prefix: str, example: Example) -> None:
    geometry = example.geometry
    checks.output(f"{prefix}.image", example.arrays["image"], case.outputs[f"{prefix}.image"], _IMAGE)
    scale = np.asarray(geometry.scale, np.float32)
    checks.output(f"{prefix}.scale_factor", scale, case.outputs[f"{prefix}.scale_factor"], 1e-6)


@claim(
    model="rsprompter",
    holds=("config.polygons", "output/train0.masks"),
    modes=("host",),
    unread={"output/test.img_shape": "published code replaces it by the canvas's, which does not depend on the image"},
)
def check_transforms(case: Case, mode: str, checks: Checks) -> None:
    settings, size = case.config, case.inputs["image"].shape[:2]
    side, image = settings["crop"], np.ascontiguousarray(case.inputs["image"][..., ::-1])
    sample = Sample(
        "", "0", "0", None, case.inputs["boxes"], tuple(settings["polygons"]), np.asarray(settings["labels"]), size
    )
    truth = instance_truth(sample)
    assert truth.masks is not None
    checks.exact("gt_masks", truth.masks(size), case.outputs["gt_masks"])
    mean, std = np.asarray(_MEAN) / 255, np.asarray(_STD) / 255
    transform = ScaleJitterTransform(img_size=side, mean=mean, std=std, truth=instance_truth, training=True)
    example = transform.apply(ScaleJitterParams(side), sample, image, truth)
    _compare(checks, case, "test", example)
    checks.exact("unpadded", truncated_size(example.geometry), case.outputs["test.unpadded_size"])
    # In a test boxes stay those of the original.
    checks.output(
        "test.boxes", example.geometry.boxes_to_original(example.boxes_xyxy), case.outputs["test.boxes"], 1e-5
    )
    for number, entry in enumerate(settings["train"]):
        resized = fitted_size(size, int(side * entry["ratio"]))
        # The case's offsets are those of a window that is then pushed inside the image.
        top, left = (min(at, max(whole - side, 0)) for at, whole in zip(entry["offset"], resized, strict=True))
        crop = Crop(left, top, min(side, resized[1]), min(side, resized[0]))
        params = ScaleJitterParams(side, crop, entry["flip"], resized=resized)
        example = transform.apply(params, sample, image, truth)
        name = f"train{number}"
        _compare(checks, case, name, example)
        assert example.masks is not None
        seen = example.geometry.visible()
        checks.exact(f"{name}.img_shape", seen[2:], case.outputs[f"{name}.img_shape"])
        checks.output(f"{name}.boxes", example.boxes_xyxy, case.outputs[f"{name}.boxes"], 1e-6)
        checks.exact(f"{name}.labels", example.labels, case.outputs[f"{name}.labels"])
        checks.exact(f"{name}.masks", example.masks(), case.outputs[f"{name}.masks"])


@claim(model="rsprompter", holds=("config.connectivity", "input/label"), modes=("host",))
def check_buildings(case: Case, mode: str, checks: Checks) -> None:
    assert case.config["connectivity"] == 4
    found = list(buildings_of(case.inputs["label"]))
    checks.exact("masks", np.stack([item.mask for item in found]), case.outputs["masks"])
    checks.exact("bbox", [item.box_xywh for item in found], case.outputs["bbox"])
    checks.exact("area", [item.area for item in found], case.outputs["area"])


@claim(model="rsprompter", holds=("config.expand", "output/crop.0"), modes=("host",))
def check_mask_crops(case: Case, mode: str, checks: Checks) -> None:
    given, settings = case.inputs, case.config
    crops = [
        crop_around(given["image"], mask, box, settings["expand"])
        for mask, box in zip(given["masks"], given["bbox"], strict=True)
    ]
    for number, crop in enumerate(crops):
        checks.exact(f"crop.{number}", crop.pixels, case.outputs[f"crop.{number}"])
    checks.exact("window", [crop.window for crop in crops], case.outputs["window"])
    checks.exact("keep", [crop.is_large(settings["min_size"]) for crop in crops], case.outputs["keep"])
    pairs = [
        label_of_crop(box, given["gt_boxes"], given["gt_labels"], given["probs"].shape[1] - 1, settings["iou"])
        for box in given["bbox"]
    ]
    checks.exact("label", [label for label, _ in pairs], case.outputs["label"])
    checks.output("iou", [overlap for _, overlap in pairs], case.outputs["iou"], 1e-5)
    checks.output("scores", upstream_scores(given["probs"]), case.outputs["scores"], 1e-5)
