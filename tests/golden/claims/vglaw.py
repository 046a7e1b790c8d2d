"""VG-LAW: generator, adapted projections, heads, losses and the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.compute import Apply, fill, loss_and_gradients
from mindground.losses import box_iou_loss, box_l1_loss, dice_loss, paired_iou, sigmoid_focal_loss
from mindground.models.vglaw.builder import build_network
from mindground.models.vglaw.config import TextConfig, VGLawConfig, VisualConfig
from mindground.models.vglaw.generator import WeightGenerator
from mindground.models.vglaw.heads import AdaptivePool, MaskHead
from mindground.models.vglaw.law import GroupScaledLinear, OmniScaledLinear, SvdLinear
from mindground.models.vglaw.network import VGLaw
from mindground.models.vglaw.weights import UPSTREAM_MAP
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.resize import BilinearResize
from mindground.weights.maps import identity_map


def tensors(*arrays: np.ndarray) -> list[ms.Tensor]:
    return [ms.Tensor(np.ascontiguousarray(a)) for a in arrays]


def input_gradients(cell: nn.Cell, inputs: Sequence[ms.Tensor]) -> list[np.ndarray]:
    """Gradient of the cell's first result by every input."""
    function = ms.value_and_grad(cell, tuple(range(len(inputs))), None)
    return [g.asnumpy() for g in function(*inputs)[1]]


class Dot(nn.Cell):
    """sum(net(x, *rest) * r): the scalar that component cases differentiate."""

    def __init__(self, net: nn.Cell, r: np.ndarray) -> None:
        super().__init__()
        self.net, self.r = net, ms.Tensor(np.ascontiguousarray(r))

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        out = self.net(*inputs)
        if isinstance(out, tuple):
            out = ops.stack(out)
        return (out * self.r).sum()


@claim(model="VG-LAW", holds=("output/y_no_phi",))
def check_svd(case: Case, mode: str, checks: Checks) -> None:
    config, state = case.config, case.state_dict()
    layer = SvdLinear(config["in_features"], config["out_features"], config["rank"])
    layer.weight.set_data(ms.Tensor(state["weight"]))
    layer.bias.set_data(ms.Tensor(state["bias"]))
    x = case.inputs["x"]
    batch = len(case.inputs["phi"])
    flat = x.reshape(batch, -1, x.shape[-1])
    inputs = tensors(flat, case.inputs["phi"], state["S"], state["D"])
    shape = case.outputs["y"].shape
    checks.output("y", layer(*inputs).asnumpy().reshape(shape), case.outputs["y"])
    checks.output("y_no_phi", layer(inputs[0]).asnumpy().reshape(shape), case.outputs["y_no_phi"])
    dot = Dot(layer, case.inputs["r"].reshape(batch, -1, shape[-1]))
    _, gradients = loss_and_gradients(dot, layer, inputs)
    gradients |= dict(zip(("x", "phi", "S", "D"), input_gradients(dot, inputs), strict=True))
    checks.grad_norms(gradients, case.grad_norms)


@claim(model="VG-LAW", holds=("output/la_g1", "output/od1"))
def check_variants(case: Case, mode: str, checks: Checks) -> None:
    width, out = case.config["in_features"], case.config["out_features"]
    layers = {
        "la_g1": GroupScaledLinear(width, out, 1),
        "la_g3": GroupScaledLinear(width, out, 3),
        **{f"od{k}": OmniScaledLinear(width, out, k) for k in (1, 2, 3)},
    }
    for name, layer in layers.items():
        layer.weight.set_data(ms.Tensor(case.state_dict()["law.weight"]))
        layer.bias.set_data(ms.Tensor(case.state_dict()["law.bias"]))
        y = layer(*tensors(case.inputs["x"], case.inputs[name]))
        checks.output(name, y.asnumpy(), case.outputs[name])


@claim(model="VG-LAW", holds=("config.rank", "output/phi"))
def check_generator(case: Case, mode: str, checks: Checks) -> None:
    config = case.config
    holder = nn.Cell()
    generator = WeightGenerator(
        [config["rank"] ** 2] * config["layers"],
        config["text_dim"],
        config["heads"],
        config["ln_eps"],
        config["use_activation"],
    )
    holder.weight_generator = generator
    state = {n: a for n, a in case.state_dict().items() if n.split(".")[1] not in ("S", "D")}
    fill(holder, _only(case, state), identity_map())
    inputs = tensors(case.inputs["text_feat"], (~case.inputs["pad"].astype(bool)).astype(np.int32))
    aggregated, attention = Apply(generator.aggregate)(*inputs)
    checks.output("aggregated", aggregated.asnumpy(), case.outputs["aggregated"])
    checks.output("token_attention", attention.asnumpy(), case.outputs["token_attention"])
    phi = np.stack([p.asnumpy() for p in generator(*inputs)])
    checks.output("phi", phi, case.outputs["phi"])
    dot = Dot(generator, case.inputs["r"])
    function = ms.value_and_grad(dot, 0, None)
    gradient = function(*inputs)[1].asnumpy()
    _, gradients = loss_and_gradients(dot, holder, inputs)
    gradients["text_feat"] = gradient
    checks.grad_norms(gradients, case.grad_norms)


def _only(case: Case, state: dict[str, np.ndarray]) -> Any:
    """A case that offers just these weights."""

    class Part:
        def state_dict(self) -> dict[str, np.ndarray]:
            return state

    return Part()


@claim(model="VG-LAW", holds=("config.attn_dim",))
def check_pool(case: Case, mode: str, checks: Checks) -> None:
    config = case.config
    pool = AdaptivePool(config["query_dim"], config["key_dim"], config["attn_dim"])
    fill(pool, case, identity_map())
    inputs = tensors(case.inputs["query"][0], case.inputs["key"].transpose(1, 0, 2))
    pooled, attention = pool(*inputs)
    checks.output("pooled", pooled.asnumpy()[None], case.outputs["pooled"])
    checks.output("attention", attention.asnumpy()[:, None, None], case.outputs["attention"])


class Heads(nn.Cell):
    """Mask and box heads on given features."""

    def __init__(self, config: dict[str, Any], grid: tuple[int, int]) -> None:
        super().__init__()
        width, hidden = config["embed_dim"], config["box_hidden"]
        self.up_sample = MaskHead(width, config["text_dim"], config["up_channels"], config["up_ln_eps"])
        self.bbox_pred = MultiLayerPerceptron((width, hidden, hidden, 4))
        quarter = (4 * grid[0], 4 * grid[1])
        self.resize = BilinearResize(quarter, (4 * quarter[0], 4 * quarter[1]), align_corners=True)

    def construct(self, features: ms.Tensor, sentence: ms.Tensor, pooled: ms.Tensor) -> tuple[ms.Tensor, ...]:
        pixels = self.up_sample.pixel_embed(features).transpose(0, 3, 1, 2)
        quarter = self.up_sample(features, sentence).expand_dims(1)
        return pixels, quarter, self.resize(quarter), ops.sigmoid(self.bbox_pred(pooled))


@claim(model="VG-LAW", holds=("config.up_channels",))
def check_heads(case: Case, mode: str, checks: Checks) -> None:
    heads = Heads(case.config, case.inputs["img_feat"].shape[2:])
    fill(heads, case, UPSTREAM_MAP)
    outputs = heads(*tensors(case.inputs["img_feat"].transpose(0, 2, 3, 1), case.inputs["cls"], case.inputs["pooled"]))
    for name, value in zip(("pixel_embed", "mask_logits_quarter", "mask_logits", "box"), outputs, strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name])


class Losses(nn.Cell):
    """The four terms and their sum on free-standing outputs."""

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        boxes, truth, logits, mask = inputs
        batch = boxes.shape[0]
        logits, mask, ones = logits.reshape(batch, -1), mask.reshape(batch, -1), ops.ones((batch,), ms.float32)
        terms = (
            box_l1_loss(boxes, truth),
            box_iou_loss(boxes, truth),
            sigmoid_focal_loss(logits, mask, ones),
            dice_loss(logits, mask, ones),
        )
        return (terms[0] + terms[1] + terms[2] + terms[3], *terms)


class Total(nn.Cell):
    """The sum of the terms alone, for gradients."""

    def __init__(self, losses: nn.Cell) -> None:
        super().__init__()
        self.losses = losses

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        return self.losses(*inputs)[0]


class Overlap(nn.Cell):
    """One kind of overlap."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def construct(self, boxes: ms.Tensor, truth: ms.Tensor) -> ms.Tensor:
        return paired_iou(boxes, truth, self.kind)


@claim(model="VG-LAW", holds=("input/pred_box", "loss/focal"))
def check_losses(case: Case, mode: str, checks: Checks) -> None:
    inputs = tensors(*(case.inputs[n] for n in ("pred_box", "box", "logits", "mask")))
    for name, value in zip(("total", "bbox", "giou", "focal", "dice"), Losses()(*inputs), strict=True):
        checks.loss(name, value.asnumpy(), case.losses[name])
    for kind in ("iou", "giou", "diou", "ciou"):
        overlap = Overlap(kind)(*inputs[:2]).asnumpy()
        checks.output(kind, overlap, case.outputs[kind])
        if kind in ("diou", "ciou"):
            checks.loss(kind, (1 - overlap).mean(), case.losses[kind])
    box, _, logits, _ = input_gradients(Total(Losses()), inputs)
    # Row 0 holds identical boxes, a kink of min and max: any subgradient is right there.
    checks.output("grad_box", box[1:], case.outputs["grad_box"][1:])
    checks.output("grad_logits", logits, case.outputs["grad_logits"])


def network(config: dict[str, Any]) -> VGLaw:
    """The network that a whole-model case describes."""
    vit, bert, generator, head = config["vit"], config["bert"], config["generator"], config["head"]
    visual = {k: v for k, v in vit.items() if k in VisualConfig.__dataclass_fields__}
    text = {k: v for k, v in bert.items() if k in TextConfig.__dataclass_fields__}
    settings = VGLawConfig(
        vit=VisualConfig(**visual),
        text=TextConfig(**text, dropout=bert.get("hidden_dropout_prob", 0.0)),
        law_type=generator["law_type"],
        law_rank=generator["rank"],
        generator_heads=generator["heads"],
        generator_norm_eps=generator["ln_eps"],
        use_activation=generator["use_activation"],
        up_channels=head["up_channels"],
        pool_dim=head["pool_dim"],
        box_hidden=head["box_hidden"],
    )
    return build_network(settings, img_size=vit["img_size"])


class Stages(nn.Cell):
    """Every intermediate that the cases hold, and the losses."""

    def __init__(self, net: VGLaw) -> None:
        super().__init__()
        self.net = net

    def construct(
        self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor, *targets: ms.Tensor
    ) -> dict[str, ms.Tensor]:
        net = self.net
        found = {"text_feat": net.text_encoder(token_ids, token_mask)}
        text_feat = found["text_feat"]
        found["aggregated"], found["token_attention"] = net.weight_generator.aggregate(text_feat, token_mask)
        found["phi"] = ops.stack(net.weight_generator(text_feat, token_mask))
        extras = net.generate(text_feat, token_mask)
        found["patch_embed"] = net.visual_encoder.patch_embed(image)
        x = net.visual_encoder.tokens(image)
        found["tokens"] = x
        for index in range(net.depth):
            x = net.visual_encoder.blocks[index](x, extras[index])
            found["block" + str(index)] = x
        sentence = text_feat[:, 0]
        found["img_feat"] = x.transpose(0, 3, 1, 2)
        tokens = x.reshape(x.shape[0], -1, x.shape[3])
        found["pooled"], found["pool_attention"] = net.ada_gap(sentence, tokens)
        found["mask_logits_quarter"] = net.up_sample(x, sentence).expand_dims(1)
        outputs = net(image, token_ids, token_mask)
        found["box"], found["mask_logits"] = outputs
        losses = net.loss(outputs, *targets)
        for index, name in enumerate(("total", "bbox", "giou", "focal", "dice")):
            found["loss_" + name] = losses[index]
        return found


class StepLoss(nn.Cell):
    """The total that training differentiates."""

    def __init__(self, net: VGLaw) -> None:
        super().__init__()
        self.net = net

    def construct(
        self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor, *targets: ms.Tensor
    ) -> ms.Tensor:
        return self.net.loss(self.net(image, token_ids, token_mask), *targets)[0]


def ellipses(boxes: np.ndarray, size: int) -> np.ndarray:
    """(B, 1, S, S) masks that the full-size case describes by its boxes."""
    centre = (np.arange(size) + 0.5) / size
    cx, cy, w, h = (boxes.astype(np.float64)[:, i, None, None] for i in range(4))
    inside = ((centre[None, None, :] - cx) / (w / 2)) ** 2 + ((centre[None, :, None] - cy) / (h / 2)) ** 2 <= 1
    return inside[:, None].astype(np.float32)


_SLICES = {
    "text_feat_s": lambda a: a[:, :, ::8],
    "aggregated_s": lambda a: a[:, :, ::4],
    "phi_s": lambda a: a[:, :, ::8],
    "tokens_s": lambda a: a[:, ::2, ::2, ::16],
    "block0_s": lambda a: a[:, ::4, ::4, ::16],
    "block2_s": lambda a: a[:, ::4, ::4, ::16],
    "img_feat_s": lambda a: a[:, ::8, ::2, ::2],
    "mask_logits_quarter_s": lambda a: a[:, :, ::2, ::2],
    "mask_logits_s": lambda a: a[:, :, 3::8, 3::8],
    "pixel_embed_s": lambda a: a[:, ::8, ::2, ::2],
}


@claim(model="VG-LAW", holds=("config.vit", "config.generator"), whole=True)
def check_network(case: Case, mode: str, checks: Checks) -> None:
    net = network(case.config)
    fill(net, case, UPSTREAM_MAP)
    net.set_train(False)
    size = case.config["vit"]["img_size"]
    image, mask = case.inputs.get("image"), case.inputs.get("mask")
    if image is None:
        image = np.float32(10) * draw("input/image", (2, 3, size, size), "mean", case.salt)
        image[1, :, :100] = 0
        image[1, :, -80:] = 0
        mask = ellipses(case.inputs["box"], size)
    ids, _, real = case.inputs["text"]
    inputs = tensors(image, ids, real, case.inputs["box"], mask, np.ones((len(image), 1), np.float32))
    found = {name: value.asnumpy() for name, value in Stages(net)(*inputs).items()}
    found["pool_attention"] = found["pool_attention"][:, None, None]
    if "pixel_embed_s" in case.outputs:
        features = np.ascontiguousarray(found["img_feat"].transpose(0, 2, 3, 1))
        pixels = Apply(net.up_sample.pixel_embed)(ms.Tensor(features)).asnumpy()
        found["pixel_embed"] = pixels.transpose(0, 3, 1, 2)
    for name, reference in case.outputs.items():
        ours = _SLICES[name](found[name.removesuffix("_s")]) if name in _SLICES else found[name]
        checks.output(name, ours, reference)
    for name, reference in case.losses.items():
        checks.loss(name, found["loss_" + name], reference)
    if case.grad_norms:
        net.set_train(True)
        _, gradients = loss_and_gradients(StepLoss(net), net, inputs)
        checks.grad_norms(UPSTREAM_MAP.to_theirs(gradients), case.grad_norms)
