"""Parts of RMSIN and LAVT: rotated convolution, fusion, cross-scale interaction, decoder, losses."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import check_probe, tensors, tolerance
from golden.compute import Apply, fill
from mindground.backbones.bert import HUGGINGFACE_MAP, Bert
from mindground.backbones.swin import SwinStage
from mindground.models.rmsin.cim import (
    CrossScaleAttention,
    CrossScaleInteraction,
    IntraScale,
    ScaleGate,
    TokenAttention,
)
from mindground.models.rmsin.decoder import Decoder
from mindground.models.rmsin.fusion import PixelWordAttention, StageFusion, VariousReceptive
from mindground.models.rmsin.losses import two_class_cross_entropy, two_class_dice
from mindground.models.rmsin.rotated_convolution import RotatedConv, rotate_kernels, rotation_matrix
from mindground.models.rmsin.weights import part_map
from mindground.nn.resize import resize_maps

# ---- rotated convolution -----------------------------------------------------------------------------------------


@claim(model="rmsin", kind="arc_rotmat")
def check_rotation(case: Case, mode: str, checks: Checks) -> None:
    cell = Apply(rotation_matrix)
    check_probe(case, checks, cell, cell, None, ("theta",), ("matrix",))


class _Kernels(nn.Cell):
    """Kernels of all samples, one after the other."""

    def construct(self, weight: ms.Tensor, scale: ms.Tensor, theta: ms.Tensor) -> ms.Tensor:
        return ops.concat(rotate_kernels(weight, scale, theta), 0)


@claim(model="rmsin", kind="arc_rotate")
def check_kernels(case: Case, mode: str, checks: Checks) -> None:
    cell = _Kernels()
    check_probe(case, checks, cell, cell, None, ("weight", "lambda", "theta"), ("kernels",))


@claim(model="rmsin", kind="arc_conv")
def check_rotated(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("arc")
    conv = RotatedConv(settings["in"], settings["out"], settings["n"])
    fill(conv, case, weight_map)
    conv.set_train(False)
    alpha, theta = conv.routing(*tensors(case.inputs["x"]))
    checks.output("alpha", alpha.asnumpy(), case.outputs["alpha"], tolerance(case, "alpha"))
    checks.output("theta", theta.asnumpy(), case.outputs["theta"], tolerance(case, "theta"))
    kernels = _Kernels()(conv.weight, alpha, theta).asnumpy().reshape(case.outputs["kernels"].shape)
    checks.output("kernels", kernels, case.outputs["kernels"], tolerance(case, "kernels"))
    check_probe(case, checks, conv, conv, weight_map, ("x",), ("y",))


# ---- fusion ------------------------------------------------------------------------------------------------------


def _words(case: Case) -> list[ms.Tensor]:
    """Words (B, T, Cl) and mask (B, T) from the channels-first text of a case."""
    mask = case.inputs["l_mask"][:, :, 0].astype(np.float32)
    return tensors(case.inputs["l"].transpose(0, 2, 1), mask)


_TEXT_GRADIENT = {"l": lambda gradient: gradient.transpose(0, 2, 1)}


@claim(model="rmsin", kind="pwam")
def check_pwam(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("pwam")
    fusion = PixelWordAttention(settings["dim"], settings["l_in"], settings["heads"])
    fill(fusion, case, weight_map)
    fusion.set_train(False)
    given = [*tensors(case.inputs["x"]), *_words(case)]
    for name, function, inputs in (
        ("vis", fusion.visual, given[:1]),
        ("query", fusion.queries, given[:1]),
        ("lang", fusion.language, given),
    ):
        ours = Apply(function)(*inputs).asnumpy()
        ours = ours if name == "lang" else ours.transpose(0, 2, 1)
        checks.output(name, ours, case.outputs[name], tolerance(case, name))
    check_probe(case, checks, fusion, fusion, weight_map, ("x", "l", "l_mask"), ("y",), given, _TEXT_GRADIENT)


class _TokensOf(nn.Cell):
    """Tokens in and out of a Cell of maps."""

    def __init__(self, cell: nn.Cell, size: tuple[int, int]) -> None:
        super().__init__()
        self.cell, self.size = cell, size

    def construct(self, x: ms.Tensor, *rest: ms.Tensor) -> Any:
        found = self.cell(x.reshape((x.shape[0], self.size[0], self.size[1], x.shape[2])), *rest)
        if isinstance(found, ms.Tensor):
            return found.reshape((x.shape[0], -1, found.shape[3]))
        flat = ()
        for item in found:
            flat = flat + (item.reshape((x.shape[0], -1, item.shape[3])),)
        return flat


@claim(model="rmsin", kind="various_receptive")
def check_receptive(case: Case, mode: str, checks: Checks) -> None:
    weight_map = part_map("receptive")
    branch = VariousReceptive()
    fill(branch, case, weight_map)
    branch.set_train(False)
    side = case.outputs["weight"].shape[2:]
    cell = _TokensOf(branch, side)
    x = tensors(case.inputs["x"].reshape(len(case.inputs["x"]), *side, -1))
    weight = Apply(branch.weights)(*x).asnumpy()
    checks.output("weight", weight, case.outputs["weight"], tolerance(case, "weight"))
    check_probe(case, checks, cell, branch, weight_map, ("x",), ("y",))
    cell.set_train(True)
    name = "train/y"
    checks.output(name, cell(*tensors(case.inputs["x"])).asnumpy(), case.outputs[name], tolerance(case, name))
    _check_statistics(case, checks, branch, weight_map)


def _check_statistics(case: Case, checks: Checks, model: nn.Cell, weight_map: Any) -> None:
    """`output/train/<name>`: running statistics after one forward pass in training mode."""
    ours = weight_map.to_theirs({name: item.asnumpy() for name, item in model.parameters_and_names()})
    for key in case.outputs:
        name = key.removeprefix("train/")
        if key != name and name.endswith(("running_mean", "running_var")):
            checks.output(key, ours[name], case.outputs[key], tolerance(case, key))


class _Stage(nn.Cell):
    """A stage with its hook, which is computed although no stage may follow."""

    def __init__(self, settings: dict[str, Any], visual: bool) -> None:
        super().__init__()
        width, depth = settings["dim"], settings["depth"]
        hook = StageFusion(width, settings["l_in"], settings["mha"], 0.0, visual)
        rates, merges = [0.0] * depth, settings["downsample"]
        self.stage = SwinStage(width, depth, settings["heads"], settings["window"], rates, merges, hook)

    def construct(self, x: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return self.stage(x, text, mask)


class _Inside(nn.Cell):
    """Outputs of the blocks, and what the gates see."""

    def __init__(self, stage: SwinStage) -> None:
        super().__init__()
        self.stage, self.hook = stage, stage.hook

    def construct(self, x: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> dict[str, ms.Tensor]:
        found = {}
        for index, block in enumerate(self.stage.blocks):
            x = block(x)
            found["block" + str(index)] = x
        batch, height, width, channels = x.shape
        fused = self.hook.fusion(x.reshape((batch, height * width, channels)), text, mask)
        found["res_gate"] = self.hook.res_gate(fused)
        if self.hook.has_visual:
            seen = self.hook.visual_residual(x)
            found["visual_residual"] = seen
            found["visual_gate"] = self.hook.visual_gate(seen)
        return found


@claim(model=("rmsin", "lavt"), kind=("rmsin_stage", "lavt_stage"))
def check_stage(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("stage")
    size = (settings["H"], settings["W"])
    stage = _Stage(settings, case.meta["model"] == "rmsin").stage
    fill(stage, case, weight_map)
    stage.set_train(False)
    given = [*tensors(case.inputs["x"]), *_words(case)]
    inside = _Inside(stage)
    for name, value in inside(given[0].reshape((-1, *size, settings["dim"])), *given[1:]).items():
        ours = value.asnumpy().reshape(len(case.inputs["x"]), -1, settings["dim"])
        checks.output(name, ours, case.outputs[name], tolerance(case, name))
    after = [(side + 1) // 2 if settings["downsample"] else side for side in size]
    checks.exact("size", [*size, *after], case.outputs["size"])
    cell = _TokensOf(stage, size)
    check_probe(case, checks, cell, stage, weight_map, ("x", "l", "l_mask"), ("fused", "next"), given, _TEXT_GRADIENT)


# ---- cross-scale interaction -------------------------------------------------------------------------------------


@claim(model="rmsin", kind="cim_attention")
def check_tokens(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("tokens")
    attention = TokenAttention(settings["dim"], settings["grid"], settings["heads"], settings["key_dim"])
    fill(attention, case, weight_map)
    attention.set_train(False)
    packed = Apply(attention.packed)(*tensors(case.inputs["x"]))
    projected, convolved = Apply(attention.branches)(packed)
    for name, value in (("qkv", packed), ("proj", projected), ("v_conv", convolved)):
        ours = value.asnumpy().reshape(case.outputs[name].shape)
        checks.output(name, ours, case.outputs[name], tolerance(case, name))
    check_probe(case, checks, attention, attention, weight_map, ("x",), ("y",))


@claim(model="rmsin", kind="cim_csa")
def check_csa(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("csa")
    branch = CrossScaleAttention(settings["dim"], settings["grid"], settings["heads"], settings["key_dim"])
    fill(branch, case, weight_map)
    check_probe(case, checks, branch, branch, weight_map, ("x",), ("y",))


@claim(model="rmsin", kind="cim_intra_ff")
def check_intra(case: Case, mode: str, checks: Checks) -> None:
    weight_map = part_map("intra", "m.")
    layers = IntraScale([width // 4 for width in case.config["channels"]])
    fill(layers, case, weight_map)
    check_probe(case, checks, layers, layers, weight_map, ("x",), ("y",))


@claim(model="rmsin", kind="scale_gate")
def check_gate(case: Case, mode: str, checks: Checks) -> None:
    weight_map = part_map("gate")
    gate = ScaleGate(case.config["dim"])
    fill(gate, case, weight_map)
    check_probe(case, checks, gate, gate, weight_map, ("local", "global"), ("y",))


class _Maps(nn.Cell):
    """A Cell of a tuple of maps, called with the maps one by one."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *maps: ms.Tensor) -> Any:
        return self.cell(maps)


class _CimStages(nn.Cell):
    """What the interaction computes on its way."""

    def __init__(self, cim: CrossScaleInteraction) -> None:
        super().__init__()
        self.cim = cim

    def construct(self, *maps: ms.Tensor) -> dict[str, ms.Tensor]:
        block = self.cim.blocks[0]
        pooled = self.cim.pool(maps)
        down = self.cim.down_channel(pooled)
        first = down + block.csa1(down)
        inner = block.intra(first)
        second = inner + block.csa2(inner)
        last = second + block.ff(second)
        up = self.cim.up_channel(self.cim.bn(last))
        return {
            "pool": pooled, "down_channel": down, "csa1": first, "intra_ff": inner, "csa2": second, "ff": last,
            "up_channel": up,
        }  # fmt: skip


@claim(model="rmsin", kind="cim")
def check_cim(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("cim")
    cim = CrossScaleInteraction(settings["channels"], settings["grid"], settings["heads"], settings["key_dim"])
    fill(cim, case, weight_map)
    cim.set_train(False)
    names = ("x0", "x1", "x2", "x3")
    stages = _CimStages(cim)
    stages.set_train(False)
    for name, value in stages(*tensors(*(case.inputs[key] for key in names))).items():
        checks.output(name, value.asnumpy(), case.outputs[name], tolerance(case, name))
    check_probe(case, checks, _Maps(cim), cim, weight_map, names, ("y0", "y1", "y2", "y3"))


# ---- decoder, losses, resizing -----------------------------------------------------------------------------------


class _Levels(nn.Cell):
    """The three joined maps."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def construct(self, *maps: ms.Tensor) -> tuple[ms.Tensor, ...]:
        x, found = maps[3], ()
        for index in range(3):
            x = self.decoder.levels[index](x, maps[2 - index])
            found = found + (x,)
        return found


@claim(model=("rmsin", "lavt"), kind=("rmsin_decoder", "lavt_decoder"))
def check_decoder(case: Case, mode: str, checks: Checks) -> None:
    weight_map = part_map("decoder")
    names = ("c1", "c2", "c3", "c4")
    widths = [case.inputs[name].shape[1] for name in names]
    decoder = Decoder(widths, int(case.meta["model"] == "rmsin"))
    fill(decoder, case, weight_map)
    levels = _Levels(decoder)
    levels.set_train(False)
    given = tensors(*(case.inputs[name] for name in names))
    for name, value in zip(("p4", "p3", "p2"), levels(*given), strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name], tolerance(case, name))
    check_probe(case, checks, _Maps(decoder), decoder, weight_map, names, ("y",))


class Losses(nn.Cell):
    """Cross-entropy, Dice and their published sum on logits of two classes (B, 2, H, W)."""

    def construct(self, logits: ms.Tensor, target: ms.Tensor) -> tuple[ms.Tensor, ...]:
        batch = logits.shape[0]
        difference = (logits[:, 1] - logits[:, 0]).reshape((batch, -1))
        target, present = target.reshape((batch, -1)), ops.ones((batch,), ms.float32)
        ce = two_class_cross_entropy(difference, target, present)
        dice = two_class_dice(difference, target, present)
        return ce * 0.9 + dice * 0.1, ce, dice


class _Total(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()

    def construct(self, logits: ms.Tensor, target: ms.Tensor) -> ms.Tensor:
        return self.losses(logits, target)[0]


@claim(model="rmsin", kind="loss")
def check_losses(case: Case, mode: str, checks: Checks) -> None:
    given = tensors(case.inputs["logits"], case.inputs["target"].astype(np.float32))
    for name, value in zip(("total", "ce", "dice"), Losses()(*given), strict=True):
        checks.loss(name, value.asnumpy(), case.losses[name])
    gradient = ms.value_and_grad(_Total(), 0, None)(*given)[1]
    checks.output("grad/logits", gradient.asnumpy(), case.outputs["grad/logits"], tolerance(case, "grad/logits"))


_KINDS = {"align": "aligned", "half": "half", "pool": "pool"}


@claim(model="rmsin", kind="resize_ops")
def check_resizing(case: Case, mode: str, checks: Checks) -> None:
    for name, reference in case.outputs.items():
        kind, size = name.split("_")
        cell = Apply(resize_maps, tuple(int(side) for side in size.split("x")), _KINDS[kind])
        ours = cell(*tensors(case.inputs["x"])).asnumpy()
        checks.output(name, ours, reference, tolerance(case, name))


# ---- text --------------------------------------------------------------------------------------------------------


class _Hidden(nn.Cell):
    """Embeddings and the output of every layer."""

    def __init__(self, net: Bert) -> None:
        super().__init__()
        self.net = net

    def construct(self, ids: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        x = self.net.embeddings(ids)
        found = (x,)
        for layer in self.net.encoder.layer:
            x = layer(x, self.net.key_bias(mask))
            found = found + (x,)
        return found


@claim(model="rmsin", kind="bert")
def check_bert(case: Case, mode: str, checks: Checks) -> None:
    net = Bert(dropout=0.0, padding_idx=0, pooler=False, **case.config)
    net.set_train(False)
    fill(net, case, HUGGINGFACE_MAP)
    given = tensors(case.inputs["ids"], case.inputs["mask"])
    hidden = [value.asnumpy() for value in _Hidden(net)(*given)]
    for index, value in enumerate(hidden[:-1]):
        checks.output(f"hidden{index}", value, case.outputs[f"hidden{index}"], tolerance(case, f"hidden{index}"))
    check_probe(case, checks, net, net, HUGGINGFACE_MAP, ("ids", "mask"), ("last_hidden",), given)
