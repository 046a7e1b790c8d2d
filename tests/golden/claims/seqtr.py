"""SeqTR whole and in parts; MSAM whole, which shares image encoder and sequence head with it."""

from __future__ import annotations

from typing import Any

import cv2
import mindspore as ms
import numpy as np
from mindspore import nn, ops
from pycocotools import mask as coco_mask

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from golden.compute import Apply, fill, loss_and_gradients
from mindground.backbones.bert import Bert
from mindground.backbones.darknet import ConvUnit
from mindground.backbones.darknet_weights import conv_unit_rules
from mindground.backbones.swin import PatchMerging, SwinBlock
from mindground.engine.forward import Runner
from mindground.metrics.counts import crowd_iou, mask_counts, mask_iou, mean_of_batches, overall_iou, share_at_least
from mindground.models.seqtr.builder import build_network
from mindground.models.seqtr.config import (
    BertConfig,
    DarknetConfig,
    FusionConfig,
    GruConfig,
    HeadConfig,
    SeqtrConfig,
    TextConfig,
    VisualConfig,
)
from mindground.models.seqtr.contours import largest_contour, mass_centre, sample_vertices
from mindground.models.seqtr.decode import draw_polygon, tokens_to_boxes, tokens_to_points
from mindground.models.seqtr.fusion import SimpleFusion
from mindground.models.seqtr.generate import before_end, generate
from mindground.models.seqtr.language import GruText
from mindground.models.seqtr.losses import place_weights, smoothed_cross_entropy
from mindground.models.seqtr.network import Seqtr
from mindground.models.seqtr.sequence_head import SequenceHead, _Projection
from mindground.models.seqtr.sequences import Layout, sequence_of
from mindground.models.seqtr.transformer import EncoderLayer, GridPositions
from mindground.models.seqtr.weights import UPSTREAM_MAP, part_map
from mindground.structures import intersection_and_union
from mindground.text import build_tokenizer, tokenizer_from_payload
from mindground.weights.maps import WeightMap

TASKS = {"det": "box", "seg": "contour", "multi": "multi"}
# Names of SeqTR's own ways to pool.
POOLS = {"max": "max", "mean": "mean", "default": "last"}
# Probabilities: a lead over the next token that this moves would not decide between them.
_MARGIN = 1e-4


def settings_of(config: dict[str, Any]) -> SeqtrConfig:
    """The `model` section of a whole-model case, without dropout."""
    text, head, fusion, vis = config["text"], config["head"], config["fusion"], config["vis"]
    darknet = DarknetConfig(vis["c0"], vis["blocks"], vis["freeze_layer"])
    if "bert" in text:
        bert = {k: v for k, v in text["bert"].items() if not k.endswith("_prob")}
        eps, vocab = bert.pop("layer_norm_eps"), bert.pop("vocab_size")
        assert eps == 1e-12 and bert.pop("type_vocab_size") == 2
        frozen = text.get("frozen_layers", 0)
        own = BertConfig(**bert, dropout=0.0, frozen_layers=frozen, out=text["out"], static=text["static"])
        language = TextConfig("bert", vocab, bert=own)
    else:
        frozen = text.get("freeze_emb", False)
        pool, attends = POOLS[text.get("pool", "max")], config["model"] == "msam"
        gru = GruConfig(text["emb"], text["hidden"], pool, frozen, attends)
        language = TextConfig("gru", text["vocab"], gru=gru)
    if config["model"] == "msam":
        joint = FusionConfig(
            "kernels", mode=fusion["mode"], activation=fusion["act"], aggregate=fusion["aggregate"],
            depths=fusion["depths"], head_dim=fusion["head_dim"], window=fusion["window"],
        )  # fmt: skip
    else:
        joint = FusionConfig()
    return SeqtrConfig(
        task=TASKS[head["task"]],
        visual=VisualConfig("darknet", darknet),
        text=language,
        fusion=joint,
        head=head_of(head),
    )


def head_of(head: dict[str, Any]) -> HeadConfig:
    """The head of a case, without dropout."""
    return HeadConfig(
        head["d"], head["nhead"], head["ff"], head["enc"], head["dec"], 0.0, head["num_bin"], max(3, head["num_ray"])
    )


def arrays_of(inputs: Any, layout: Layout, step: int | None = None, prefix: str = "") -> dict[str, np.ndarray]:
    """A batch of a case as the loader makes it: padding, words and sequences beside the image.

    Args:
        step: of the first axis, where a case holds several batches.
    """

    def read(name: str) -> np.ndarray:
        value = inputs[prefix + name]
        return value if step is None else value[step]

    image = read("img")
    padding = np.ones((len(image), *image.shape[2:]), np.uint8)
    for row, (height, width) in zip(padding, read("img_shape"), strict=True):
        row[:height, :width] = 0
    ids = read("ref_expr_inds").astype(np.int32)
    mask = read("attention_mask") if prefix + "attention_mask" in inputs else ids > 0
    arrays = {"image": image, "padding": padding, "token_ids": ids, "token_mask": np.asarray(mask, np.int32)}
    found = []
    for index, padded in enumerate(read("pad_shape")):
        box = read("gt_bbox")[index] if layout.task != "contour" else None
        vertices = read("gt_mask_vertices")[index] if layout.task != "box" else None
        found.append(sequence_of(layout, (int(padded[0]), int(padded[1])), box, vertices))
        if vertices is not None:
            _round_absent(found[-1], layout, padded, vertices)
    return arrays | {name: np.stack([item[name] for item in found]) for name in ("sequence", "previous")}


def _round_absent(arrays: dict[str, np.ndarray], layout: Layout, padded: np.ndarray, vertices: np.ndarray) -> None:
    """Put in what upstream writes for a vertex that is not there, in place.

    It quantises the -1 that stands there, and the result is the end where it is below 0. With fewer bins than the side
    has pixels it is 0, which is a coordinate. Ours is the end always.
    """
    first = 5 if layout.task == "multi" else 0
    share = np.float32(-1) / np.asarray([padded[1], padded[0]], np.float32) * np.float32(layout.bins)
    absent = np.nonzero(vertices.T.reshape(-1) < 0)[0]
    for place in absent[np.trunc(share)[absent % 2] == 0]:
        assert arrays["sequence"][first + place] == layout.end
        arrays["sequence"][first + place] = 0
        arrays["previous"][first + place + 1] = 0


class Stages(nn.Cell):
    """Every intermediate that the cases hold, in one graph."""

    def __init__(self, net: Seqtr) -> None:
        super().__init__()
        self.net = net
        self.staged = hasattr(net.fusion, "stages")

    def construct(
        self, image: ms.Tensor, padding: ms.Tensor, ids: ms.Tensor, mask: ms.Tensor, previous: ms.Tensor,
        sequence: ms.Tensor,
    ) -> dict[str, ms.Tensor]:  # fmt: skip
        net = self.net
        maps = net.encode_image(image)
        sentence, words, real = net.text_encoder(ids, mask)
        found = {"vis0": maps[0], "vis1": maps[1], "vis2": maps[2], "text": sentence, "words": words}
        if self.staged:
            before = None
            for index in range(3):
                x = ops.transpose(maps[index], (0, 2, 3, 1))
                first, swin, second, before = net.fusion.stages[index](x, before, sentence, words, real)
                name = "stage" + str(index) + "_"
                found[name + "k1"] = ops.transpose(first, (0, 3, 1, 2))
                found[name + "swin"] = ops.transpose(swin, (0, 3, 1, 2))
                found[name + "k2"] = ops.transpose(second, (0, 3, 1, 2))
                found[name + "out"] = ops.transpose(before, (0, 3, 1, 2))
        fused = net.fusion(maps, sentence, words, real)
        head = net.sequence_head
        memory, placed, bias = head.memory(fused, padding)
        hidden = head.decode(memory, placed, bias, previous)
        found["x_mm"] = fused
        found["x_mask"] = 1.0 - head.real(padding, (fused.shape[2], fused.shape[3])).reshape((fused.shape[0], -1))
        found["memory"] = memory
        found["decoder"] = hidden
        found["logits"] = head.logits(hidden)
        found["loss"] = net.loss((found["logits"],), sequence)[0]
        return found


class StepLoss(nn.Cell):
    """The total that training differentiates."""

    def __init__(self, net: Seqtr) -> None:
        super().__init__()
        self.net = net

    def construct(self, *arrays: ms.Tensor) -> ms.Tensor:
        return self.net.loss(self.net(*arrays[:-1]), arrays[-1])[0]


def strided(case: Case, name: str, values: np.ndarray) -> np.ndarray:
    """One of so many values in C order, as the case keeps them."""
    step = case.config.get("stride", {}).get(name)
    return values if step is None else values.reshape(-1)[::step]


def given(net: Seqtr, arrays: dict[str, np.ndarray]) -> list[ms.Tensor]:
    return tensors(*(arrays[name] for name in (*net.input_names, *net.target_names)))


def check_tokens(
    checks: Checks, outputs: Any, found: dict[str, np.ndarray], part: str, prefix: str = "", noise: float = 0.0
) -> None:
    """Tokens are equal wherever the reference's own lead is larger than rounding; a token decides those behind it."""
    theirs, margins = outputs[f"{prefix}tokens_{part}"], outputs[f"{prefix}margin_{part}"]
    ours = found[f"{'box' if part == 'bbox' else 'mask'}_tokens"]
    close = margins <= max(noise, 1e-5)
    first = np.where(close.any(1), close.argmax(1), theirs.shape[1])
    for index, count in enumerate(first):
        checks.exact(f"{prefix}tokens_{part}[{index}]", ours[index, :count], theirs[index, :count])
    checks.true(f"{prefix}tokens_{part} decided", int(first.sum()) > 0, "every lead is within rounding")


@claim(model=("seqtr", "msam"), kind="e2e", whole=True)
def check_whole(case: Case, mode: str, checks: Checks) -> None:
    """Intermediates, loss, greedy tokens; gradients and statistics of one step of training."""
    net = build_network(settings_of(case.config))
    fill(net, case, UPSTREAM_MAP)
    inputs: dict[str, np.ndarray] = dict(case.inputs)
    for name, how in case.meta.get("drawn_inputs", {}).items():
        inputs[name] = np.float32(how["scale"]) * draw(f"input/{name}", how["shape"], how["kind"], case.salt)
    arrays = arrays_of(inputs, net.layout)
    checks.exact("targets", arrays["sequence"], case.outputs["targets"])
    net.set_train(False)
    found = {name: value.asnumpy() for name, value in Stages(net)(*given(net, arrays)).items()}
    checks.loss("eval", found.pop("loss"), case.losses["eval"])
    checks.exact("x_mask", found.pop("x_mask").astype(np.uint8), case.outputs["x_mask"])
    for name, value in found.items():
        if name in case.outputs:
            theirs = case.outputs[name]
            ours = strided(case, name, value)
            checks.output(name, ours.reshape(theirs.shape) if name == "text" else ours, theirs)
    tokens = net.infer(Runner(net, graph=mode == "graph"), arrays)
    for part in ("bbox", "mask"):
        if f"tokens_{part}" in case.outputs:
            check_tokens(checks, case.outputs, tokens, part)
            name = "box" if part == "bbox" else "mask"
            checks.output(f"margin_{part}", tokens[f"{name}_margins"], case.outputs[f"margin_{part}"], 1e-3)
    if "pred_bbox" in case.outputs:
        pairs = zip(tokens["box_tokens"], inputs["pad_shape"], strict=True)
        boxes = [tokens_to_boxes(row, net.layout, (int(h), int(w))) for row, (h, w) in pairs]
        checks.output("pred_bbox", np.stack(boxes), case.outputs["pred_bbox"])
    if case.config.get("train"):
        net.set_train(True)
        value, gradients = loss_and_gradients(StepLoss(net), net, given(net, arrays))
        checks.loss("total", value, case.losses["total"])
        checks.grad_norms(UPSTREAM_MAP.to_theirs(gradients), case.grad_norms)
        after = UPSTREAM_MAP.to_theirs({name: p.asnumpy() for name, p in net.parameters_and_names()})
        for name in case.config["bn_after"]:
            checks.output(name, after[name], case.outputs[f"bn_after/{name}"])


# ---- parts -----------------------------------------------------------------------------------------------------------


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
        *((f"{name}.{a}", f"{name}.{b}") for name in ("swin_norm", "layer_norm", "bert_norm", "pm.norm") for a, b in pairs),
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
