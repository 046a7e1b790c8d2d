"""Transforms and evaluation shards of VG-LAW."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from golden.case import Case, Description
from golden.claim import Checks, claim
from mindground.data.loader import shard
from mindground.data.transforms import Crop, ReferentWindowTransform, TransformParams, crop_ranges, resized_size
from mindground.models.targets import encode_box
from mindground.models.vglaw.targets import encode_mask
from mindground.structures import Geometry, Sample, Truth, cxcywh_to_xyxy, referent_truth
from mindground.text import build_wordpiece, flip_expression


@claim(model="VG-LAW", holds=("cases", "text_flips"), modes=("host",))
def check_transforms(case: Case, mode: str, checks: Checks) -> None:
    """Recorded draws give the recorded image, box, mask, valid area and sentence."""
    config = case.meta["config"]
    transform = ReferentWindowTransform(
        img_size=config["img_size"],
        mean=config["mean"],
        std=config["std"],
        truth=referent_truth,
        tokenizer=build_wordpiece(["a"]),
        training=True,
    )
    for entry in case.meta["cases"]:
        tag = entry["tag"]
        image, mask = case.inputs[f"{tag}/image"], case.inputs[f"{tag}/mask"]
        box = cxcywh_to_xyxy(case.inputs[f"{tag}/box"])
        params = _params(entry, box, image.shape[:2], config["img_size"], checks)
        sample = Sample(tag, tag, tag, entry["text_in"], box[None])
        truth = Truth(box[None], sample.labels, _given(mask), single=True)
        example = transform.apply(params, sample, image, truth)
        arrays = example.arrays | encode_box(example) | encode_mask(example)
        checks.output(f"{tag}/image", arrays["image"], case.outputs[f"{tag}/image"], 1e-6)
        checks.output(f"{tag}/box", arrays["box"], case.outputs[f"{tag}/box"], 1e-6)
        checks.exact(f"{tag}/mask", arrays["mask"], case.outputs[f"{tag}/mask"] != 0)
        checks.exact(f"{tag}/valid", _valid(example.geometry), case.outputs[f"{tag}/valid"] != 0)
        text = flip_expression(entry["text_in"], substrings=True) if params.flip else entry["text_in"]
        checks.exact(f"{tag}/text", text, entry["text_out"])
    for before, after in case.meta["text_flips"]:
        checks.exact(f"flip {before!r}", flip_expression(before, substrings=True), after)


def _given(mask: np.ndarray) -> Callable[[tuple[int, int]], np.ndarray]:
    """A truth's mask that is there already."""
    return lambda size: mask[None]


def _params(entry: dict, box: np.ndarray, shape: tuple[int, int], canvas: int, checks: Checks) -> TransformParams:
    draws, size = entry["draws"], entry["size"]
    if not draws:
        return TransformParams(size)
    resized, scale = resized_size(shape, size)
    scaled = box * np.asarray([*scale, *scale])
    if max(scaled[2] - scaled[0], scaled[3] - scaled[1]) > canvas:
        checks.exact(f"{entry['tag']}: no window keeps the box", crop_ranges(scaled, resized, canvas) is None, True)
        size = canvas
    else:
        ranges = crop_ranges(scaled, resized, canvas)
        inside = ranges is not None and all(a <= d <= b for (a, b), d in zip(ranges, draws[2:4], strict=True))
        checks.exact(f"{entry['tag']}: our ranges hold the recorded window", inside, True)
    corner = (draws[5], draws[4]) if len(draws) > 4 else None
    return TransformParams(size, Crop(draws[2], draws[3], draws[0], draws[1]), entry["flip"], corner)


def _valid(geometry: Geometry) -> np.ndarray:
    """(S, S) bool, True where the picture lies on the canvas."""
    rows, columns = (np.arange(side) for side in geometry.canvas_size)
    (x, y), (height, width) = geometry.offset, geometry.resized_size
    return ((rows >= y) & (rows < y + height))[:, None] & ((columns >= x) & (columns < x + width))


def _holds_shards(case: Description) -> bool:
    """Entries are named by what they shard: `n10-w4-r0`, `shuffled-n10-w2-r0-epoch1`."""
    return bool(case.entries) and all(re.match(r"output/(shuffled-)?n\d+-w\d+-r\d+", entry) for entry in case.entries)


@claim(model="VG-LAW", where=_holds_shards, modes=("host",))
def check_sampler(case: Case, mode: str, checks: Checks) -> None:
    """Wrapped and strided indices, in order and shuffled as upstream shuffles."""
    for name, theirs in case.outputs.items():
        parts = {part[0]: int(part[1:]) for part in name.removeprefix("shuffled-").split("-") if part[1:].isdigit()}
        order = np.arange(parts["n"])
        if name.startswith("shuffled-"):
            order = np.random.RandomState(int(name.rpartition("epoch")[2])).permutation(parts["n"])
        checks.exact(name, shard(order, parts["r"], parts["w"]), theirs)
