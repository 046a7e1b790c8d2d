"""The transforms that CLIP-VG inherits from TransVG."""

from __future__ import annotations

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.config import DataConfig
from mindground.data.transforms import Crop, Plan, TransvgTransform
from mindground.data.transforms.color import PixelPlan
from mindground.data.transforms.transvg import crop_accepted
from mindground.structures import Sample
from mindground.text import build_wordpiece, flip_expression, has_direction


@claim(model="clipvg-transforms", modes=("host",))
def check_transforms(case: Case, mode: str, checks: Checks) -> None:
    """Every recorded operation as a plan of ours; gates, mirrored sentences and the released window test."""
    for op in case.meta["ops"]:
        name, tag = op["op"], str(op["id"])
        image = case.inputs[f"{tag}/image"]
        box = case.inputs[f"{tag}/box"] if f"{tag}/box" in case.inputs else None
        theirs = {key.partition("/")[2]: case.outputs[key] for key in case.outputs if key.startswith(f"{tag}/")}
        if name in ("test_pipeline", "normalize_and_pad_at"):
            _whole(case, op, image, box, theirs, checks)
        elif box is not None:
            _moved(op, image, box, theirs, checks)
        else:
            checks.exact(f"{tag} {name}", _pixel_plan(op).apply(image), theirs["image"])
    for entry in case.meta["direction_gate"]:
        text = entry["text"]
        checks.exact(f"gate {text!r}", has_direction(text, substrings=True), entry["no_crop"])
    for entry in case.meta["hflip_text_legacy"]:
        text = entry["text"]
        checks.exact(f"flip {text!r}", flip_expression(text, substrings=True), entry["flipped"])
    for entry in case.meta["crop_accept"]:
        box, crop = np.asarray(entry["box"]), _crop(entry["region"])
        checks.exact(f"accept {entry}", crop_accepted(box, crop, legacy=True), entry["accept_legacy"])


def _transform(case: Case | None, side: int) -> TransvgTransform:
    colours = {} if case is None else {key: case.meta["config"][key] for key in ("mean", "std")}
    data = DataConfig(recipe="transvg", img_size=side, **colours)
    return TransvgTransform(data, build_wordpiece(["a"]), training=False)


def _whole(
    case: Case, op: dict, image: np.ndarray, box: np.ndarray, theirs: dict[str, np.ndarray], checks: Checks
) -> None:
    """Resized (or not), normalised and padded."""
    plan = Plan(op["size"])
    if "top" in op:
        plan = Plan(max(image.shape[:2]), corner=(op["left"], op["top"]))
    tag = str(op["id"])
    arrays = _transform(case, op["size"]).apply(plan, Sample(tag, tag, tag, "a", box[None]), image, None).arrays
    ours = {"image": arrays["image"], "mask": arrays["padding"], "box": arrays["box"]}
    ours |= {"image_sum": arrays["image"].sum((1, 2)), "image_abs_sum": np.abs(arrays["image"]).sum((1, 2))}
    top, left = op.get("top", 0), op.get("left", 0)
    ours["image_corner"] = arrays["image"][:, top : top + 8, left : left + 8]
    checks.exact(f"{tag} mask", ours.pop("mask"), theirs.pop("mask"))
    for key, value in theirs.items():
        checks.output(f"{tag} {key}", ours[key], value, 1e-5)


def _moved(op: dict, image: np.ndarray, box: np.ndarray, theirs: dict[str, np.ndarray], checks: Checks) -> None:
    """Resized, cut or mirrored; on a canvas in whose corner the picture lies."""
    height, width = theirs["image"].shape[:2]
    plan = {
        "resize_long": lambda: Plan(op["size"], corner=(0, 0)),
        "resize_short": lambda: Plan(max(height, width), corner=(0, 0), short_side=op["size"]),
        "crop": lambda: Plan(max(height, width), _crop(op["region"]), corner=(0, 0)),
        "hflip": lambda: Plan(max(height, width), flip=True, corner=(0, 0)),
    }[op["op"]]()
    transform = _transform(None, max(height, width))
    geometry = transform.geometry(plan, image.shape[:2])
    name = f"{op['id']} {op['op']}"
    checks.exact(f"{name} image", transform.lay(image, plan, geometry, nearest=False)[0], theirs["image"])
    checks.output(f"{name} box", transform.canvas_box(plan, geometry, box), theirs["box"], 1e-6)


def _pixel_plan(op: dict) -> PixelPlan:
    if op["op"] == "gaussian_blur":
        return PixelPlan(blur=op["sigma"])
    if op["op"].startswith("color_order_"):
        names = op["op"].removeprefix("color_order_").split("_")
        return PixelPlan(tuple(zip(names, op["factors"], strict=True)))
    return PixelPlan(((op["op"], op["factor"]),))


def _crop(region: list[int]) -> Crop:
    top, left, height, width = region
    return Crop(left, top, width, height)
