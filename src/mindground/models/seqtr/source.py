"""What files of SeqTR and MSAM say of the configuration they need: the shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

from mindground.files.weights import WeightFile
from mindground.models.seqtr.weights import WEIGHT_MAPS
from mindground.weights.facts import SourceFacts
from mindground.weights.maps import best_map

__all__ = ["describe"]

Shapes = Mapping[str, tuple[int, ...]]

_HEAD, _TEXT, _IMAGE, _FUSION = "sequence_head.", "text_encoder.", "visual_encoder.", "fusion."
_TABLE = "attn.relative_position_bias_table"
# Modules of DarkNet-53 that hold pairs of convolutions.
_PAIRED = (2, 4, 6, 8, 10, 11)
# Channels of a head as published; no shape shows them.
_CHANNELS, _BERT_CHANNELS = 32, 64


def describe(file: WeightFile) -> SourceFacts | None:
    """Facts of a file of a whole network; None for a part, such as an image encoder, and for other programs' files."""
    chosen = best_map(WEIGHT_MAPS.values(), file.tensors)
    shapes = {name: array.shape for name, array in chosen.to_ours(file.tensors).tensors.items()}
    if _HEAD + "tokens" not in shapes or _HEAD + "places" not in shapes:
        return None
    try:
        return _facts(shapes)
    except (KeyError, ValueError, IndexError):
        return None  # loading will name what is missing


def _facts(shapes: Shapes) -> SourceFacts:
    facts = SourceFacts()
    _head(facts, shapes)
    if any(name.startswith(_TEXT + "bert.") for name in shapes):
        _bert(facts, shapes)
    else:
        _gru(facts, shapes)
    if any(name.startswith(_IMAGE + "backbone.") for name in shapes):
        _swin(facts, shapes)
    else:
        _darknet(facts, shapes)
    _fusion(facts, shapes)
    return facts


def _count(shapes: Shapes, before: str) -> int:
    """How many numbers stand behind a part of names."""
    return len({match[1] for name in shapes if (match := re.match(rf"{re.escape(before)}(\d+)\.", name))})


def _head(facts: SourceFacts, shapes: Shapes) -> None:
    """Task, bins, vertices and sizes of the transformer."""
    classes, width = shapes[_HEAD + "tokens"]
    places = shapes[_HEAD + "places"][0]
    multi = _HEAD + "tasks" in shapes
    task = "multi" if multi else "box" if places == 5 else "contour"
    facts.keys |= {
        "model.task": task,
        "model.head.width": width,
        "model.head.heads": max(1, width // _CHANNELS),
        "model.head.hidden": shapes[_HEAD + "encoder.0.feed.linear1.weight"][0],
        "model.head.encoder_layers": _count(shapes, _HEAD + "encoder."),
        "model.head.decoder_layers": _count(shapes, _HEAD + "decoder.layers."),
        "model.head.num_bin": classes - 1,
    }
    rays = (places - 6) // 2 if multi else (places - 1) // 2
    if task != "box":
        facts.keys["model.head.num_ray"] = rays
    said = "" if task == "box" else f", contours of {rays} vertices"
    heads = facts.keys["model.head.heads"]
    facts.notes.append(
        f"model.task={task}, {classes - 1} bins{said}; {heads} heads of {width // heads} channels are assumed: no "
        "shape shows them, nor data.max_len, which must be that of the training"
    )


def _gru(facts: SourceFacts, shapes: Shapes) -> None:
    rows, width = shapes[_TEXT + "words.embedding_table"]
    hidden = shapes[_TEXT + "gru.weight_hh_l0"][1]
    facts.keys |= {
        "model.text.type": "gru",
        "model.text.vocab_size": rows,
        "model.text.gru.embedding": width,
        "model.text.gru.hidden": hidden,
        "model.text.gru.attention": any(name.startswith(_TEXT + "attention.") for name in shapes),
    }
    facts.notes.append(f"GRU of {hidden} channels a direction over {rows} words of {width} numbers")


def _bert(facts: SourceFacts, shapes: Shapes) -> None:
    bert = _TEXT + "bert."
    rows, width = shapes[bert + "embeddings.word_embeddings.embedding_table"]
    layers = _count(shapes, bert + "encoder.layer.")
    facts.keys |= {
        "model.text.type": "bert",
        "model.text.vocab_size": rows,
        "model.text.bert.hidden_size": width,
        "model.text.bert.num_hidden_layers": layers,
        "model.text.bert.num_attention_heads": max(1, width // _BERT_CHANNELS),
        "model.text.bert.intermediate_size": shapes[bert + "encoder.layer.0.intermediate.dense.weight"][0],
        "model.text.bert.max_position_embeddings": shapes[bert + "embeddings.position_embeddings.embedding_table"][0],
        "data.tokenizer": "wordpiece",
    }
    if _TEXT + "mapping.weight" in shapes:
        facts.keys["model.text.bert.out"] = shapes[_TEXT + "mapping.weight"][0]
    facts.notes.append(f"BERT of {layers} layers and {rows} word pieces")


def _darknet(facts: SourceFacts, shapes: Shapes) -> None:
    first = shapes[_IMAGE + "layers.0.conv.weight"][0]
    blocks = [_count(shapes, f"{_IMAGE}layers.{module}.blocks.") for module in _PAIRED]
    facts.keys |= {
        "model.visual.type": "darknet",
        "model.visual.darknet.first": first,
        "model.visual.darknet.blocks": blocks,
    }
    facts.notes.append(f"DarkNet of width {first} and blocks {blocks}")


def _swin(facts: SourceFacts, shapes: Shapes) -> None:
    layers = f"{_IMAGE}backbone.layers."
    width = shapes[_IMAGE + "backbone.patch_embed.proj.weight"][0]
    stages = range(_count(shapes, layers))
    tables = [shapes[f"{layers}{stage}.blocks.0.{_TABLE}"] for stage in stages]
    facts.keys |= {
        "model.visual.type": "swin",
        "model.visual.swin.embed_dim": width,
        "model.visual.swin.depths": [_count(shapes, f"{layers}{stage}.blocks.") for stage in stages],
        "model.visual.swin.num_heads": [table[1] for table in tables],
        "model.visual.swin.window_size": (isqrt(tables[0][0]) + 1) // 2,
    }
    facts.notes.append(f"Swin of width {width}")


def _fusion(facts: SourceFacts, shapes: Shapes) -> None:
    """Which fusion; a file whose names nobody knows is taken for MSAM's, whose names were never published."""
    names = [name.removeprefix(_FUSION) for name in shapes if name.startswith(_FUSION)]
    stages = [name for name in names if name.startswith("stages.")]
    if names and not stages:
        parts = {name.split(".", 1)[0] for name in names}
        direction = "bottom_up" if "middle" in parts else "to_mid" if "top" in parts else "none"
        facts.keys |= {"model.fusion.type": "simple", "model.fusion.direction": direction}
        facts.notes.append(f"fusion of SeqTR, {direction}")
        return
    if not names and facts.keys["model.text.type"] == "gru" and not facts.keys["model.text.gru.attention"]:
        facts.keys |= {"model.fusion.type": "simple", "model.fusion.direction": "none"}
        facts.notes.append("no fusion in the file: the coarsest map alone (model.fusion.direction=none)")
        return
    facts.keys["model.fusion.type"] = "kernels"
    if stages:
        kinds = {name.split(".")[2] for name in stages}
        table = shapes[f"{_FUSION}stages.0.swin.blocks.0.{_TABLE}"]
        width = shapes[f"{_FUSION}stages.0.swin.blocks.0.attn.proj.weight"][0]
        facts.keys |= {
            "model.fusion.mode": "mixed" if {"qcb", "ca"} <= kinds else "ca" if "ca" in kinds else "qb",
            "model.fusion.aggregate": "sk" if "sk" in kinds else "kc",
            "model.fusion.depths": [_count(shapes, f"{_FUSION}stages.{stage}.swin.blocks.") for stage in range(3)],
            "model.fusion.window": (isqrt(table[0]) + 1) // 2,
            "model.fusion.head_dim": width // max(1, table[1]),
        }
    facts.notes.append(
        "fusion of MSAM" if stages else "a fusion that no name tells; MSAM's is built (model.fusion.type)"
    )
