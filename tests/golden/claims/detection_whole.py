"""Whole pieces of detectors: a two-stage detector on ResNet-50, and boxes that prompt a mask decoder."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.detection_parts import compare_loss
from golden.claims.probe import tensors
from golden.compute import fill
from mindground.backbones.resnet import TORCHVISION_RESNET_MAP, ResNet
from mindground.detection.box_head import BoxHead
from mindground.detection.necks import Fpn
from mindground.detection.prompter import RoiPrompter
from mindground.detection.queries import probability_on_image
from mindground.detection.roi_align import RoiAlign, flatten_levels, plan_rois
from mindground.detection.rpn import RpnHead
from mindground.detection.weights import (
    BOX_HEAD_RULES,
    COUNTERS,
    FPN_RULES,
    ROI_PROMPTER_RULES,
    RPN_RULES,
    part_map,
    under,
)
from mindground.losses.instances import binary_cross_entropy
from mindground.models.sam.mask_decoder import MaskDecoder
from mindground.models.sam.weights import DECODER_PARTS
from mindground.nn import init
from mindground.nn.resize import resize_maps
from mindground.weights.maps import WeightMap

_STRIDES = (4, 8, 16, 32)


class _TwoStage(nn.Cell):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        rpn, roi = settings["rpn"], settings["roi"]
        width = settings.get("base_channels", 64)
        self.backbone = ResNet(width=width)
        self.neck = Fpn(self.backbone.channels, settings["fpn"]["out_channels"])
        self.rpn_head = RpnHead(rpn["in_channels"], rpn["feat_channels"], len(rpn["scales"]) * len(rpn["ratios"]))
        self.box_head = BoxHead(roi["channels"], 7, roi["fc_out"], roi["num_classes"])
        self.align = RoiAlign()

    def construct(self, image: ms.Tensor, pixels: ms.Tensor, down: ms.Tensor, across: ms.Tensor) -> Any:
        levels = self.neck(self.backbone(image))
        maps = ()
        for level in levels:
            maps = maps + self.rpn_head.maps(level)
        features = self.align(flatten_levels(levels[:4]), pixels, down, across)
        return (*levels, *maps, *self.box_head(features))


_TWO_STAGE = WeightMap(
    "two-stage detector",
    rules=(
        *under(TORCHVISION_RESNET_MAP.rules, "backbone.", "backbone."),
        *under(FPN_RULES, "neck.", "neck."),
        *under(RPN_RULES, "rpn_head.", "rpn_head."),
        *under(BOX_HEAD_RULES, "roi_head.bbox_head.", "box_head."),
    ),
    ignored=COUNTERS,
)


def generated_image(rule: dict[str, Any]) -> np.ndarray:
    """The image that the case describes by a rule."""
    rng = np.random.Generator(np.random.PCG64(rule["seed"]))
    (batch, channels, height, width), block = rule["shape"], rule["block"]
    low = rng.standard_normal((batch, channels, height // block, width // block), dtype=np.float32)
    high = rng.standard_normal((batch, channels, height, width), dtype=np.float32)
    wide = np.repeat(np.repeat(low, block, 2), block, 3)
    return np.float32(0.8) * wide + np.float32(0.4) * high


@claim(
    model="rsprompter",
    holds=("config.image_rule", "config.train_cfg.rcnn_assigner", "output/cls_score"),
    lacks=("config.aggregator",),
    whole=True,
)
def check_two_stage(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    net = _TwoStage(settings)
    fill(net, case, _TWO_STAGE)
    net.set_train(False)
    boxes, side = case.inputs["boxes"], settings["input_size"][0]
    sizes = [(side // stride, side // stride) for stride in _STRIDES]
    plan = plan_rois(boxes, np.zeros(len(boxes), np.int64), sizes, _STRIDES, 1, 7)
    found = [value.asnumpy() for value in net(*tensors(generated_image(settings["image_rule"]), *plan))]
    for level, step in enumerate((32, 16, 8, 4, 2)):
        checks.output(f"fpn.{level}", found[level][:, ::16, ::step, ::step], case.outputs[f"fpn.{level}"])
        for name, place in (("rpn_cls", 5 + 2 * level), ("rpn_reg", 6 + 2 * level)):
            checks.output(f"{name}.{level}", found[place][:, :, ::step, ::step], case.outputs[f"{name}.{level}"])
    checks.output("cls_score", found[-2], case.outputs["cls_score"])
    checks.output("bbox_pred", found[-1], case.outputs["bbox_pred"])


# ---- boxes that prompt -----------------------------------------------------------------------------------------------


class _Prompted(nn.Cell):
    """Prompter and mask decoder; or the loss of the masks on the canvas."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        decoder = settings["decoder"]
        width = decoder["hidden_size"]
        self.prompter = RoiPrompter(settings["in_channels"], settings["roi_feat_size"], settings["num_points"])
        self.mask_decoder = MaskDecoder(
            width, 2, decoder["num_attention_heads"], decoder["mlp_dim"], decoder["iou_head_hidden_dim"], 1e-6
        )
        self.no_mask_embed = init.parameter(init.normal((1, width), 1.0), "no_mask_embed")

    def construct(self, features: ms.Tensor, embedding: ms.Tensor, places: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Features (R, C, 14, 14), embedding and places (R, C, h, w) of every box's image."""
        prompts = self.prompter(features)
        count, width, rows, columns = embedding.shape
        image = ms.ops.transpose(embedding.reshape((count, width, rows * columns)), (0, 2, 1))
        image = image + ms.ops.broadcast_to(self.no_mask_embed.expand_dims(0), image.shape)
        where = ms.ops.transpose(places.reshape((count, width, rows * columns)), (0, 2, 1))
        masks, iou = self.mask_decoder(image, where, prompts, (rows, columns))
        return prompts, masks[:, :1], iou[:, :1]


class _MaskLoss(nn.Cell):
    def __init__(self, net: _Prompted) -> None:
        super().__init__()
        self.net = net

    def construct(self, truth: ms.Tensor, *inputs: ms.Tensor) -> ms.Tensor:
        logits = resize_maps(self.net(*inputs)[1], (truth.shape[1], truth.shape[2]))
        return binary_cross_entropy(logits.squeeze(1), truth).mean()


class _Copied(nn.Cell):
    """The same network compiled a second time, for training."""

    def __init__(self, net: _Prompted) -> None:
        super().__init__()
        self.net = net

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return self.net(*inputs)


@claim(model="rsprompter", holds=("config.roi_feat_size", "output/prompts_eval"))
def check_prompted_masks(case: Case, mode: str, checks: Checks) -> None:
    settings, given = case.config, case.inputs
    names = part_map(
        "prompted masks",
        (
            ("no_mask_embed.weight", "no_mask_embed"),
            *under(ROI_PROMPTER_RULES, "", "prompter."),
            *under(DECODER_PARTS["huggingface"], "mask_decoder.mask_decoder.", "mask_decoder."),
        ),
    )
    net = _Prompted(settings)
    fill(net, case, names)
    net.set_train(False)
    images = given["roi_image"].astype(np.int64)
    arrays = tensors(given["roi_feats"], given["image_embedding"][images], given["image_pe"][images])
    found = [value.asnumpy() for value in net(*arrays)]
    for name, value in zip(("prompts_eval", "low_res_eval", "iou_eval"), found, strict=True):
        checks.output(name, value, case.outputs[name])
    canvas = tuple(settings["input_size"])
    for image, meta in enumerate(given["img_meta"]):
        size = (int(meta[2]), int(meta[3]))
        inside = (int(meta[2] * meta[5]), int(meta[3] * meta[4]))
        own = [probability_on_image(mask[0], canvas, inside, size) for mask in found[1][images == image]]
        checks.output(f"post_prob.{image}", own[0], case.outputs[f"post_prob.{image}"])
        checks.exact(f"post.{image}", np.stack(own) >= settings["threshold"], case.outputs[f"post.{image}"])
    training = _Copied(net)
    training.set_train(True)
    checks.output("low_res_train", training(*arrays)[1].asnumpy(), case.outputs["low_res_train"])
    scalar = _MaskLoss(net)
    scalar.set_train(True)
    inputs = [*tensors(given["gt_masks"].astype(np.float32)), *arrays]
    value = compare_loss(case, checks, scalar, net, inputs, names)
    checks.loss("mask", value, case.losses["mask"], 1e-5)
