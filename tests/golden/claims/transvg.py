"""The transforms that CLIP-VG inherits from TransVG."""

from __future__ import annotations

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.data.transforms import Crop, TransformParams, TransvgTransform
from mindground.data.transforms.color import ColorParams
from mindground.data.transforms.transvg import crop_accepted
from mindground.models.targets import encode_box
from mindground.structures import Sample, referent_truth
from mindground.text import build_wordpiece, flip_expression, has_direction


@claim(model="clipvg-transforms", modes=("host",))
def check_transforms(case: Case, mode: str, checks: Checks) -> None:
    """Every recorded operation as parameters of ours; gates, mirrored sentences and the released window test."""
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
            checks.exact(f"{tag} {name}", _color_params(op).apply(image), theirs["image"])
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
    colours = colours or {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return TransvgTransform(img_size=side, truth=referent_truth, tokenizer=build_wordpiece(["a"]), **colours)


def _whole(
    case: Case, op: dict, image: np.ndarray, box: np.ndarray, theirs: dict[str, np.ndarray], checks: Checks
) -> None:
    """Resized (or not), normalised and padded."""
    params = TransformParams(op["size"])
    if "top" in op:
        params = TransformParams(max(image.shape[:2]), corner=(op["left"], op["top"]))
    tag = str(op["id"])
    sample = Sample(tag, tag, tag, "a", box[None])
    example = _transform(case, op["size"]).apply(params, sample, image, referent_truth(sample))
    arrays = example.arrays | encode_box(example)
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
    params = {
        "resize_long": lambda: TransformParams(op["size"], corner=(0, 0)),
        "resize_short": lambda: TransformParams(max(height, width), corner=(0, 0), short_side=op["size"]),
        "crop": lambda: TransformParams(max(height, width), _crop(op["region"]), corner=(0, 0)),
        "hflip": lambda: TransformParams(max(height, width), flip=True, corner=(0, 0)),
    }[op["op"]]()
    transform = _transform(None, max(height, width))
    geometry = transform.geometry(params, image.shape[:2])
    name = f"{op['id']} {op['op']}"
    checks.exact(f"{name} image", transform.resample(image, params, geometry, nearest=False)[0], theirs["image"])
    checks.output(f"{name} box", transform.canvas_box(params, geometry, box), theirs["box"], 1e-6)


def _color_params(op: dict) -> ColorParams:
    if op["op"] == "gaussian_blur":
        return ColorParams(blur=op["sigma"])
    if op["op"].startswith("color_order_"):
        names = op["op"].removeprefix("color_order_").split("_")
        return ColorParams(tuple(zip(names, op["factors"], strict=True)))
    return ColorParams(((op["op"], op["factor"]),))


def _crop(region: list[int]) -> Crop:
    top, left, height, width = region
    return Crop(left, top, width, height)
