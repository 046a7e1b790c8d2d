"""What files of RMSIN, LAVT, RemoteSAM, Swin and BERT say of the configuration they need: shapes, saved arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from mindground.config import registry
from mindground.files.weights import WeightFile
from mindground.models.rmsin.builder import coarsest_side
from mindground.models.rmsin.config import SWIN_PRESETS
from mindground.models.rmsin.weights import WEIGHT_MAPS
from mindground.weights.facts import SourceFacts
from mindground.weights.maps import best_map

__all__ = ["describe"]

Shapes = Mapping[str, tuple[int, ...]]

_IMAGE, _TEXT, _DECODER, _CIM = "backbone.", "text_encoder.", "decoder.", "cim."
_TABLE = "attn.relative_position_bias_table"
# One pixel of the coarsest map stands for so many pixels of the image along each side.
_STRIDE = 32
_USUAL_SIZE = 480
_STAGES = 4
# The published BERTs have heads of 64 channels, the published cross-scale attention keys of 32: no shape shows either.
_BERT_HEAD, _KEY_DIM, _CIM_HEADS = 64, 32, 8
_DIVISIONS = ("unc", "umd", "google")


def describe(file: WeightFile) -> SourceFacts | None:
    """Facts of a file of one of these networks; None where a table that all of them have is missing."""
    chosen = best_map(WEIGHT_MAPS.values(), file.tensors)
    shapes = {name: array.shape for name, array in chosen.to_ours(file.tensors).tensors.items()}
    two_parts = any(name.startswith("bert_model.") for name in file.tensors)
    try:
        return _facts(file, shapes, two_parts)
    except (KeyError, ValueError, IndexError):
        return None  # loading will name what is missing


def _facts(file: WeightFile, shapes: Shapes, two_parts: bool) -> SourceFacts | None:
    facts = SourceFacts()
    whole = any(name.startswith(_DECODER) for name in shapes)
    if any(name.startswith(_IMAGE) for name in shapes):
        _swin(facts, shapes, whole)
    if any(name.startswith(_TEXT) for name in shapes):
        _bert(facts, shapes, whole)
    if not whole:
        return facts if facts.keys else None
    args = file.metadata.get("args")
    args = args if isinstance(args, Mapping) else {}
    rotates = any(name.startswith(_CIM) for name in shapes)
    if rotates:
        _cross_scale(facts, shapes, args)
    else:
        _image_size(facts, args)
    variants = ("rmsin",) if rotates else ("lavt", "lavt_one") if two_parts else ("lavt_one", "lavt")
    facts.keys["model.variant"], facts.fixed["model.variant"] = variants[0], variants
    kept = "BERT in a part of its own (bert_model)" if two_parts else "BERT inside"
    facts.notes.insert(0, f"model.variant={variants[0]}, {kept}")
    _arguments(facts, args)
    return facts


def _count(shapes: Shapes, before: str, after: str = r"\.") -> int:
    """How many numbers stand between two parts of names; they are counted from 0."""
    found = {match.group(1) for name in shapes if (match := re.match(rf"{re.escape(before)}(\d+){after}", name))}
    return len(found)


def _swin(facts: SourceFacts, shapes: Shapes, whole: bool) -> None:
    """Width, depths, heads and window of the image encoder."""
    width = shapes[_IMAGE + "patch_embed.proj.weight"][0]
    depths = [_count(shapes, f"{_IMAGE}layers.{stage}.blocks.") for stage in range(_STAGES)]
    tables = [shapes[f"{_IMAGE}layers.{stage}.blocks.0.{_TABLE}"] for stage in range(_STAGES)]
    heads = [table[1] for table in tables]
    window = (isqrt(tables[0][0]) + 1) // 2
    sizes = (width, tuple(depths), tuple(heads))
    named = next((name for name, preset in SWIN_PRESETS.items() if preset == sizes), "")
    keys = {
        "model.swin.embed_dim": width,
        "model.swin.depths": depths,
        "model.swin.num_heads": heads,
    }
    if named:
        facts.fixed["model.swin_type"] = (named, "")
    facts.fixed |= {key: (value,) for key, value in keys.items()}
    facts.keys |= {"model.swin_type": named, **keys, "model.swin.window_size": window}
    if whole:
        # A trained network belongs to its window; the tables of a classifier are resized.
        facts.fixed["model.swin.window_size"] = (window,)
    facts.notes.append(
        f"Swin {named or 'of no published size'}: width {width}, depths {depths}, heads {heads}, windows of {window}"
    )


def _bert(facts: SourceFacts, shapes: Shapes, whole: bool) -> None:
    """Sizes of the text encoder; its heads change no shape."""
    rows, width = shapes[_TEXT + "embeddings.word_embeddings.embedding_table"]
    layers = _count(shapes, f"{_TEXT}encoder.layer.")
    inner = shapes[_TEXT + "encoder.layer.0.intermediate.dense.weight"][0]
    positions = shapes[_TEXT + "embeddings.position_embeddings.embedding_table"][0]
    heads = max(1, width // _BERT_HEAD)
    keys = {
        "model.text.hidden_size": width,
        "model.text.intermediate_size": inner,
        "model.text.max_position_embeddings": positions,
    }
    facts.fixed |= {key: (value,) for key, value in keys.items()}
    if whole:
        facts.fixed["model.text.num_hidden_layers"] = (layers,)
    facts.keys |= {
        **keys,
        "model.text.vocab_size": rows,
        "model.text.num_hidden_layers": layers,
        "model.text.num_attention_heads": heads,
    }
    facts.notes.append(
        f"BERT: width {width}, {layers} layers, {rows} words; {heads} heads of {width // heads} channels are assumed, "
        "no shape shows them"
    )


def _cross_scale(facts: SourceFacts, shapes: Shapes, args: Mapping[str, Any]) -> None:
    """Grid, blocks and heads of the cross-scale interaction, the image size that the grid belongs to, the kernels."""
    attention = f"{_CIM}blocks.0.csa1.attention."
    grid = isqrt(shapes[attention + "proj.weight"][0])
    inner = shapes[attention + "qkv.weight"][0] // 4
    if inner < 1:
        raise ValueError(f"{attention}qkv.weight has {shapes[attention + 'qkv.weight'][0]} rows")
    heads = inner // _KEY_DIM if inner % _KEY_DIM == 0 else _CIM_HEADS
    key_dim = max(1, inner // heads)
    facts.keys |= {
        "model.cim.grid": grid,
        "model.cim.blocks": _count(shapes, f"{_CIM}blocks."),
        "model.cim.heads": heads,
        "model.cim.key_dim": key_dim,
        "model.rotated_kernels": shapes[f"{_DECODER}levels.0.conv2.weight"][0],
    }
    sizes = [size for size in range(max(1, grid * _STRIDE - 2 * _STRIDE), grid * _STRIDE + 1) if _fits(size, grid)]
    said = _whole_number(args.get("img_size"))
    size = said if said in sizes else grid * _STRIDE
    facts.keys["data.img_size"] = size
    # 0 takes the grid from the image size.
    facts.fixed |= {
        "model.cim.grid": (grid, 0),
        "data.img_size": (size, *sizes),
        "model.cim.blocks": (facts.keys["model.cim.blocks"],),
        "model.rotated_kernels": (facts.keys["model.rotated_kernels"],),
    }
    facts.notes.append(f"cross-scale grid {grid} x {grid}, so images of {size} pixels (data.img_size)")
    if heads != _CIM_HEADS or key_dim != _KEY_DIM:
        facts.notes.append(
            f"model.cim.heads={heads} with model.cim.key_dim={key_dim} are assumed: only their product, "
            f"{inner}, is in the file"
        )


def _fits(size: int, grid: int) -> bool:
    return coarsest_side(size) == grid


def _image_size(facts: SourceFacts, args: Mapping[str, Any]) -> None:
    """No shape of LAVT depends on the image."""
    said = _whole_number(args.get("img_size"))
    facts.keys["data.img_size"] = said or _USUAL_SIZE
    origin = "says the file" if said else "is assumed: the file does not say it, and no shape can"
    facts.notes.append(f"data.img_size={facts.keys['data.img_size']}, {origin}")


def _whole_number(value: Any) -> int:
    """A number above 0, or 0 for anything else: anybody may have written the file."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 14 else 0


def _arguments(facts: SourceFacts, args: Mapping[str, Any]) -> None:
    """Upstream's command line, which stands in its checkpoints: what no shape shows."""
    heads = _fusion_heads(args) if args else None
    facts.keys["model.fusion_heads"] = heads or [1] * _STAGES
    if heads:
        facts.unseen = ("model.fusion_heads",)
        facts.fixed["model.fusion_heads"] = (heads,)
        facts.notes.append(f"model.fusion_heads={heads}, says the file (mha); no shape can verify it")
    else:
        facts.notes.append(
            f"model.fusion_heads={[1] * _STAGES} is assumed: the file does not say it, and no shape can; a network "
            "trained with --mha needs its own heads, or its masks are wrong"
        )
    dropout = args.get("fusion_drop")
    if isinstance(dropout, float) and 0 <= dropout < 1:
        facts.keys["model.fusion_dropout"] = dropout
    if args.get("dataset") in registry.dataset_names():
        facts.keys["data.dataset"] = args["dataset"]
        if args.get("splitBy") in _DIVISIONS and args["splitBy"] in registry.usual_splits(args["dataset"]):
            facts.keys["data.splitBy"] = args["splitBy"]
    known = [key for key in ("model", "swin_type", "dataset", "img_size", "lr", "batch_size", "epochs") if key in args]
    if known:
        facts.notes.append("trained with: " + ", ".join(f"{key} {str(args[key])[:40]!r}" for key in known))


def _fusion_heads(args: Mapping[str, Any]) -> list[int] | None:
    """`mha` of the arguments: four numbers with dashes between them; empty = one head in every stage."""
    text = args.get("mha")
    if text in ("", None) and "mha" in args:
        return [1] * _STAGES
    if isinstance(text, str) and re.fullmatch(r"[1-9]\d?(-[1-9]\d?){3}", text):
        return [int(part) for part in text.split("-")]
    return None
