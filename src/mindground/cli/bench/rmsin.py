"""RMSIN's part of the comparison, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.weights.maps import WeightMap

__all__ = ["BARE_KERNELS", "DATASET", "OVERRIDES", "arrays", "weight_map"]

DATASET = "rrsisd"
# Its kernels are timed by themselves as well.
BARE_KERNELS = True

# Random draws differ between frameworks, so nothing is dropped; the vocabulary is BERT's, without its file. From random
# weights the published rate lets rounding grow from step to step, and the sides could not be compared.
OVERRIDES = (
    "train.lr=3.0e-7",
    "model.text.vocab_size=30522",
    "model.text.dropout=0",
    "model.swin.drop_path_rate=0",
    "model.routing_dropout=0",
    "train.bias_correction=true",
    "train.random_encoders=true",
    "train.pretrained={}",
)


def weight_map() -> WeightMap:
    """Our names to the ones in the shared file: those of a published checkpoint with BERT inside."""
    from mindground.models.rmsin.weights import UPSTREAM_MAP

    return UPSTREAM_MAP


def arrays(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One batch: noise as image, random words of random length, one ellipse as mask."""
    batch, side, length = config.train.batch_size, config.data.img_size, config.data.max_len
    words = config.model.text.vocab_size
    count = rng.integers(length // 4, length, batch)
    token_mask = (np.arange(length)[None] < count[:, None]).astype(np.int32)
    centre, radius = rng.uniform(0.3, 0.7, (2, batch, 1, 1)), rng.uniform(0.1, 0.3, (2, batch, 1, 1))
    line = (np.arange(side) + 0.5) / side
    across, down = (line[None, None, :] - centre[0]) / radius[0], (line[None, :, None] - centre[1]) / radius[1]
    return {
        "image": rng.standard_normal((batch, 3, side, side)).astype(np.float32),
        "token_ids": (rng.integers(1, words, (batch, length)) * token_mask).astype(np.int32),
        "token_mask": token_mask,
        "mask": (across**2 + down**2 <= 1).astype(np.float32)[:, None],
        "has_mask": np.ones((batch, 1), np.float32),
    }
