"""SeqTR whole and in parts; MSAM whole, which shares image encoder and sequence head with it."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.claims.probe import tensors
from golden.compute import fill, loss_and_gradients
from mindground.engine.forward import Runner
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
from mindground.models.seqtr.decode import tokens_to_boxes
from mindground.models.seqtr.network import Seqtr
from mindground.models.seqtr.sequences import Layout, sequence_of
from mindground.models.seqtr.weights import UPSTREAM_MAP

TASKS = {"det": "box", "seg": "contour", "multi": "multi"}
# Names of SeqTR's own ways to pool.
POOLS = {"max": "max", "mean": "mean", "default": "last"}
# A value in front of a LeakyReLU that rounding carries over 0 changes some norms a little: so large a share must meet
# the strict rule (1e-3), and all must meet this one.
_SHARE, _KINKED = 0.95, 5e-3


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
        gru = GruConfig(text["emb"], text["hidden"], pool, frozen, attends, dropout=0.0)
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


def _check_norms(checks: Checks, ours: dict[str, np.ndarray], theirs: Any) -> None:
    """Gradient norms by the case's rule, or by `_SHARE` and `_KINKED` where some do not meet it."""
    norms = {name: float(value) for name, value in theirs.items()}
    zeros = checks.rule.zeros or frozenset()
    counted = [name for name in norms if name in ours and name not in zeros]
    errors = [abs(float(np.linalg.norm(ours[name].astype(np.float64))) / norms[name] - 1) for name in counted]
    inside = np.asarray(errors) <= checks.rule.relative
    if inside.all():
        checks.grad_norms(ours, theirs)
        return
    outside = [name for name, fits in zip(counted, inside, strict=True) if not fits]
    checks.true("norms within the strict rule", inside.mean() >= _SHARE, f"{inside.mean():.3f}; outside: {outside[:5]}")
    checks.grad_norms(ours, theirs, _KINKED)


@claim(model=("seqtr", "msam"), kind="e2e", whole=True, suite=("pynative",))
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
        _check_norms(checks, UPSTREAM_MAP.to_theirs(gradients), case.grad_norms)
        after = UPSTREAM_MAP.to_theirs({name: p.asnumpy() for name, p in net.parameters_and_names()})
        for name in case.config["bn_after"]:
            checks.output(name, after[name], case.outputs[f"bn_after/{name}"])
