"""What files of Segment Anything say of the configuration they need: all sizes but the heads stand in shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mindground.files.weights import WeightFile
from mindground.models.sam.config import VIT_PRESETS
from mindground.models.sam.weights import WEIGHT_MAPS
from mindground.weights.facts import SourceFacts
from mindground.weights.maps import best_map

__all__ = ["describe"]

Shapes = Mapping[str, tuple[int, ...]]

_IMAGE, _MASK = "image_encoder.", "mask_decoder."
_ORIGINAL_EPS, _HUGGINGFACE_EPS = 1e-5, 1e-6
_HEADS = 8
_WINDOW = 14


def describe(file: WeightFile) -> SourceFacts | None:
    """Facts of such a file; None where a table that all of them have is missing."""
    names = [name for name in WEIGHT_MAPS if name in ("sam", "sam-hf")]
    chosen = best_map([WEIGHT_MAPS[name] for name in names], file.tensors)
    shapes = {name: array.shape for name, array in chosen.to_ours(file.tensors).tensors.items()}
    try:
        return _facts(shapes, chosen is WEIGHT_MAPS["sam-hf"])
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        return None  # loading will name what is missing


def _facts(shapes: Shapes, huggingface: bool) -> SourceFacts:
    facts = SourceFacts()
    _encoder(facts, shapes)
    if _MASK + "iou_token" in shapes:
        _decoder(facts, shapes, huggingface)
    return facts


def _encoder(facts: SourceFacts, shapes: Shapes) -> None:
    width, _, patch, _ = shapes[_IMAGE + "patch_embed.proj.weight"]
    side = shapes[_IMAGE + "pos_embed"][1]
    blocks = {int(m[1]) for name in shapes if (m := re.match(rf"{re.escape(_IMAGE)}blocks\.(\d+)\.", name))}
    depth = len(blocks)
    lengths = [shapes[f"{_IMAGE}blocks.{index}.attn.rel_pos_h"] for index in range(depth)]
    head = lengths[0][1]
    whole = [index for index, (length, _) in enumerate(lengths) if length == 2 * side - 1]
    windowed = [(length + 1) // 2 for length, _ in lengths if length != 2 * side - 1]
    sizes = (width, depth, width // head, tuple(whole))
    named = next((name for name, preset in VIT_PRESETS.items() if preset == sizes and name != "default"), "")
    keys = {
        "model.encoder.embed_dim": width,
        "model.encoder.depth": depth,
        "model.encoder.num_heads": width // head,
        "model.encoder.mlp_dim": shapes[f"{_IMAGE}blocks.0.mlp.fc1.weight"][0],
        "model.encoder.global_blocks": whole,
        "model.encoder.window_size": windowed[0] if windowed else _WINDOW,
        "model.encoder.patch_size": patch,
    }
    accepted = {name: ("", name) for name in ("vit_b", "vit_l")} | {"vit_h": ("", "vit_h", "default"), "": ("",)}
    facts.fixed = {key: (value,) for key, value in keys.items()}
    facts.fixed["model.sam_type"] = (named, *accepted[named])
    facts.keys = {"model.sam_type": named, **keys, "model.encoder.img_size": side * patch}
    facts.keys["data.img_size"] = side * patch
    facts.notes.append(
        f"image encoder {named or 'of no published size'}: width {width}, {depth} blocks, {width // head} heads, "
        f"tables for {side * patch} pixels"
    )


def _decoder(facts: SourceFacts, shapes: Shapes, huggingface: bool) -> None:
    width = shapes[_MASK + "iou_token"][1]
    layers = {m[1] for name in shapes if (m := re.match(rf"{re.escape(_MASK)}transformer\.layers\.(\d+)\.", name))}
    keys = {
        "model.decoder.width": width,
        "model.decoder.depth": len(layers),
        "model.decoder.mlp_dim": shapes[_MASK + "transformer.layers.0.mlp.lin1.weight"][0],
        "model.decoder.iou_hidden": shapes[_MASK + "iou_head.layers.0.weight"][0],
        "model.decoder.mask_channels": shapes["prompt_encoder.mask_conv2.weight"][0],
    }
    facts.fixed |= {key: (value,) for key, value in keys.items()}
    eps = _HUGGINGFACE_EPS if huggingface else _ORIGINAL_EPS
    facts.keys |= {**keys, "model.decoder.num_heads": _HEADS, "model.decoder.norm_eps": eps}
    facts.unseen = ("model.decoder.norm_eps", "model.decoder.num_heads")
    publisher = "Hugging Face computes" if huggingface else "the original was trained"
    facts.notes.append(
        f"mask decoder of width {width}; model.decoder.num_heads={_HEADS} is assumed, and norms add "
        f"model.decoder.norm_eps={eps:g}, as {publisher}; no shape shows either"
    )
