"""CLIP's towers under the names of both publishers, and the archive that the first one comes in."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import Checks, claim
from golden.compute import Apply, fill
from mindground.backbones.clip import Clip, ClipText, ClipVision
from mindground.backbones.clip_weights import HUGGINGFACE_MAP, OPENAI_MAP
from mindground.files.weights import read_weights
from mindground.weights.load import load_into, parameter_shapes


def towers(config: dict[str, Any]) -> Clip:
    """The two towers that a case describes."""
    vision = ClipVision(
        config["image_size"],
        config["patch_size"],
        config["vision_width"],
        config["vision_layers"],
        config["vision_heads"],
        config["embed_dim"],
    )
    text = ClipText(
        config["context_length"],
        config["vocab_size"],
        config["text_width"],
        config["text_layers"],
        config["text_heads"],
        config["embed_dim"],
    )
    return Clip(vision, text)


class Everything(nn.Cell):
    """All that the cases hold of a forward pass."""

    def __init__(self, net: Clip) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor, ids: ms.Tensor, end: ms.Tensor) -> dict[str, ms.Tensor]:
        net = self.net
        x = net.visual.embed(image)
        found = {"vision_hidden0": x}
        for index, block in enumerate(net.visual.transformer.resblocks):
            x = block(x, None)
            found["vision_hidden" + str(index + 1)] = x
        found["vision_last_hidden"] = x
        found["image_tokens"] = net.visual(image)
        found["text_last_hidden"] = net.text.hidden(ids)
        found["text_tokens"] = net.text(ids)
        found["image_embed"] = net.pooled_image(image)
        found["text_embed"] = net.pooled_text(ids, end)
        found["logits_per_image"] = net(image, ids, end)
        return found


def run(net: Clip, image: np.ndarray, ids: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
    net.set_train(False)
    outputs = Everything(net)(ms.Tensor(image), ms.Tensor(ids), ms.Tensor(end.astype(np.int32)))
    return {name: value.asnumpy() for name, value in outputs.items()}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# The steps with which a full-size case thins its arrays out, by tensor.
_STEPS = {
    "clip-openai": {"image_tokens": (21, 16), "text_tokens": (7, 16)},
    "clip-hf": {"vision_last_hidden": (21, 16), "text_last_hidden": (7, 16), "vision_hidden": (49, 32)},
}


def thinned(case: Case, name: str, value: np.ndarray) -> np.ndarray:
    steps = _STEPS[case.meta["model"]]
    rows, columns = steps[name] if name in steps else steps["vision_hidden"]
    return value[:, ::rows, ::columns]


def compare(case: Case, checks: Checks, found: dict[str, np.ndarray]) -> None:
    for name, reference in case.outputs.items():
        if name.endswith("_sub"):
            plain = name.removesuffix("_sub")
            checks.output(name, thinned(case, plain, found[plain]), reference)
        else:
            checks.output(name, found[name], reference)


@claim(model="clip-openai", holds=("input/text_ids",))
def check_openai(case: Case, mode: str, checks: Checks) -> None:
    net = towers(case.config)
    fill(net, case, OPENAI_MAP)
    ids = case.inputs["text_ids"]
    compare(case, checks, run(net, case.inputs["image"], ids, ids.argmax(1)))


def end_tokens(ids: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Where Hugging Face pools: the largest id in old configurations (2), else the first end token."""
    end = config["hf_eos_token_id"]
    return ids.argmax(1) if end == 2 else (ids == end).argmax(1)


@claim(model="clip-hf", holds=("input/hf_input_ids",))
def check_huggingface(case: Case, mode: str, checks: Checks) -> None:
    net = towers(case.config)
    fill(net, case, HUGGINGFACE_MAP)
    image, ids = case.inputs["image"], case.inputs["text_ids"]
    found = run(net, image, ids, end_tokens(ids, case.config))
    other = case.inputs["hf_input_ids"]
    # What is behind the end token does not matter: the mask of this padding is not needed.
    padded = Apply(net.pooled_text)(ms.Tensor(other), ms.Tensor(end_tokens(other, case.config).astype(np.int32)))
    last = case.inputs["hf_attention_mask"].sum(1) - 1
    assert (end_tokens(other, case.config) == last).all()
    found["image_embed_normed"] = unit(found["image_embed"])
    found["text_embed_normed"] = unit(found["text_embed"])
    found["text_embed_normed_hf_padding"] = unit(padded.asnumpy())
    # Back under their names, nothing is lost.
    state, ours = case.state_dict(), {name: p.asnumpy() for name, p in net.parameters_and_names()}
    written = HUGGINGFACE_MAP.to_theirs(ours)
    assert written.keys() == state.keys()
    assert all(np.array_equal(written[name], state[name]) for name in state)
    compare(case, checks, found)


@claim(model="clip-torchscript", holds=("file", "dtypes"))
def check_archive(case: Case, mode: str, checks: Checks) -> None:
    net = towers(case.config)
    tensors = read_weights(case.folder / case.meta["file"]).tensors
    drawn = {name: value.astype(case.meta["dtypes"][name]) for name, value in case.state_dict().items()}
    for name, value in drawn.items():
        assert tensors[name].dtype == value.dtype
        assert np.array_equal(tensors[name], value)
    load_into(net, OPENAI_MAP.to_ours(tensors, parameter_shapes(net)))
    ids = case.inputs["text_ids"]
    compare(case, checks, run(net, case.inputs["image"], ids, ids.argmax(1)))
