"""CLIP-VG: stages, losses, gradients, variants, the published sizes, checkpoints of upstream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.compute import Apply, fill, loss_and_gradients
from mindground.files.weights import read_weights
from mindground.losses import box_iou_loss, box_l1_loss, paired_iou
from mindground.models.clipvg.builder import build_network
from mindground.models.clipvg.config import ClipVGConfig, TowersConfig
from mindground.models.clipvg.joint import JointLayer
from mindground.models.clipvg.network import ClipVG, PatchMask, prompted
from mindground.models.clipvg.weights import UPSTREAM_MAP
from mindground.structures import cxcywh_to_xyxy
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.maps import WeightMap

_VARIANTS = {"clipvg": "multi_level", "clipvg-lastlayer": "last_layer", "clipvg-prompt": "prompt"}


def network(case: Case, **more: Any) -> ClipVG:
    """The network that a case describes."""
    config = case.config
    towers = TowersConfig(**{k: v for k, v in config.items() if k in TowersConfig.__dataclass_fields__})
    if "prompt_ids" in config:
        more["prompt_ids"] = config["prompt_ids"]
    settings = ClipVGConfig(
        clip_model="",
        clip=towers,
        variant=_VARIANTS[case.meta["model"]],
        extract_layers=config["extract_layers"],
        vl_hidden_dim=config["vl_hidden_dim"],
        vl_nheads=config["vl_nheads"],
        vl_dim_feedforward=config["vl_dim_feedforward"],
        vl_enc_layers=config["vl_enc_layers"],
        vl_dropout=config["vl_dropout"],
        max_query_len=config["max_query_len"],
        **more,
    )
    return build_network(settings, img_size=config["image_size"])


class Stages(nn.Cell):
    """Every intermediate that the cases hold."""

    def __init__(self, net: ClipVG) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor, ids: ms.Tensor, mask: ms.Tensor, padding: ms.Tensor) -> dict[str, ms.Tensor]:
        net = self.net
        batch, length = ids.shape
        found = {"vision_embed": net.clip.visual.embed(image)}
        x = found["vision_embed"]
        for index in range(len(net.clip.visual.transformer.resblocks)):
            x = net.clip.visual.transformer.resblocks[index](x, None)
            found["vision_block" + str(index)] = x
        found["image_tokens"] = net.clip.visual(image)
        found["vision_features"] = net.encode_image(image)
        found["text_features"] = net.encode_text(ids)
        found["text_tokens"] = found["text_features"]
        found["visu_src"] = net.project_image(found["vision_features"])
        found["text_src"] = net.text_proj(found["text_features"])
        bias = net.key_bias(mask, padding)
        found["text_key_mask"] = bias[:, 0, 0, 1 : 1 + length] < 0
        found["visu_key_mask"] = bias[:, 0, 0, 2 + length :] < 0
        x, positions = net.sequence(found["visu_src"], found["text_src"])
        for index in range(len(net.vl_transformer.layers)):
            x = net.vl_transformer.layers[index](x, positions, bias)
            found["vl_layer" + str(index)] = x
        found["vl_out_reg"] = x[:, 0]
        found["box_logits"] = net.bbox_embed(x[:, 0])
        found["pred_box"] = net(image, ids, mask, padding)[0]
        return found


def inputs_of(case: Case) -> tuple[ms.Tensor, ...]:
    """image, token ids, token mask and padding of a case."""
    ids, mask = case.inputs["text_ids"].astype(np.int32), case.inputs["text_mask"].astype(np.int32)
    padding = case.inputs["image_mask"].astype(np.uint8)
    return tuple(ms.Tensor(array) for array in (case.inputs["image"], ids, mask, padding))


# Steps with which full-size cases thin their arrays out.
_STEPS = {"vision_features": (21, 64), "text_features": (7, 16), "visu_src": (21, 16), "vl_layer0": (25, 16)}


def thin(name: str) -> Callable[[np.ndarray], np.ndarray]:
    rows, columns = _STEPS[name]
    return lambda value: value[:, ::rows, ::columns]


def compare(case: Case, checks: Checks, found: dict[str, np.ndarray]) -> None:
    for name, reference in case.outputs.items():
        if name.endswith("_sub"):
            plain = name.removesuffix("_sub")
            checks.output(name, thin(plain)(found[plain]), reference)
        elif reference.dtype == bool or name == "prompted_ids":
            assert np.array_equal(found[name], reference), name
            checks.output(name, found[name].astype(np.float32), reference.astype(np.float32))
        else:
            checks.output(name, found[name], reference)


class StepLoss(nn.Cell):
    """The total that training differentiates."""

    def __init__(self, net: ClipVG) -> None:
        super().__init__()
        self.net = net

    def construct(
        self, image: ms.Tensor, ids: ms.Tensor, mask: ms.Tensor, padding: ms.Tensor, box: ms.Tensor
    ) -> ms.Tensor:
        return self.net.loss(self.net(image, ids, mask, padding), box)[0]


@claim(model=tuple(_VARIANTS), lacks=("optimizer", "file"), whole=True)
def check_network(case: Case, mode: str, checks: Checks) -> None:
    net = network(case)
    fill(net, case, UPSTREAM_MAP)
    net.set_train(False)
    inputs = inputs_of(case)
    found = {name: value.asnumpy() for name, value in Stages(net)(*inputs).items()}
    if net.prompt is not None:
        found["prompted_ids"] = Apply(prompted)(inputs[1], inputs[2], net.prompt)[0].asnumpy()
    compare(case, checks, found)
    if "n_parameters" in case.meta:
        sizes = {name: (p.size, p.requires_grad) for name, p in net.parameters_and_names()}
        assert sum(size for size, _ in sizes.values()) == case.meta["n_parameters"]
        # Upstream counts visu_proj, which it never uses, among what it trains.
        trained = sum(size for name, (size, learns) in sizes.items() if learns or name.startswith("visu_proj"))
        assert trained == case.meta["n_parameters_trainable"]
    if case.losses:
        terms = Apply(net.loss)((ms.Tensor(found["pred_box"]),), ms.Tensor(case.inputs["target_box"]))
        for name, value in zip(("total", "loss_bbox", "loss_giou"), terms, strict=True):
            checks.loss(name, value.asnumpy(), case.losses[name])
    if case.grad_norms:
        check_gradients(case, checks, inputs)


def check_gradients(case: Case, checks: Checks, inputs: tuple[ms.Tensor, ...]) -> None:
    net = network(case, train_clip="all")
    fill(net, case, UPSTREAM_MAP)
    net.set_train(True)
    _, gradients = loss_and_gradients(StepLoss(net), net, (*inputs, ms.Tensor(case.inputs["target_box"])))
    checks.grad_norms(UPSTREAM_MAP.to_theirs(gradients), case.grad_norms)


@claim(model="clipvg", holds=("file", "dtypes"))
def check_checkpoint(case: Case, mode: str, checks: Checks) -> None:
    file = read_weights(case.folder / case.meta["file"])
    for name, value in case.state_dict().items():
        assert np.array_equal(file.tensors[name], value.astype(case.meta["dtypes"][name])), name
    net = network(case)
    report = load_into(net, UPSTREAM_MAP.to_ours(file.tensors, parameter_shapes(net)))
    assert not report.unexpected and not report.missing
    net.set_train(False)
    found = {name: value.asnumpy() for name, value in Stages(net)(*inputs_of(case)).items()}
    compare(case, checks, found)


class _LayerSum(nn.Cell):
    """Sum over rows of the length of what a layer gives."""

    def __init__(self, layer: JointLayer) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, x: ms.Tensor, positions: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return ops.sqrt(ops.square(self.layer(x, positions, bias)).sum(-1)).sum()


_LAYER_MAP = WeightMap(
    "one joint layer",
    rules=(
        ("norm{k}.weight", "norm{k}.gamma"),
        ("norm{k}.bias", "norm{k}.beta"),
        ("{path}", "{path}"),
    ),
)


@claim(model="clipvg-vl-layer")
def check_layer(case: Case, mode: str, checks: Checks) -> None:
    config = case.config
    x, positions = (ms.Tensor(np.ascontiguousarray(case.inputs[n].transpose(1, 0, 2))) for n in ("src", "pos"))
    bias = ms.Tensor(case.inputs["key_mask"].astype(np.float32)[:, None, None] * -1e4)
    for name, norm_first in (("out", False), ("out_prenorm", True)):
        layer = JointLayer(config["d_model"], config["nhead"], config["dim_feedforward"], 0.0, norm_first)
        fill(layer, case, _LAYER_MAP)
        checks.output(name, layer(x, positions, bias).asnumpy().transpose(1, 0, 2), case.outputs[name])
        if not norm_first:
            first = Apply(layer.first)(x, positions, bias)[0].asnumpy()[:, 0]
            checks.output("first row", first, case.outputs["out"][0])
            total = _LayerSum(layer)
            gradient = ms.value_and_grad(total, 0, None)(x, positions, bias)[1].asnumpy()
            checks.output("grad_src", gradient.transpose(1, 0, 2), case.outputs["grad_src"])
            _, gradients = loss_and_gradients(total, layer, (x, positions, bias))
            checks.grad_norms(_LAYER_MAP.to_theirs(gradients), case.grad_norms)


@claim(model="clipvg-padmask")
def check_padding(case: Case, mode: str, checks: Checks) -> None:
    for name, mask in case.inputs.items():
        size, grid = map(int, name.removeprefix("mask_").split("to"))
        for kind in ("legacy", "antialias"):
            ours = PatchMask(size, grid, kind)(ms.Tensor(mask)).asnumpy() != 0
            reference = case.outputs[f"{kind}_{size}to{grid}"]
            assert np.array_equal(ours, reference), (name, kind)
            checks.output(f"{kind} {name}", ours.astype(np.float32), reference.astype(np.float32))


class _BoxLoss(nn.Cell):
    """The sum of both terms on free-standing boxes."""

    def construct(self, boxes: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
        return box_l1_loss(boxes, targets) + box_iou_loss(boxes, targets)


@claim(model="clipvg-losses")
def check_losses(case: Case, mode: str, checks: Checks) -> None:
    boxes, targets = ms.Tensor(case.inputs["pred"]), ms.Tensor(case.inputs["target"])
    checks.output("giou", Apply(paired_iou, "giou")(boxes, targets).asnumpy(), case.outputs["giou"])
    checks.loss("loss_bbox", Apply(box_l1_loss)(boxes, targets).asnumpy(), case.losses["loss_bbox"])
    checks.loss("loss_giou", Apply(box_iou_loss)(boxes, targets).asnumpy(), case.losses["loss_giou"])
    total, gradient = ms.value_and_grad(_BoxLoss(), 0, None)(boxes, targets)
    checks.loss("total", total.asnumpy(), case.losses["total"])
    # Row 0 holds identical boxes, a kink of min and max: any subgradient is right there.
    checks.output("grad_pred", gradient.asnumpy()[1:], case.outputs["grad_pred"][1:])
    checks.output("pred_xyxy", cxcywh_to_xyxy(case.inputs["pred"]), case.outputs["pred_xyxy"])
