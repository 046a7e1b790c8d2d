"""Parts of MSAM: DarkNet and its files, text encoders, kernels, fusions, Swin layers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from golden.compute import fill, loss_and_gradients
from mindground.backbones.bert import Bert
from mindground.backbones.darknet import ConvUnit, Darknet, Residual
from mindground.backbones.darknet_weights import DARKNET_MAP
from mindground.backbones.swin import PatchMerging, Swin, SwinBlock, relative_index
from mindground.backbones.swin_weights import MICROSOFT_MAP, SWIN_ADAPTERS, SWIN_COMPUTED, fit_bias_table
from mindground.files.weights import read_weights
from mindground.models.seqtr.aggregation import (
    ChannelBroadcast,
    CrossAttention,
    KernelCompress,
    KernelFusion,
    Selective,
)
from mindground.models.seqtr.language import BertText, GruText, TextAttention
from mindground.models.seqtr.routing import RoutingAttention
from mindground.models.seqtr.weights import PART_RULES, part_map
from mindground.weights.load import parameter_shapes
from mindground.weights.maps import WeightMap


@claim(model="msam", kind="darknet", whole=True)
def check_darknet(case: Case, mode: str, checks: Checks) -> None:
    net = Darknet(case.config["c0"], case.config["blocks"])
    fill(net, case, part_map("darknet"))
    net.set_train(False)
    for index, value in enumerate(net(*tensors(case.inputs["img"]))):
        step = case.config["stride"][index]
        ours = value.asnumpy()
        name = f"vis{index}"
        checks.output(name, ours.reshape(-1)[::step] if step else ours, case.outputs[name])


class _Small(nn.Cell):
    """Two convolutions and a residual unit."""

    def __init__(self, channels: list[int], count: int) -> None:
        super().__init__()
        first, second = channels
        units = [ConvUnit(3, first, 3), ConvUnit(first, second, 3, 2), Residual(second, count)]
        self.layers = nn.CellList(units)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@claim(model="msam", kind="weights_file")
def check_weights_file(case: Case, mode: str, checks: Checks) -> None:
    """A whole file and one that ends behind the first two modules, whose other variances start at 1 instead of 0."""
    net = _Small(case.config["channels"], case.config["num_block"])
    shapes, names = parameter_shapes(net), part_map("darknet")
    for kind in ("full", "truncated"):
        handle, path = tempfile.mkstemp(suffix=".weights")
        with os.fdopen(handle, "wb") as stream:
            stream.write(case.inputs[f"file_{kind}"].tobytes())
        found = read_weights(path)
        Path(path).unlink()
        adapted = DARKNET_MAP.to_ours(found.tensors, shapes)
        checks.true(f"{kind}: explained", not adapted.unexpected and not adapted.ignored)
        for name, theirs in case.outputs.items():
            if not name.startswith(f"{kind}/"):
                continue
            ours = names.our_name(name.removeprefix(f"{kind}/"))
            assert ours is not None
            value = adapted.tensors.get(ours)
            checks.true(f"{kind}: {ours}", (value is None) == (ours in adapted.missing))
            value = net.parameters_dict()[ours].asnumpy() if value is None else value
            theirs = np.ones_like(theirs) if ours in adapted.missing and ours.endswith("variance") else theirs
            checks.exact(name, value, theirs)
        if kind == "full":
            for name, value in adapted.tensors.items():
                net.parameters_dict()[name].set_data(ms.Tensor(np.array(value)))
            net.set_train(False)
            forward = net(*tensors(case.inputs["img"])).asnumpy()
            checks.output("forward", forward, case.outputs["forward"])
            net = _Small(case.config["channels"], case.config["num_block"])


def _bert(settings: dict[str, Any]) -> Bert:
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    sizes = {name: settings[name] for name in (*names, "max_position_embeddings")}
    return Bert(**sizes, dropout=0.0, pooler=False, padding_idx=0)


@claim(model="msam", kind="bert")
def check_bert(case: Case, mode: str, checks: Checks) -> None:
    ids, mask = (case.inputs[name].astype(np.int32) for name in ("ref_expr_inds", "attention_mask"))
    settings = case.config["bert"]
    for static in (False, True):
        encoder = BertText(_bert(settings), settings["hidden_size"], case.config["out"], static, 0)
        fill(encoder, case, part_map("bert"))
        encoder.set_train(False)
        sentence, words, real = encoder(*tensors(ids, mask))
        if static:
            checks.output("words_static", words.asnumpy(), case.outputs["words_static"])
            continue
        checks.output("y", sentence.asnumpy(), case.outputs["y"])
        checks.output("words", words.asnumpy(), case.outputs["words"])
        checks.exact("pad", (1 - real.asnumpy()).astype(np.uint8), case.outputs["pad"])


@claim(model="msam", kind="textsa")
def check_text_attention(case: Case, mode: str, checks: Checks) -> None:
    settings, ids = case.config, case.inputs["ref_expr_inds"].astype(np.int32)
    attention = TextAttention(2 * settings["hidden"])
    encoder = GruText(settings["vocab"], settings["emb"], settings["hidden"], "max", attention)
    fill(encoder, case, part_map("gru"))
    encoder.set_train(False)
    sentence, words, real = encoder(*tensors(ids, (ids > 0).astype(np.int32)))
    checks.output("y", sentence.asnumpy(), case.outputs["y"])
    checks.output("words", words.asnumpy(), case.outputs["words"])
    checks.exact("pad", (1 - real.asnumpy()).astype(np.uint8), case.outputs["pad"])


class _Kernels(nn.Cell):
    """Every kernel on one map."""

    def __init__(self, width: int, text: int, head_dim: int) -> None:
        super().__init__()
        self.qcb, self.qcb_tanh = ChannelBroadcast(width, text), ChannelBroadcast(width, text, "tanh")
        self.ca = CrossAttention(width, text, width // head_dim)
        self.sk = Selective(width)
        self.kc, self.kc_last = KernelCompress(2 * width, 2 * width, True), KernelCompress(2 * width, width, False)

    def construct(self, f: ms.Tensor, g: ms.Tensor, words: ms.Tensor, real: ms.Tensor) -> dict[str, ms.Tensor]:
        x = ops.transpose(f, (0, 2, 3, 1))
        first, second = self.qcb(x, g), self.ca(x, words, real)
        both = ops.concat((second, first), -1)
        merged = self.kc.pm(both)
        return {
            "k1": ops.transpose(first, (0, 3, 1, 2)),
            "k1_tanh": ops.transpose(self.qcb_tanh(x, g), (0, 3, 1, 2)),
            "k2": ops.transpose(second, (0, 3, 1, 2)),
            "sk": ops.transpose(self.sk(second, first), (0, 3, 1, 2)),
            "merged": merged.reshape((merged.shape[0], -1, merged.shape[3])),
            "kc": ops.transpose(self.kc(both), (0, 3, 1, 2)),
            "kc_last": ops.transpose(self.kc_last(both), (0, 3, 1, 2)),
        }


@claim(model="msam", kind="kernels")
def check_kernels(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    kernels = _Kernels(settings["ch"], settings["text_ch"], settings["head_dim"])
    rules = PART_RULES["kernels"]
    last = tuple(
        (a.replace("kc.", "kc_last."), b.replace("kc.", "kc_last.")) for a, b in rules if a.startswith("kc.conv")
    )
    ignored = ((r".*num_batches_tracked", "a counter"),)
    fill(kernels, case, WeightMap("kernels", rules=(*rules, *last), ignored=ignored), allow_missing=(r"qcb_tanh\..*",))
    for leaf in ("weight", "bias"):
        getattr(kernels.qcb_tanh.proj, leaf).set_data(getattr(kernels.qcb.proj, leaf).value())
    kernels.set_train(False)
    given = tensors(*(case.inputs[name] for name in ("f", "g", "words")), 1.0 - case.inputs["pad"].astype(np.float32))
    for name, value in kernels(*given).items():
        checks.output(name, value.asnumpy(), case.outputs[name])


class _FusionStages(nn.Cell):
    """Every intermediate of the fusion."""

    def __init__(self, fusion: KernelFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def construct(
        self, vis0: ms.Tensor, vis1: ms.Tensor, vis2: ms.Tensor, g: ms.Tensor, words: ms.Tensor, real: ms.Tensor
    ) -> dict[str, ms.Tensor]:
        maps, found, before = (vis0, vis1, vis2), {}, None
        for index in range(3):
            x = ops.transpose(maps[index], (0, 2, 3, 1))
            first, swin, second, before = self.fusion.stages[index](x, before, g, words, real)
            name = "stage" + str(index) + "_"
            found[name + "k1"] = ops.transpose(first, (0, 3, 1, 2))
            found[name + "swin"] = ops.transpose(swin, (0, 3, 1, 2))
            found[name + "k2"] = ops.transpose(second, (0, 3, 1, 2))
            found[name + "out"] = ops.transpose(before, (0, 3, 1, 2))
        found["out"] = self.fusion(maps, g, words, real)
        return found


class _Cotangent(nn.Cell):
    """Sum of the result times given weights."""

    def __init__(self, fusion: KernelFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def construct(self, *arrays: ms.Tensor) -> ms.Tensor:
        vis0, vis1, vis2, g, words, real, weights = arrays
        return (self.fusion((vis0, vis1, vis2), g, words, real) * weights).sum()


@claim(model="msam", kind="fusion")
def check_fusion(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    fusion = KernelFusion(
        settings["vis_chs"], settings["text_ch"], settings["depths"], settings["head_dim"], settings["window"],
        settings["mode"], settings["act"], settings["aggregate"],
    )  # fmt: skip
    names = part_map("stages")
    fill(fusion, case, names)
    maps = [case.inputs[name] for name in ("vis0", "vis1", "vis2", "g", "words")]
    given = tensors(*maps, 1.0 - case.inputs["pad"].astype(np.float32))
    fusion.set_train(False)
    for name, value in _FusionStages(fusion)(*given).items():
        if name in case.outputs:
            checks.output(name, value.asnumpy(), case.outputs[name])
    scalar = _Cotangent(fusion)
    scalar.set_train(True)
    value, gradients = loss_and_gradients(scalar, fusion, [*given, *tensors(case.inputs["cotangent"])])
    checks.loss("cotangent_sum", value, case.losses["cotangent_sum"])
    checks.grad_norms(names.to_theirs(gradients), case.grad_norms)


class _SwinLayer(nn.Cell):
    """Blocks and patch merging of one stage."""

    def __init__(self, dim: int, depth: int, heads: int, window: int) -> None:
        super().__init__()
        self.blocks = nn.CellList([SwinBlock(dim, heads, window, (window // 2) * (i % 2)) for i in range(depth)])
        self.downsample = PatchMerging(dim)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        x = ops.transpose(x, (0, 2, 3, 1))
        for block in self.blocks:
            x = block(x)
        down = self.downsample(x)
        flat = x.reshape((x.shape[0], -1, x.shape[3]))
        return flat, down.reshape((down.shape[0], -1, down.shape[3])), self.blocks[0].attn.bias()


@claim(model="msam", kind="swin_layer")
def check_swin_layer(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    layer = _SwinLayer(settings["dim"], settings["depth"], settings["heads"], settings["window"])
    block = tuple((f"layer.blocks.{{m}}.{a}", f"blocks.{{m}}.{b}") for a, b in PART_RULES["swin_block"])
    merging = tuple((f"layer.downsample.{a}", f"downsample.{b}") for a, b in PART_RULES["merging"])
    fill(layer, case, WeightMap("layer", rules=(*block, *merging), ignored=SWIN_COMPUTED, adapters=SWIN_ADAPTERS))
    layer.set_train(False)
    x = case.inputs["x"]
    for name, value in zip(("y", "downsampled", "bias"), layer(*tensors(x)), strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name])
    checks.exact("index", relative_index(settings["window"]), case.outputs["index"])
    table = layer.blocks[0].attn.relative_position_bias_table.asnumpy()
    side = 2 * settings["resize_window"] - 1
    fitted = fit_bias_table(table, (side * side, table.shape[1]))
    assert fitted is not None
    checks.output("bias_table_resized", fitted[0], case.outputs["bias_table_resized"])
    checks.exact("hw", [-(-x.shape[2] // 2), -(-x.shape[3] // 2)], case.outputs["hw"])


class _Maps(nn.Cell):
    """Swin as the image encoder: channels first."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.swin = Swin(
            settings["embed_dim"], settings["depths"], settings["heads"], settings["window"],
            exports=settings["out_indices"],
        )  # fmt: skip

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        found = ()
        for item in self.swin(image):
            found = found + (ops.transpose(item, (0, 3, 1, 2)),)
        return found


@claim(model="msam", kind="swin")
def check_swin(case: Case, mode: str, checks: Checks) -> None:
    maps = _Maps(case.config)
    fill(maps.swin, case, MICROSOFT_MAP)
    maps.set_train(False)
    for index, value in enumerate(maps(*tensors(case.inputs["img"]))):
        checks.output(f"out{index}", value.asnumpy(), case.outputs[f"out{index}"])


@claim(model="msam", kind="bra")
def check_routing(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    attention = RoutingAttention(settings["dim"], settings["heads"], settings["n_win"], settings["topk"])
    fill(attention, case, WeightMap("routing attention", rules=(("{path}", "{path}"),)))
    attention.set_train(False)
    checks.output("y", attention(*tensors(case.inputs["x"])).asnumpy(), case.outputs["y"])
