"""VG-LAW's part of the comparison, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.weights.maps import WeightMap, combine

__all__ = ["DATASET", "OVERRIDES", "arrays", "weight_map"]

DATASET = "refcoco"

# Random draws differ between frameworks, so nothing is dropped; the vocabulary is BERT's, without its file. PyTorch's
# AdamW always corrects the bias.
OVERRIDES = (
    "model.text.vocab_size=30522",
    "model.text.dropout=0",
    "model.vit.drop_path_rate=0",
    "train.bias_correction=true",
)

# transformers' VitDetModel.
_VITDET = WeightMap(
    "transformers VitDet",
    rules=(
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.projection.{leaf:weight|bias}", "patch_embed.proj.{leaf}"),
        ("encoder.layer.{n}.norm{k}.weight", "blocks.{n}.norm{k}.gamma"),
        ("encoder.layer.{n}.norm{k}.bias", "blocks.{n}.norm{k}.beta"),
        ("encoder.layer.{n}.attention.{part:qkv|proj}.{leaf:weight|bias}", "blocks.{n}.attn.{part}.{leaf}"),
        ("encoder.layer.{n}.attention.rel_pos_{axis:h|w}", "blocks.{n}.attn.rel_pos_{axis}"),
        ("encoder.layer.{n}.mlp.fc{k}.{leaf:weight|bias}", "blocks.{n}.mlp.fc{k}.{leaf}"),
    ),
)
_OWN = WeightMap(
    "VG-LAW's own parts",
    rules=(
        ("generator.{path}.1.weight", "weight_generator.{path}.1.gamma"),
        ("generator.{path}.1.bias", "weight_generator.{path}.1.beta"),
        ("generator.{path}", "weight_generator.{path}"),
        ("up_sample.1.weight", "up_sample.1.gamma"),
        ("up_sample.1.bias", "up_sample.1.beta"),
        ("up_sample.{path}", "up_sample.{path}"),
        ("pool.{path}", "ada_gap.{path}"),
        ("box.{path}", "bbox_pred.layers.{path}"),
    ),
)


def weight_map() -> WeightMap:
    """Our names to the ones in the shared file."""
    from mindground.backbones.bert import HUGGINGFACE_MAP

    return combine(
        _VITDET.with_prefix(ours="visual_encoder.", theirs="visual."),
        HUGGINGFACE_MAP.with_prefix(ours="text_encoder.", theirs="text."),
        _OWN,
        name="the benchmark's peer",
    )


def arrays(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One batch: noise as image, random words of random length, one box with its mask filled."""
    batch, side, length = config.train.batch_size, config.data.img_size, config.data.max_len
    words = config.model.text.vocab_size
    count = rng.integers(length // 4, length, batch)
    token_mask = (np.arange(length)[None] < count[:, None]).astype(np.int32)
    box = np.concatenate([rng.uniform(0.4, 0.6, (batch, 2)), rng.uniform(0.2, 0.6, (batch, 2))], 1)
    centre = (np.arange(side) + 0.5) / side
    inside = np.abs(centre[None, None, :] - box[:, :2, None]) * 2 < box[:, 2:, None]  # (B, x or y, side)
    mask = inside[:, 1, :, None] & inside[:, 0, None, :]
    return {
        "image": rng.standard_normal((batch, 3, side, side)).astype(np.float32),
        "token_ids": (rng.integers(1, words, (batch, length)) * token_mask).astype(np.int32),
        "token_mask": token_mask,
        "box": box.astype(np.float32),
        "mask": mask[:, None].astype(np.float32),
        "has_mask": np.ones((batch, 1), np.float32),
    }
