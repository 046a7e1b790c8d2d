"""Low-rank adapters on the image encoder of Segment Anything, in the layout of published adapters."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.detection_parts import compare_loss
from golden.claims.probe import tensors
from golden.compute import fill
from mindground.backbones.sam import SamEncoder
from mindground.backbones.sam_weights import MMPRETRAIN_LORA_ENCODER
from mindground.nn.lora import Adapters, LoraLinear, freeze_base, lora_layers


class _Mean(nn.Cell):
    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net

    def construct(self, weight: ms.Tensor, image: ms.Tensor) -> ms.Tensor:
        return (self.net(image) * weight).mean()


@claim(model="rsprompter", holds=("config.lora", "output/merged.0"))
def check_lora(case: Case, mode: str, checks: Checks) -> None:
    settings, lora = case.config, case.config["lora"]
    width, depth = settings["hidden"], settings["layers"]
    layers = [LoraLinear(width, 3 * width, lora["r"], lora["alpha"], lora["dropout"]) for _ in range(depth)]
    net = SamEncoder(
        settings["img_size"], 16, width, depth, settings["heads"], settings["mlp"], settings["window"],
        settings["global"], settings["out"], qkv_layers=layers,
    )  # fmt: skip
    fill(net, case, MMPRETRAIN_LORA_ENCODER)
    net.set_train(False)
    checks.exact("trainable", freeze_base(net), case.outputs["trainable"])
    given = tensors(case.inputs["w"], case.inputs["image"])
    embedding = net(given[1]).asnumpy()
    checks.output("embedding", embedding, case.outputs["embedding"], 1e-5)
    for index, layer in enumerate(lora_layers(net).values()):
        checks.output(f"merged.{index}", layer.merged_weight(), case.outputs[f"merged.{index}"], 1e-6)
    compare_loss(case, checks, _Mean(net), net, given, MMPRETRAIN_LORA_ENCODER)
    before = {name: value.asnumpy().copy() for name, value in net.parameters_and_names()}
    adapters = Adapters(net)
    adapters.merge()
    checks.output("merged embedding", net(given[1]).asnumpy(), case.outputs["embedding"], 1e-5)
    adapters.unmerge()
    same = all(np.array_equal(value.asnumpy(), before[name]) for name, value in net.parameters_and_names())
    checks.true("merging leaves no trace", same)
