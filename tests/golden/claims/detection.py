"""Parts of detectors that choose: anchors, coder, assigner, suppression, RoIAlign."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from mindground.detection.anchors import AnchorGrid
from mindground.detection.assigners import assign_by_iou
from mindground.detection.box_coder import decode_boxes, encode_boxes
from mindground.detection.nms import detections_per_class, suppress, suppress_in_groups
from mindground.detection.roi_align import RoiAlign, flatten_levels, plan_rois, roi_levels

_DUMMY = {"input/dummy": "it stands for the inputs that this part does not have"}


@claim(model="rsprompter", holds=("config.sets", "output/grid.0"), modes=("host",), unread=_DUMMY)
def check_anchors(case: Case, mode: str, checks: Checks) -> None:
    for number, entry in enumerate(case.config["sets"]):
        grid = AnchorGrid(entry["strides"], entry["scales"], entry["ratios"])
        base = np.stack([grid.base(level) for level in range(len(entry["strides"]))])
        checks.output(f"base.{number}", base, case.outputs[f"base.{number}"], 1e-6)
        sizes = [tuple(size) for size in entry["sizes"]]
        checks.output(f"grid.{number}", grid.grid(sizes), case.outputs[f"grid.{number}"], 1e-6)
        checks.exact(f"valid.{number}", grid.valid(sizes, tuple(entry["pad_shape"])), case.outputs[f"valid.{number}"])


@claim(model="rsprompter", holds=("config.rcnn", "output/decode_pc"), modes=("host",))
def check_box_coder(case: Case, mode: str, checks: Checks) -> None:
    given, size = case.inputs, tuple(case.config["max_shape"])
    for name in ("rpn", "rcnn"):
        stds = case.config[name]["stds"]
        assert case.config[name]["means"] == [0, 0, 0, 0]
        encoded = encode_boxes(given["priors"], given["gt"], stds)
        checks.output(f"encode.{name}", encoded, case.outputs[f"encode.{name}"], 1e-5)
        decoded = decode_boxes(given["priors"], given["deltas"], size, stds)
        checks.output(f"decode.{name}", decoded, case.outputs[f"decode.{name}"], 1e-5)
        decoded = decode_boxes(given["priors"], given["deltas"], None, stds)
        checks.output(f"decode_noclip.{name}", decoded, case.outputs[f"decode_noclip.{name}"], 1e-5)
    classes = given["deltas_per_class"].shape[1] // 4
    priors = np.repeat(given["priors"], classes, 0)
    deltas = given["deltas_per_class"].reshape(-1, 4)
    checks.output(
        "decode_pc", decode_boxes(priors, deltas, size, case.config["rcnn"]["stds"]), case.outputs["decode_pc"], 1e-5
    )


@claim(model="rsprompter", holds=("config.cases", "output/gt_inds.0"), modes=("host",))
def check_assigner(case: Case, mode: str, checks: Checks) -> None:
    given = case.inputs
    for number, entry in enumerate(case.config["cases"]):
        rule = (entry["pos"], entry["neg"], entry["min_pos"], entry["low"])
        found = assign_by_iou(given["priors"], given["gt_boxes"], *rule)
        checks.exact(f"gt_inds.{number}", found.objects, case.outputs[f"gt_inds.{number}"])
        labels = np.where(found.objects > 0, given["gt_labels"][np.maximum(found.objects, 1) - 1], -1)
        checks.exact(f"labels.{number}", labels, case.outputs[f"labels.{number}"])
        checks.output(f"max_iou.{number}", found.overlaps, case.outputs[f"max_iou.{number}"], 1e-6)
        nothing = assign_by_iou(given["priors"], given["empty"], *rule)
        checks.exact(f"gt_inds_empty.{number}", nothing.objects, case.outputs[f"gt_inds_empty.{number}"])


@claim(model="rsprompter", holds=("input/mc_boxes",), modes=("host",))
def check_suppression(case: Case, mode: str, checks: Checks) -> None:
    given = case.inputs
    for threshold in case.config["iou"]:
        name = str(round(threshold * 10))
        kept = suppress(given["boxes"], given["scores"], threshold)
        checks.exact(f"keep.{name}", kept, case.outputs[f"keep.{name}"])
        kept = suppress_in_groups(given["boxes"], given["scores"], given["groups"], threshold)
        checks.exact(f"batched.{name}", kept, case.outputs[f"batched.{name}"])
    number = len(given["mc_boxes"])
    settings = case.config
    found = detections_per_class(
        given["mc_boxes"].reshape(number, -1, 4),
        given["mc_scores"][:, :-1],
        settings["score_thr"],
        settings["multiclass_iou"],
        settings["max_num"],
    )
    checks.output("mc_dets", np.concatenate([found.boxes, found.scores[:, None]], 1), case.outputs["mc_dets"], 1e-6)
    checks.exact("mc_labels", found.labels, case.outputs["mc_labels"])
    checks.exact("mc_index", found.source, case.outputs["mc_index"])


class _Aligned(nn.Cell):
    """RoIAlign on maps, for the gradient by the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.align = RoiAlign()

    def construct(self, pixels: ms.Tensor, down: ms.Tensor, across: ms.Tensor, *maps: ms.Tensor) -> ms.Tensor:
        return self.align(flatten_levels(maps), pixels, down, across)


class _AlignedSum(nn.Cell):
    def __init__(self, align: nn.Cell) -> None:
        super().__init__()
        self.align = align

    def construct(self, weight: ms.Tensor, *inputs: ms.Tensor) -> ms.Tensor:
        return ops.sum(self.align(*inputs) * weight)


@claim(model="rsprompter", holds=("input/rois", "output/out14"))
def check_roi_align(case: Case, mode: str, checks: Checks) -> None:
    rois, strides = case.inputs["rois"], case.config["strides"]
    maps = [case.inputs[f"feat.{level}"] for level in range(len(strides))]
    sizes = [(item.shape[2], item.shape[3]) for item in maps]
    images, boxes = rois[:, 0].astype(np.int64), rois[:, 1:]
    checks.exact("level", roi_levels(boxes, len(sizes), case.config["finest_scale"]), case.outputs["level"])
    given, align = tensors(*maps), _Aligned()
    for side in case.config["sizes"]:
        plan = plan_rois(boxes, images, sizes, strides, len(maps[0]), side)
        found = align(*tensors(*plan), *given).asnumpy()
        checks.output(f"out{side}", found, case.outputs[f"out{side}"], 1e-5)
    single = plan_rois(boxes, images, sizes[:1], strides[:1], len(maps[0]), 7)
    checks.output("single", align(*tensors(*single), given[0]).asnumpy(), case.outputs["single"], 1e-5)
    plan = plan_rois(boxes, images, sizes, strides, len(maps[0]), 7)
    inputs = [*tensors(case.inputs["w7"]), *tensors(*plan), *given]
    gradients = ms.grad(_AlignedSum(align), tuple(range(4, 4 + len(maps))))(*inputs)
    for level, gradient in enumerate(gradients):
        checks.output(f"grad_feat.{level}", gradient.asnumpy(), case.outputs[f"grad_feat.{level}"], 1e-5)
