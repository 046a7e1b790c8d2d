"""Swin: windows, masks, merging, the dense backbone and Microsoft's classifier."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import check_probe, tensors, tolerance
from golden.compute import Apply, fill, loss_and_gradients, weighted_sum
from mindground.backbones.swin import (
    PatchMerging,
    Swin,
    SwinBlock,
    SwinClassifier,
    WindowAttention,
    _PatchEmbed,
    relative_index,
    shift_mask,
)
from mindground.backbones.swin_weights import CLASSIFIER_MAP, MICROSOFT_MAP, SWIN_COMPUTED, SWIN_RULES, fit_bias_table
from mindground.weights.maps import WeightMap


def _part(prefix: str) -> WeightMap:
    """The rules of one part of a stage, without the prefix, with numbers where two blocks stand side by side."""
    rules = tuple((a.removeprefix(prefix), b.removeprefix(prefix)) for a, b in SWIN_RULES if a.startswith(prefix))
    return WeightMap(prefix, rules=rules, ignored=SWIN_COMPUTED)


_ATTENTION = _part("layers.{n}.blocks.{m}.attn.")
_MERGING = _part("layers.{n}.downsample.")
_EMBED = _part("patch_embed.")
_BLOCKS = WeightMap(
    "two blocks",
    rules=tuple(
        (a.replace("layers.{n}.blocks.", ""), b.replace("layers.{n}.blocks.", "blocks."))
        for a, b in SWIN_RULES
        if a.startswith("layers.{n}.blocks.")
    ),
    ignored=SWIN_COMPUTED,
)


class _Windows(nn.Cell):
    """Attention of separate windows, without and with the mask."""

    def __init__(self, attention: WindowAttention, per_image: int, mask: np.ndarray) -> None:
        super().__init__()
        self.attention, self.per_image = attention, per_image
        self.mask = ms.Tensor(mask)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        split = x.reshape((-1, self.per_image, x.shape[1], x.shape[2]))
        return self.attention(split).reshape(x.shape), self.attention(split, self.mask).reshape(x.shape)


@claim(model="swin", kind="window_attention")
def check_attention(case: Case, mode: str, checks: Checks) -> None:
    settings, mask = case.config, case.inputs["mask"]
    attention = WindowAttention(settings["dim"], settings["window"], settings["heads"])
    fill(attention, case, _ATTENTION)
    checks.exact("index", relative_index(settings["window"]), case.outputs["relative_position_index"])
    checks.output("bias", Apply(attention.bias)().asnumpy(), case.outputs["bias"])
    windows = _Windows(attention, len(mask), mask)
    check_probe(case, checks, windows, attention, _ATTENTION, ("x",), ("y", "y_masked"))


class _Blocks(nn.Cell):
    """A plain and a shifted block, one after the other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width, heads, window = settings["dim"], settings["heads"], settings["window"]
        self.blocks = nn.CellList([SwinBlock(width, heads, window, shift) for shift in (0, window // 2)])
        self.size = (settings["H"], settings["W"])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        shape = (x.shape[0], self.size[0], self.size[1], x.shape[2])
        first = self.blocks[0](x.reshape(shape))
        return first.reshape(x.shape), self.blocks[1](first).reshape(x.shape)


@claim(model="swin", kind="swin_block")
def check_block(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    blocks = _Blocks(settings)
    fill(blocks, case, _BLOCKS)
    window = settings["window"]
    height, width = (-(-settings[side] // window) * window for side in ("H", "W"))
    checks.exact("mask", shift_mask(height, width, window), case.outputs["mask"])
    check_probe(case, checks, blocks, blocks, _BLOCKS, ("x",), ("y0", "y1"))


class _Flat(nn.Cell):
    """Tokens in and out of a Cell of maps."""

    def __init__(self, cell: nn.Cell, size: tuple[int, int]) -> None:
        super().__init__()
        self.cell, self.size = cell, size

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.cell(x.reshape((x.shape[0], self.size[0], self.size[1], x.shape[2])))
        return y.reshape((x.shape[0], -1, y.shape[3]))


@claim(model="swin", kind="patch_merging")
def check_merging(case: Case, mode: str, checks: Checks) -> None:
    merging = PatchMerging(case.config["dim"])
    fill(merging, case, _MERGING)
    cell = _Flat(merging, (case.config["H"], case.config["W"]))
    check_probe(case, checks, cell, merging, _MERGING, ("x",), ("y",))


class _ChannelsFirst(nn.Cell):
    """Maps (B, C, H, W) of a Cell that gives (B, H, W, C), one or several."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs: ms.Tensor) -> Any:
        maps = self.cell(*inputs)
        if isinstance(maps, ms.Tensor):
            return ops.transpose(maps, (0, 3, 1, 2))
        found = ()
        for item in maps:
            found = found + (ops.transpose(item, (0, 3, 1, 2)),)
        return found


@claim(model="swin", kind="patch_embed")
def check_embed(case: Case, mode: str, checks: Checks) -> None:
    embed = _PatchEmbed(4, case.config["dim"])
    fill(embed, case, _EMBED)
    check_probe(case, checks, _ChannelsFirst(embed), embed, _EMBED, ("x",), ("y",))


@claim(model="swin", kind="bias_resize", modes=("host",))
def check_tables(case: Case, mode: str, checks: Checks) -> None:
    table = case.inputs["table"]
    for side in case.config["to"]:
        fitted = fit_bias_table(table, (side * side, table.shape[1]))
        assert fitted is not None
        checks.output(f"table{side}", fitted[0], case.outputs[f"table{side}"])


@claim(model="swin", kind="swin_dense", whole=True)
def check_dense(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config["swin"]
    net = Swin(**settings)
    net.set_train(False)
    fill(net, case, MICROSOFT_MAP)
    cell, image = _ChannelsFirst(net), tensors(case.inputs["image"])
    names = [f"out{stage}" for stage in range(len(settings["depths"]))]
    for name, value in zip(names, cell(*image), strict=True):
        steps = case.config.get("stride", {}).get(name, [1, 1, 1, 1])
        ours = value.asnumpy()[tuple(slice(None, None, step) for step in steps)]
        checks.output(name, ours, case.outputs[name], tolerance(case, name))
    if case.grad_norms:
        scalar = weighted_sum(cell, [case.inputs[f"cot/{name}"] for name in names])
        value, gradients = loss_and_gradients(scalar, net, image)
        checks.loss("probe", value, case.losses["probe"])
        checks.grad_norms(MICROSOFT_MAP.to_theirs(gradients), case.grad_norms)


class _Stages(nn.Cell):
    """Every stage of the classifier, in one graph."""

    def __init__(self, net: SwinClassifier) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        x = self.net.backbone.patch_embed(image)
        found = (x.reshape((x.shape[0], -1, x.shape[3])),)
        for layer in self.net.backbone.layers:
            x = layer(x)[1]
            found = found + (x.reshape((x.shape[0], -1, x.shape[3])),)
        return (*found, self.net.norm(found[-1]), self.net(image))


@claim(model="swin", kind="swin_cls", whole=True)
def check_classifier(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config["swin"]
    names = ("embed_dim", "depths", "num_heads", "window_size")
    net = SwinClassifier(settings["num_classes"], **{name: settings[name] for name in names})
    net.set_train(False)
    fill(net, case, CLASSIFIER_MAP)
    found = _Stages(net)(*tensors(case.inputs["image"]))
    outputs = ["patch_embed", *(f"layer{stage}" for stage in range(len(settings["depths"]))), "norm", "logits"]
    for name, value in zip(outputs, found, strict=True):
        steps = case.config["stride"].get(name, [1] * value.ndim)
        ours = value.asnumpy()[tuple(slice(None, None, step) for step in steps)]
        checks.output(name, ours, case.outputs[name], tolerance(case, name))
