"""ViTDet backbone: networks, position tables, layer-wise decay."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.compute import Apply, fill, loss_and_gradients, weighted_sum
from mindground.backbones.vitdet import DETECTRON2_MAP, ViTDet, layer_decay_rate
from mindground.nn.relpos import centre_crop, grid_terms, relative_matrix
from mindground.nn.resize import bicubic_matrix, resize_positions
from mindground.nn.window import merge_windows, split_windows

_PREFIX = "backbone.net."


def build(config: dict[str, Any], img_size: int, resize: str) -> ViTDet:
    """Network of a case; `img_size` is the size it runs at."""
    names = (
        "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "window_size", "window_block_indexes",
        "pretrain_img_size", "use_rel_pos", "norm_eps",
    )  # fmt: skip
    net = ViTDet(img_size=img_size, rel_pos_resize=resize, **{name: config[name] for name in names if name in config})
    net.set_train(False)
    return net


class Stages(nn.Cell):
    """Patch embedding, tokens, the output of every block and the final map, in one graph."""

    def __init__(self, net: ViTDet) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        patches = self.net.patch_embed(image)
        x = self.net.tokens(image)
        found = [patches, x]
        for block in self.net.blocks:
            x = block(x, ())
            found.append(x)
        found.append(ops.transpose(x, (0, 3, 1, 2)))
        return tuple(found)


def stages(net: ViTDet, image: np.ndarray) -> dict[str, np.ndarray]:
    values = Stages(net)(ms.Tensor(image))
    names = ["patch_embed", "tokens", *(f"block{i}" for i in range(net.depth)), "last_feat"]
    return {name: value.asnumpy() for name, value in zip(names, values, strict=True)}


@claim(model="ViTDet backbone", holds=("config.depth",), lacks=("config.run_size",))
def check_network(case: Case, mode: str, checks: Checks) -> None:
    net = build(case.config, case.config["img_size"], "interpolate")
    fill(net, case, DETECTRON2_MAP)
    for name, value in stages(net, case.inputs["image"]).items():
        if name in case.outputs:
            checks.output(name, value, case.outputs[name])
    if "rect_image" in case.inputs:
        rect = net(ms.Tensor(case.inputs["rect_image"])).asnumpy()
        checks.output("rect_last_feat", rect, case.outputs["rect_last_feat"])
    if len(case.grad_norms):
        net.set_train(True)
        scalar = weighted_sum(net, [case.inputs["r"]])
        _, gradients = loss_and_gradients(scalar, net, [ms.Tensor(case.inputs["image"])])
        checks.grad_norms(DETECTRON2_MAP.to_theirs(gradients), case.grad_norms)


@claim(model="ViTDet backbone", holds=("config.depth", "config.run_size"))
def check_full_size(case: Case, mode: str, checks: Checks) -> None:
    size = case.config["run_size"]
    image = np.float32(10) * draw("input/image", (1, 3, size, size), "mean", case.salt)
    image[:, :, :, :64] = 0
    for prefix, resize in (("crop_", "crop"), ("interp_", "interpolate")):
        trained = case.config["img_size"] if resize == "interpolate" else size
        net = build(case.config, trained, resize)
        fill(net, case, DETECTRON2_MAP)
        for name, value in stages(net, image).items():
            part = value[:, ::2, ::2, ::8]
            for key in (name, prefix + name):
                if key in case.outputs:
                    checks.output(key, part, case.outputs[key])


@claim(model="ViTDet backbone", holds=("config.rel", "config.abs"))
def check_positions(case: Case, mode: str, checks: Checks) -> None:
    config, inputs, outputs = case.config, case.inputs, case.outputs
    for name, (queries, keys) in config["rel"].items():
        table = inputs[f"rel_{name}"]
        matrix = relative_matrix(queries, keys, len(table), "interpolate")
        rows = Apply(ops.matmul)(ms.Tensor(matrix), ms.Tensor(table)).asnumpy().reshape(queries, keys, -1)
        checks.output(f"rel_{name}", rows, outputs[f"rel_{name}"])
    for name, (rows, columns) in config["abs"].items():
        table = inputs[f"abs_{name}"][:, 1:]
        side = round(table.shape[1] ** 0.5)
        grid = ms.Tensor(np.ascontiguousarray(table.reshape(side, side, -1)))
        matrices = ms.Tensor(bicubic_matrix(side, rows)), ms.Tensor(bicubic_matrix(side, columns))
        ours = Apply(resize_positions)(grid, *matrices)
        checks.output(f"abs_{name}", ours.asnumpy()[None], outputs[f"abs_{name}"])
    windows = Apply(split_windows, config["window"])(ms.Tensor(inputs["win"]))
    back = Apply(merge_windows, config["window"], inputs["win"].shape[1:3])(windows)
    reference = outputs["win_windows"]
    checks.output("win_windows", windows.asnumpy().reshape(reference.shape), reference)
    checks.output("win_back", back.asnumpy(), outputs["win_back"])
    rows, columns = config["decomposed_grid"]
    offsets = [
        ms.Tensor((relative_matrix(n, n, len(inputs[key]), "interpolate") @ inputs[key]).reshape(n, n, -1))
        for n, key in ((rows, "dec_rel_h"), (columns, "dec_rel_w"))
    ]
    rel_h, rel_w = Apply(grid_terms, (rows, columns))(ms.Tensor(inputs["dec_q"]), *offsets)
    bias = rel_h.asnumpy()[..., :, None] + rel_w.asnumpy()[..., None, :]
    ours = inputs["dec_attn"] + bias.reshape(inputs["dec_attn"].shape)
    checks.output("dec_attn", ours, outputs["dec_attn"])
    checks.output("crop", centre_crop(inputs["crop"], len(outputs["crop"])), outputs["crop"])


@claim(model="ViTDet backbone", holds=("config.rates", "names"), modes=("host",))
def check_decay(case: Case, mode: str, checks: Checks) -> None:
    for index, (decay, layers) in enumerate(case.config["rates"]):
        ours = [layer_decay_rate(name, decay, layers, "backbone") for name in case.meta["names"]]
        checks.output(f"r{index}", ours, case.outputs[f"r{index}"])
