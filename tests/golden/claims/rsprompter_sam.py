"""Segment Anything: blocks, tables, the mask decoder, whole networks under the names of all publishers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import Checks, claim
from golden.compute import Apply, fill, loss_and_gradients
from mindground.backbones.sam import SamEncoder
from mindground.backbones.sam_weights import HUGGINGFACE_ENCODER, MMPRETRAIN_ENCODER, fit_positions, fit_relative
from mindground.backbones.vitdet import ViTDetBlock
from mindground.models.sam.ask import prompt_tokens
from mindground.models.sam.mask_decoder import MaskDecoder
from mindground.models.sam.network import Sam
from mindground.models.sam.prompt_encoder import PromptEncoder
from mindground.models.sam.upscale import upscaled
from mindground.models.sam.weights import DECODER_PARTS, HUGGINGFACE_MAP, ORIGINAL_MAP
from mindground.nn.linear import Linear
from mindground.nn.relpos import relative_matrix
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.maps import Adapted, WeightMap

_ORIGINAL_EPS, _HUGGINGFACE_EPS = 1e-5, 1e-6
_SHARED, _SECOND = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


def _tensors(*arrays: np.ndarray) -> list[ms.Tensor]:
    return [ms.Tensor(np.ascontiguousarray(array)) for array in arrays]


@claim(model="rsprompter", holds=("config.tables",))
def check_relative_positions(case: Case, mode: str, checks: Checks) -> None:
    for index, (length, queries, keys) in enumerate(case.config["tables"]):
        matrix = relative_matrix(queries, keys, length, "interpolate")
        ours = (matrix @ case.inputs[f"table{index}"]).reshape(queries, keys, -1)
        checks.output(f"out{index}", ours, case.outputs[f"out{index}"])


class _Blocks(nn.Cell):
    """A windowed and a global block, one after the other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width, side = settings["hidden"], settings["rel_from"][0]
        self.blocks = nn.CellList(
            [
                ViTDetBlock(
                    width, settings["heads"], settings["mlp"], window, (side, side), 0.0, 1e-6, True, "interpolate",
                    Linear(width, 3 * width), 500,
                )
                for window in settings["window"]
            ]
        )  # fmt: skip

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        first = self.blocks[0](x)
        return first, self.blocks[1](first)


class _Mean(nn.Cell):
    """Mean of the last output times given weights."""

    def __init__(self, cell: nn.Cell, weights: np.ndarray) -> None:
        super().__init__()
        self.cell, self.weights = cell, ms.Tensor(weights)

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        return (self.cell(*inputs)[-1] * self.weights).mean()


@claim(model="rsprompter", holds=("config.rel_from", "output/block0"))
def check_blocks(case: Case, mode: str, checks: Checks) -> None:
    rules = tuple((a.replace("layers.", "", 1), b) for a, b in HUGGINGFACE_ENCODER.rules if a.startswith("layers."))
    names = WeightMap("two blocks", rules=rules)
    cell = _Blocks(case.config)
    fill(cell, case, names)
    cell.set_train(False)
    x = _tensors(case.inputs["x"])
    for index, ours in enumerate(cell(*x)):
        checks.output(f"block{index}", ours.asnumpy(), case.outputs[f"block{index}"])
    scalar = _Mean(cell, case.inputs["w"])
    value, gradients = loss_and_gradients(scalar, cell, x)
    checks.loss("total", value, case.losses["total"])
    checks.grad_norms(names.to_theirs(gradients), case.grad_norms)


# ---- mask decoder ------------------------------------------------------------------------------------------------


class _Decoder(nn.Cell):
    """Masks and IoU of prompts about several images, each with its own map: three masks, and the single one."""

    def __init__(self, decoder: MaskDecoder, prompts: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.decoder, self.prompts, self.size = decoder, prompts, size

    def spread(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, h, w) -> (B P, h w, C)."""
        rows = ms.ops.transpose(x.reshape((x.shape[0], x.shape[1], -1)), (0, 2, 1)).expand_dims(1)
        rows = ms.ops.broadcast_to(rows, (x.shape[0], self.prompts) + rows.shape[2:])
        return rows.reshape((-1,) + rows.shape[2:])

    def construct(
        self, image: ms.Tensor, places: ms.Tensor, tokens: ms.Tensor, dense: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        batch, prompts, count, width = tokens.shape
        rows = tokens.reshape((batch * prompts, count, width))
        masks, iou = self.decoder(self.spread(image + dense), self.spread(places), rows, self.size)
        masks = masks.reshape((batch, prompts) + masks.shape[1:])
        iou = iou.reshape((batch, prompts, -1))
        return masks[:, :, 1:], iou[:, :, 1:], masks[:, :, :1], iou[:, :, :1]


class _DecoderLoss(nn.Cell):
    def __init__(self, cell: nn.Cell, w_mask: np.ndarray, w_iou: np.ndarray) -> None:
        super().__init__()
        self.cell, self.w_mask, self.w_iou = cell, ms.Tensor(w_mask), ms.Tensor(w_iou)

    def construct(self, *inputs: ms.Tensor) -> ms.Tensor:
        three, iou3, one, iou1 = self.cell(*inputs)
        total = (three * self.w_mask).mean() + (iou3 * self.w_iou).mean()
        return total + (one * one).mean() + (iou1 * iou1).mean()


@claim(model="rsprompter", holds=("config.decoder", "config.tokens", "output/masks3"), lacks=("config.vision",))
def check_decoder(case: Case, mode: str, checks: Checks) -> None:
    names = WeightMap("mask decoder", rules=DECODER_PARTS["huggingface"])
    decoder = _decoder(case.config["decoder"], _HUGGINGFACE_EPS)
    fill(decoder, case, names)
    cell = _Decoder(decoder, case.config["prompts"], tuple(case.config["grid"]))
    cell.set_train(False)
    given = ("image_embedding", "image_pe", "sparse", "dense")
    inputs = _tensors(*(case.inputs[name] for name in given))
    for name, ours in zip(("masks3", "iou3", "masks1", "iou1"), cell(*inputs), strict=True):
        checks.output(name, ours.asnumpy(), case.outputs[name])
    scalar = _DecoderLoss(cell, case.inputs["w_mask"], case.inputs["w_iou"])
    value, gradients = loss_and_gradients(scalar, decoder, inputs)
    checks.loss("total", value, case.losses["total"])
    checks.grad_norms(names.to_theirs(gradients), case.grad_norms)
    _, found = ms.value_and_grad(scalar, (0, 1, 2, 3), None)(*inputs)
    for name, gradient in zip(given, found, strict=True):
        theirs = case.outputs[f"input_grad_norm.{name}"]
        checks.output(f"input_grad_norm.{name}", np.linalg.norm(gradient.asnumpy()), theirs, 1e-3)


def _decoder(settings: dict[str, Any], eps: float) -> MaskDecoder:
    return MaskDecoder(
        settings["hidden_size"], 2, settings["num_attention_heads"], settings["mlp_dim"],
        settings["iou_head_hidden_dim"], eps,
    )  # fmt: skip


# ---- whole networks ----------------------------------------------------------------------------------------------


def _network(config: dict[str, Any], eps: float) -> Sam:
    vision, prompt = config["vision"], config["prompt"]
    encoder = SamEncoder(
        vision["image_size"], vision["patch_size"], vision["hidden_size"], vision["num_hidden_layers"],
        vision["num_attention_heads"], vision["mlp_dim"], vision["window_size"], vision["global_attn_indexes"],
        vision["output_channels"],
    )  # fmt: skip
    net = Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(prompt["hidden_size"], prompt["mask_input_channels"]),
        mask_decoder=_decoder(config["decoder"], eps),
        input_size=prompt["image_size"],
    )
    net.set_train(False)
    return net


def _state(case: Case) -> dict[str, np.ndarray]:
    """The reference's tensors; the last of two names of one buffer is what the reference loaded."""
    state = case.state_dict()
    if _SECOND in state:
        state[_SHARED] = state[_SECOND]
    return state


class _Encoder(nn.Cell):
    """All states, the embedding and the positions of the grid."""

    def __init__(self, net: Sam) -> None:
        super().__init__()
        self.net, self.wanted = net, tuple(range(net.image_encoder.depth + 1))

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        states = self.net.image_encoder.states(image, self.wanted)
        rows, columns = states[-1].shape[2], states[-1].shape[3]
        grid = ms.ops.transpose(self.net.prompt_encoder.grid(rows, columns), (0, 2, 1))
        return states + (grid.reshape((1, -1, rows, columns)),)


Cut = Callable[[np.ndarray], np.ndarray]


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _check_encoder(case: Case, checks: Checks, net: Sam, image: np.ndarray, state: Cut, embedding: Cut) -> ms.Tensor:
    found = [value.asnumpy() for value in _Encoder(net)(*_tensors(image))]
    names = [f"hidden.{index}" for index in range(len(found) - 2)]
    for name, ours in zip(names, found, strict=False):
        if name in case.outputs:
            checks.output(name, state(ours), case.outputs[name])
    checks.output("image_embedding", embedding(found[-2]), case.outputs["image_embedding"])
    checks.output("image_pe", embedding(found[-1]), case.outputs["image_pe"])
    return ms.Tensor(found[-2])


def _answers(net: Sam, embedding: ms.Tensor, *prompt: Any, mask: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Sparse tokens, all four masks and their IoU."""
    at, kinds = prompt_tokens(*prompt)
    arrays = _tensors(at, kinds)
    places = _tensors((at + np.float32(0.5)) * np.float32(1.0 / net.input_size))
    sparse = Apply(net.prompt_encoder.tokens)(*places, arrays[1]).asnumpy()
    if mask is None:
        logits, iou = Apply(net.answer)(embedding, *arrays)
    else:
        logits, iou = Apply(net.answer_masked)(embedding, *arrays, *_tensors(mask))
    return sparse, logits.asnumpy(), iou.asnumpy()


def _compare(case: Case, checks: Checks, name: str, found: tuple[np.ndarray, ...], cut: Cut = _same) -> None:
    """Tokens, the single mask and the three masks, where the case holds them."""
    sparse, logits, iou = found
    if f"sparse.{name}" in case.outputs:
        checks.output(f"sparse.{name}", sparse[None], case.outputs[f"sparse.{name}"])
    for suffix, start, stop in (("1", 0, 1), ("3", 1, 4)):
        key = f"{name}{suffix}"
        if f"low_res.{key}" in case.outputs:
            checks.output(f"low_res.{key}", cut(logits[None, :, start:stop]), case.outputs[f"low_res.{key}"])
            checks.output(f"iou.{key}", iou[None, :, start:stop], case.outputs[f"iou.{key}"])


@claim(
    model="rsprompter",
    holds=("config.vision", "input/reshaped_size", "output/low_res.D1", "output/post_logits.0"),
    whole=True,
)
def check_tiny(case: Case, mode: str, checks: Checks) -> None:
    net = _network(case.config, _HUGGINGFACE_EPS)
    state = _state(case)
    load_into(net, HUGGINGFACE_MAP.to_ours(state, parameter_shapes(net)))
    given = case.inputs
    embedding = _check_encoder(case, checks, net, given["image"], _same, _same)
    points, labels, boxes = given["points"][0], given["point_labels"][0], given["boxes"][0]
    boxed = _answers(net, embedding, None, None, boxes)
    _compare(case, checks, "A", _answers(net, embedding, points, labels, None))
    _compare(case, checks, "B", boxed)
    _compare(case, checks, "C", _answers(net, embedding, points, labels, boxes))
    mask = np.repeat(given["mask_input"], len(boxes), 0)
    _compare(case, checks, "D", _answers(net, embedding, None, None, boxes, mask=mask))
    _check_dense(case, checks, net)
    low = boxed[1][:, 0]
    sizes = [tuple(int(v) for v in given[name][0]) for name in ("reshaped_size", "original_size")]
    native = upscaled(low, net.input_size, *sizes)
    checks.output("post_logits.0", native[:1, None], case.outputs["post_logits.0"])
    checks.exact("post.0", native[:, None] > 0, case.outputs["post.0"])


def _check_dense(case: Case, checks: Checks, net: Sam) -> None:
    side = net.grid
    found = Apply(net.prompt_encoder.dense)(*_tensors(case.inputs["mask_input"])).asnumpy()
    maps = found.transpose(0, 2, 1).reshape(1, -1, side, side)
    theirs = case.outputs["dense.D"]
    stride = side // theirs.shape[2]
    checks.output("dense.D", maps[:, :, ::stride, ::stride], theirs)
    none = net.prompt_encoder.no_mask.asnumpy().reshape(1, -1, 1, 1)
    checks.output("dense.B", none, case.outputs["dense.B"])


@claim(model="rsprompter", holds=("config.vision", "output/low_res_hf.pts"), whole=True)
def check_original(case: Case, mode: str, checks: Checks) -> None:
    state, given = case.state_dict(), case.inputs
    for suffix, eps in (("", _ORIGINAL_EPS), ("_hf", _HUGGINGFACE_EPS)):
        net = _network(case.config, eps)
        load_into(net, ORIGINAL_MAP.to_ours(state, parameter_shapes(net)))
        embedding = _check_encoder(case, checks, net, given["image"], _same, _same)
        prompts: dict[str, tuple[tuple[Any, ...], np.ndarray | None]] = {
            "pts": ((given["points"], given["point_labels"], None), None),
            "box": ((None, None, given["boxes"]), None),
            "boxmask": ((None, None, given["boxes"]), given["mask_input"]),
        }
        for name, (prompt, mask) in prompts.items():
            if f"low_res{suffix}.{name}" in case.outputs:
                _, logits, iou = _answers(net, embedding, *prompt, mask=mask)
                theirs = case.outputs[f"low_res{suffix}.{name}"]
                stride = logits.shape[-1] // theirs.shape[-1]
                checks.output(f"low_res{suffix}.{name}", logits[:, 1:, ::stride, ::stride], theirs)
                checks.output(f"iou{suffix}.{name}", iou[:, 1:], case.outputs[f"iou{suffix}.{name}"])
    names = {theirs: huggingface for theirs, huggingface in case.meta["keymap"]}
    _check_names(checks, state, names)


def _check_names(checks: Checks, state: dict[str, np.ndarray], names: dict[str, str]) -> None:
    """Both directions of both maps: every tensor of the original file has the name that Hugging Face gives it."""
    adapted = ORIGINAL_MAP.to_ours(state)
    checks.exact("unexpected", np.asarray(adapted.unexpected), np.asarray([], dtype=np.asarray([]).dtype))
    back = ORIGINAL_MAP.to_theirs(adapted.tensors)
    checks.exact("names written", sorted(back), sorted(state))
    written = HUGGINGFACE_MAP.to_theirs(adapted.tensors)
    expected = {huggingface: state[theirs] for theirs, huggingface in names.items()}
    checks.exact("names of Hugging Face", sorted(written), sorted(expected))
    for name, array in written.items():
        checks.exact(name, array, expected[name])


@claim(model="rsprompter", holds=("config.vision", "config.image_rule", "output/low_res.boxes"), whole=True)
def check_full(case: Case, mode: str, checks: Checks) -> None:
    net = _network(case.config, _HUGGINGFACE_EPS)
    load_into(net, HUGGINGFACE_MAP.to_ours(_state(case), parameter_shapes(net)))
    rule = case.config["image_rule"]
    rng = np.random.Generator(np.random.PCG64(rule["seed"]))
    shape, block = tuple(rule["shape"]), rule["block"]
    low = rng.standard_normal((*shape[:2], shape[2] // block, shape[3] // block), dtype=np.float32)
    high = rng.standard_normal(shape, dtype=np.float32)
    image = np.float32(0.8) * low.repeat(block, 2).repeat(block, 3) + np.float32(0.4) * high

    def state(array: np.ndarray) -> np.ndarray:
        return array[:, ::8, ::8, ::32]

    def every_eighth(array: np.ndarray) -> np.ndarray:
        return array[:, ::8, ::8, ::8]

    embedding = _check_encoder(case, checks, net, image, state, every_eighth)
    points = _answers(net, embedding, case.inputs["points"][0], case.inputs["point_labels"][0], None)
    boxes = _answers(net, embedding, None, None, case.inputs["boxes"][0])
    for name, (_, logits, iou), start, stop in (("points", points, 1, 4), ("boxes", boxes, 0, 1)):
        checks.output(f"low_res.{name}", logits[None, :, start:stop, ::8, ::8], case.outputs[f"low_res.{name}"])
        checks.output(f"iou.{name}", iou[None, :, start:stop], case.outputs[f"iou.{name}"])
    native = upscaled(boxes[1][:, 0], net.input_size, (768, 1024), (375, 500))
    checks.exact("post.boxes", native[:, None, ::5, ::5] > 0, case.outputs["post.boxes"])


# ---- other sizes -------------------------------------------------------------------------------------------------


@claim(model="rsprompter", holds=("config.ckpt_img_size", "input/ckpt_pos_embed"))
def check_resized(case: Case, mode: str, checks: Checks) -> None:
    """Tables of a checkpoint for another size, fitted on loading, and the same tables resized while running."""
    settings, state = case.config, case.state_dict()
    tables = {"pos_embed": case.inputs["ckpt_pos_embed"]}
    for index in range(settings["layers"]):
        for axis in "hw":
            tables[f"layers.{index}.attn.rel_pos_{axis}"] = case.inputs[f"ckpt_rel_pos_{axis}.{index}"]
    for size in (settings["img_size"], settings["ckpt_img_size"]):
        encoder = SamEncoder(
            size, settings["patch"], settings["hidden"], settings["layers"], settings["heads"], settings["mlp"],
            settings["window"], settings["global"], settings["out"],
        )  # fmt: skip
        adapted: Adapted = MMPRETRAIN_ENCODER.to_ours({**state, **tables}, parameter_shapes(encoder))
        load_into(encoder, adapted)
        encoder.set_train(False)
        embedding = encoder(*_tensors(case.inputs["image"])).asnumpy()
        checks.output("embedding", embedding, case.outputs["embedding"])
    wanted = case.outputs["pos_embed"]
    fitted = fit_positions(tables["pos_embed"], wanted.shape)
    checks.output("pos_embed", fitted[0] if fitted else np.zeros(0), wanted)
    for index in range(settings["layers"]):
        table, theirs = tables[f"layers.{index}.attn.rel_pos_h"], case.outputs[f"rel_pos_h.{index}"]
        relative = fit_relative(table, theirs.shape) if table.shape != theirs.shape else (table, "")
        checks.output(f"rel_pos_h.{index}", relative[0] if relative else np.zeros(0), theirs)
