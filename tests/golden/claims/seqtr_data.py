"""SeqTR's preparation of images, and the official split of DIOR-RSVG as MSAM's case states it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.data.formats.dior_rsvg import read_dior_rsvg
from mindground.data.transforms.base import TransformParams
from mindground.data.transforms.keep_ratio import KeepRatioParams, KeepRatioTransform, draw_jitter, fitted_size
from mindground.models.seqtr.targets import padded_size
from mindground.structures import Sample, Truth, referent_truth


def _transform(side: int) -> KeepRatioTransform:
    """On a canvas of multiples of 32, pixels keep their values."""
    pixel = 1.0 / 255.0
    return KeepRatioTransform(img_size=side, mean=[0.0] * 3, std=[pixel] * 3, truth=referent_truth)


def _sample(image: np.ndarray, box: np.ndarray) -> tuple[Sample, Truth]:
    sample = Sample("", "0", "0", "a", box[None], size=(image.shape[0], image.shape[1]))
    return sample, referent_truth(sample)


@claim(model="seqtr", kind="transforms", modes=("host",))
def check_transforms(case: Case, mode: str, checks: Checks) -> None:
    for index, target in enumerate(case.config["targets"]):
        # Upstream decodes blue first and turns the colours round afterwards; ours are read as red, green, blue.
        image, box = case.inputs[f"img{index}"][..., ::-1], case.inputs[f"box{index}"]
        side = -(-target // case.config["divisor"]) * case.config["divisor"]
        transform, params = _transform(side), KeepRatioParams(side, resized=fitted_size(image.shape[:2], target))
        sample, truth = _sample(image, box)
        example = transform.apply(params, sample, np.ascontiguousarray(image), truth)
        geometry = example.geometry
        resized, _ = transform.resample(np.ascontiguousarray(image), params, geometry, nearest=False)
        checks.exact(f"resized{index}", resized[..., ::-1], case.outputs[f"resized{index}"])
        factors = [geometry.scale[0], geometry.scale[1]] * 2
        checks.output(f"scale_factor{index}", factors, case.outputs[f"scale_factor{index}"])
        checks.exact(f"img_shape{index}", geometry.resized_size, case.outputs[f"img_shape{index}"])
        checks.exact(f"pad_shape{index}", padded_size(geometry), case.outputs[f"pad_shape{index}"])
        checks.output(f"bbox{index}", example.boxes_xyxy[0], case.outputs[f"bbox{index}"])
        theirs = case.outputs[f"final{index}"]
        checks.output(f"final{index}", example.arrays["image"][:, : theirs.shape[1], : theirs.shape[2]], theirs, 1e-6)
    sizes = []
    for height, width in case.inputs["sizes"]:
        geometry = _transform(640).geometry(TransformParams(640), (int(height), int(width)))
        sizes.append([*geometry.resized_size, *padded_size(geometry)])
    checks.exact("sizes_resized_padded", sizes, case.outputs["sizes_resized_padded"])


@claim(model="seqtr", kind="lsj", modes=("host",))
def check_jitter(case: Case, mode: str, checks: Checks) -> None:
    """The same numbers, drawn by the legacy mode (images, boxes, how many were drawn) and by the corrected one."""
    side, settings = case.config["out"], case.config
    bounds = (settings["jitter_min"], settings["jitter_max"])
    for index in range(settings["n"]):
        image, box = np.ascontiguousarray(case.inputs[f"img{index}"]), case.inputs[f"box{index}"]
        for legacy in (True, False):
            numbers: Iterator[float] = iter(case.inputs[f"rand{index}"].astype(np.float64))
            shape = (image.shape[0], image.shape[1])
            params = draw_jitter(lambda numbers=numbers: next(numbers), shape, side, box, bounds, legacy)
            used = len(case.inputs[f"rand{index}"]) - len(list(numbers))
            transform = _transform(side)
            geometry = transform.geometry(params, shape)
            found = transform.canvas_box(params, geometry, box)
            pixels, _ = transform.resample(image, params, geometry, nearest=False)
            if legacy:
                checks.exact(f"n_random{index}", used, case.outputs[f"n_random{index}"])
                checks.exact(f"out_shape{index}", pixels.shape[:2], case.outputs[f"out_shape{index}"])
                stated = params.stated or pixels.shape[:2]
                checks.exact(f"img_shape_meta{index}", stated, case.outputs[f"img_shape_meta{index}"])
                checks.output(f"bbox_upstream{index}", found, case.outputs[f"bbox_upstream{index}"])
                checks.exact(f"img{index}", pixels, case.outputs[f"img{index}"])
                continue
            plain = fitted_size(shape, side)
            escaped = params.resized is None
            checks.exact(f"escaped{index}", escaped, case.outputs[f"escaped{index}"])
            if escaped:
                checks.exact(f"escaped{index}: the plain resize", pixels.shape[:2], plain)
            else:
                checks.output(f"bbox_fixed{index}", found, case.outputs[f"bbox_fixed{index}"])
                _, _, bottom, right = geometry.visible()
                checks.exact(f"shape of what is seen {index}", (bottom, right), pixels.shape[:2])


@claim(model="msam", kind="split", modes=("host",))
def check_split(case: Case, mode: str, checks: Checks) -> None:
    """Numbers count objects over all files in the order of their names."""
    settings = case.config
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "Annotations").mkdir()
        (root / "JPEGImages").mkdir()
        for name, text in settings["xmls"].items():
            (root / "Annotations" / name).write_text(text, encoding="utf-8")
            (root / "JPEGImages" / name.replace(".xml", ".jpg")).touch()
        for split, numbers in settings["indices"].items():
            # Ours wants lists that ascend; the reference gives records in the counter's order, whatever the list's.
            (root / f"{split}.txt").write_text("".join(f"{number}\n" for number in sorted(numbers)))
        for split, theirs in settings["expected"].items():
            samples = list(read_dior_rsvg(str(root), split))
            ours = [[Path(sample.image_path).name, sample.expression] for sample in samples]
            checks.true(split, ours == theirs, f"ours {ours}, reference {theirs}")
            boxes = np.asarray([sample.boxes_xyxy[0] for sample in samples])
            checks.output(f"{split}/boxes", boxes, case.outputs[f"{split}/boxes"])
