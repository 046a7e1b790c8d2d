"""Parts of detectors with parameters: necks, region proposals, box and mask heads; their losses."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from golden.compute import Apply, fill, loss_and_gradients
from mindground.detection.anchors import AnchorGrid
from mindground.detection.box_head import BoxHead, box_losses, find_detections, sample_rois
from mindground.detection.legacy_neck import LegacyNeck
from mindground.detection.mask_head import FcnMaskHead, crop_masks, mask_loss, paste_mask, paste_probability
from mindground.detection.necks import FeatureAggregator, FeatureSplitter, PseudoAggregator
from mindground.detection.positions import sine_positions
from mindground.detection.rpn import ProposalRules, RpnHead, join_levels, propose, rpn_losses, rpn_targets
from mindground.detection.weights import (
    AGGREGATOR_RULES,
    BOX_HEAD_RULES,
    LEGACY_NECK_RULES,
    MASK_HEAD_RULES,
    PSEUDO_AGGREGATOR_RULES,
    RPN_RULES,
    SPLITTER_RULES,
    part_map,
)
from mindground.losses.instances import (
    binary_cross_entropy,
    point_dice_loss,
    smooth_l1,
    weighted_cross_entropy,
)
from mindground.nn.resize import resize_maps

_DUMMY = {"input/dummy": "it stands for the inputs that this part does not have"}
_STRIDES = (4, 8, 16, 32, 64)


def compare_loss(
    case: Case, checks: Checks, scalar: nn.Cell, model: nn.Cell, given: list[ms.Tensor], weight_map: Any
) -> float:
    """Compare `loss/total` and `grad_norm/*` of a scalar; returns its value."""
    value, gradients = loss_and_gradients(scalar, model, given)
    checks.loss("total", value, case.losses["total"], 1e-5)
    checks.grad_norms(weight_map.to_theirs(gradients), case.grad_norms)
    return value


class _MeanOfProduct(nn.Cell):
    """mean(cell(...) * weight), with the weight as the first input."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, weight: ms.Tensor, *inputs: ms.Tensor) -> ms.Tensor:
        return (self.cell(*inputs) * weight).mean()


class _Selected(nn.Cell):
    """The aggregator on all states of an encoder."""

    def __init__(self, cell: nn.Cell, selected: list[int]) -> None:
        super().__init__()
        self.cell, self.selected = cell, tuple(selected)

    def construct(self, *states: ms.Tensor) -> ms.Tensor:
        chosen = ()
        for index in self.selected:
            chosen = chosen + (states[index],)
        return self.cell(chosen)


@claim(model="rsprompter", holds=("config.select_layers", "output/out_train"))
def check_aggregator(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("aggregator", AGGREGATOR_RULES)
    chosen = settings["select_layers"]
    net = FeatureAggregator(settings["in_channels"], settings["hidden_channels"], settings["out_channels"], len(chosen))
    fill(net, case, weight_map)
    cell = _Selected(net, chosen)
    given = tensors(*(case.inputs[f"state.{index}"] for index in range(settings["num_states"])))
    cell.set_train(False)
    checks.output("out_eval", cell(*given).asnumpy(), case.outputs["out_eval"], 1e-5)
    # A Cell of its own: the other one is compiled as in evaluation.
    cell = _Selected(net, chosen)
    scalar = _MeanOfProduct(cell)
    scalar.set_train(True)
    compare_loss(case, checks, scalar, net, [*tensors(case.inputs["w"]), *given], weight_map)
    # That moved the running statistics once; a batch is normalised by its own.
    norm = net.downconvs[0][1]
    checks.output("running_mean", norm.moving_mean.asnumpy(), case.outputs["running_mean"], 1e-5)
    checks.output("running_var", norm.moving_variance.asnumpy(), case.outputs["running_var"], 1e-5)
    checks.output("out_train", cell(*given).asnumpy(), case.outputs["out_train"], 1e-5)


@claim(model="rsprompter", holds=("config.hidden_channels", "input/x", "output/y"))
def check_pseudo_aggregator(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    net = PseudoAggregator(settings["in_channels"], settings["hidden_channels"], settings["out_channels"])
    fill(net, case, part_map("pseudo aggregator", PSEUDO_AGGREGATOR_RULES))
    checks.output("y", net(*tensors(case.inputs["x"])).asnumpy(), case.outputs["y"], 1e-5)


class _SquaredLevels(nn.Cell):
    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        total = 0.0
        for index, level in enumerate(self.net(x)):
            total = total + ops.square(level).mean() / (index + 1)
        return total


@claim(model="rsprompter", holds=("config.backbone_channel", "output/level.4"))
def check_splitter(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("splitter", SPLITTER_RULES)
    assert settings["num_outs"] == 5
    net = FeatureSplitter(settings["backbone_channel"], settings["out_channels"])
    fill(net, case, weight_map)
    given = tensors(case.inputs["x"])
    for index, level in enumerate(net(*given)):
        checks.output(f"level.{index}", level.asnumpy(), case.outputs[f"level.{index}"], 1e-5)
    compare_loss(case, checks, _SquaredLevels(net), net, given, weight_map)


@claim(model="rsprompter", holds=("config.num_feats", "output/pe"), unread=_DUMMY)
def check_positions(case: Case, mode: str, checks: Checks) -> None:
    table = sine_positions(*case.config["size"], case.config["num_feats"])[None]
    checks.output("pe", table, case.outputs["pe"], 1e-5)
    for index, size in enumerate(case.config["levels"]):
        found = Apply(resize_maps, tuple(size))(*tensors(table)).asnumpy()
        checks.output(f"level.{index}", found, case.outputs[f"level.{index}"], 1e-5)


@claim(model="rsprompter", holds=("config.selected", "input/block.0", "output/level.2"))
def check_legacy_neck(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    net = LegacyNeck(
        settings["in_channels"], settings["inner_channels"], settings["selected"], settings["out_channels"]
    )
    fill(net, case, part_map("legacy neck", LEGACY_NECK_RULES))
    net.set_train(False)
    cell = _Tupled(net)
    found = cell(*tensors(*(case.inputs[f"block.{index}"] for index in range(settings["num_blocks"]))))
    for index, level in enumerate(found):
        checks.output(f"level.{index}", level.asnumpy(), case.outputs[f"level.{index}"], 1e-5)


class _Tupled(nn.Cell):
    """A Cell of a tuple, called with its entries."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net

    def construct(self, *inputs: ms.Tensor) -> Any:
        return self.net(inputs)


# ---- region proposals ----------------------------------------------------------------------------------------------


class _RpnMaps(nn.Cell):
    def __init__(self, head: RpnHead) -> None:
        super().__init__()
        self.head = head

    def construct(self, *levels: ms.Tensor) -> tuple[ms.Tensor, ...]:
        found = ()
        for level in levels:
            found = found + self.head.maps(level)
        return found


class _RpnLoss(nn.Cell):
    def __init__(self, head: RpnHead, whole: bool) -> None:
        super().__init__()
        self.head, self.whole = head, whole

    def construct(self, index: ms.Tensor, positive: ms.Tensor, real: ms.Tensor, goals: ms.Tensor, normaliser: ms.Tensor,
                  *levels: ms.Tensor) -> Any:  # fmt: skip
        logits, deltas = self.head(levels)
        where, far = rpn_losses(logits, deltas, index, positive, real, goals, normaliser)
        return where + far if self.whole else (where, far)


def split_objects(case: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes and labels of every image."""
    ends = np.cumsum(case.inputs["gt_count"])[:-1]
    return np.split(case.inputs["gt_boxes"], ends), np.split(case.inputs["gt_labels"], ends)


@claim(
    model="rsprompter",
    holds=("config.sampler_num", "output/cls.0"),
    unread={"input/gt_labels": "a region proposal has no class", "input/gt_masks": "nor a mask"},
)
def check_rpn(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("rpn", RPN_RULES)
    grid = AnchorGrid(_STRIDES, settings["scales"])
    net = RpnHead(settings["in_channels"], settings["feat_channels"], grid.per_cell)
    fill(net, case, weight_map)
    levels = tensors(*(case.inputs[f"feat.{index}"] for index in range(len(_STRIDES))))
    found = _RpnMaps(net)(*levels)
    for index in range(len(levels)):
        for name, value in (("cls", found[2 * index]), ("reg", found[2 * index + 1])):
            checks.output(f"{name}.{index}", value.asnumpy(), case.outputs[f"{name}.{index}"], 1e-5)
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    boxes, _ = split_objects(case)
    padded = [tuple(settings["input_size"])] * len(boxes)
    rng = np.random.default_rng(0)
    targets = rpn_targets(grid, sizes, boxes, padded, rng, settings["sampler_num"], settings["sampler_pos_fraction"])
    given = [*tensors(*targets[:-1]), ms.Tensor(targets.total, ms.float32), *levels]
    for name, value in zip(("rpn_cls", "rpn_bbox"), _RpnLoss(net, False)(*given), strict=True):
        checks.loss(name, value.asnumpy(), case.losses[name], 1e-5)
    compare_loss(case, checks, _RpnLoss(net, True), net, given, weight_map)
    logits = Apply(join_levels)(tuple(found[0::2]), 1).asnumpy()[..., 0]
    deltas = Apply(join_levels)(tuple(found[1::2]), 4).asnumpy()
    rules = ProposalRules(settings["nms_pre"], settings["nms_iou"], settings["max_per_img"])
    for image, meta in enumerate(case.inputs["img_meta"]):
        ours = propose(logits[image], deltas[image], grid, sizes, tuple(meta[:2]), rules)
        checks.output(f"proposals.{image}", ours.boxes, case.outputs[f"proposals.{image}"], 1e-5)
        checks.output(f"scores.{image}", ours.scores, case.outputs[f"proposal_scores.{image}"], 1e-5)


# ---- heads ---------------------------------------------------------------------------------------------------------


class _BoxLoss(nn.Cell):
    def __init__(self, head: BoxHead, whole: bool) -> None:
        super().__init__()
        self.head, self.whole = head, whole

    def construct(self, features: ms.Tensor, labels: ms.Tensor, real: ms.Tensor, positive: ms.Tensor, goals: ms.Tensor,
                  normaliser: ms.Tensor) -> Any:  # fmt: skip
        logits, deltas = self.head(features)
        kind, far = box_losses(logits, deltas, labels, real, positive, goals, normaliser)
        return kind + far if self.whole else (kind, far)


@claim(model="rsprompter", holds=("config.fc_out", "output/cls_score"))
def check_box_head(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("box head", BOX_HEAD_RULES)
    net = BoxHead(settings["channels"], settings["roi_size"], settings["fc_out"], settings["num_classes"])
    fill(net, case, weight_map)
    boxes, labels = split_objects(case)
    room = settings["num_classes"], np.random.default_rng(0)
    sampled = [
        sample_rois(*given, *room, samples=40, share=1.0, low_quality=settings["match_low_quality"])
        for given in zip(case.inputs["proposals"], boxes, labels, strict=True)
    ]
    real = [item.real > 0 for item in sampled]
    rois = [
        np.insert(item.boxes[kept], 0, image, 1) for image, (item, kept) in enumerate(zip(sampled, real, strict=True))
    ]
    rois = np.concatenate(rois)
    checks.output("rois", rois, case.outputs["rois"], 1e-6)
    labels = np.concatenate([item.labels[kept] for item, kept in zip(sampled, real, strict=True)])
    checks.exact("labels", labels, case.outputs["labels"])
    goals = np.concatenate([item.deltas[kept] for item, kept in zip(sampled, real, strict=True)])
    checks.output("bbox_targets", goals, case.outputs["bbox_targets"], 1e-5)
    # Fixed shapes: what fills up has other features and no weight.
    features = [np.full((len(item.real), *case.inputs["roi_feats"].shape[1:]), 7.0, np.float32) for item in sampled]
    ends = np.cumsum([kept.sum() for kept in real])[:-1]
    for place, part, kept in zip(features, np.split(case.inputs["roi_feats"], ends), real, strict=True):
        place[kept] = part
    flags = [
        np.concatenate([getattr(item, name) for item in sampled]) for name in ("labels", "real", "positive", "deltas")
    ]
    given = [*tensors(np.concatenate(features), *flags), ms.Tensor(float(len(rois)), ms.float32)]
    for name, value in zip(("cls", "bbox"), _BoxLoss(net, False)(*given), strict=True):
        checks.loss(name, value.asnumpy(), case.losses[name], 1e-5)
    compare_loss(case, checks, _BoxLoss(net, True), net, given, weight_map)
    found = [value.asnumpy() for value in net(*tensors(case.inputs["roi_feats"]))]
    for name, value in zip(("cls_score", "bbox_pred"), found, strict=True):
        checks.output(name, value, case.outputs[name], 1e-5)
    for image, meta in enumerate(case.inputs["img_meta"]):
        own = rois[:, 0] == image
        rule = (settings["score_thr"], settings["nms_iou"], settings["max_per_img"])
        ours = find_detections(found[0][own], found[1][own], rois[own, 1:], tuple(meta[:2]), tuple(meta[4:]), *rule)
        rows = np.concatenate([ours.boxes, ours.scores[:, None]], 1)
        checks.output(f"det.{image}", rows, case.outputs[f"det.{image}"], 1e-5)
        checks.exact(f"det_labels.{image}", ours.labels, case.outputs[f"det_labels.{image}"])


class _MaskLoss(nn.Cell):
    def __init__(self, head: FcnMaskHead) -> None:
        super().__init__()
        self.head = head

    def construct(self, features: ms.Tensor, labels: ms.Tensor, targets: ms.Tensor, weights: ms.Tensor,
                  normaliser: ms.Tensor) -> ms.Tensor:  # fmt: skip
        return mask_loss(self.head(features), labels, targets, weights, normaliser)


@claim(model="rsprompter", holds=("config.num_convs", "output/mask_targets"))
def check_mask_head(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map, given = case.config, part_map("mask head", MASK_HEAD_RULES), case.inputs
    net = FcnMaskHead(settings["channels"], settings["conv_out"], settings["num_classes"], settings["num_convs"])
    fill(net, case, weight_map)
    logits = net(*tensors(given["roi_feats"])).asnumpy()
    checks.output("mask_logits", logits, case.outputs["mask_logits"], 1e-5)
    targets = crop_masks(given["gt_masks"][given["box_gt"]], given["boxes"], settings["mask_size"])
    checks.exact("mask_targets", targets, case.outputs["mask_targets"])
    labels = given["gt_labels"][given["box_gt"]].astype(np.int32)
    # One more box that fills up the fixed shape.
    features = np.concatenate([given["roi_feats"], given["roi_feats"][:1] + 3])
    rows = [np.concatenate([labels, labels[:1]]), np.concatenate([targets, targets[:1]])]
    weights = np.asarray([1] * len(labels) + [0], np.float32)
    arrays = [*tensors(features, *rows, weights), ms.Tensor(float(len(labels)), ms.float32)]
    value = _MaskLoss(net)(*arrays).asnumpy()
    checks.loss("mask", value, case.losses["mask"], 1e-5)
    compare_loss(case, checks, _MaskLoss(net), net, arrays, weight_map)
    size = tuple(settings["ori"])
    for index, (box, label) in enumerate(zip(given["det_boxes"], given["det_labels"], strict=True)):
        probability = 1 / (1 + np.exp(-logits[index, label]))
        pasted = paste_mask(probability, box, size, settings["threshold"])
        checks.exact(f"pasted.{index}", pasted, case.outputs["pasted"][index])
        values, (y0, y1, x0, x1) = paste_probability(probability, box, size)
        whole = np.zeros(size, np.float32)
        whole[y0:y1, x0:x1] = values
        y0, y1, x0, x1 = case.outputs[f"paste_region.{index}"]
        checks.output(f"paste_prob.{index}", whole[y0:y1, x0:x1], case.outputs[f"paste_prob.{index}"], 1e-5)


# ---- losses --------------------------------------------------------------------------------------------------------


class _Losses(nn.Cell):
    """The named losses of the case, in one graph."""

    def __init__(self, class_weights: list[float]) -> None:
        super().__init__()
        self.class_weights = ms.Tensor(class_weights, ms.float32)

    def construct(self, logits: ms.Tensor, labels: ms.Tensor, weights: ms.Tensor, avg: ms.Tensor, mask: ms.Tensor,
                  mask_goal: ms.Tensor, reg: ms.Tensor, reg_goal: ms.Tensor, box: ms.Tensor,
                  box_goal: ms.Tensor) -> tuple[ms.Tensor, ...]:  # fmt: skip
        weighted = weighted_cross_entropy(logits, labels, weights, avg, self.class_weights) * 2.0
        plain = weighted_cross_entropy(logits, labels, weights, avg)
        points = binary_cross_entropy(mask, mask_goal).mean() * 5.0
        dice = point_dice_loss(mask, mask_goal, ops.ones_like(mask[:, 0]), avg) * 5.0
        share = 1.0 / (avg + 1.1920929e-07)
        far = (smooth_l1(reg, reg_goal).sum(1) * weights).sum() * share
        where = (binary_cross_entropy(box, box_goal) * weights).sum() * share
        return weighted, plain, points, dice, far, where


class _First(nn.Cell):
    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        return self.cell(*inputs)[0]


@claim(model="rsprompter", holds=("output/ce_weighted",))
def check_losses(case: Case, mode: str, checks: Checks) -> None:
    given = case.inputs
    cell = _Losses(case.config["class_weight"])
    labels, objects = given["labels"].astype(np.int32), (given["box_labels"] == 0).astype(np.float32)
    arrays = tensors(
        given["logits"], labels, given["weights"], np.float32(0), given["mask_logits"], given["mask_targets"],
        given["reg"], given["reg_target"], given["box_logits"][:, 0], objects,
    )  # fmt: skip
    arrays[3] = ms.Tensor(float(given["avg"]), ms.float32)
    names = ("ce_weighted", "ce_plain", "bce_points", "dice", "smooth_l1", "rpn_bce")
    for name, value in zip(names, cell(*arrays), strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name], 1e-5)
    gradient = ms.grad(_First(cell), 0)(*arrays).asnumpy()
    checks.output("grad_logits", gradient, case.outputs["grad_logits"], 1e-5)
    right = (given["logits"].argmax(1) == given["labels"]).mean() * 100
    checks.output("accuracy", [right], case.outputs["accuracy"], 1e-5)
