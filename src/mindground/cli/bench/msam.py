"""MSAM's part of the comparison, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.weights.maps import WeightMap

__all__ = ["BARE_KERNELS", "DATASET", "DECODES", "FAMILY", "OVERRIDES", "arrays", "weight_map"]

FAMILY = "seqtr"
BARE_KERNELS = True
DECODES = True
DATASET = "dior_rsvg"

# DarkNet-53, BERT and both kernels, as MSAM's own configuration has them. Random draws differ between frameworks, so
# nothing is dropped; the vocabulary is BERT's, without its file. From random weights the published rate lets rounding
# grow from step to step, and the sides could not be compared. Neither side keeps averages of the weights.
OVERRIDES = (
    "model.text.type=bert",
    "model.text.vocab_size=30522",
    "model.text.bert.dropout=0",
    "model.fusion.type=kernels",
    "model.head.dropout=0",
    "data.tokenizer=wordpiece",
    "data.max_len=20",
    "train.lr=1.0e-6",
    "train.ema_decay=0",
    "train.random_encoders=true",
    "train.lr_reference_batch=0",
)


def weight_map() -> WeightMap:
    """Our names to the ones in the shared file: those of MSAM's checkpoints."""
    from mindground.models.seqtr.weights import UPSTREAM_MAP

    return UPSTREAM_MAP


def arrays(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One batch: noise as image above a bar of padding, random words of random length, one box."""
    from mindground.models.seqtr.sequences import Layout, sequence_of

    batch, side, length = config.train.batch_size, config.data.img_size, config.data.max_len
    count = rng.integers(length // 4, length, batch)
    token_mask = (np.arange(length)[None] < count[:, None]).astype(np.int32)
    padding = np.zeros((batch, side, side), np.uint8)
    padding[:, side - side // 4 :] = 1
    corner = rng.uniform(0.1, 0.4, (batch, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.3, (batch, 2))], 1) * side
    layout = Layout("box", config.model.head.num_bin)
    sequences = [sequence_of(layout, (side, side), box, None) for box in boxes]
    return {
        "image": rng.standard_normal((batch, 3, side, side)).astype(np.float32),
        "padding": padding,
        "token_ids": (rng.integers(1, config.model.text.vocab_size, (batch, length)) * token_mask).astype(np.int32),
        "token_mask": token_mask,
        "previous": np.stack([item["previous"] for item in sequences]),
        "sequence": np.stack([item["sequence"] for item in sequences]),
    }
