"""A box as a sequence of tokens, and back."""

from __future__ import annotations

import numpy as np

from mindground.structures import Example

__all__ = ["LENGTH", "encode_sequence", "tokens_to_boxes"]

# Left, top, right, bottom.
LENGTH = 4


def encode_sequence(example: Example, bins: int) -> dict[str, np.ndarray]:
    """`sequence` (4,) int32, the tokens of the referent's corners, and `previous` (4,), each one's predecessor.

    Token `bins` stands before the first one.
    """
    shares = example.boxes_xyxy[0] / np.float32(example.geometry.canvas_size[0])
    tokens = np.clip((shares * bins).astype(np.int32), 0, bins - 1)
    return {"sequence": tokens, "previous": np.concatenate([[bins], tokens[:-1]]).astype(np.int32)}


def tokens_to_boxes(tokens: np.ndarray, bins: int) -> np.ndarray:
    """(..., 4) tokens -> xyxy in [0, 1], corners in order."""
    corners = (tokens.astype(np.float32) + np.float32(0.5)) / np.float32(bins)
    return np.concatenate(
        [np.minimum(corners[..., :2], corners[..., 2:]), np.maximum(corners[..., :2], corners[..., 2:])], -1
    )
