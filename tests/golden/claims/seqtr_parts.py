"""Parts of SeqTR: text, fusion, transformer, loss, sequences, contours, masks, tokens, scores."""

from __future__ import annotations

from typing import Any

import cv2
import mindspore as ms
import numpy as np
from mindspore import nn, ops
from pycocotools import mask as coco_mask

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from golden.claims.seqtr import POOLS, TASKS, check_tokens, head_of
from golden.compute import Apply, fill
from mindground.backbones.bert import Bert
from mindground.backbones.darknet import ConvUnit
from mindground.backbones.darknet_weights import conv_unit_rules
from mindground.backbones.swin import PatchMerging, SwinBlock
from mindground.metrics.counts import crowd_iou, mask_counts, mask_iou, mean_of_batches, overall_iou, share_at_least
from mindground.models.seqtr.contours import largest_contour, mass_centre, sample_vertices
from mindground.models.seqtr.decode import draw_polygon, tokens_to_boxes, tokens_to_points
from mindground.models.seqtr.fusion import SimpleFusion
from mindground.models.seqtr.generate import before_end, generate
from mindground.models.seqtr.language import GruText
from mindground.models.seqtr.losses import place_weights, smoothed_cross_entropy
from mindground.models.seqtr.sequence_head import SequenceHead, _Projection
from mindground.models.seqtr.sequences import Layout, sequence_of
from mindground.models.seqtr.transformer import EncoderLayer, GridPositions
from mindground.models.seqtr.weights import part_map
from mindground.structures import intersection_and_union
from mindground.text import build_tokenizer, tokenizer_from_payload
from mindground.weights.maps import WeightMap


@claim(model="seqtr", kind="gru")
def check_gru(case: Case, mode: str, checks: Checks) -> None:
    settings, ids = case.config, case.inputs["ref_expr_inds"].astype(np.int32)
    for theirs, ours in POOLS.items():
        encoder = GruText(settings["vocab"], settings["emb"], settings["hidden"], ours)
        fill(encoder, case, part_map("gru", "enc."))
        sentence, words, _ = encoder(*tensors(ids, (ids > 0).astype(np.int32)))
        checks.output(f"y_{theirs}", sentence.asnumpy()[:, None], case.outputs[f"y_{theirs}"])
        checks.output("words", words.asnumpy()[..., :: settings["stride"]], case.outputs["words"])


@claim(model="seqtr", kind="simple_fusion")
def check_simple_fusion(case: Case, mode: str, checks: Checks) -> None:
    fusion = SimpleFusion(case.config["vis_chs"])
    fill(fusion, case, part_map("simple"))
    y = case.inputs["y"][:, 0]
    maps = [case.inputs[f"vis{i}"] for i in range(3)]

    def run(count: int) -> np.ndarray:
        values = tensors(*(item[:count] for item in (*maps, y)))
        return _Fuse(fusion)(*values).asnumpy()

    fusion.set_train(False)
    checks.output("x_mm", run(2), case.outputs["x_mm"])
    checks.output("x_mm_single", run(1), case.outputs["x_mm_single"])
    cell = _Fuse(fusion)
    cell.set_train(True)
    found = cell(*tensors(*maps, y)).asnumpy()
    checks.output("x_mm_train_bn", found, case.outputs["x_mm_train_bn"])
    checks.output("bn_mean_after", fusion.project[1].bn.moving_mean.asnumpy(), case.outputs["bn_mean_after"])
    checks.output("bn_var_after", fusion.project[1].bn.moving_variance.asnumpy(), case.outputs["bn_var_after"])


class _Fuse(nn.Cell):
    def __init__(self, fusion: SimpleFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def construct(self, a: ms.Tensor, b: ms.Tensor, c: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
        return self.fusion((a, b, c), y, y, y)


def _padding(img_shape: np.ndarray, size: np.ndarray) -> np.ndarray:
    padding = np.ones((len(img_shape), int(size[0]), int(size[1])), np.uint8)
    for row, (height, width) in zip(padding, img_shape, strict=True):
        row[:height, :width] = 0
    return padding


class _Head(nn.Cell):
    """Every intermediate of the transformer."""

    def __init__(self, head: SequenceHead) -> None:
        super().__init__()
        self.head = head

    def construct(self, fused: ms.Tensor, padding: ms.Tensor, previous: ms.Tensor) -> dict[str, ms.Tensor]:
        head = self.head
        real = head.real(padding, (fused.shape[2], fused.shape[3]))
        memory, placed, bias = head.memory(fused, padding)
        hidden = head.decode(memory, placed, bias, previous)
        return {
            "pos": head.positions(real),
            "proj": head.project(fused),
            "memory": memory,
            "seq_in_embeds": ops.gather(head.table(), previous, 0),
            "decoder": hidden,
            "logits": head.logits(hidden),
            "x_mask": 1.0 - real.reshape((real.shape[0], -1)),
            "tri_mask": (head.later[0, 0] < -1.0).astype(ms.float32),
        }


@claim(model="seqtr", kind="transformer")
def check_transformer(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config["head"]
    own = head_of(settings)
    layout = Layout(TASKS[settings["task"]], own.num_bin, own.num_ray)
    head = SequenceHead(
        settings["in_ch"], layout, own.width, own.heads, own.hidden, own.encoder_layers, own.decoder_layers, 0.0
    )
    fill(head, case, part_map("head", "head."))
    head.set_train(False)
    padding = _padding(case.inputs["img_shape"], case.inputs["batch_input_shape"])
    tokens = case.inputs["seq_in"].astype(np.int32)
    previous = np.concatenate([np.full((len(tokens), 1), layout.start, np.int32), tokens], 1)
    found = {k: v.asnumpy() for k, v in _Head(head)(*tensors(case.inputs["x_mm"], padding, previous)).items()}
    for name in ("x_mask", "tri_mask"):
        checks.exact(name, found.pop(name).astype(np.uint8), case.outputs[name])
    for name, value in found.items():
        checks.output(name, value, case.outputs[name])
    _check_greedy(case, checks, head, padding, mode)


def _check_greedy(case: Case, checks: Checks, head: SequenceHead, padding: np.ndarray, mode: str) -> None:
    """The cached decoding of the head by itself."""
    prepare, step = Apply(head.prepare), Apply(head.advance)
    for cell in (prepare, step):
        cell.set_train(False)
    shared = prepare(*tensors(case.inputs["x_mm"], padding))
    batch = len(padding)
    shape = (batch * head.heads, head.layout.length, head.width // head.heads)
    caches = tensors(np.zeros(shape, np.float32)) * (2 * len(head.decoder.layers))

    def advance(token: np.ndarray, place: np.ndarray) -> np.ndarray:
        nonlocal caches
        logits, *caches = step(*tensors(token, place), *shared, *caches)
        return logits.asnumpy()

    tokens = generate(head.layout, batch, advance)
    check_tokens(checks, case.outputs, tokens, "bbox")
    checks.output("margin_bbox", tokens["box_margins"], case.outputs["margin_bbox"], 1e-3)


class _Positions(nn.Cell):
    """Places of the pixels inside the image, from the padding of the canvas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.positions = GridPositions(width)

    def construct(self, real: ms.Tensor) -> ms.Tensor:
        return self.positions(real)


@claim(model="seqtr", kind="posenc")
def check_positions(case: Case, mode: str, checks: Checks) -> None:
    padding = _padding(case.inputs["img_shape"], case.inputs["batch_input_shape"])
    height, width = (int(side) for side in case.inputs["feat_hw"])
    head = SequenceHead(32, Layout("box", 10), 32, 1, 32, 0, 0)
    real = Apply(head.real, (height, width))(*tensors(padding))
    mask = 1 - real.asnumpy().reshape(len(padding), -1)
    checks.exact("x_mask", mask.astype(np.uint8), case.outputs["x_mask"])
    checks.output("pos", _Positions(2 * case.config["num_feature"])(real).asnumpy(), case.outputs["pos"])


class _Norms(nn.Cell):
    """Every kind of normalisation of the family, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.dark, self.pm, self.input_proj = ConvUnit(3, 8, 3), PatchMerging(4), _Projection(8, 32)
        self.swin_norm, self.layer_norm = SwinBlock(16, 2, 3, 0).norm1, EncoderLayer(16, 2, 16, 0.0).norm1
        self.bert_norm = Bert(60, 16, 1, 2, 64, 32).embeddings.layer_norm

    def construct(self, x: ms.Tensor, tokens: ms.Tensor, f: ms.Tensor, b: ms.Tensor) -> dict[str, ms.Tensor]:
        merged = self.pm(tokens[:, :4].reshape((tokens.shape[0], 4, 4, 4)))
        return {
            "dark": self.dark(x),
            "pm": merged.reshape((tokens.shape[0], -1, 8)),
            "swin_norm": self.swin_norm(tokens),
            "input_proj": self.input_proj(f),
            "layer_norm": self.layer_norm(tokens),
            "bert_norm": self.bert_norm(b),
        }


@claim(model="seqtr", kind="norm_eps")
def check_epsilons(case: Case, mode: str, checks: Checks) -> None:
    """Inputs so small that every epsilon shows."""
    norms = _Norms()
    pairs = (("weight", "gamma"), ("bias", "beta"))
    rules = (
        *conv_unit_rules("dark", "dark"),
        *(
            (f"{name}.{a}", f"{name}.{b}")
            for name in ("swin_norm", "layer_norm", "bert_norm", "pm.norm")
            for a, b in pairs
        ),
        ("pm.reduction.weight", "pm.reduction.weight"),
        ("input_proj.conv.{leaf:weight|bias}", "input_proj.conv.{leaf}"),
        *((f"input_proj.gn.{a}", f"input_proj.gn.{b}") for a, b in pairs),
    )
    fill(norms, case, WeightMap("norms", rules=rules))
    norms.set_train(False)
    for name, value in norms(*tensors(*(case.inputs[key] for key in ("x", "tokens", "f", "b")))).items():
        checks.output(name, value.asnumpy(), case.outputs[name])


@claim(model="seqtr", kind="quantise", modes=("host",))
def check_quantise(case: Case, mode: str, checks: Checks) -> None:
    bins = case.config["num_bin"]
    boxes, vertices = case.inputs["gt_bbox"], case.inputs["gt_mask_vertices"]
    for name in ("relative", "absolute"):
        layout = Layout("box", bins, absolute=name == "absolute")
        for index, (height, width) in enumerate(case.inputs["pad_shape"]):
            padded = (int(height), int(width))
            tokens = sequence_of(layout, padded, boxes[index], None)["sequence"][:4]
            checks.exact(f"q_box_{name}[{index}]", tokens, case.outputs[f"q_box_{name}"][index])
            box = tokens_to_boxes(tokens, layout, padded)
            checks.output(f"dq_box_{name}[{index}]", box, case.outputs[f"dq_box_{name}"][index])
    for name, task in TASKS.items():
        layout = Layout(task, bins, vertices.shape[2])
        for index, (height, width) in enumerate(case.inputs["pad_shape"]):
            ours = sequence_of(layout, (int(height), int(width)), boxes[index], vertices[index])
            checks.exact(f"targets_{name}[{index}]", ours["sequence"], case.outputs[f"targets_{name}"][index])


class _LossOf(nn.Cell):
    def __init__(self, layout: Layout, settings: dict[str, Any]) -> None:
        super().__init__()
        weights = place_weights(layout, tuple(settings["det_coord"]), settings["det_coord_weight"])
        self.weights, self.smoothing = ms.Tensor(weights), settings["neg_factor"]
        self.end_weight = 0.1 if layout.task == "contour" else 1.0

    def construct(self, logits: ms.Tensor, target: ms.Tensor) -> ms.Tensor:
        return smoothed_cross_entropy(logits, target, self.weights, self.smoothing, self.end_weight)


@claim(model="seqtr", kind="loss")
def check_loss(case: Case, mode: str, checks: Checks) -> None:
    for name, task in TASKS.items():
        layout = Layout(task, case.config["num_bin"], case.config["num_ray"])
        logits, target = tensors(case.inputs[f"logits_{name}"], case.inputs[f"targets_{name}"].astype(np.int32))
        value, gradient = ms.value_and_grad(_LossOf(layout, case.config))(logits, target)
        checks.loss(name, value.asnumpy(), case.losses[name])
        checks.output(f"dlogits_{name}", gradient.asnumpy(), case.outputs[f"dlogits_{name}"])


@claim(model="seqtr", kind="contour", modes=("host",))
def check_contours(case: Case, mode: str, checks: Checks) -> None:
    for name, mask in case.inputs.items():
        contour = largest_contour(mask)
        centre = mass_centre(contour)
        checks.exact(f"{name}/contour", contour, case.outputs[f"{name}/contour"])
        checks.exact(f"{name}/keep", centre is not None, case.outputs[f"{name}/keep"])
        checks.output(f"{name}/center", [-1, -1] if centre is None else centre, case.outputs[f"{name}/center"])
        for count in case.config["num_ray"]:
            for rays, suffix in ((False, ""), (True, "_center")):
                key = f"{name}/vertices_{count}{suffix}"
                checks.output(key, sample_vertices(mask, count, rays), case.outputs[key], 1e-6)


@claim(model="seqtr", kind="mask_decode", modes=("host",))
def check_mask_decode(case: Case, mode: str, checks: Checks) -> None:
    """Masks at padded size and IoU. Two vertices enclose nothing here; upstream reads them as a box."""
    layout = Layout("contour", case.config["num_bin"], case.config["num_ray"])
    tokens = case.inputs["tokens"]
    for index, count in enumerate(before_end(tokens, layout.end)):
        padded = tuple(int(side) for side in case.inputs["pad_shape"][index])
        points = tokens_to_points(tokens[index, :count], layout, padded)
        mask = draw_polygon(points, padded)
        if len(points) == 2:
            checks.true(f"pad/mask{index}: two vertices", not mask.any())
            mask = coco_mask.decode(coco_mask.frPyObjects(points.reshape(1, 4), *padded))[..., 0]
        checks.exact(f"pad/mask{index}", mask, case.outputs[f"pad/mask{index}"])
        height, width = (int(side) for side in case.inputs["ori_shape"][index])
        # Upstream stretches the padded mask; ours is drawn in original pixels (`decode_sequences`).
        stretched = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        checks.exact(f"ori/mask{index}", stretched, case.outputs[f"ori/mask{index}"])
        truth = case.inputs[f"gt{index}"]
        overlap = mask_iou(*mask_counts(mask, truth))
        checks.output(f"iou_crowd0[{index}]", overlap, case.outputs["iou_crowd0"][index])
        checks.output(f"iou_crowd1[{index}]", crowd_iou(mask, truth), case.outputs["iou_crowd1"][index])


@claim(model="seqtr", kind="tokens", modes=("host",))
def check_tokens_of_text(case: Case, mode: str, checks: Checks) -> None:
    splits = case.config["instances"].values()
    sentences = [sentence for split in splits for record in split for sentence in record["expressions"]]
    tokenizer = build_tokenizer("words", sentences=sentences)
    checks.true("vocabulary", {t: i for i, t in enumerate(tokenizer.tokens)} == case.config["token2ix"])
    ids, mask = tokenizer(case.config["queries"], case.config["max_token"])
    checks.exact("ids", ids, case.outputs["ids"])
    checks.exact("mask", mask, ids != 0)
    again = tokenizer_from_payload(tokenizer.to_payload())
    checks.exact("ids of the checkpoint's", again(case.config["queries"], case.config["max_token"])[0], ids)


@claim(model="seqtr", kind="metrics", modes=("host",))
def check_metrics(case: Case, mode: str, checks: Checks) -> None:
    predicted, truth = case.inputs["pred"], case.inputs["gt"]
    pairs = [intersection_and_union(a, b) for a, b in zip(predicted, truth, strict=True)]
    intersection, union = (np.asarray([float(pair[i]) for pair in pairs]) for i in (0, 1))
    ious = mask_iou(intersection, union)
    checks.output("iou", ious, case.outputs["iou"])
    hits, sizes = 100.0 * (ious >= 0.5), case.config["batch_sizes"]
    starts = np.cumsum([0, *sizes[:-1]])
    batches = [hits[start : start + size].mean() for start, size in zip(starts, sizes, strict=True)]
    checks.output("batch_acc", batches, case.outputs["batch_acc"])
    checks.output("epoch_acc_upstream", mean_of_batches(hits, sizes[0]), case.outputs["epoch_acc_upstream"])
    checks.output("acc_sample_mean", 100 * share_at_least(ious, 0.5), case.outputs["acc_sample_mean"])
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        name = f"prec@{threshold}"
        checks.output(name, 100 * share_at_least(ious, threshold), case.outputs[name])
    checks.output("meanIoU", 100 * ious.mean(), case.outputs["meanIoU"])
    checks.output("cumIoU", 100 * overall_iou(intersection, union), case.outputs["cumIoU"])
