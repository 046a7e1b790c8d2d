"""CLIP-VG's part of the comparison, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.weights.maps import WeightMap, combine

__all__ = ["DATASET", "OVERRIDES", "arrays", "expressions", "weight_map"]

DATASET = "dior_rsvg"

# Random draws differ between frameworks, so nothing is dropped; the vocabulary is CLIP's, without its file. From random
# weights the published rate lets rounding grow tenfold a step, and the sides could not be compared.
OVERRIDES = (
    "train.lr=2.5e-6",
    "train.lr_factors.clip=1.0",
    "model.clip.vocab_size=49408",
    "model.vl_dropout=0",
    "train.random_encoders=true",
    "train.lr_reference_batch=0",
)

_THINGS = ("vehicle", "ship", "airplane", "storage tank", "tennis court", "basketball court", "bridge", "windmill")
_PLACES = ("on the lower left", "in the middle", "near the top right corner", "to the left of the gray building")


def weight_map() -> WeightMap:
    """Our names to the ones in the shared file: transformers' for the towers, upstream's for the rest."""
    from mindground.backbones.clip_weights import HUGGINGFACE_MAP
    from mindground.models.clipvg.weights import UPSTREAM_MAP

    towers = HUGGINGFACE_MAP.with_prefix(ours="clip.", theirs="clip.")
    return combine(towers, UPSTREAM_MAP, name="the benchmark's peer")


def arrays(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One batch: noise on a canvas with bars of padding, random words of random length, one box."""
    batch, side, length = config.train.batch_size, config.data.img_size, config.data.max_len
    words = config.model.towers().vocab_size
    count = rng.integers(max(2, length // 8), max(3, length // 2), batch)
    token_mask = (np.arange(length)[None] < count[:, None]).astype(np.int32)
    bar = rng.integers(0, side // 4, batch)
    line = np.arange(side)
    inside = (line >= bar[:, None]) & (line < side - bar[:, None])  # (B, row)
    image = rng.standard_normal((batch, 3, side, side)).astype(np.float32)
    box = np.concatenate([rng.uniform(0.4, 0.6, (batch, 2)), rng.uniform(0.2, 0.6, (batch, 2))], 1)
    return {
        "image": image * inside[:, None, :, None].astype(np.float32),
        "token_ids": (rng.integers(1, words, (batch, length)) * token_mask).astype(np.int32),
        "token_mask": token_mask,
        "padding": np.repeat(~inside[:, :, None], side, 2).astype(np.uint8),
        "box": box.astype(np.float32),
    }


def expressions(count: int) -> list[str]:
    """Different sentences of the length that DIOR-RSVG has (seven to eight words)."""
    made = [f"a {size} {thing} {place}" for place in _PLACES for thing in _THINGS for size in ("small", "large")]
    return [made[(7 * index) % len(made)] for index in range(count)]
